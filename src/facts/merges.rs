//! Merged accounts: which account an old id counts for, as of each period's end.

use super::spine::NUMBER;
use crate::columns::{ACCOUNT_ID, PERIOD};
use crate::period::PeriodRange;
use polars::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// One row of `account_merges`, with the period in which it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    pub old_account_id: String,
    pub account_id: String,
    /// Index of the period that holds `merged_at`: from then on the two are one.
    pub period: i32,
}

/// The merges of a pipeline, free of cycles.
#[derive(Debug, Clone, Default)]
pub struct AccountMap {
    merges: BTreeMap<String, (String, i32)>,
}

/// A chain of merges that comes back to where it began.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("account_merges goes in a circle: {}", chain.join(" → "))]
pub struct MergeCycle {
    pub chain: Vec<String>,
}

impl AccountMap {
    pub fn new(merges: Vec<Merge>) -> Result<Self, MergeCycle> {
        let merges: BTreeMap<_, _> = merges
            .into_iter()
            .map(|merge| (merge.old_account_id, (merge.account_id, merge.period)))
            .collect();
        for start in merges.keys() {
            let mut chain = vec![start.clone()];
            while let Some((next, _)) = merges.get(&chain[chain.len() - 1]) {
                let is_cycle = chain.contains(next);
                chain.push(next.clone());
                if is_cycle {
                    return Err(MergeCycle { chain });
                }
            }
        }
        Ok(Self { merges })
    }

    pub fn is_empty(&self) -> bool {
        self.merges.is_empty()
    }

    /// The account that `account` counts for at a period's end.
    pub fn survivor(&self, account: &str, period: i32) -> String {
        let mut current = account;
        while let Some((next, since)) = self
            .merges
            .get(current)
            .filter(|(_, since)| *since <= period)
        {
            let _ = since;
            current = next;
        }
        current.to_owned()
    }

    /// Every account that takes part in a merge, on either side.
    pub fn involved(&self) -> BTreeSet<&str> {
        self.merges
            .iter()
            .flat_map(|(old, (new, _))| [old.as_str(), new.as_str()])
            .collect()
    }

    /// Whether the account of this column takes part in a merge.
    pub fn involves(&self, account: Expr) -> Expr {
        let involved: Vec<&str> = self.involved().into_iter().collect();
        let names = lit(Series::new("involved".into(), involved)).implode(true);
        account.is_in(names, false)
    }

    /// `period_index`, `account_id`, `survivor_id` for the accounts that count for another one.
    fn frame(&self, range: PeriodRange) -> LazyFrame {
        let mut rows: (Vec<i32>, Vec<String>, Vec<String>) = Default::default();
        for period in range.indices() {
            for old in self.merges.keys() {
                let survivor = self.survivor(old, period);
                if survivor != *old {
                    rows.0.push(period);
                    rows.1.push(old.clone());
                    rows.2.push(survivor);
                }
            }
        }
        let columns = vec![
            Column::new(PERIOD.into(), rows.0),
            Column::new(ACCOUNT_ID.into(), rows.1),
            Column::new("survivor_id".into(), rows.2),
        ];
        DataFrame::new_infer_height(columns)
            .unwrap_or_default()
            .lazy()
    }

    /// Replaces `account_id` by the account it counts for at the end of the row's period.
    pub fn applied(&self, frame: LazyFrame, range: PeriodRange) -> LazyFrame {
        if self.is_empty() {
            return frame;
        }
        let on = [col(PERIOD), col(ACCOUNT_ID)];
        frame
            .join(
                self.frame(range),
                on.clone(),
                on,
                JoinArgs::new(JoinType::Left),
            )
            .with_column(coalesce(&[col("survivor_id"), col(ACCOUNT_ID)]).alias(ACCOUNT_ID))
            .drop(by_name(["survivor_id"], true, false))
    }

    /// The same for accounts told by their [`NUMBER`]; `numbers` has it and `account_id`, of every account that takes part in a merge.
    pub fn applied_to_numbers(
        &self,
        frame: LazyFrame,
        numbers: LazyFrame,
        range: PeriodRange,
    ) -> LazyFrame {
        if self.is_empty() {
            return frame;
        }
        let survivors =
            numbers
                .clone()
                .rename([ACCOUNT_ID, NUMBER], ["survivor_id", "survivor"], true);
        let merged = self
            .frame(range)
            .inner_join(numbers, col(ACCOUNT_ID), col(ACCOUNT_ID))
            .inner_join(survivors, col("survivor_id"), col("survivor_id"))
            .select([PERIOD, NUMBER, "survivor"].map(col));
        let on = [col(PERIOD), col(NUMBER)];
        frame
            .join(merged, on.clone(), on, JoinArgs::new(JoinType::Left))
            .with_column(coalesce(&[col("survivor"), col(NUMBER)]).alias(NUMBER))
            .drop(by_name(["survivor"], true, false))
    }
}
