//! The rows of a model: accounts by periods, each with a number.
//!
//! An account's periods lie side by side, so the number of a row is that of the account's first one plus the periods since. Facts
//! find their row by one integer, and a running total over an account's life is the difference of two running totals over all
//! rows: no grouping by text, no sorting.

use super::merges::AccountMap;
use super::{Context, each_period};
use crate::columns::{ACCOUNT_ID, PERIOD};
use polars::prelude::*;

/// Number of a row, in the order of account and period.
pub const SLOT: &str = "__slot";
/// Number of an account, the same in every step of a run: see [`numbered`].
pub const NUMBER: &str = "__number";
/// Number of the first row of a row's account.
const BASE: &str = "__base";
/// First period of a row's account.
const FIRST: &str = "__first";
/// Whether an account was there already; only one that takes part in a merge may not have been.
pub const IS_THERE: &str = "__is_there";

#[derive(Clone)]
pub struct Spine {
    /// [`SLOT`], `account_id`, `period_index`, [`IS_THERE`], in the order of [`SLOT`], which has no gaps.
    pub rows: LazyFrame,
    /// One row per account: `account_id`, and where its rows are.
    accounts: LazyFrame,
}

impl Spine {
    /// `first_signs`: the period of each account's first sign of life, [`numbered`]. `hold` keeps a frame in memory.
    pub fn of(
        first_signs: LazyFrame,
        map: &AccountMap,
        context: Context,
        hold: &dyn Fn(&'static str, LazyFrame) -> PolarsResult<LazyFrame>,
    ) -> PolarsResult<Self> {
        let range = context.range;
        let is_before = col("first_sign").lt(lit(range.first));
        let has_begun = col("first_sign").lt_eq(lit(range.last));
        // A surviving account may take over facts from before its own first sign, and have none of its own.
        let is_merged = || map.involves(col(ACCOUNT_ID));
        let (is_from_the_first, is_in) = match map.is_empty() {
            true => (is_before, has_begun),
            false => (is_before.or(is_merged()), has_begun.or(is_merged())),
        };
        let first = when(is_from_the_first)
            .then(lit(range.first))
            .otherwise(col("first_sign"));
        let count = (lit(i64::from(range.last) + 1) - col(FIRST)).cast(DataType::Int64);
        let accounts = first_signs
            .filter(is_in)
            .sort([NUMBER], SortMultipleOptions::default())
            .with_column(first.cast(DataType::Int32).alias(FIRST))
            .with_column((count.clone().cum_sum(false) - count).alias(BASE));
        let accounts = hold("accounts", accounts)?;
        let open = lit(NULL).cast(DataType::Int32);
        let rows = each_period(accounts.clone(), col(FIRST), open, range).select([
            slot().alias(SLOT),
            col(BASE),
            col(ACCOUNT_ID),
            col(PERIOD),
            col("first_sign").lt_eq(col(PERIOD)).alias(IS_THERE),
        ]);
        Ok(Self {
            rows: hold("spine", rows)?,
            accounts,
        })
    }

    /// Adds [`SLOT`] to rows of `period_index` and `account_id`; leaves out what is not in the spine.
    pub fn placed(&self, rows: LazyFrame) -> LazyFrame {
        let accounts = self
            .accounts
            .clone()
            .select([col(ACCOUNT_ID), col(FIRST), col(BASE)]);
        rows.inner_join(accounts, col(ACCOUNT_ID), col(ACCOUNT_ID))
            .filter(col(PERIOD).gt_eq(col(FIRST)))
            .with_column(slot().alias(SLOT))
            .drop(by_name([FIRST, BASE], true, false))
    }

    /// Joins facts, one row per period and account, onto rows of the spine.
    pub fn joined(&self, rows: LazyFrame, facts: LazyFrame) -> LazyFrame {
        let facts = self
            .placed(facts)
            .drop(by_name([PERIOD, ACCOUNT_ID], true, false));
        rows.join(facts, [col(SLOT)], [col(SLOT)], left())
    }

    /// For each row, the sum of the columns `names` of all `entries` ([`NUMBER`], `period_index`) up to its period.
    pub fn running_sums(
        &self,
        entries: Vec<LazyFrame>,
        names: &[&str],
        context: Context,
    ) -> PolarsResult<LazyFrame> {
        let sums: Vec<Expr> = names.iter().map(|name| col(*name).sum()).collect();
        let entries = self.clipped(concat(entries, UnionArgs::default())?, context);
        let known = names.iter().map(|name| col(*name).fill_null(lit(0i64)));
        let running = names.iter().map(|name| {
            let total = || col(*name).cum_sum(false);
            let before = (total() - col(*name)).gather(col(BASE), false);
            (total() - before).alias(*name)
        });
        let result = names.iter().map(|name| col(*name));
        Ok(self
            .rows
            .clone()
            .select([col(SLOT), col(BASE)])
            .join(
                entries.group_by([col(SLOT)]).agg(sums),
                [col(SLOT)],
                [col(SLOT)],
                left(),
            )
            .with_columns(known.collect::<Vec<_>>())
            .with_columns(running.collect::<Vec<_>>())
            .select([col(SLOT)].into_iter().chain(result).collect::<Vec<_>>()))
    }

    /// For each row, the latest `day` in the rows of its account ([`NUMBER`]) up to the period's end, as `name` (null if there is none).
    pub fn latest_days(&self, daily: LazyFrame, name: &str, context: Context) -> LazyFrame {
        // Account and day in one number that grows with both; the smallest day stands for none.
        const DAYS: i64 = 1 << 32;
        const NEVER: i64 = 0;
        let period = context.calendar.index_of_date(col("day"));
        let daily = daily.select([
            col(NUMBER),
            period.alias(PERIOD),
            (col("day").cast(DataType::Int32).cast(DataType::Int64) + lit(DAYS / 2)).alias(name),
        ]);
        let of_period = self
            .clipped(daily, context)
            .group_by([col(SLOT)])
            .agg([col(name).max()]);
        let known = col(BASE) * lit(DAYS) + col(name).fill_null(lit(NEVER));
        let latest = known.cum_max(false) - col(BASE) * lit(DAYS);
        let day = (col(name) - lit(DAYS / 2)).cast(DataType::Int32);
        self.rows
            .clone()
            .select([col(SLOT), col(BASE)])
            .join(of_period, [col(SLOT)], [col(SLOT)], left())
            .with_column(latest.alias(name))
            .select([
                col(SLOT),
                when(col(name).gt(lit(NEVER)))
                    .then(day)
                    .otherwise(lit(NULL))
                    .cast(DataType::Date)
                    .alias(name),
            ])
    }

    /// Entries of numbered accounts, at the row from which on they count.
    fn clipped(&self, entries: LazyFrame, context: Context) -> LazyFrame {
        let range = context.range;
        let is_before = col(PERIOD).lt(lit(range.first));
        let since = when(is_before)
            .then(lit(range.first))
            .otherwise(col(PERIOD));
        let entries = entries
            .filter(col(PERIOD).lt_eq(lit(range.last)))
            .with_column(since.cast(DataType::Int32).alias(PERIOD));
        let accounts = self.accounts.clone();
        let accounts = accounts.select([col(NUMBER), col(FIRST), col(BASE)]);
        entries
            .inner_join(accounts, col(NUMBER), col(NUMBER))
            .filter(col(PERIOD).gt_eq(col(FIRST)))
            .with_column(slot().alias(SLOT))
    }
}

/// Numbers accounts in the order of their ids. Rows that are looked at again and again find them by number.
pub fn numbered(accounts: LazyFrame) -> LazyFrame {
    accounts
        .sort([ACCOUNT_ID], SortMultipleOptions::default())
        .with_row_index(NUMBER, None)
        .with_column(col(NUMBER).cast(DataType::Int64))
}

/// Puts what [`Spine::running_sums`] and [`Spine::latest_days`] give beside each other, and beside the rows of the spine: they have the
/// same rows in the same order.
pub fn side_by_side(parts: Vec<LazyFrame>) -> PolarsResult<LazyFrame> {
    let drop_slot = |part: LazyFrame| part.drop(by_name([SLOT], true, false));
    let mut parts = parts.into_iter();
    let first = parts.next().unwrap_or_default();
    let all = [first].into_iter().chain(parts.map(drop_slot));
    let options = HConcatOptions {
        strict: true,
        ..HConcatOptions::default()
    };
    concat_lf_horizontal(all.collect::<Vec<_>>(), options)
}

/// Rows without what says where they are.
pub fn without_places(rows: LazyFrame) -> LazyFrame {
    rows.drop(by_name([SLOT, BASE, IS_THERE], false, false))
}

/// A left join that keeps the order of the rows.
pub fn left() -> JoinArgs {
    JoinArgs {
        maintain_order: MaintainOrderJoin::Left,
        ..JoinArgs::new(JoinType::Left)
    }
}

fn slot() -> Expr {
    col(BASE) + (col(PERIOD) - col(FIRST)).cast(DataType::Int64)
}
