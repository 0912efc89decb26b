//! Survey answers → NPS respondents of the trailing window, CSAT answers of the period (docs/definitions.md § 9).

use super::later_day;
use super::merges::AccountMap;
use super::{Context, each_period, flag, in_period};
use crate::columns::{ACCOUNT_ID, PERIOD};
use polars::prelude::*;

/// Lowest score of a promoter, and highest of a detractor, of 10.
const PROMOTER: i64 = 9;
const DETRACTOR: i64 = 6;

/// `nps_respondents`, `nps_promoters`, `nps_detractors`, `csat_answers`, `csat_satisfied` per period and account.
pub fn per_period(surveys: LazyFrame, map: &AccountMap, context: Context) -> LazyFrame {
    let csat = items(surveys.clone(), map, context)
        .group_by([col(PERIOD), col(ACCOUNT_ID)])
        .agg([col("csat_answers").sum(), col("csat_satisfied").sum()]);
    let key = || [col(PERIOD), col(ACCOUNT_ID)];
    let full = JoinArgs::new(JoinType::Full).with_coalesce(JoinCoalesce::CoalesceColumns);
    nps(surveys, map, context).join(csat, key(), key(), full)
}

fn nps(surveys: LazyFrame, map: &AccountMap, context: Context) -> LazyFrame {
    let day = context.calendar.local_date(col("answered_at"));
    let until = later_day(day.clone(), context.policy.nps_window_days as i32);
    let answers = surveys.filter(col("kind").eq(lit("nps")));
    let counting = each_period(
        answers,
        context.calendar.index_of_date(day),
        context.calendar.index_of_date(until) - lit(1),
        context.range,
    );
    // Of two answers at one instant the worse one counts, whichever stands first.
    let latest_first = SortMultipleOptions::default()
        .with_order_descending_multi([true, false])
        .with_nulls_last(true);
    let score = || col("score");
    map.applied(counting, context.range)
        .group_by([col(PERIOD), col(ACCOUNT_ID), col("respondent_id")])
        .agg([score()
            .sort_by([col("answered_at"), score()], latest_first)
            .first()])
        .group_by([col(PERIOD), col(ACCOUNT_ID)])
        .agg([
            len().cast(DataType::Int64).alias("nps_respondents"),
            flag(score().gt_eq(lit(PROMOTER)))
                .sum()
                .alias("nps_promoters"),
            flag(score().lt_eq(lit(DETRACTOR)))
                .sum()
                .alias("nps_detractors"),
        ])
}

/// `csat_answers`, `csat_satisfied` per period, account and `item`.
pub fn items(surveys: LazyFrame, map: &AccountMap, context: Context) -> LazyFrame {
    let day = context.calendar.local_date(col("answered_at"));
    // The top two of five, the top three of ten.
    let lowest = when(col("scale").eq(lit(10i64)))
        .then(lit(8i64))
        .otherwise(lit(4i64));
    let answers = in_period(surveys.filter(col("kind").eq(lit("csat"))), day, context)
        .with_column(flag(col("score").gt_eq(lowest)).alias("csat_satisfied"));
    map.applied(answers, context.range)
        .group_by([col(PERIOD), col(ACCOUNT_ID), col("item")])
        .agg([
            len().cast(DataType::Int64).alias("csat_answers"),
            col("csat_satisfied").sum(),
        ])
}
