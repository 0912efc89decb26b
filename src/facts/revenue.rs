//! Invoice lines → revenue: in the period, to date, over the trailing year and over the scores' window.

use super::spine::{self, Spine};
use super::stocks::{Window, window_sums};
use super::{Context, fx, money, mrr};
use crate::columns::{ACCOUNT_ID, CURRENCY, PERIOD, REVENUE};
use polars::prelude::*;

/// One row per account and local day with invoices: `revenue` (reporting currency), `usage_revenue` (of it, metered usage) and
/// `invoices` (how many invoices of that day sum above zero; lines of one id that are issued on another day are another invoice).
pub fn daily(invoice_lines: LazyFrame, rates: LazyFrame, context: Context) -> LazyFrame {
    let lines = invoice_lines
        .with_columns([
            coalesce(&[col(CURRENCY), lit(context.currency.code.as_str())]).alias(CURRENCY),
            context.calendar.local_date(col("issued_at")).alias("day"),
        ])
        .with_column(context.calendar.index_of_date(col("day")).alias(PERIOD))
        .filter(col(PERIOD).lt_eq(lit(context.range.last)));
    let is_usage = col("kind").eq(lit("usage"));
    let usage_revenue = when(is_usage)
        .then(col(REVENUE))
        .otherwise(money::zero(context.currency));
    let converted = fx::with_rate(lines, rates, context)
        .with_column(mrr::converted(col("amount"), context).alias(REVENUE))
        .with_column(usage_revenue.alias("usage_revenue"));
    let invoices = converted
        .clone()
        .group_by([col(ACCOUNT_ID), col("invoice_id"), col("day")])
        .agg([col(REVENUE).sum()])
        .filter(col(REVENUE).gt(money::zero(context.currency)))
        .group_by([col(ACCOUNT_ID), col("day")])
        .agg([len().cast(DataType::Int64).alias("invoices")]);
    let key = [col(ACCOUNT_ID), col("day")];
    converted
        .group_by(key.clone())
        .agg([col(REVENUE).sum(), col("usage_revenue").sum()])
        .join(invoices, key.clone(), key, JoinArgs::new(JoinType::Left))
        .with_column(col("invoices").fill_null(lit(0i64)))
}

/// Lines of the range whose currency has no rate: `period_index`, `currency`.
pub fn missing_rates(invoice_lines: LazyFrame, rates: LazyFrame, context: Context) -> LazyFrame {
    let lines = invoice_lines
        .with_columns([
            coalesce(&[col(CURRENCY), lit(context.currency.code.as_str())]).alias(CURRENCY),
            context
                .calendar
                .index_of_instant(col("issued_at"))
                .alias(PERIOD),
        ])
        .filter(col(PERIOD).lt_eq(lit(context.range.last)));
    fx::with_rate(lines, rates, context)
        .filter(col("rate").is_null())
        .select([col(PERIOD), col(CURRENCY)])
}

/// Revenue columns per row of the spine, before merges are applied; all additive but `last_payment`.
pub fn per_period(
    spine: &Spine,
    daily: LazyFrame,
    window_days: i32,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let year = context.calendar.grain.periods_per_year();
    let both = |revenue: &'static str, invoices: &'static str| {
        [(REVENUE, revenue), ("invoices", invoices)]
    };
    let sums =
        |names: &[(&str, &str)], window| window_sums(spine, daily.clone(), names, window, context);
    let of_period = [(REVENUE, REVENUE), ("usage_revenue", "usage_revenue")];
    let in_period = sums(&of_period, Window::Periods(1))?;
    let to_date = sums(&both("revenue_to_date", "invoices_to_date"), Window::ToDate)?;
    let over_year = sums(&both("revenue_12m", "invoices_12m"), Window::Periods(year))?;
    let over_window = sums(
        &both("window_revenue", "window_invoices"),
        Window::Days(window_days),
    )?;
    let paid = daily.filter(col("invoices").gt(lit(0i64)));
    let last = spine.latest_days(paid, "last_payment", context)?;
    spine::side_by_side(vec![in_period, to_date, over_year, over_window, last])
}
