//! Usage per account and period: parts of source files ([`part`]) → facts by calendar month ([`bucket`]) → what the model takes.

pub mod bucket;
pub mod part;
#[cfg(test)]
mod reference;
pub mod sheet;
#[cfg(test)]
mod tests;

use super::later_day;
use super::spine::{self, NUMBER, Spine};
use super::{Context, each_period};
use crate::columns::{ACCOUNT_ID, PERIOD};
use crate::config::MauWindow;
use crate::facts::merges::AccountMap;
use crate::period::PeriodRange;
use polars::prelude::*;

/// Local days of the trailing windows.
const WEEK_DAYS: i32 = 7;
const MONTH_DAYS: i32 = 30;

/// The facts of all [buckets](bucket::Bucket), by the accounts that usage names.
#[derive(Clone)]
pub struct Usage {
    pub facts: LazyFrame,
    pub days: LazyFrame,
    pub onboarding: LazyFrame,
    pub merged: LazyFrame,
    /// Facts that the rows tell nothing of: columns of `facts`.
    pub missing: Vec<&'static str>,
}

impl Usage {
    /// The first day on which each account was used: `account_id`, `day`.
    pub fn first_days(&self) -> LazyFrame {
        let first = col("first_day").min().alias("day");
        self.days.clone().group_by([col(ACCOUNT_ID)]).agg([first])
    }

    /// Sums and distinct counts of each period, by surviving account: `events`, `sessions`, `session_seconds`, `active_days`,
    /// `active_user_days`, `wau`, `mau`.
    pub fn per_period(&self, map: &AccountMap, context: Context) -> PolarsResult<LazyFrame> {
        let PeriodRange { first, last } = context.range;
        let in_range = col(PERIOD).is_between(lit(first), lit(last), ClosedInterval::Both);
        let facts = self.facts.clone().filter(in_range);
        if map.is_empty() {
            return Ok(facts);
        }
        // Users and days of accounts that are one now count once.
        let merged = per_period(self.merged.clone(), map, context);
        let apart = facts.filter(map.involves(col(ACCOUNT_ID)).not());
        concat([apart, merged], UnionArgs::default())
    }
}

/// `subscription_id`, `account_id`: the account that each subscription began with.
pub fn accounts_of_subscriptions(subscriptions: LazyFrame) -> LazyFrame {
    subscriptions
        .sort(
            ["subscription_id", "started_at"],
            SortMultipleOptions::default(),
        )
        .group_by_stable([col("subscription_id")])
        .agg([col(ACCOUNT_ID).first()])
}

/// One row per period, surviving account and feature used in it.
pub fn features(used: LazyFrame, map: &AccountMap, context: Context) -> LazyFrame {
    let PeriodRange { first, last } = context.range;
    let in_range = col(PERIOD).is_between(lit(first), lit(last), ClosedInterval::Both);
    map.applied(used.filter(in_range), context.range)
        .select([col(PERIOD), col(ACCOUNT_ID), col("feature")])
        .unique(None, UniqueKeepStrategy::Any)
}

/// [`Usage::per_period`] from user-days, whichever accounts are one.
fn per_period(daily: LazyFrame, map: &AccountMap, context: Context) -> LazyFrame {
    let calendar = context.calendar;
    let range = context.range;
    let by_account = || [col(PERIOD), col(ACCOUNT_ID)];
    let in_period = map.applied(
        daily
            .clone()
            .with_column(calendar.index_of_date(col("day")).alias(PERIOD))
            .filter(col(PERIOD).is_between(
                lit(range.first),
                lit(range.last),
                ClosedInterval::Both,
            )),
        range,
    );
    // One user may have used two accounts that are one now.
    let user_days = in_period
        .clone()
        .group_by([col(PERIOD), col(ACCOUNT_ID), col("user_id"), col("day")])
        .agg([
            col("events").sum(),
            col("sessions").sum(),
            col("session_seconds").sum(),
        ]);
    let sums = user_days.group_by(by_account()).agg([
        col("events").sum(),
        col("sessions").sum(),
        col("session_seconds").sum(),
        col("day")
            .n_unique()
            .cast(DataType::Int64)
            .alias("active_days"),
        len().cast(DataType::Int64).alias("active_user_days"),
    ]);
    let users_of = |frame: LazyFrame, name: &str| {
        map.applied(frame, range)
            .select([col(PERIOD), col(ACCOUNT_ID), col("user_id")])
            .unique(None, UniqueKeepStrategy::Any)
            .group_by(by_account())
            .agg([len().cast(DataType::Int64).alias(name)])
    };
    let user_day = daily.select([col(ACCOUNT_ID), col("user_id"), col("day")]);
    let last_days = |days: i32| trailing_days(user_day.clone(), days, range, context);
    let wau = users_of(last_days(WEEK_DAYS), "wau");
    let mau = match context.policy.mau_window {
        MauWindow::Rolling30 => users_of(last_days(MONTH_DAYS), "mau"),
        MauWindow::Calendar => users_of(
            in_period.select([col(PERIOD), col(ACCOUNT_ID), col("user_id")]),
            "mau",
        ),
    };
    // A window may reach back to users of the period before, in a period without any use of its own.
    let full = JoinArgs::new(JoinType::Full).with_coalesce(JoinCoalesce::CoalesceColumns);
    sums.join(wau, by_account(), by_account(), full.clone())
        .join(mau, by_account(), by_account(), full)
}

/// One row per period in whose last `days` days a row's `day` lies.
fn trailing_days(frame: LazyFrame, days: i32, range: PeriodRange, context: Context) -> LazyFrame {
    let first = context.calendar.index_of_date(col("day"));
    let last = context.calendar.index_of_date(later_day(col("day"), days)) - lit(1);
    each_period(frame, first, last, range)
}

/// Recency and frequency per row of the spine, from [`Usage::days`] with numbered accounts, before merges are applied: `last_use` (date) and `window_active_days` (distinct days
/// with use within the window; exact for accounts outside any merge).
pub fn recency(spine: &Spine, days: LazyFrame, context: Context) -> PolarsResult<LazyFrame> {
    // What has fallen out of the window before the first row would be added and taken away again.
    let counted = days
        .clone()
        .filter(col("period_out").gt(lit(context.range.first)));
    let entry = |period: &str, count: Expr| {
        let columns = [
            col(NUMBER),
            col(period).alias(PERIOD),
            count.alias("window_active_days"),
        ];
        counted.clone().select(columns)
    };
    let entries = [
        entry(PERIOD, col("days")),
        entry("period_out", lit(0i64) - col("days")),
    ];
    let entries = concat(entries, UnionArgs::default())?;
    let active_days = || col("window_active_days");
    let counts = spine.entered(entries, vec![active_days().sum()], context);
    let last_use = spine::day_number(col("last_day")).max().alias("last_use");
    let last = spine.entered(days, vec![last_use], context);
    Ok(spine.lives(vec![counts, last])?.select([
        spine::so_far(active_days()).alias("window_active_days"),
        spine::latest_so_far(col("last_use")).alias("last_use"),
    ]))
}

/// `period_index`, `account_id`, `merged_active_days` of the accounts that others were merged into: days on which two of
/// them were used count once.
pub fn merged_active_days(
    merged: LazyFrame,
    map: &AccountMap,
    window_days: i32,
    context: Context,
) -> LazyFrame {
    let days = account_days(merged);
    map.applied(
        trailing_days(days, window_days, context.range, context),
        context.range,
    )
    .unique(None, UniqueKeepStrategy::Any)
    .group_by([col(PERIOD), col(ACCOUNT_ID)])
    .agg([len().cast(DataType::Int64).alias("merged_active_days")])
}

/// Distinct account and day.
fn account_days(daily: LazyFrame) -> LazyFrame {
    daily
        .select([col(ACCOUNT_ID), col("day")])
        .unique(None, UniqueKeepStrategy::Any)
}
