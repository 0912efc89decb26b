//! Model → scores: dimensions, lifetime value, RFM, touch model, each resting on the ones before.

use super::{Progress, collected, part};
use crate::account_period::AccountPeriods;
use crate::columns::*;
use crate::config::Pipeline;
use crate::facts::Context;
use crate::metrics::lifetime;
use crate::period::PeriodRange;
use crate::segments::dimension::{self, member_column, reads_scores};
use crate::segments::{rfm, touch};
use polars::prelude::*;

/// Accounts with dimensions, lifetime value and scores, and the score tables themselves.
pub(super) struct Scored {
    pub accounts: LazyFrame,
    pub rfm: Option<LazyFrame>,
    pub touch: Option<LazyFrame>,
}

/// Scores every account in every period of the model.
pub(super) fn scored(
    pipeline: &Pipeline,
    model: &AccountPeriods,
    context: Context,
    progress: &dyn Progress,
) -> PolarsResult<Scored> {
    let (late, early): (Vec<_>, Vec<_>) = pipeline
        .dimensions
        .iter()
        .partition(|dimension| reads_scores(dimension));
    let accounts =
        dimension::with_members(model.facts.clone(), early.into_iter(), context.calendar)?;
    let segment = pipeline.policy.ltv_segment.as_deref().map(member_column);
    let with_ltv = || collected(lifetime::with_ltv(accounts, segment.as_deref(), context)?);
    let mut accounts = part("lifetime value", with_ltv)?.lazy();
    let key = || [col(PERIOD), col(ACCOUNT_ID)];
    // An account that is not scored any more keeps its last score for one period: its churn belongs there.
    let with_last = |accounts: LazyFrame, scores: &LazyFrame, score: &str, name: &str| {
        let of = |frame: LazyFrame, name: &str, mark: &str| {
            frame.select([
                col(PERIOD),
                col(ACCOUNT_ID),
                col(score).alias(name),
                lit(true).alias(mark),
            ])
        };
        let this = of(scores.clone(), name, "__now");
        let earlier = scores
            .clone()
            .with_column((col(PERIOD) + lit(1)).alias(PERIOD));
        let before = of(earlier, "__before", "__then");
        let is_scored = col("__now").is_not_null();
        accounts
            .join(this, key(), key(), JoinArgs::new(JoinType::Left))
            .join(before, key(), key(), JoinArgs::new(JoinType::Left))
            .with_column(
                when(is_scored)
                    .then(col(name))
                    .otherwise(col("__before"))
                    .alias(name),
            )
            .drop(by_name(["__now", "__before", "__then"], true, false))
    };
    let rfm = match &pipeline.rfm {
        Some(rules) => {
            let scores = || collected(rfm::rfm_scores(accounts.clone(), rules)?);
            Some(part("rfm", scores)?.lazy())
        }
        None => None,
    };
    accounts = match &rfm {
        Some(scores) => with_last(accounts, scores, "segment", RFM_SEGMENT),
        None => accounts.with_column(lit(NULL).cast(DataType::String).alias(RFM_SEGMENT)),
    };
    let begin = pipeline.calendar.index_of(pipeline.calendar.begin);
    let kept = PeriodRange {
        first: begin,
        last: context.range.last,
    };
    let touch = match &pipeline.touch_model {
        Some(rules) => {
            let accounts = accounts.clone();
            let segments = || {
                collected(touch::touch_segments(
                    accounts,
                    rules,
                    kept,
                    context.calendar,
                )?)
            };
            Some(part("touch model", segments)?.lazy())
        }
        None => None,
    };
    accounts = match &touch {
        Some(segments) => with_last(accounts, segments, TOUCH_MODEL, TOUCH_MODEL),
        None => accounts.with_column(lit(NULL).cast(DataType::String).alias(TOUCH_MODEL)),
    };
    let accounts = dimension::with_members(accounts, late.into_iter(), context.calendar)?;
    let accounts = part("members", || collected(accounts))?;
    progress.advance(accounts.height() as u64, 0);
    Ok(Scored {
        accounts: accounts.lazy(),
        rfm,
        touch,
    })
}
