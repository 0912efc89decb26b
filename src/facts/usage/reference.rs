//! The rollup as plain polars would write it: what the kernel is held against.

use super::*;
use crate::config::{Calendar, Policy};
use crate::facts::spine::SLOT;

const USER_DAY: [&str; 3] = [ACCOUNT_ID, "user_id", "day"];

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

/// Recency and frequency per row of `spine`, before merges are applied: `window_active_days` (distinct days with use within the
/// window) and `last_use` (date).
pub fn recency(
    spine: LazyFrame,
    daily: LazyFrame,
    window_days: i32,
    context: Context,
) -> LazyFrame {
    let ends: Vec<_> = context
        .range
        .indices()
        .map(|index| context.calendar.start_of(index + 1))
        .collect();
    let indices: Vec<i32> = context.range.indices().collect();
    let ends = df!(PERIOD => indices, "end" => ends).unwrap().lazy();
    let in_window = col("day").gt_eq(later_day(col("end"), -window_days));
    let counted = in_window.fill_null(lit(false)).cast(DataType::Int64);
    let days = spine
        .clone()
        .left_join(ends, col(PERIOD), col(PERIOD))
        .inner_join(account_days(daily), col(ACCOUNT_ID), col(ACCOUNT_ID))
        .filter(col("day").lt(col("end")))
        .group_by([col(SLOT)])
        .agg([
            counted.sum().alias("window_active_days"),
            col("day").max().alias("last_use"),
        ]);
    spine
        .join(
            days,
            [col(SLOT)],
            [col(SLOT)],
            JoinArgs::new(JoinType::Left),
        )
        .with_column(col("window_active_days").fill_null(lit(0i64)))
}
