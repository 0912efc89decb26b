//! An account's own rows of earlier periods, for rules and dimensions (docs/definitions.md § 14).

use crate::columns::*;
use crate::config::Calendar;
use crate::sql::{Reference, SqlExpr};
use polars::prelude::*;
use std::collections::BTreeSet;

/// Adds to account × period rows a column for everything that the expressions read of earlier ones: `previous(mrr)` and so on; null
/// where the account had no row then, or the calendar had not begun. `own` says which column a name stands for; `past` are rows of
/// the periods before, with the columns that [`read_of_earlier`] names.
pub fn with_earlier<'a>(
    accounts: LazyFrame,
    past: Option<&DataFrame>,
    expressions: impl Iterator<Item = &'a SqlExpr>,
    own: fn(&str) -> &str,
    calendar: &Calendar,
) -> PolarsResult<LazyFrame> {
    let wanted: BTreeSet<&Reference> = expressions.flat_map(SqlExpr::references).collect();
    if wanted.is_empty() {
        return Ok(accounts);
    }
    let names: BTreeSet<&str> = wanted.iter().map(|one| own(&one.name)).collect();
    let read = || {
        [PERIOD, ACCOUNT_ID]
            .into_iter()
            .chain(names.clone())
            .map(col)
    };
    // Computed once, read by itself and by what is joined to it.
    let accounts = accounts.cache();
    let past = past.map(|past| past.clone().lazy());
    let known = [Some(accounts.clone()), past].into_iter().flatten();
    let known = known.map(|rows| rows.select(read().collect::<Vec<_>>()));
    let has_begun = col(PERIOD).gt_eq(lit(calendar.index_of(calendar.begin)));
    let earlier = concat(known.collect::<Vec<_>>(), UnionArgs::default())?.filter(has_begun);
    let distances: BTreeSet<i32> = wanted.iter().map(|one| distance(one, calendar)).collect();
    let key = || [col(PERIOD), col(ACCOUNT_ID)];
    Ok(distances.into_iter().fold(accounts, |accounts, periods| {
        let read = wanted
            .iter()
            .filter(|reference| distance(reference, calendar) == periods);
        let values = read.map(|reference| col(own(&reference.name)).alias(reference.column()));
        let seen_from = (col(PERIOD) + lit(periods)).alias(PERIOD);
        let then = [seen_from, col(ACCOUNT_ID)].into_iter().chain(values);
        let then = earlier.clone().select(then.collect::<Vec<_>>());
        accounts.join(then, key(), key(), JoinArgs::new(JoinType::Left))
    }))
}

/// The columns that expressions read of earlier rows, and how many periods back at most.
pub fn read_of_earlier<'a>(
    expressions: impl Iterator<Item = &'a SqlExpr>,
    own: fn(&str) -> &str,
    calendar: &Calendar,
) -> (BTreeSet<String>, i32) {
    let mut names = BTreeSet::new();
    let mut farthest = 0;
    for reference in expressions.flat_map(SqlExpr::references) {
        names.insert(own(&reference.name).to_owned());
        farthest = farthest.max(distance(reference, calendar));
    }
    (names, farthest)
}

fn distance(reference: &Reference, calendar: &Calendar) -> i32 {
    reference.to.periods_back(calendar.grain.periods_per_year())
}
