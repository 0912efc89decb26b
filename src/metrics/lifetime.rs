//! Lifetime value of single accounts: earned so far, expected in all, and how it ranks.

use crate::columns::*;
use crate::facts::{Context, each_period, money};
use crate::sql::quotient;
use polars::prelude::*;

/// Adds `ltv_to_date`, `ltv_expected` and `ltv_percentile` to account × period rows (docs/definitions.md § 6).
///
/// `segment` is the column whose members' churn an account is expected to follow; `None` is the whole company.
pub fn with_ltv(
    accounts: LazyFrame,
    segment: Option<&str>,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let margin = || lit(context.policy.gross_margin.to_string()).cast(money::working());
    let company = trailing_churn(accounts.clone(), None, context);
    let mut frame = accounts
        .clone()
        .left_join(company, col(PERIOD), col(PERIOD));
    if let Some(segment) = segment {
        let by_segment = trailing_churn(accounts, Some(segment), context).rename(
            ["churned", "opened"],
            ["segment_churned", "segment_opened"],
            true,
        );
        let key = [col(PERIOD), col(segment)];
        let has_churn = || col("segment_churned").gt(lit(0i64)).fill_null(lit(false));
        frame = frame
            .join(by_segment, key.clone(), key, JoinArgs::new(JoinType::Left))
            .with_columns([
                when(has_churn())
                    .then(col("segment_churned"))
                    .otherwise(col("churned"))
                    .alias("churned"),
                when(has_churn())
                    .then(col("segment_opened"))
                    .otherwise(col("opened"))
                    .alias("opened"),
            ]);
    }
    // MRR × margin / (churned / opened / months per period), in decimals to the last step.
    let per_year = i64::from(context.calendar.grain.periods_per_year());
    let months = |count: Expr| count.cast(money::working());
    let gained = col(CLOSING_MRR).cast(money::working())
        * margin()
        * months(col("opened"))
        * lit(12i64).cast(money::working());
    let lost = months(col("churned") * lit(per_year));
    let has_churn = col("churned").gt(lit(0i64)).fill_null(lit(false));
    let divisor = when(has_churn.clone())
        .then(lost)
        .otherwise(lit(1i64).cast(money::working()));
    let remainder = when(has_churn)
        .then(money::to_minor_unit(gained / divisor, context.currency))
        .otherwise(money::zero(context.currency));
    let is_customer = || col(CLOSING_CUSTOMERS).eq(lit(1i64));
    let so_far = money::to_minor_unit(
        col("revenue_to_date").cast(money::working()) * margin(),
        context.currency,
    );
    let zero = money::zero(context.currency);

    let of_customers = || {
        when(is_customer())
            .then(col(LTV_EXPECTED))
            .otherwise(lit(NULL))
    };
    let smaller = of_customers()
        .rank(
            RankOptions {
                method: RankMethod::Min,
                descending: false,
            },
            None,
        )
        .over([col(PERIOD)])?
        .cast(DataType::Float64)
        - lit(1.0);
    let customers = col(CLOSING_CUSTOMERS)
        .sum()
        .over([col(PERIOD)])?
        .cast(DataType::Float64);
    Ok(frame
        .with_column(so_far.alias(LTV_TO_DATE))
        .with_column(
            when(is_customer())
                .then(col(LTV_TO_DATE).fill_null(zero) + remainder)
                .otherwise(col(LTV_TO_DATE))
                .alias(LTV_EXPECTED),
        )
        .with_column(
            when(is_customer())
                .then(quotient(smaller, customers))
                .otherwise(lit(NULL))
                .alias(LTV_PERCENTILE),
        )
        .drop(by_name(
            ["churned", "opened", "segment_churned", "segment_opened"],
            false,
            false,
        )))
}

/// Churned and opening customers pooled over the trailing `ltv_churn_periods`, per period (and member of `segment`).
fn trailing_churn(accounts: LazyFrame, segment: Option<&str>, context: Context) -> LazyFrame {
    let periods = context.policy.ltv_churn_periods as i32;
    let members: Vec<Expr> = segment.into_iter().map(col).collect();
    let per_period = accounts
        .group_by([vec![col(PERIOD).alias("__since")], members.clone()].concat())
        .agg([
            col(CHURNED_CUSTOMERS).sum().alias("churned"),
            col(OPENING_CUSTOMERS).sum().alias("opened"),
        ]);
    each_period(
        per_period,
        col("__since"),
        col("__since") + lit(periods - 1),
        context.range,
    )
    .group_by([vec![col(PERIOD)], members].concat())
    .agg([col("churned").sum(), col("opened").sum()])
}
