//! Running totals and trailing windows over a spine of account × period.
//!
//! A value counts from the period it falls into until the period it falls out of its window. Written as two entries, one
//! adding and one taking away, every window of any length is one running sum over the spine.

use super::Context;
use super::spine::{NUMBER, Spine};
use crate::columns::PERIOD;
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

/// For each row of `spine`, the sum of every column of `values` that counts there. `daily` holds the account's [`NUMBER`], a local date
/// column `day`, and the values; `names` gives value → name of its sum.
pub fn window_sums(
    spine: &Spine,
    daily: LazyFrame,
    names: &[(&str, &str)],
    window: Window,
    context: Context,
) -> PolarsResult<LazyFrame> {
    // What has fallen out before the first row would be added and taken away again.
    let daily = match falls_out(col("day"), window, context) {
        Some(out) => daily.filter(out.gt(lit(context.range.first))),
        None => daily,
    };
    let entry = |period: Expr, sign: i64| {
        let signed = |value: &str, name: &str| {
            let value = if sign > 0 {
                col(value)
            } else {
                lit(0i64) - col(value)
            };
            value.alias(name)
        };
        let mut columns = vec![col(NUMBER), period.cast(DataType::Int32).alias(PERIOD)];
        columns.extend(names.iter().map(|(value, name)| signed(value, name)));
        daily.clone().select(columns)
    };
    let mut entries = vec![entry(context.calendar.index_of_date(col("day")), 1)];
    if let Some(out) = falls_out(col("day"), window, context) {
        entries.push(entry(out, -1));
    }
    let sums: Vec<&str> = names.iter().map(|(_, name)| *name).collect();
    spine.running_sums(entries, &sums, context)
}
