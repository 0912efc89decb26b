//! Activity in the community → how much there was, and who was active.

use super::later_day;
use super::merges::AccountMap;
use super::{Context, each_period, in_period};
use crate::columns::{ACCOUNT_ID, PERIOD};
use polars::prelude::*;

/// `community_activities`, `community_users` of the period, `community_active_accounts` of the trailing window.
pub fn per_period(community: LazyFrame, map: &AccountMap, context: Context) -> LazyFrame {
    let key = || [col(PERIOD), col(ACCOUNT_ID)];
    let day = context.calendar.local_date(col("occurred_at"));
    let of_period = in_period(community.clone(), day.clone(), context);
    let of_period = map.applied(of_period, context.range).group_by(key()).agg([
        len().cast(DataType::Int64).alias("community_activities"),
        col("user_id")
            .n_unique()
            .cast(DataType::Int64)
            .alias("community_users"),
    ]);
    let until = later_day(day.clone(), context.policy.community_window_days as i32);
    let active_days = community
        .select([col(ACCOUNT_ID), day.alias("day"), until.alias("until")])
        .unique(None, UniqueKeepStrategy::Any);
    let index = |day: &str| context.calendar.index_of_date(col(day));
    let active = each_period(
        active_days,
        index("day"),
        index("until") - lit(1),
        context.range,
    );
    let active = map
        .applied(active, context.range)
        .select(key())
        .unique(None, UniqueKeepStrategy::Any)
        .with_column(lit(1i64).alias("community_active_accounts"));
    let full = JoinArgs::new(JoinType::Full).with_coalesce(JoinCoalesce::CoalesceColumns);
    of_period.join(active, key(), key(), full)
}
