//! What is needed of periods that are not published and whose accounts need no members: who churned, and what cohorts paid.
//!
//! Made from what accounts had at period ends, without the rest of the model.

use super::Ground;
use crate::columns::*;
use crate::facts::spine::NUMBER;
use crate::facts::{Context, Inputs, money, mrr};
use crate::period::PeriodRange;
use polars::prelude::*;

/// Periods gone by.
pub struct History {
    /// As [`crate::metrics::lifetime::churn`] of the company.
    pub churn: LazyFrame,
    /// As [`crate::metrics::cohort::seen`].
    pub seen: LazyFrame,
    /// As [`crate::metrics::cohort::merged`].
    pub merged: Option<LazyFrame>,
}

/// The periods of the context.
pub fn history(inputs: &Inputs, ground: &Ground, context: Context) -> PolarsResult<History> {
    let map = &inputs.account_map;
    // What was closed with before is what is opened with.
    let range = PeriodRange {
        first: context.range.first - 1,
        last: context.range.last,
    };
    let numbers = || ground.numbers();
    let numbered = |rows: LazyFrame| rows.inner_join(numbers(), col(ACCOUNT_ID), col(ACCOUNT_ID));
    let versions = numbered(ground.versions.clone());
    let snapshots = mrr::snapshots(versions, &ground.rates, range, context);
    let closing = per_account(snapshots, [col("mrr").sum()]).cache();
    let in_range = |rows: LazyFrame| {
        let (first, last) = (lit(context.range.first), lit(context.range.last));
        rows.filter(col(PERIOD).is_between(first, last, ClosedInterval::Both))
    };
    let leg = |by: i32, name: &str, other: &str| {
        let shifted = closing.clone().select([
            col(PERIOD) + lit(by),
            col(NUMBER),
            col("mrr").alias(name),
            money::zero(context.currency).alias(other),
        ]);
        in_range(shifted).select([PERIOD, NUMBER, "opening", "closing"].map(col))
    };
    let legs = [leg(1, "opening", "closing"), leg(0, "closing", "opening")];
    let legs = concat(legs, UnionArgs::default())?;
    let legs = map.applied_to_numbers(legs, numbers(), context.range);
    let has = |leg: &str| col(leg).sum().gt(money::zero(context.currency));
    let count = |who: Expr| who.cast(DataType::Int64).sum();
    let stays = [
        has("opening").alias("opened"),
        has("closing").not().alias("left"),
    ];
    let churn = per_account(legs, stays).group_by([col(PERIOD)]).agg([
        count(col("opened").and(col("left"))).alias("churned"),
        count(col("opened")),
    ]);

    let revenue = ground
        .daily_revenue
        .clone()
        .map(|daily| per_account(in_range(daily), [col(REVENUE).sum()]).cache());
    let no_money = || lit(NULL).cast(money::summed(context.currency));
    let rows = |frame: LazyFrame, mrr: Expr, revenue: Expr| {
        frame.select([
            col(PERIOD),
            col(NUMBER),
            mrr.cast(money::summed(context.currency)).alias(CLOSING_MRR),
            revenue.cast(money::summed(context.currency)).alias(REVENUE),
        ])
    };
    // Without invoices, revenue is not known; with them, it is nothing where there are none.
    let nothing = || match revenue {
        Some(_) => money::zero(context.currency),
        None => no_money(),
    };
    let mut activity = vec![rows(in_range(closing.clone()), col("mrr"), nothing())];
    activity.extend(
        revenue
            .clone()
            .map(|revenue| rows(revenue, money::zero(context.currency), col(REVENUE))),
    );
    let activity = concat(activity, UnionArgs::default())?;
    let is_merged = || map.involves(col(ACCOUNT_ID));
    let merged = (!map.is_empty()).then(|| {
        let nothing = [
            lit(NULL).cast(DataType::Int32).alias(FIRST_PAID),
            no_money().alias(COHORT_MRR),
        ];
        activity
            .clone()
            .inner_join(numbers().filter(is_merged()), col(NUMBER), col(NUMBER))
            .with_columns(nothing)
            .select(COHORT_ROW.map(col))
    });
    let origins = match map.is_empty() {
        true => ground.origins.clone(),
        false => ground.origins.clone().filter(is_merged().not()),
    };
    Ok(History {
        churn,
        seen: seen(activity, numbered(origins), context)?,
        merged,
    })
}

/// One row per account's [`NUMBER`] and period: both in one number, which is cheaper to group by than two.
fn per_account<const N: usize>(rows: LazyFrame, aggregates: [Expr; N]) -> LazyFrame {
    let account_and_period = col(NUMBER) * lit(1i64 << 32) + col(PERIOD).cast(DataType::Int64);
    let key = [col(PERIOD).first(), col(NUMBER).first()];
    rows.group_by([account_and_period.alias("__account_and_period")])
        .agg([&key[..], &aggregates].concat())
        .drop(by_name(["__account_and_period"], true, false))
}

/// Sums per cohort and period of the accounts of `origins`. Every account of a cohort counts in each of its periods with what it began
/// with; the rest comes from those that were active.
fn seen(activity: LazyFrame, origins: LazyFrame, context: Context) -> PolarsResult<LazyFrame> {
    let zero = || money::zero(context.currency);
    let shrunk = col(CLOSING_MRR).lt(col(COHORT_MRR));
    let retained = when(shrunk)
        .then(col(CLOSING_MRR))
        .otherwise(col(COHORT_MRR));
    let active = per_account(activity, [col(CLOSING_MRR).sum(), col(REVENUE).sum()])
        .inner_join(origins.clone(), col(NUMBER), col(NUMBER))
        .filter(col(FIRST_PAID).lt_eq(col(PERIOD)))
        .select([
            col(FIRST_PAID),
            col(PERIOD).alias(SEEN),
            col(CLOSING_MRR)
                .gt(zero())
                .cast(DataType::Int64)
                .alias("customers"),
            col(CLOSING_MRR).alias("mrr"),
            col(REVENUE),
            zero().alias(COHORT_MRR),
            retained.alias("retained"),
        ]);
    let periods: Vec<i32> = context.range.indices().collect();
    let cohorts = origins
        .group_by([col(FIRST_PAID)])
        .agg([col(COHORT_MRR).sum()])
        .cross_join(df!(SEEN => periods)?.lazy(), None)
        .filter(col(FIRST_PAID).lt_eq(col(SEEN)))
        .select([
            col(FIRST_PAID),
            col(SEEN),
            lit(0i64).cast(DataType::Int64).alias("customers"),
            zero().alias("mrr"),
            lit(NULL)
                .cast(money::summed(context.currency))
                .alias(REVENUE),
            col(COHORT_MRR),
            zero().alias("retained"),
        ]);
    let max_age = lit(context.policy.cohort_max_age as i32);
    let columns = [FIRST_PAID, SEEN].into_iter().chain(COHORT_MEASURES);
    let columns = columns.map(col);
    let columns: Vec<Expr> = columns.collect();
    let all = [active, cohorts].map(|rows| rows.select(columns.clone()));
    Ok(concat(all, UnionArgs::default())?
        .filter((col(SEEN) - col(FIRST_PAID)).lt_eq(max_age))
        .group_by([col(FIRST_PAID), col(SEEN)])
        .agg(COHORT_MEASURES.map(|name| col(name).sum())))
}
