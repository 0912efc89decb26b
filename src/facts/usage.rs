//! Usage events or sessions → `usage_daily` (account, user, local day) → usage per account and period.

use super::stocks::{Window, later_day, latest_days, window_sums};
use super::{Context, each_period};
use crate::columns::{ACCOUNT_ID, PERIOD};
use crate::config::{Calendar, MauWindow, Policy};
use crate::facts::merges::AccountMap;
use crate::period::PeriodRange;
use polars::prelude::*;

const USER_DAY: [&str; 3] = [ACCOUNT_ID, "user_id", "day"];

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

/// `usage_daily`: one row per account, user and local day: `events`, `sessions`, `session_seconds`.
///
/// Sessions are cut at local midnight, so that a day is final once it is over.
pub fn daily_from_events(
    events: LazyFrame,
    mapped: &[String],
    calendar: &Calendar,
    policy: &Policy,
) -> LazyFrame {
    let is_mapped = |name: &str| mapped.iter().any(|column| column == name);
    let user_day = || USER_DAY.map(col);
    let dated = events.with_column(calendar.local_date(col("occurred_at")).alias("day"));
    let seconds = if is_mapped("seconds") {
        col("seconds").fill_null(lit(0i64)).sum()
    } else {
        lit(0i64)
    };
    let session_parts = [
        col("occurred_at").min().alias("first"),
        col("occurred_at").max().alias("last"),
        len().cast(DataType::Int64).alias("events"),
        seconds.alias("given_seconds"),
    ];
    let sessions = if is_mapped("session_id") {
        let key = [user_day().to_vec(), vec![col("session_id")]].concat();
        dated.group_by(key).agg(session_parts)
    } else {
        let gap = i64::from(policy.session_gap_minutes) * 60_000_000;
        let differs = |column: &str| col(column).neq_missing(col(column).shift(lit(1)));
        let pause = (col("occurred_at").cast(DataType::Int64)
            - col("occurred_at").cast(DataType::Int64).shift(lit(1)))
        .gt(lit(gap));
        let starts = differs(ACCOUNT_ID)
            .or(differs("user_id"))
            .or(differs("day"))
            .or(pause.fill_null(lit(true)));
        let needed = [ACCOUNT_ID, "user_id", "day", "occurred_at"]
            .into_iter()
            .chain(is_mapped("seconds").then_some("seconds"));
        dated
            .select(needed.map(col).collect::<Vec<_>>())
            .sort(
                [ACCOUNT_ID, "user_id", "occurred_at"],
                SortMultipleOptions::default(),
            )
            .with_column(starts.cast(DataType::Int64).cum_sum(false).alias("session"))
            .group_by([user_day().to_vec(), vec![col("session")]].concat())
            .agg(session_parts)
    };
    let length = (col("last").cast(DataType::Int64) - col("first").cast(DataType::Int64))
        .floor_div(lit(1_000_000i64));
    let session_seconds = if is_mapped("seconds") {
        col("given_seconds")
    } else {
        length
    };
    sessions
        .with_column(session_seconds.alias("session_seconds"))
        .group_by(user_day())
        .agg([
            col("events").sum(),
            len().cast(DataType::Int64).alias("sessions"),
            col("session_seconds").sum(),
        ])
}

/// One row per account, feature and period in which it was used: `period_index`, the first `day`, and, with `signups`
/// (`account_id`, `signup`), apart what was used `since_signup`.
pub fn features_from_events(
    events: LazyFrame,
    signups: Option<LazyFrame>,
    calendar: &Calendar,
) -> LazyFrame {
    let day = calendar.local_date(col("occurred_at"));
    let used = events
        .filter(col("feature").is_not_null())
        .select([col(ACCOUNT_ID), col("feature"), day.alias("day")])
        .with_column(calendar.index_of_date(col("day")).alias(PERIOD));
    let mut key = vec![col(ACCOUNT_ID), col("feature"), col(PERIOD)];
    let used = match signups {
        None => used,
        Some(signups) => {
            key.push(col("since_signup"));
            let since = col("day").gt_eq(col("signup")).alias("since_signup");
            used.left_join(signups, col(ACCOUNT_ID), col(ACCOUNT_ID))
                .with_column(since)
        }
    };
    used.group_by(key).agg([col("day").min()])
}

/// One row per period, surviving account and feature used in it.
pub fn features(used: LazyFrame, map: &AccountMap, context: Context) -> LazyFrame {
    let PeriodRange { first, last } = context.range;
    let in_range = col(PERIOD).is_between(lit(first), lit(last), ClosedInterval::Both);
    map.applied(used.filter(in_range), context.range)
        .select([col(PERIOD), col(ACCOUNT_ID), col("feature")])
        .unique(None, UniqueKeepStrategy::Any)
}

/// `usage_daily` from ready sessions: each counts on the day it starts, and is one event.
pub fn daily_from_sessions(sessions: LazyFrame, calendar: &Calendar) -> LazyFrame {
    let length = (col("ended_at").cast(DataType::Int64) - col("started_at").cast(DataType::Int64))
        .floor_div(lit(1_000_000i64));
    sessions
        .with_columns([
            calendar.local_date(col("started_at")).alias("day"),
            length.alias("session_seconds"),
        ])
        .group_by(USER_DAY.map(col))
        .agg([
            len().cast(DataType::Int64).alias("events"),
            len().cast(DataType::Int64).alias("sessions"),
            col("session_seconds").sum(),
        ])
}

/// Sums and distinct counts of each period, by surviving account: `events`, `sessions`, `session_seconds`, `active_days`,
/// `active_user_days`, `wau`, `mau`.
pub fn per_period(daily: LazyFrame, map: &AccountMap, context: Context) -> LazyFrame {
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
    let wau = users_of(last_days(7), "wau");
    let mau = match context.policy.mau_window {
        MauWindow::Rolling30 => users_of(last_days(30), "mau"),
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

/// Recency and frequency per account and period of the spine, before merges are applied: `last_use` (date) and
/// `window_active_days` (distinct days with use within the window; exact for accounts outside any merge).
pub fn recency(
    spine: LazyFrame,
    daily: LazyFrame,
    window_days: i32,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let days = account_days(daily);
    let counts = window_sums(
        spine.clone(),
        days.clone().with_column(lit(1i64).alias("active")),
        &[("active", "window_active_days")],
        Window::Days(window_days),
        context,
    )?;
    let last = latest_days(spine, days, "last_use", context)?;
    let key = [col(ACCOUNT_ID), col(PERIOD)];
    Ok(counts.join(last, key.clone(), key, JoinArgs::new(JoinType::Left)))
}

/// `period_index`, `account_id`, `merged_active_days` of the accounts that others were merged into: days on which two of
/// them were used count once.
pub fn merged_active_days(
    daily: LazyFrame,
    map: &AccountMap,
    window_days: i32,
    context: Context,
) -> LazyFrame {
    let involved: Vec<&str> = map.involved().into_iter().collect();
    let names = lit(Series::new("involved".into(), involved)).implode(true);
    let days = account_days(daily).filter(col(ACCOUNT_ID).is_in(names, false));
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
