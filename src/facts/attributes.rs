//! What an account is: its attributes as of each period's end, and the plan that it mainly pays for.

use super::{Inputs, each_period};
use crate::columns::{ACCOUNT_ID, PERIOD, PRODUCT};
use crate::config::Calendar;
use crate::period::PeriodRange;
use polars::prelude::*;

/// Columns that subscriptions lend to dimensions and rules.
pub const PLAN_COLUMNS: [&str; 3] = ["plan_id", "plan_family", "plan_tier"];

/// Adds to rows of `period_index`, `account_id` the account's attributes as of the period's end; without history the
/// current ones.
pub fn with_attributes(
    spine: LazyFrame,
    inputs: &Inputs,
    calendar: &Calendar,
    range: PeriodRange,
) -> LazyFrame {
    let attributes = inputs
        .accounts
        .clone()
        .drop(by_name(["signup_date"], true, false));
    if !inputs.is_historised {
        let attributes = attributes.drop(by_name(["valid_from", "valid_to"], true, false));
        return spine.left_join(attributes, col(ACCOUNT_ID), col(ACCOUNT_ID));
    }
    let since = calendar
        .index_of_instant(col("valid_from"))
        .fill_null(lit(i32::MIN / 2));
    let until = calendar.index_of_instant(col("valid_to")) - lit(1);
    let valid = each_period(attributes, since, until, range).drop(by_name(
        ["valid_from", "valid_to"],
        true,
        false,
    ));
    let key = [col(PERIOD), col(ACCOUNT_ID)];
    spine.join(valid, key.clone(), key, JoinArgs::new(JoinType::Left))
}

/// `period_index`, `account_id` and [`PLAN_COLUMNS`]: of the version with the greatest MRR at the period's end or, where
/// the account has none there, at its start.
pub fn main_plans(
    snapshots: LazyFrame,
    inputs: &Inputs,
    range: PeriodRange,
) -> PolarsResult<LazyFrame> {
    let leg = |by: i32, is_opening: bool| {
        snapshots
            .clone()
            .with_columns([
                (col(PERIOD) + lit(by)).alias(PERIOD),
                lit(is_opening).alias("is_opening"),
            ])
            .filter(col(PERIOD).is_between(lit(range.first), lit(range.last), ClosedInterval::Both))
            .select([
                col(PERIOD),
                col(ACCOUNT_ID),
                col("is_opening"),
                col("mrr"),
                col("plan_id"),
                col(PRODUCT).alias("plan_family"),
                col("tier").alias("plan_tier"),
            ])
    };
    let legs = inputs.account_map.applied(
        concat([leg(0, false), leg(1, true)], UnionArgs::default())?,
        range,
    );
    let best_first = SortMultipleOptions::default()
        .with_order_descending_multi([false, false, false, true, false])
        .with_nulls_last(true);
    let key = [PERIOD, ACCOUNT_ID];
    Ok(legs
        .sort(
            [PERIOD, ACCOUNT_ID, "is_opening", "mrr", "plan_id"],
            best_first,
        )
        .unique_stable(Some(by_name(key, true, false)), UniqueKeepStrategy::First)
        .drop(by_name(["is_opening", "mrr"], true, false)))
}
