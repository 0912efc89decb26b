//! Exchange rates per period: the latest rate dated before the period's end.

use super::Context;
use crate::columns::{CURRENCY, PERIOD};
use polars::prelude::*;

/// Decimals of a rate, as the contract of fx_rates has them.
const RATE_SCALE: usize = 12;

/// `period_index`, `currency`, `rate` (reporting units per unit), for every period from a currency's first rate on, up
/// to the range's last. The reporting currency is not in it: its rate is 1.
pub fn period_rates(fx_rates: Option<LazyFrame>, context: Context) -> PolarsResult<LazyFrame> {
    let Some(rates) = fx_rates else {
        return Ok(no_rates());
    };
    let index = context.calendar.index_of_date(col("date"));
    let next_index = col(PERIOD).shift(lit(-1)).over([col(CURRENCY)])?;
    let last_of_period = rates
        .filter(col(CURRENCY).neq(lit(context.currency.code.as_str())))
        .with_column(index.alias(PERIOD))
        .group_by([col(CURRENCY), col(PERIOD)])
        .agg([col("rate")
            .sort_by([col("date")], SortMultipleOptions::default())
            .last()])
        .sort([CURRENCY, PERIOD], SortMultipleOptions::default())
        .with_column((next_index - lit(1)).alias("until"))
        .rename([PERIOD], ["since"], true);
    let range = crate::period::PeriodRange {
        first: i32::MIN / 2,
        last: context.range.last,
    };
    Ok(
        super::each_period(last_of_period, col("since"), col("until"), range).select([
            col(PERIOD),
            col(CURRENCY),
            col("rate"),
        ]),
    )
}

fn no_rates() -> LazyFrame {
    let schema = Schema::from_iter([
        Field::new(PERIOD.into(), DataType::Int32),
        Field::new(CURRENCY.into(), DataType::String),
        Field::new("rate".into(), DataType::Decimal(38, RATE_SCALE)),
    ]);
    DataFrame::empty_with_schema(&schema).lazy()
}

/// Adds `rate` by `currency` and `period_index`; the reporting currency's is 1, an unknown one null.
pub fn with_rate(frame: LazyFrame, rates: LazyFrame, context: Context) -> LazyFrame {
    let on = [col(PERIOD), col(CURRENCY)];
    let is_reporting = col(CURRENCY).eq(lit(context.currency.code.as_str()));
    let one = lit(1i64).cast(DataType::Decimal(38, RATE_SCALE));
    frame
        .join(rates, on.clone(), on, JoinArgs::new(JoinType::Left))
        .with_column(
            when(is_reporting)
                .then(one)
                .otherwise(col("rate"))
                .alias("rate"),
        )
}
