//! The retention triangle: cohort × age, as known at a period's end.

use crate::columns::*;
use crate::facts::{Context, money};
use crate::period::PeriodRange;
use polars::prelude::*;

/// One row per period of `published`, cohort and age (docs/definitions.md § 5). `accounts` must reach from `begin` on.
pub fn cohort_retention(
    accounts: LazyFrame,
    begin: i32,
    published: PeriodRange,
    has_revenue: bool,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let cells = accounts
        .filter(
            col(FIRST_PAID)
                .gt_eq(lit(begin))
                .and(col(PERIOD).gt_eq(lit(begin))),
        )
        .group_by([col(FIRST_PAID), col(PERIOD)])
        .agg([
            col(CLOSING_CUSTOMERS).sum().alias("customers"),
            col(CLOSING_MRR).sum().alias("mrr"),
            col(REVENUE).sum().alias("revenue"),
            col(COHORT_MRR).sum().alias("cohort_mrr"),
            col(RETAINED_COHORT_MRR).sum().alias("retained"),
        ])
        .with_column((col(PERIOD) - col(FIRST_PAID)).alias("age"));
    let sizes = cells
        .clone()
        .filter(col("age").eq(lit(0)))
        .select([col(FIRST_PAID), col("customers").alias("cohort_size")]);

    // Every cohort known at the period's end × every age up to the oldest cohort's; what is not reached stays null.
    let published = df!(PERIOD => published.indices().collect::<Vec<_>>())?.lazy();
    let cohorts = sizes
        .cross_join(published, None)
        .filter(col(FIRST_PAID).lt_eq(col(PERIOD)));
    let oldest = col(PERIOD) - col(FIRST_PAID).min().over([col(PERIOD)])?;
    let max_age = lit(context.policy.cohort_max_age as i32);
    let last_age = when(oldest.clone().gt(max_age.clone()))
        .then(max_age)
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
    let key = [col(FIRST_PAID), col("age")];
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
            .then(numerator.cast(DataType::Float64) / divisor)
            .otherwise(lit(NULL))
    };
    // A cohort all of whose accounts were merged into older ones goes on, with nobody in it.
    let nobody = [
        col("customers").fill_null(lit(0i64)),
        col("mrr").fill_null(money::zero(context.currency)),
        col("revenue").fill_null(money::zero(context.currency)),
    ];
    Ok(every_age
        .join(
            cells.drop(by_name([PERIOD], true, false)),
            key.clone(),
            key,
            JoinArgs::new(JoinType::Left),
        )
        .with_columns(nobody)
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
