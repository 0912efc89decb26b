//! What a run remembers on its way through time.
//!
//! A run computes its periods in steps, so that memory holds the accounts of a few periods only. What later periods need of
//! the ones before is kept here, and it is little: sums of groups, and narrow rows of accounts.

use crate::columns::PERIOD;
use polars::prelude::*;

/// Rows of the periods before the step at hand.
#[derive(Default)]
pub(super) struct Memory(Option<DataFrame>);

impl Memory {
    pub fn rows(&self) -> Option<&DataFrame> {
        self.0.as_ref()
    }

    /// What is remembered, followed by `rows`.
    pub fn before(&self, rows: LazyFrame) -> PolarsResult<LazyFrame> {
        match &self.0 {
            Some(known) => concat([known.clone().lazy(), rows], UnionArgs::default()),
            None => Ok(rows),
        }
    }

    /// All that is remembered.
    pub fn all(&self) -> LazyFrame {
        self.0.clone().unwrap_or_default().lazy()
    }

    /// Adds `rows`.
    pub fn add(&mut self, rows: DataFrame) -> PolarsResult<()> {
        match &mut self.0 {
            Some(known) => {
                known.vstack_mut_owned(rows)?;
            }
            None => self.0 = Some(rows),
        }
        Ok(())
    }

    /// Adds `rows`, and forgets what is of periods before `since`.
    pub fn add_since(&mut self, rows: DataFrame, since: i32) -> PolarsResult<()> {
        self.add(rows)?;
        if let Some(known) = &mut self.0 {
            let is_kept = known.column(PERIOD)?.i32()?.gt_eq(since);
            *known = known.filter(&is_kept)?;
        }
        Ok(())
    }
}

/// What later periods need of the ones before.
#[derive(Default)]
pub(super) struct Past {
    /// Churned and opening customers of the company, and by member of `policy.ltv_segment`.
    pub churn: Memory,
    pub segment_churn: Memory,
    /// Rows of accounts, with what dimensions and rules read of earlier ones.
    pub accounts: Memory,
    /// The last period's rows of `rfm_scores`.
    pub rfm: Memory,
    /// Rows of `touch_segments`, as far back as a model's hold looks.
    pub touch: Memory,
    /// What the last period closed with, by account, product and member.
    pub closings: Memory,
    /// Sums of groups, of which metrics are made.
    pub sums: Memory,
    /// The same of the bootstrap's draws.
    pub draws: Memory,
    /// Median onboarding times.
    pub onboarding_days: Memory,
    /// Expected lifetimes of groups.
    pub lifetimes: Memory,
    /// Rows of accounts that tell who left.
    pub subjects: Memory,
    /// Sums per cohort and period, and the rows of merged accounts: what the retention triangle is made of.
    pub cohorts: Memory,
    pub merged: Memory,
}
