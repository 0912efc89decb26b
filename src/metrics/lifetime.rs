//! Lifetime value of single accounts: earned so far, expected in all, and how it ranks.

use crate::columns::*;
use crate::facts::{Context, each_period, money};
use crate::sql::quotient;
use polars::prelude::*;

/// Adds `ltv_to_date`, `ltv_expected` and `ltv_percentile` to account × period rows (docs/definitions.md § 6).
///
/// `churn` is what [`churn`] gives for the whole company, from `ltv_churn_periods` before the rows on; `by_segment` the column
/// whose members' churn an account is rather expected to follow, with the same by member.
pub fn with_ltv(
    accounts: LazyFrame,
    churn: LazyFrame,
    by_segment: Option<(&str, LazyFrame)>,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let margin = || lit(context.policy.gross_margin.to_string()).cast(money::working());
    let company = trailing(churn, None, context);
    let mut frame = accounts.left_join(company, col(PERIOD), col(PERIOD));
    if let Some((segment, churn)) = by_segment {
        let by_segment = trailing(churn, Some(segment), context).rename(
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

/// Churned and opening customers per period (and member of `segment`).
pub fn churn(accounts: LazyFrame, segment: Option<&str>) -> LazyFrame {
    let key = std::iter::once(PERIOD).chain(segment).map(col);
    accounts.group_by(key.collect::<Vec<_>>()).agg([
        col(CHURNED_CUSTOMERS).sum().alias("churned"),
        col(OPENING_CUSTOMERS).sum().alias("opened"),
    ])
}

/// The same pooled over the trailing `ltv_churn_periods`.
fn trailing(churn: LazyFrame, segment: Option<&str>, context: Context) -> LazyFrame {
    const SINCE: &str = "__since";
    let periods = context.policy.ltv_churn_periods as i32;
    let key = std::iter::once(PERIOD).chain(segment).map(col);
    let last = col(SINCE) + lit(periods - 1);
    let per_period = churn.rename([PERIOD], [SINCE], true);
    each_period(per_period, col(SINCE), last, context.range)
        .group_by(key.collect::<Vec<_>>())
        .agg([col("churned").sum(), col("opened").sum()])
}
