//! Onboardings, told by an export or by a rule over usage, and the members of accounts (docs/definitions.md § 9).

use super::later_day;
use super::merges::AccountMap;
use super::{Context, Inputs, each_period, flag, summed};
use crate::columns::{ACCOUNT_ID, PERIOD};
use crate::config::{OnboardingUnit, RawOnboardingRule};
use polars::prelude::*;

/// The onboardings that are counted: `account_id`, `started_on`, `completed_on` (local dates; null while not completed) and
/// `window_end` (the first day after the window). `None` if nothing tells of any.
pub fn onboardings(inputs: &Inputs, context: Context) -> PolarsResult<Option<LazyFrame>> {
    let policy = context.policy;
    let (onboardings, window) = match (&policy.onboarding_rule, &inputs.onboarding) {
        (Some(rule), _) => match by_rule(inputs, rule)? {
            Some(onboardings) => (onboardings, rule.within_days),
            None => return Ok(None),
        },
        (None, None) => return Ok(None),
        (None, Some(rows)) => {
            let is_counted = match policy.onboarding_unit {
                OnboardingUnit::Account => col("user_id").is_null(),
                OnboardingUnit::Member => col("user_id").is_not_null(),
            };
            let day = |instant: &str| context.calendar.local_date(col(instant));
            let onboardings = rows.clone().filter(is_counted).select([
                col(ACCOUNT_ID),
                day("started_at").alias("started_on"),
                day("completed_at").alias("completed_on"),
            ]);
            (onboardings, policy.onboarding_window_days)
        }
    };
    let window_end = later_day(col("started_on"), window as i32).alias("window_end");
    Ok(Some(onboardings.with_column(window_end)))
}

/// One onboarding per account, from its sign-up on.
fn by_rule(inputs: &Inputs, rule: &RawOnboardingRule) -> PolarsResult<Option<LazyFrame>> {
    let Some(usage) = &inputs.usage else {
        return Ok(None);
    };
    let signups = inputs
        .accounts
        .clone()
        .group_by([col(ACCOUNT_ID)])
        .agg([col("signup_date").min().alias("started_on")])
        .filter(col("started_on").is_not_null());
    let is_within = col("day")
        .gt_eq(col("started_on"))
        .and(col("day").lt(later_day(col("started_on"), rule.within_days as i32)));
    let within = |rows: LazyFrame| {
        rows.inner_join(signups.clone(), col(ACCOUNT_ID), col(ACCOUNT_ID))
            .filter(is_within.clone())
    };
    let first_day = |rows: LazyFrame, name: &str| {
        rows.group_by([col(ACCOUNT_ID)])
            .agg([col("day").min().alias(name)])
    };
    let mut onboardings = signups.clone();
    let mut needed = Vec::new();
    if rule.hours > 0.0 {
        let so_far = col("session_seconds")
            .cum_sum(false)
            .over([col(ACCOUNT_ID)])?;
        let enough = so_far
            .cast(DataType::Float64)
            .gt_eq(lit(rule.hours * 3_600.0));
        let days = within(usage.onboarding.clone())
            .group_by([col(ACCOUNT_ID), col("day")])
            .agg([col("session_seconds").sum()])
            .sort([ACCOUNT_ID, "day"], SortMultipleOptions::default())
            .filter(enough);
        let reached = first_day(days, "hours_on");
        onboardings = onboardings.left_join(reached, col(ACCOUNT_ID), col(ACCOUNT_ID));
        needed.push("hours_on");
    }
    if rule.features > 0 {
        let Some(features) = &inputs.features else {
            return Ok(None);
        };
        // The first use of each feature; on the day of the n-th of them so many are reached.
        let place = col("day").cum_count(false).over([col(ACCOUNT_ID)])?;
        let since_signup = features.clone().filter(col("since_signup"));
        let days = within(since_signup)
            .group_by([col(ACCOUNT_ID), col("feature")])
            .agg([col("day").min()])
            .sort(
                [ACCOUNT_ID, "day", "feature"],
                SortMultipleOptions::default(),
            )
            .with_column(place.cast(DataType::Int64).alias("place"))
            .filter(col("place").eq(lit(i64::from(rule.features))));
        let reached = first_day(days, "features_on");
        onboardings = onboardings.left_join(reached, col(ACCOUNT_ID), col(ACCOUNT_ID));
        needed.push("features_on");
    }
    let all_there = needed.iter().map(|name| col(*name).is_not_null());
    let all_there = all_there.reduce(Expr::and).unwrap_or(lit(false));
    let later = |one: Expr, other: Expr| {
        when(one.clone().gt(other.clone()))
            .then(one)
            .otherwise(other)
    };
    let latest = needed.iter().map(|name| col(*name)).reduce(later);
    let latest = latest.unwrap_or(lit(NULL));
    let completed_on = when(all_there).then(latest).otherwise(lit(NULL));
    Ok(Some(onboardings.select([
        col(ACCOUNT_ID),
        col("started_on"),
        completed_on.cast(DataType::Date).alias("completed_on"),
    ])))
}

/// `onboardings_started`, `onboardings_completed`, `onboardings_open`, `onboardings_due`, `onboardings_due_completed` per
/// period and account.
pub fn per_period(onboardings: LazyFrame, map: &AccountMap, context: Context) -> LazyFrame {
    let calendar = context.calendar;
    let one = || flag(col("started_on").is_not_null());
    let is_in_time = || col("completed_on").lt(col("window_end"));
    let start_index = || calendar.index_of_date(col("started_on"));
    // What the period's end knows: the window's last day lies in it or before, and the completion, too.
    let last_day = || later_day(col("window_end"), -1);
    let is_known = || {
        calendar
            .index_of_date(col("completed_on"))
            .lt_eq(start_index())
    };
    let is_open = is_known()
        .fill_null(lit(false))
        .not()
        .and(calendar.index_of_date(last_day()).gt(start_index()));
    let dated = |day: Expr| super::in_period(onboardings.clone(), day, context);
    let started = [
        (one(), "onboardings_started"),
        (flag(is_known().and(is_in_time())), "onboardings_completed"),
        (flag(is_open), "onboardings_open"),
    ];
    let due = [
        (one(), "onboardings_due"),
        (flag(is_in_time()), "onboardings_due_completed"),
    ];
    let key = || [col(PERIOD), col(ACCOUNT_ID)];
    let full = JoinArgs::new(JoinType::Full).with_coalesce(JoinCoalesce::CoalesceColumns);
    summed(dated(col("started_on")), started, map, context).join(
        summed(dated(last_day()), due, map, context),
        key(),
        key(),
        full,
    )
}

/// One row per period and onboarding that started in the year up to it: `days` it took, or has taken by the period's last
/// day while it `is_completed` not.
pub fn durations(
    onboardings: LazyFrame,
    map: &AccountMap,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let calendar = context.calendar;
    let start_index = calendar.index_of_date(col("started_on"));
    let until = start_index.clone() + lit(calendar.grain.periods_per_year() - 1);
    let is_completed = calendar
        .index_of_date(col("completed_on"))
        .lt_eq(col(PERIOD))
        .fill_null(lit(false));
    let last_day = df!(
        PERIOD => context.range.indices().collect::<Vec<_>>(),
        "last_day" => context.range.indices().map(|index| calendar.start_of(index + 1).pred_opt().unwrap_or_default()).collect::<Vec<_>>(),
    )?;
    let seen = each_period(onboardings, start_index, until, context.range)
        .left_join(last_day.lazy(), col(PERIOD), col(PERIOD))
        .with_column(is_completed.alias("is_completed"));
    let end = when(col("is_completed"))
        .then(col("completed_on"))
        .otherwise(col("last_day"));
    let days = end.cast(DataType::Int64) - col("started_on").cast(DataType::Int64);
    Ok(map.applied(seen, context.range).select([
        col(PERIOD),
        col(ACCOUNT_ID),
        days.alias("days"),
        col("is_completed"),
    ]))
}

/// `members` at the period's end and, where `onboarding` tells, `members_onboarded` of them.
pub fn members(
    members: LazyFrame,
    onboarding: Option<LazyFrame>,
    map: &AccountMap,
    context: Context,
) -> LazyFrame {
    let index = |instant: &str| context.calendar.index_of_instant(col(instant));
    let user = || [col(PERIOD), col(ACCOUNT_ID), col("user_id")];
    let of_period = |rows: LazyFrame, first: Expr, last: Expr| {
        map.applied(each_period(rows, first, last, context.range), context.range)
            .select(user())
            .unique(None, UniqueKeepStrategy::Any)
    };
    let there = of_period(members, index("joined_at"), index("left_at") - lit(1));
    let count = len().cast(DataType::Int64).alias("members");
    let Some(onboarding) = onboarding else {
        return there.group_by([col(PERIOD), col(ACCOUNT_ID)]).agg([count]);
    };
    let done = onboarding.filter(
        col("user_id")
            .is_not_null()
            .and(col("completed_at").is_not_null()),
    );
    let for_ever = lit(NULL).cast(DataType::Int32);
    let done =
        of_period(done, index("completed_at"), for_ever).with_column(lit(true).alias("is_done"));
    there
        .join(done, user(), user(), JoinArgs::new(JoinType::Left))
        .group_by([col(PERIOD), col(ACCOUNT_ID)])
        .agg([count, flag(col("is_done")).sum().alias("members_onboarded")])
}
