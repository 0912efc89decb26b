//! The rows of a model: accounts by periods, each with a number.
//!
//! An account's periods lie side by side, so the number of a row is that of the account's first one plus the periods since. Facts
//! find their row by one integer, and a running total over an account's life is the difference of two running totals over all
//! rows: no grouping by text, no sorting.

use super::merges::AccountMap;
use super::{Context, Hold, each_period};
use crate::columns::{ACCOUNT_ID, PERIOD};
use polars::prelude::*;
use std::collections::BTreeSet;

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
        self.scattered(facts, |name, dtype| {
            Ok(Column::full_null(name.clone(), 1, dtype))
        })
    }

    /// [`Self::beside`] for what is counted and summed: 0 where there is no fact. (Dates and texts are null.)
    pub fn counted(&self, facts: LazyFrame) -> LazyFrame {
        self.scattered(facts, |name, dtype| match dtype {
            DataType::Int64 | DataType::Decimal(..) => {
                Column::new(name.clone(), [0i64]).cast(dtype)
            }
            _ => Ok(Column::full_null(name.clone(), 1, dtype)),
        })
    }

    fn scattered(&self, facts: LazyFrame, absent: Absent) -> LazyFrame {
        let height = self.height;
        let without_slot = |schema: &Schema| {
            let mut schema = schema.clone();
            schema.shift_remove(SLOT);
            Ok(Arc::new(schema))
        };
        facts.map(
            move |facts| scattered(facts, height, absent),
            OptFlags::empty(),
            Some(Arc::new(without_slot)),
            Some("beside the spine"),
        )
    }

    /// [`Self::placed`] facts without what told their place before; for [`Self::beside`] and [`Self::counted`].
    pub fn told_by_slot(&self, facts: LazyFrame) -> LazyFrame {
        let placed = self.placed(facts);
        placed.drop(by_name([PERIOD, ACCOUNT_ID], true, false))
    }

    /// [`Self::counted`] of entries of numbered accounts ([`NUMBER`], `period_index`), aggregated at the row from which on they count:
    /// what is entered before an account's first row counts from there on.
    pub fn entered(
        &self,
        entries: LazyFrame,
        aggregates: Vec<Expr>,
        context: Context,
    ) -> LazyFrame {
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
        let entries = entries
            .inner_join(accounts, col(NUMBER), col(NUMBER))
            .filter(col(PERIOD).gt_eq(col(FIRST)))
            .with_column(slot().alias(SLOT));
        self.counted(entries.group_by([col(SLOT)]).agg(aggregates))
    }

    /// What was [entered](Self::entered), beside where each account's rows begin: what [`so_far`] and [`latest_so_far`] need.
    pub fn lives(&self, entered: Vec<LazyFrame>) -> PolarsResult<LazyFrame> {
        let places = self.rows.clone().select([col(BASE)]);
        side_by_side([vec![places], entered].concat())
    }
}

/// The sum over the rows of the account up to this one, in [`Spine::lives`]. Must not be null.
pub fn so_far(value: Expr) -> Expr {
    let total = value.clone().cum_sum(false);
    let before = (total.clone() - value).gather(col(BASE), false);
    total - before
}

/// Account and day in one number that grows with both; the smallest day stands for none.
const DAYS: i64 = 1 << 32;
const NEVER: i64 = 0;

/// The latest of the days, as [`day_number`] has them, in the rows of the account up to this one, in [`Spine::lives`].
pub fn latest_so_far(day: Expr) -> Expr {
    let known = col(BASE) * lit(DAYS) + day.fill_null(lit(NEVER));
    let latest = known.cum_max(false) - col(BASE) * lit(DAYS);
    let day = (latest.clone() - lit(DAYS / 2)).cast(DataType::Int32);
    when(latest.gt(lit(NEVER)))
        .then(day)
        .otherwise(lit(NULL))
        .cast(DataType::Date)
}

/// A day for [`latest_so_far`].
pub fn day_number(day: Expr) -> Expr {
    day.cast(DataType::Int32).cast(DataType::Int64) + lit(DAYS / 2)
}

/// Numbers accounts in the order of their ids. Rows that are looked at again and again find them by number.
pub fn numbered(accounts: LazyFrame) -> LazyFrame {
    accounts
        .sort([ACCOUNT_ID], SortMultipleOptions::default())
        .with_row_index(NUMBER, None)
        .with_column(col(NUMBER).cast(DataType::Int64))
}

/// Puts frames that have the rows of the spine, in their order, beside each other. Of columns of one name the last one stays: what an
/// account's own columns are called is not up to us.
pub fn side_by_side(mut parts: Vec<LazyFrame>) -> PolarsResult<LazyFrame> {
    let mut taken: BTreeSet<PlSmallStr> = BTreeSet::new();
    for part in parts.iter_mut().rev() {
        let schema = part.collect_schema()?;
        let (twice, own): (Vec<PlSmallStr>, _) = schema
            .iter_names_cloned()
            .partition(|name| taken.contains(name));
        if !twice.is_empty() {
            *part = part.clone().drop(by_name(twice, true, false));
        }
        taken.extend(own);
    }
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

/// One row of a column, for where there is no fact.
type Absent = fn(&PlSmallStr, &DataType) -> PolarsResult<Column>;

/// Every row of `facts` at its [`SLOT`] of so many. Where there is none, one row that says so is taken: to copy nulls takes several
/// times as long as to copy a value.
fn scattered(facts: DataFrame, height: usize, absent: Absent) -> PolarsResult<DataFrame> {
    let none = facts.height() as IdxSize;
    let mut rows = vec![none; height];
    let slots = facts.column(SLOT)?.i64()?;
    for (row, slot) in (0..).zip(slots.iter()) {
        let slot = slot.and_then(|slot| usize::try_from(slot).ok());
        let place = slot.and_then(|slot| rows.get_mut(slot));
        let place = place.filter(|place| **place == none);
        let one = || polars_err!(ComputeError: "two facts of a kind for one account and period");
        *place.ok_or_else(one)? = row;
    }
    let mut facts = facts.drop(SLOT)?;
    let last: PolarsResult<Vec<_>> = facts
        .schema()
        .iter()
        .map(|(name, dtype)| absent(name, dtype))
        .collect();
    facts.vstack_mut_owned(DataFrame::new(1, last?)?)?;
    facts.rechunk_mut_par();
    facts.take(&IdxCa::from_vec("row".into(), rows))
}

fn slot() -> Expr {
    col(BASE) + (col(PERIOD) - col(FIRST)).cast(DataType::Int64)
}
