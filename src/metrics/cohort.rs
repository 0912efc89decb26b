//! The retention triangle: cohort × age, as known at a period's end.
//!
//! The merges in force at the end of a published period hold for all its cells, age 0 included. So an account has one
//! cohort in a triangle, and a merge is neither churn of one cohort nor growth of the other's customers.

use crate::columns::*;
use crate::facts::merges::AccountMap;
use crate::facts::{Context, money};
use crate::period::PeriodRange;
use crate::sql::quotient;
use polars::prelude::*;

/// The retention triangle as of every period of `published` (docs/definitions.md § 5): one row per period, cohort and age.
/// `seen` and `merged` are what [`seen`] and [`merged`] give, from `begin` on.
pub fn cohort_retention(
    seen: LazyFrame,
    merged: Option<LazyFrame>,
    map: &AccountMap,
    begin: i32,
    published: PeriodRange,
    has_revenue: bool,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let max_age = || lit(context.policy.cohort_max_age as i32);
    let periods = df!(PERIOD => published.indices().collect::<Vec<_>>())?.lazy();
    let apart = seen
        .cross_join(periods.clone(), None)
        .filter(col(SEEN).lt_eq(col(PERIOD)))
        .select(cell_columns());
    let merged = merged.map(|rows| merged_cells(rows, map, periods, published, context));
    let cells = [Some(apart), merged].into_iter().flatten();
    let cells = concat(cells.collect::<Vec<_>>(), UnionArgs::default())?
        .filter(col(FIRST_PAID).gt_eq(lit(begin)))
        .with_column((col(SEEN) - col(FIRST_PAID)).alias("age"))
        .filter(col("age").is_between(lit(0), max_age(), ClosedInterval::Both))
        .group_by([col(PERIOD), col(FIRST_PAID), col("age")])
        .agg(COHORT_MEASURES.map(|name| col(name).sum()));

    // Every cohort known at the period's end × every age up to the oldest cohort's; what is not reached stays null.
    let cohorts = cells.clone().filter(col("age").eq(lit(0))).select([
        col(PERIOD),
        col(FIRST_PAID),
        col("customers").alias("cohort_size"),
    ]);
    let oldest = col(PERIOD) - col(FIRST_PAID).min().over([col(PERIOD)])?;
    let last_age = when(oldest.clone().gt(max_age()))
        .then(max_age())
        .otherwise(oldest);
    let every_age = cohorts
        .with_column(int_ranges(lit(0), last_age + lit(1), lit(1), DataType::Int32).alias("age"))
        .explode(
            by_name(["age"], true, false),
            ExplodeOptions {
                empty_as_null: false,
                keep_nulls: false,
            },
        );
    let key = [col(PERIOD), col(FIRST_PAID), col("age")];
    let is_reached = (col(FIRST_PAID) + col("age")).lt_eq(col(PERIOD));
    let reached = |value: Expr| when(is_reached.clone()).then(value).otherwise(lit(NULL));
    let billed = |value: Expr| if has_revenue { value } else { lit(NULL) };
    let gross_profit = col("revenue")
        .cum_sum(false)
        .over([col(PERIOD), col(FIRST_PAID)])?
        .cast(DataType::Float64)
        * lit(context.policy.gross_margin);
    let ratio = |numerator: Expr, denominator: &str| {
        let divisor = col(denominator).cast(DataType::Float64);
        when(divisor.clone().neq(lit(0.0)))
            .then(quotient(numerator, divisor))
            .otherwise(lit(NULL))
    };
    Ok(every_age
        .join(cells, key.clone(), key, JoinArgs::new(JoinType::Left))
        .sort([PERIOD, FIRST_PAID, "age"], SortMultipleOptions::default())
        .with_columns([
            reached(ratio(col("customers"), "cohort_size")).alias("customer_retention"),
            reached(ratio(col("mrr"), "cohort_mrr")).alias("nrr"),
            reached(ratio(col("retained"), "cohort_mrr")).alias("grr"),
            billed(reached(ratio(gross_profit, "cohort_size")))
                .alias("cumulative_gross_profit_per_customer"),
        ])
        .with_columns([
            reached(col("customers")).alias("customers"),
            reached(col("mrr")).alias("mrr"),
            billed(reached(col("revenue"))).alias("revenue"),
            col("age").cast(DataType::Int64),
        ]))
}

/// Sums per cohort and period seen, of the accounts that never take part in a merge: the same in whichever period they are
/// published.
pub fn seen(accounts: LazyFrame, map: &AccountMap, context: Context) -> LazyFrame {
    let max_age = lit(context.policy.cohort_max_age as i32);
    let apart = match map.is_empty() {
        true => accounts,
        false => accounts.filter(map.involves(col(ACCOUNT_ID)).not()),
    };
    apart
        .filter((col(PERIOD) - col(FIRST_PAID)).lt_eq(max_age))
        .group_by([col(FIRST_PAID), col(PERIOD)])
        .agg([
            col(CLOSING_CUSTOMERS).sum().alias("customers"),
            col(CLOSING_MRR).sum().alias("mrr"),
            col(REVENUE).sum(),
            col(COHORT_MRR).sum(),
            col(RETAINED_COHORT_MRR).sum().alias("retained"),
        ])
        .rename([PERIOD], [SEEN], true)
}

/// What is needed of the accounts that take part in a merge; `None` if there are none.
pub fn merged(accounts: LazyFrame, map: &AccountMap) -> Option<LazyFrame> {
    let rows = || {
        accounts
            .filter(map.involves(col(ACCOUNT_ID)))
            .select(COHORT_ROW.map(col))
    };
    (!map.is_empty()).then(rows)
}

/// Cells of the other accounts, each past period seen with the merges of the published one. The published period's own row
/// of an account tells its cohort and what it paid there, over all its parts.
fn merged_cells(
    accounts: LazyFrame,
    map: &AccountMap,
    periods: LazyFrame,
    published: PeriodRange,
    context: Context,
) -> LazyFrame {
    let key = || [col(PERIOD), col(ACCOUNT_ID)];
    let origins = accounts
        .clone()
        .select([
            col(PERIOD),
            col(ACCOUNT_ID),
            col(FIRST_PAID),
            col(COHORT_MRR),
        ])
        .filter(col(FIRST_PAID).is_not_null());
    let seen = accounts
        .select([
            col(PERIOD).alias(SEEN),
            col(ACCOUNT_ID),
            col(CLOSING_MRR).alias("mrr"),
            col(REVENUE),
        ])
        .cross_join(periods, None)
        .filter(col(SEEN).lt_eq(col(PERIOD)));
    let is_customer = col("mrr").gt(money::zero(context.currency));
    let is_smaller = col("mrr").lt(col(COHORT_MRR));
    let retained = when(is_smaller).then(col("mrr")).otherwise(col(COHORT_MRR));
    map.applied(seen, published)
        .group_by([col(PERIOD), col(ACCOUNT_ID), col(SEEN)])
        .agg([col("mrr").sum(), col(REVENUE).sum()])
        .join(origins, key(), key(), JoinArgs::new(JoinType::Inner))
        .with_columns([
            is_customer.cast(DataType::Int64).alias("customers"),
            retained.alias("retained"),
        ])
        .select(cell_columns())
}

fn cell_columns() -> Vec<Expr> {
    [PERIOD, FIRST_PAID, SEEN]
        .into_iter()
        .chain(COHORT_MEASURES)
        .map(col)
        .collect()
}
