//! Facts: staged tables → columns at account × period. One file per family; pure frames in, pure frames out.

pub mod allocation;
pub mod attributes;
pub mod community;
pub mod cost;
pub mod fx;
pub mod merges;
pub mod money;
pub mod movements;
pub mod mrr;
pub mod onboarding;
pub mod opportunity;
pub mod revenue;
pub mod spine;
pub mod support;
pub mod survey;
pub mod time;
pub mod usage;

use crate::columns::{ACCOUNT_ID, PERIOD, UNALLOCATED};
use crate::config::{Calendar, Currency, Policy};
use crate::period::PeriodRange;
use merges::AccountMap;
use polars::prelude::*;
use std::collections::BTreeSet;

/// The checked input tables, every contract column present (null where the source has none).
#[derive(Clone)]
pub struct Inputs {
    pub accounts: LazyFrame,
    pub subscriptions: LazyFrame,
    pub plans: Option<LazyFrame>,
    pub invoice_lines: Option<LazyFrame>,
    pub fx_rates: Option<LazyFrame>,
    pub opportunities: Option<LazyFrame>,
    pub members: Option<LazyFrame>,
    pub onboarding: Option<LazyFrame>,
    pub surveys: Option<LazyFrame>,
    pub tickets: Option<LazyFrame>,
    pub community: Option<LazyFrame>,
    pub costs: Option<LazyFrame>,
    pub time_entries: Option<LazyFrame>,
    /// With the index of the period; the total where no dimension is named.
    pub targets: Option<LazyFrame>,
    pub usage: Option<usage::Usage>,
    /// See [`usage::bucket::Bucket::features`].
    pub features: Option<LazyFrame>,
    /// The tables that the pipeline maps.
    pub mapped: BTreeSet<&'static str>,
    pub account_map: AccountMap,
    /// Whether `accounts` has validity intervals.
    pub is_historised: bool,
}

impl Inputs {
    /// Lets go of the rows that only [`crate::account_period::Ground`] is made of; they are most of all.
    pub fn without_ground(&mut self) {
        self.subscriptions = LazyFrame::default();
        if let Some(lines) = &mut self.invoice_lines {
            *lines = LazyFrame::default();
        }
    }
}

/// What every family needs to know beside its tables.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub calendar: &'a Calendar,
    pub currency: &'a Currency,
    pub policy: &'a Policy,
    /// Periods to compute facts for.
    pub range: PeriodRange,
}

/// Keeps a frame in memory, under a name that a profile shows: the run's, which alone collects.
pub type Hold<'a> = &'a dyn Fn(&'static str, LazyFrame) -> PolarsResult<DataFrame>;

/// Adds [`PERIOD`], that of the local date `day`, and leaves out what lies outside of the context's range. Rows without an
/// account are [`UNALLOCATED`].
pub(crate) fn in_period(frame: LazyFrame, day: Expr, context: Context) -> LazyFrame {
    let PeriodRange { first, last } = context.range;
    let is_in_range = col(PERIOD).is_between(lit(first), lit(last), ClosedInterval::Both);
    frame
        .with_columns([
            context.calendar.index_of_date(day).alias(PERIOD),
            col(ACCOUNT_ID).fill_null(lit(UNALLOCATED)),
        ])
        .filter(is_in_range)
}

/// The date so many days later.
pub(crate) fn later_day(day: Expr, days: i32) -> Expr {
    (day.cast(DataType::Int32) + lit(days)).cast(DataType::Date)
}

/// One row per period and surviving account, with the sums of what rows of [`PERIOD`] and `account_id` hold.
pub(crate) fn summed<const N: usize>(
    rows: LazyFrame,
    sums: [(Expr, &str); N],
    map: &AccountMap,
    context: Context,
) -> LazyFrame {
    let sums = sums.map(|(value, name)| value.sum().alias(name));
    map.applied(rows, context.range)
        .group_by([col(PERIOD), col(ACCOUNT_ID)])
        .agg(sums)
}

/// 1 where it holds, else 0.
pub(crate) fn flag(condition: Expr) -> Expr {
    condition.fill_null(lit(false)).cast(DataType::Int64)
}

/// One row per period and row of `frame`: the whole numbers from `first` to `last` (both included, clipped to `range`; null
/// `last` is open), as column [`PERIOD`]. Rows whose interval is empty vanish.
pub(crate) fn each_period(
    frame: LazyFrame,
    first: Expr,
    last: Expr,
    range: PeriodRange,
) -> LazyFrame {
    let from = when(first.clone().lt(lit(range.first)))
        .then(lit(range.first))
        .otherwise(first);
    let open_or_later = last.clone().is_null().or(last.clone().gt(lit(range.last)));
    let to = when(open_or_later).then(lit(range.last)).otherwise(last);
    frame
        .with_columns([
            from.cast(DataType::Int32).alias("__from"),
            to.cast(DataType::Int32).alias("__to"),
        ])
        .filter(col("__from").lt_eq(col("__to")))
        .with_column(
            int_ranges(col("__from"), col("__to") + lit(1), lit(1), DataType::Int32).alias(PERIOD),
        )
        .explode(
            by_name([PERIOD], true, false),
            ExplodeOptions {
                empty_as_null: false,
                keep_nulls: false,
            },
        )
        .drop(by_name(["__from", "__to"], true, false))
}
