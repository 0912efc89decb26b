//! Running totals and trailing windows over a spine of account × period.
//!
//! A value counts from the period it falls into until the period it falls out of its window. Written as two entries, one
//! adding and one taking away, every window of any length is one running sum over the spine.

use super::Context;
use crate::columns::{ACCOUNT_ID, PERIOD};
use crate::period::PeriodRange;
use polars::prelude::*;

/// How long a dated value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// For ever.
    ToDate,
    /// In its own period and the ones after it, this many in all.
    Periods(i32),
    /// While it lies within so many days before a period's end.
    Days(i32),
}

/// Index of the first period in which a value of the local date `day` counts no more.
fn falls_out(day: Expr, window: Window, context: Context) -> Option<Expr> {
    match window {
        Window::ToDate => None,
        Window::Periods(count) => Some(context.calendar.index_of_date(day) + lit(count)),
        Window::Days(days) => Some(context.calendar.index_of_date(later_day(day, days))),
    }
}

/// The date so many days later.
pub fn later_day(day: Expr, days: i32) -> Expr {
    (day.cast(DataType::Int32) + lit(days)).cast(DataType::Date)
}

/// For each row of `spine` (`account_id`, `period_index`), the sum of every column of `values` that counts there.
/// `daily` holds `account_id`, a local date column `day`, and the values; `names` gives value → name of its sum.
pub fn window_sums(
    spine: LazyFrame,
    daily: LazyFrame,
    names: &[(&str, &str)],
    window: Window,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let entry = |period: Expr, sign: i64| {
        let signed = |value: &str, name: &str| {
            let value = if sign > 0 {
                col(value)
            } else {
                lit(0i64) - col(value)
            };
            value.alias(name)
        };
        let mut columns = vec![col(ACCOUNT_ID), period.cast(DataType::Int32).alias(PERIOD)];
        columns.extend(names.iter().map(|(value, name)| signed(value, name)));
        daily.clone().select(columns)
    };
    let mut entries = vec![entry(context.calendar.index_of_date(col("day")), 1)];
    if let Some(out) = falls_out(col("day"), window, context) {
        entries.push(entry(out, -1));
    }
    let sums: Vec<&str> = names.iter().map(|(_, name)| *name).collect();
    running_sums(spine, entries, &sums, context)
}

/// For each row of `spine`, the sum of the columns `names` of all `entries` (`account_id`, `period_index`) up to its period.
pub fn running_sums(
    spine: LazyFrame,
    entries: Vec<LazyFrame>,
    names: &[&str],
    context: Context,
) -> PolarsResult<LazyFrame> {
    let PeriodRange { first, last } = context.range;
    let clipped = when(col(PERIOD).lt(lit(first)))
        .then(lit(first))
        .otherwise(col(PERIOD));
    let key = [col(ACCOUNT_ID), col(PERIOD)];
    let sums: Vec<Expr> = names.iter().map(|name| col(*name).sum()).collect();
    let per_period = concat(entries, UnionArgs::default())?
        .filter(col(PERIOD).lt_eq(lit(last)))
        .with_column(clipped.cast(DataType::Int32).alias(PERIOD))
        .group_by(key.clone())
        .agg(sums);
    let mut running = Vec::new();
    for name in names {
        running.push(
            col(*name)
                .fill_null(lit(0i64))
                .cum_sum(false)
                .over([col(ACCOUNT_ID)])?,
        );
    }
    Ok(spine
        .select(key.clone())
        .join(per_period, key.clone(), key, JoinArgs::new(JoinType::Left))
        .sort([ACCOUNT_ID, PERIOD], SortMultipleOptions::default())
        .with_columns(running))
}

/// For each row of `spine`, the latest `day` up to the period's end, as `name` (null if there is none).
pub fn latest_days(
    spine: LazyFrame,
    daily: LazyFrame,
    name: &str,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let period = context.calendar.index_of_date(col("day"));
    let clipped = when(period.clone().lt(lit(context.range.first)))
        .then(lit(context.range.first))
        .otherwise(period);
    let key = [col(ACCOUNT_ID), col(PERIOD)];
    let per_period = daily
        .with_column(clipped.cast(DataType::Int32).alias(PERIOD))
        .group_by(key.clone())
        .agg([col("day").max().cast(DataType::Int32).alias(name)]);
    let never = lit(i32::MIN);
    let latest = col(name)
        .fill_null(never.clone())
        .cum_max(false)
        .over([col(ACCOUNT_ID)])?;
    Ok(spine
        .select(key.clone())
        .join(per_period, key.clone(), key, JoinArgs::new(JoinType::Left))
        .sort([ACCOUNT_ID, PERIOD], SortMultipleOptions::default())
        .with_column(latest.alias(name))
        .with_column(
            when(col(name).eq(never))
                .then(lit(NULL))
                .otherwise(col(name))
                .cast(DataType::Date)
                .alias(name),
        ))
}
