//! Exchange rates per period: the latest rate dated before the period's end.

use super::{Context, Hold, money};
use crate::columns::{CURRENCY, PERIOD};
use polars::prelude::*;

/// Decimals of a rate, as the contract of fx_rates has them.
const RATE_SCALE: usize = 12;

/// What a unit of another currency is worth in each period.
#[derive(Clone)]
pub struct Rates {
    /// `period_index`, `currency`, `rate` (reporting units per unit), for every period from a currency's first rate on, up to
    /// the range's last. The reporting currency is not in it: its rate is 1. `None` if there is no other.
    rows: Option<LazyFrame>,
}

impl Rates {
    /// Of the periods up to the context's last one. `hold` keeps a frame in memory.
    pub fn of(fx_rates: Option<LazyFrame>, context: Context, hold: Hold) -> PolarsResult<Self> {
        let rates = fx_rates.map(|rates| period_rates(rates, context));
        let rates = rates.transpose()?.map(|rates| hold("rates", rates));
        let rates = rates.transpose()?.filter(|rates| rates.height() > 0);
        Ok(Self {
            rows: rates.map(IntoLazy::lazy),
        })
    }

    /// Adds `rate` by `currency` and `period_index`; the reporting currency's is 1, an unknown one null.
    pub fn beside(&self, frame: LazyFrame, context: Context) -> LazyFrame {
        let is_reporting = col(CURRENCY).eq(lit(context.currency.code.as_str()));
        let one = lit(1i64).cast(rate_type());
        let own = when(is_reporting).then(one);
        let Some(rates) = &self.rows else {
            let rate = own.otherwise(lit(NULL).cast(rate_type()));
            return frame.with_column(rate.alias("rate"));
        };
        let on = [col(PERIOD), col(CURRENCY)];
        frame
            .join(rates.clone(), on.clone(), on, JoinArgs::new(JoinType::Left))
            .with_column(own.otherwise(col("rate")).alias("rate"))
    }

    /// An amount in the row's own currency at the row's `rate`, in the reporting currency's minor unit.
    pub fn converted(&self, local: Expr, context: Context) -> Expr {
        let worth = match self.rows {
            Some(_) => local * col("rate").cast(money::working()),
            // Multiplied by nothing but 1.
            None => when(col("rate").is_not_null())
                .then(local)
                .otherwise(lit(NULL)),
        };
        money::to_minor_unit(worth, context.currency)
    }
}

fn rate_type() -> DataType {
    DataType::Decimal(38, RATE_SCALE)
}

fn period_rates(rates: LazyFrame, context: Context) -> PolarsResult<LazyFrame> {
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
