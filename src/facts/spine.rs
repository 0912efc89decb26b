//! The rows of a model: accounts by periods, each with a number.
//!
//! An account's periods lie side by side, so the number of a row is that of the account's first one plus the periods since. Facts
//! find their row by one integer, and a running total over an account's life is the difference of two running totals over all
//! rows: no grouping by text, no sorting.

use super::merges::AccountMap;
use super::{Context, Hold, each_period};
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
/// Period of an account's first sign of life.
pub const FIRST_SIGN: &str = "__first_sign";
/// Whether an account was there already; only one that takes part in a merge may not have been.
pub const IS_THERE: &str = "__is_there";

#[derive(Clone)]
pub struct Spine {
    /// [`SLOT`], `account_id`, `period_index`, [`IS_THERE`], and what else is known of the account, in the order of [`SLOT`], which
    /// has no gaps.
    pub rows: LazyFrame,
    height: usize,
    /// One row per account: `account_id`, and where its rows are.
    accounts: LazyFrame,
}

impl Spine {
    /// `first_signs`: every account's [`FIRST_SIGN`], [`numbered`], with whatever else all of its rows have. `hold`
    /// keeps a frame in memory.
    pub fn of(
        first_signs: LazyFrame,
        map: &AccountMap,
        context: Context,
        hold: Hold,
    ) -> PolarsResult<Self> {
        let range = context.range;
        let is_before = col(FIRST_SIGN).lt(lit(range.first));
        let has_begun = col(FIRST_SIGN).lt_eq(lit(range.last));
        // A surviving account may take over facts from before its own first sign, and have none of its own.
        let is_merged = || map.involves(col(ACCOUNT_ID));
        let (is_from_the_first, is_in) = match map.is_empty() {
            true => (is_before, has_begun),
            false => (is_before.or(is_merged()), has_begun.or(is_merged())),
        };
        let first = when(is_from_the_first)
            .then(lit(range.first))
            .otherwise(col(FIRST_SIGN));
        let count = (lit(i64::from(range.last) + 1) - col(FIRST)).cast(DataType::Int64);
        let accounts = first_signs
            .filter(is_in)
            .sort([NUMBER], SortMultipleOptions::default())
            .with_column(first.cast(DataType::Int32).alias(FIRST))
            .with_column((count.clone().cum_sum(false) - count).alias(BASE));
        let accounts = hold("accounts", accounts)?.lazy();
        let open = lit(NULL).cast(DataType::Int32);
        let is_there = col(FIRST_SIGN).lt_eq(col(PERIOD));
        let rows = each_period(accounts.clone(), col(FIRST), open, range)
            .with_columns([slot().alias(SLOT), is_there.alias(IS_THERE)])
            .drop(by_name([NUMBER, FIRST, FIRST_SIGN], true, false));
        let rows = hold("spine", rows)?;
        Ok(Self {
            height: rows.height(),
            rows: rows.lazy(),
            accounts: accounts.select([NUMBER, ACCOUNT_ID, FIRST, BASE].map(col)),
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

    /// The columns of facts, of which every row of the spine has one at most, told by its [`SLOT`]: one row for each of the spine's, in
    /// their order, null where there is no fact. Not a join, because a row's place is known.
    pub fn beside(&self, facts: LazyFrame) -> LazyFrame {
        let height = self.height;
        let without_slot = |schema: &Schema| {
            let mut schema = schema.clone();
            schema.shift_remove(SLOT);
            Ok(Arc::new(schema))
        };
        facts.map(
            move |facts| scattered(facts, height),
            OptFlags::empty(),
            Some(Arc::new(without_slot)),
            Some("beside the spine"),
        )
    }

    /// [`Self::beside`] for facts told by `period_index` and `account_id`; those that are not in the spine are left out.
    pub fn with(&self, facts: LazyFrame) -> LazyFrame {
        let placed = self.placed(facts);
        self.beside(placed.drop(by_name([PERIOD, ACCOUNT_ID], true, false)))
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
        let places = self.rows.clone().select([col(BASE)]);
        let entries = self.beside(entries.group_by([col(SLOT)]).agg(sums));
        Ok(side_by_side(vec![places, entries])?
            .with_columns(known.collect::<Vec<_>>())
            .with_columns(running.collect::<Vec<_>>())
            .select(result.collect::<Vec<_>>()))
    }

    /// For each row, the latest `day` in the rows of its account ([`NUMBER`]) up to the period's end, as `name` (null if there is none).
    pub fn latest_days(
        &self,
        daily: LazyFrame,
        name: &str,
        context: Context,
    ) -> PolarsResult<LazyFrame> {
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
        let places = self.rows.clone().select([col(BASE)]);
        Ok(side_by_side(vec![places, self.beside(of_period)])?
            .with_column(latest.alias(name))
            .select([when(col(name).gt(lit(NEVER)))
                .then(day)
                .otherwise(lit(NULL))
                .cast(DataType::Date)
                .alias(name)]))
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

/// Puts frames that have the rows of the spine, in their order, beside each other.
pub fn side_by_side(parts: Vec<LazyFrame>) -> PolarsResult<LazyFrame> {
    let options = HConcatOptions {
        strict: true,
        ..HConcatOptions::default()
    };
    concat_lf_horizontal(parts, options)
}

/// Rows without what says where they are.
pub fn without_places(rows: LazyFrame) -> LazyFrame {
    rows.drop(by_name([SLOT, BASE, IS_THERE], false, false))
}

/// Every row of `facts` at its [`SLOT`] of so many.
fn scattered(facts: DataFrame, height: usize) -> PolarsResult<DataFrame> {
    let mut rows: Vec<Option<IdxSize>> = vec![None; height];
    let slots = facts.column(SLOT)?.i64()?;
    for (row, slot) in (0..).zip(slots.iter()) {
        let slot = slot.and_then(|slot| usize::try_from(slot).ok());
        let place = slot.and_then(|slot| rows.get_mut(slot));
        let place = place.filter(|place| place.is_none());
        let one = || polars_err!(ComputeError: "two facts of a kind for one account and period");
        *place.ok_or_else(one)? = Some(row);
    }
    let rows = IdxCa::from_slice_options("row".into(), &rows);
    facts.drop(SLOT)?.take(&rows)
}

fn slot() -> Expr {
    col(BASE) + (col(PERIOD) - col(FIRST)).cast(DataType::Int64)
}
