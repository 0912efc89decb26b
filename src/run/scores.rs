//! Model → scores: dimensions, lifetime value, RFM, touch model, each resting on the ones before.

use super::past::{Memory, Past};
use super::{Progress, collected, part};
use crate::account_period::AccountPeriods;
use crate::columns::*;
use crate::config::{Calendar, Pipeline};
use crate::facts::Context;
use crate::metrics::lifetime;
use crate::period::PeriodRange;
use crate::segments::dimension::{self, member_column, reads_scores};
use crate::segments::{earlier, rfm, touch};
use polars::prelude::*;
use std::collections::BTreeSet;

/// Accounts with dimensions, lifetime value and scores, and the score tables themselves.
pub(super) struct Scored {
    pub accounts: LazyFrame,
    pub rfm: Option<LazyFrame>,
    pub touch: Option<LazyFrame>,
}

/// Scores every account in every period of the model; `past` is what is known of the periods before, and learns of these.
pub(super) fn scored(
    pipeline: &Pipeline,
    model: &AccountPeriods,
    past: &mut Past,
    context: Context,
    progress: &dyn Progress,
) -> PolarsResult<Scored> {
    let calendar = context.calendar;
    let PeriodRange { first, last } = context.range;
    let (late, early): (Vec<_>, Vec<_>) = pipeline
        .dimensions
        .iter()
        .partition(|dimension| reads_scores(dimension));
    let known = past.accounts.rows();
    let accounts =
        dimension::with_members(model.facts.clone(), known, early.into_iter(), calendar)?;
    let with_ltv = || collected(with_ltv(accounts, pipeline, past, context)?);
    let mut accounts = part("lifetime value", with_ltv)?.lazy();

    let rfm = match &pipeline.rfm {
        Some(rules) => {
            let scores = || collected(rfm::rfm_scores(accounts.clone(), rules)?);
            Some(part("rfm", scores)?)
        }
        None => None,
    };
    accounts = match &rfm {
        Some(scores) => with_last(accounts, scores, &past.rfm, "segment", RFM_SEGMENT)?,
        None => accounts.with_column(lit(NULL).cast(DataType::String).alias(RFM_SEGMENT)),
    };
    let kept = PeriodRange {
        first: first.max(calendar.index_of(calendar.begin)),
        last,
    };
    let touch = match &pipeline.touch_model {
        Some(rules) => {
            let before = touch::Before {
                accounts: past.accounts.rows(),
                segments: past.touch.rows(),
            };
            let accounts = accounts.clone();
            let segments = || {
                collected(touch::touch_segments(
                    accounts, before, rules, kept, calendar,
                )?)
            };
            Some(part("touch model", segments)?)
        }
        None => None,
    };
    accounts = match &touch {
        Some(segments) => with_last(accounts, segments, &past.touch, TOUCH_MODEL, TOUCH_MODEL)?,
        None => accounts.with_column(lit(NULL).cast(DataType::String).alias(TOUCH_MODEL)),
    };
    let known = past.accounts.rows();
    let accounts = dimension::with_members(accounts, known, late.into_iter(), calendar)?;
    let accounts = part("members", || collected(accounts))?;
    progress.advance(accounts.height() as u64, 0);
    let accounts = accounts.lazy();

    if let Some(scores) = &rfm {
        past.rfm.add_since(scores.clone(), last)?;
    }
    if let (Some(segments), Some(rules)) = (&touch, &pipeline.touch_model) {
        let since = last - touch::reach(rules);
        past.touch.add_since(segments.clone(), since)?;
    }
    let (names, farthest) = read_of_earlier(pipeline, calendar)?;
    if farthest > 0 {
        let read = [PERIOD, ACCOUNT_ID].into_iter().map(col);
        let read = read.chain(names.iter().map(|name| col(name.as_str())));
        let rows = collected(accounts.clone().select(read.collect::<Vec<_>>()))?;
        past.accounts.add_since(rows, last + 1 - farthest)?;
    }
    Ok(Scored {
        accounts,
        rfm: rfm.map(IntoLazy::lazy),
        touch: touch.map(IntoLazy::lazy),
    })
}

/// How many periods before its own the scores and members of a period rest on.
pub(super) fn reach(pipeline: &Pipeline, calendar: &Calendar) -> PolarsResult<i32> {
    let (_, earlier) = read_of_earlier(pipeline, calendar)?;
    let ltv = match pipeline.policy.ltv_segment {
        Some(_) => pipeline.policy.ltv_churn_periods as i32,
        None => 0,
    };
    let rfm = i32::from(pipeline.rfm.is_some());
    let touch = pipeline.touch_model.as_ref();
    let touch = touch.map_or(0, |rules| touch::reach(rules) + 1);
    // Each may rest on the others' earlier values.
    Ok(earlier + ltv + rfm + touch)
}

/// The columns that dimensions and rules read of earlier periods, and how far back.
fn read_of_earlier(
    pipeline: &Pipeline,
    calendar: &Calendar,
) -> PolarsResult<(BTreeSet<String>, i32)> {
    let (mut names, farthest) = dimension::reads_of_earlier(&pipeline.dimensions, calendar)?;
    let Some(rules) = &pipeline.touch_model else {
        return Ok((names, farthest));
    };
    let conditions = touch::conditions(rules)?;
    let (of_rules, back) = earlier::read_of_earlier(conditions.iter(), |name| name, calendar);
    names.extend(of_rules);
    Ok((names, farthest.max(back)))
}

fn with_ltv(
    accounts: LazyFrame,
    pipeline: &Pipeline,
    past: &mut Past,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let since = context.range.last + 1 - context.policy.ltv_churn_periods as i32;
    let accounts = collected(accounts)?.lazy();
    let remembered = |memory: &mut Memory, segment: Option<&str>| -> PolarsResult<LazyFrame> {
        let own = collected(lifetime::churn(accounts.clone(), segment))?;
        let all = memory.before(own.clone().lazy())?;
        memory.add_since(own, since)?;
        Ok(all)
    };
    let churn = remembered(&mut past.churn, None)?;
    let segment = pipeline.policy.ltv_segment.as_deref().map(member_column);
    let by_segment = match segment.as_deref() {
        Some(segment) => {
            let churn = remembered(&mut past.segment_churn, Some(segment))?;
            Some((segment, churn))
        }
        None => None,
    };
    lifetime::with_ltv(accounts, churn, by_segment, context)
}

/// Adds a score. An account that is not scored any more keeps its last score for one period: its churn belongs there.
fn with_last(
    accounts: LazyFrame,
    scores: &DataFrame,
    past: &Memory,
    score: &str,
    name: &str,
) -> PolarsResult<LazyFrame> {
    let key = || [col(PERIOD), col(ACCOUNT_ID)];
    let of = |frame: LazyFrame, name: &str, mark: &str| {
        frame.select([
            col(PERIOD),
            col(ACCOUNT_ID),
            col(score).alias(name),
            lit(true).alias(mark),
        ])
    };
    let this = of(scores.clone().lazy(), name, "__now");
    let earlier = past
        .before(scores.clone().lazy())?
        .with_column((col(PERIOD) + lit(1)).alias(PERIOD));
    let before = of(earlier, "__before", "__then");
    let is_scored = col("__now").is_not_null();
    Ok(accounts
        .join(this, key(), key(), JoinArgs::new(JoinType::Left))
        .join(before, key(), key(), JoinArgs::new(JoinType::Left))
        .with_column(
            when(is_scored)
                .then(col(name))
                .otherwise(col("__before"))
                .alias(name),
        )
        .drop(by_name(["__now", "__before", "__then"], true, false)))
}
