//! What an account is: its attributes as of each period's end, and the plan that it mainly pays for.

use super::spine::{SLOT, Spine};
use super::{Inputs, each_period};
use crate::columns::{ACCOUNT_ID, PERIOD, PRODUCT};
use crate::config::Calendar;
use crate::period::PeriodRange;
use polars::prelude::*;

/// Columns that subscriptions lend to dimensions and rules.
pub const PLAN_COLUMNS: [&str; 3] = ["plan_id", "plan_family", "plan_tier"];

/// What accounts are, whenever: `account_id`, `signup` and, without history, their attributes of today.
pub fn at_all_times(inputs: &Inputs) -> LazyFrame {
    let accounts = inputs.accounts.clone();
    if inputs.is_historised {
        let signup = col("signup_date").min().alias("signup");
        return accounts.group_by([col(ACCOUNT_ID)]).agg([signup]);
    }
    let replaced = by_name(["signup_date", "valid_from", "valid_to"], true, false);
    accounts
        .with_column(col("signup_date").alias("signup"))
        .drop(replaced)
}

/// With history, the attributes of an account as of each period's end, by `period_index` and `account_id`.
pub fn by_period(inputs: &Inputs, calendar: &Calendar, range: PeriodRange) -> Option<LazyFrame> {
    if !inputs.is_historised {
        return None;
    }
    let attributes = inputs.accounts.clone();
    let attributes = attributes.drop(by_name(["signup_date"], true, false));
    let since = calendar
        .index_of_instant(col("valid_from"))
        .fill_null(lit(i32::MIN / 2));
    let until = calendar.index_of_instant(col("valid_to")) - lit(1);
    let valid = each_period(attributes, since, until, range);
    Some(valid.drop(by_name(["valid_from", "valid_to"], true, false)))
}

/// By row of the spine, [`SLOT`], the [`PLAN_COLUMNS`] of the version with the greatest MRR at the period's end or, where the account
/// has none there, at its start.
pub fn main_plans(
    snapshots: LazyFrame,
    spine: &Spine,
    inputs: &Inputs,
    range: PeriodRange,
) -> PolarsResult<LazyFrame> {
    let leg = |by: i32| {
        let leg = snapshots
            .clone()
            .select([
                (col(PERIOD) + lit(by)).alias(PERIOD),
                col(ACCOUNT_ID),
                col("mrr"),
                col("plan_id"),
                col(PRODUCT).alias("plan_family"),
                col("tier").alias("plan_tier"),
            ])
            .filter(col(PERIOD).is_between(
                lit(range.first),
                lit(range.last),
                ClosedInterval::Both,
            ));
        spine
            .placed(inputs.account_map.applied(leg, range))
            .drop(by_name([PERIOD, ACCOUNT_ID], true, false))
    };
    let closing = greatest(leg(0))?;
    let opening = leg(1).anti_join(closing.clone(), col(SLOT), col(SLOT));
    concat([closing, greatest(opening)?], UnionArgs::default())
}

/// Of each slot, the version with the greatest MRR. Most have one only; the others are put in order.
fn greatest(versions: LazyFrame) -> PolarsResult<LazyFrame> {
    let count = len().over([col(SLOT)])?.alias("__versions");
    let versions = versions.with_column(count);
    let is_alone = || col("__versions").eq(lit(1));
    let best_first = SortMultipleOptions::default()
        .with_order_descending_multi([false, true, false])
        .with_nulls_last(true);
    let several = versions
        .clone()
        .filter(is_alone().not())
        .sort([SLOT, "mrr", "plan_id"], best_first)
        .unique_stable(
            Some(by_name([SLOT], true, false)),
            UniqueKeepStrategy::First,
        );
    let columns = [SLOT].into_iter().chain(PLAN_COLUMNS).map(col);
    let columns: Vec<Expr> = columns.collect();
    let all = [versions.filter(is_alone()), several];
    concat(
        all.map(|rows| rows.select(columns.clone())),
        UnionArgs::default(),
    )
}
