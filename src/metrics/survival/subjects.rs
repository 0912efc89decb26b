//! Who is followed, for how long, and as a member of what.

use super::{AGE, CENSORED, CHURNED};
use crate::columns::*;
use crate::facts::merges::AccountMap;
use crate::metrics::aggregate::Grouping;
use crate::period::PeriodRange;
use polars::prelude::*;

/// First period after the first paid one at whose end an account had no MRR; null if it always had.
const ENDED: &str = "__ended";
/// The period whose row says which members an account counts with.
const TOLD: &str = "__told";
/// The period that a row of the past is of.
const SEEN: &str = "__seen";

/// One row per period of `range`, dimension, member and age at which anybody churned for the first time or was followed to the
/// period's end: `period_index`, `dimension`, `member`, `age`, `churned`, `censored`, in that order (docs/definitions.md § 13).
///
/// `accounts` are the rows of `range`, `earlier` those that [`kept`] keeps of the periods from `begin` on, the first whose new
/// customers are followed.
pub fn exits(
    accounts: LazyFrame,
    earlier: Option<&DataFrame>,
    groupings: &[Grouping],
    map: &AccountMap,
    begin: i32,
    range: PeriodRange,
) -> PolarsResult<LazyFrame> {
    let accounts = accounts.select(columns(groupings));
    let earlier = earlier.map(|rows| rows.clone().lazy());
    let known = [earlier, Some(accounts)].into_iter().flatten();
    let known = concat(known.collect::<Vec<_>>(), UnionArgs::default())?;
    let subjects = subjects(known, map, begin, range)?;
    let has_churned = || col(ENDED).is_not_null();
    let age = coalesce(&[col(ENDED), col(PERIOD)]) - col(FIRST_PAID);
    let count = |who: Expr| who.cast(DataType::Int64).sum();
    let key = [PERIOD, DIMENSION, MEMBER, AGE];
    let grouped = groupings.iter().map(|grouping| {
        subjects
            .clone()
            .select([
                col(PERIOD),
                lit(grouping.dimension.as_str()).alias(DIMENSION),
                grouping.member.clone().cast(DataType::String).alias(MEMBER),
                age.clone().cast(DataType::Int64).alias(AGE),
                has_churned().alias(CHURNED),
            ])
            .filter(col(MEMBER).is_not_null())
            .group_by(key.map(col))
            .agg([
                count(col(CHURNED)),
                count(col(CHURNED).not()).alias(CENSORED),
            ])
    });
    let all = concat(grouped.collect::<Vec<_>>(), UnionArgs::default())?;
    Ok(all.sort(key, SortMultipleOptions::default()))
}

/// The rows that later periods need: of an account that never takes part in a merge, those in which it churned; of the others all.
pub fn kept(accounts: LazyFrame, groupings: &[Grouping], map: &AccountMap) -> LazyFrame {
    let has_left = col(CLOSING_CUSTOMERS).eq(lit(0i64));
    let just = col(OPENING_CUSTOMERS)
        .eq(lit(1i64))
        .or(col(PERIOD).eq(col(FIRST_PAID) + lit(1)));
    let mut is_kept = has_left.and(just).and(col(PERIOD).gt(col(FIRST_PAID)));
    if !map.is_empty() {
        is_kept = is_kept.or(map.involves(col(ACCOUNT_ID)));
    }
    accounts.filter(is_kept).select(columns(groupings))
}

/// What is read of a row of an account.
fn columns(groupings: &[Grouping]) -> Vec<Expr> {
    let own = [
        PERIOD,
        ACCOUNT_ID,
        FIRST_PAID,
        COHORT_FIRST_PAID,
        COHORT_SIGNUP,
        CLOSING_CUSTOMERS,
    ];
    let mut names: Vec<String> = own.map(str::to_owned).to_vec();
    for grouping in groupings {
        let members = grouping.member.clone().meta().root_names();
        for name in members.iter().map(ToString::to_string) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names.into_iter().map(col).collect()
}

/// One row per period and account followed in it, with [`ENDED`], its cohorts as of the period, and all else as of the period
/// of its churn.
fn subjects(
    accounts: LazyFrame,
    map: &AccountMap,
    begin: i32,
    range: PeriodRange,
) -> PolarsResult<LazyFrame> {
    let cohorts = [FIRST_PAID, COHORT_FIRST_PAID, COHORT_SIGNUP];
    let is_in_range =
        col(PERIOD).is_between(lit(range.first), lit(range.last), ClosedInterval::Both);
    let followed = accounts
        .clone()
        .filter(is_in_range.and(col(FIRST_PAID).gt_eq(lit(begin))))
        .select(
            [&[PERIOD, ACCOUNT_ID], &cohorts[..]]
                .concat()
                .iter()
                .map(|name| col(*name))
                .collect::<Vec<_>>(),
        );
    let ended = if map.is_empty() {
        ended_alone(followed, accounts.clone())
    } else {
        let is_involved = || map.involves(col(ACCOUNT_ID));
        let alone = ended_alone(
            followed.clone().filter(is_involved().not()),
            accounts.clone(),
        );
        let of_merged = accounts.clone().filter(is_involved());
        let merged = ended_merged(followed.filter(is_involved()), of_merged, map, range)?;
        concat([alone, merged], UnionArgs::default())?
    };
    let told = accounts
        .drop(by_name(cohorts, true, false))
        .rename([PERIOD], [TOLD], true);
    let key = [col(ACCOUNT_ID), col(TOLD)];
    Ok(ended.join(told, key.clone(), key, JoinArgs::new(JoinType::Left)))
}

fn has_left() -> Expr {
    col(SEEN)
        .gt(col(FIRST_PAID))
        .and(col(CLOSING_CUSTOMERS).eq(lit(0i64)))
}

/// Accounts that never take part in a merge: their own rows tell when they left, the same in whichever period one looks.
fn ended_alone(followed: LazyFrame, accounts: LazyFrame) -> LazyFrame {
    let ended = accounts
        .select([
            col(ACCOUNT_ID),
            col(PERIOD).alias(SEEN),
            col(FIRST_PAID),
            col(CLOSING_CUSTOMERS),
        ])
        .filter(has_left())
        .group_by([col(ACCOUNT_ID)])
        .agg([col(SEEN).min().alias(ENDED)]);
    let is_known = col(ENDED).lt_eq(col(PERIOD));
    followed
        .left_join(ended, col(ACCOUNT_ID), col(ACCOUNT_ID))
        .with_column(
            when(is_known)
                .then(col(ENDED))
                .otherwise(lit(NULL))
                .alias(ENDED),
        )
        .with_column(coalesce(&[col(ENDED), col(PERIOD)]).alias(TOLD))
}

/// The others: the merges in force at a period's end hold for all that came before, so an account has left when all of its
/// parts were without MRR. If that was before the surviving id had a row, it counts with the members it has now.
fn ended_merged(
    followed: LazyFrame,
    accounts: LazyFrame,
    map: &AccountMap,
    range: PeriodRange,
) -> PolarsResult<LazyFrame> {
    let key = || [col(PERIOD), col(ACCOUNT_ID)];
    let periods = df!(PERIOD => range.indices().collect::<Vec<_>>())?.lazy();
    let seen = accounts.clone().select([
        col(ACCOUNT_ID),
        col(PERIOD).alias(SEEN),
        col(CLOSING_CUSTOMERS),
    ]);
    let past = seen
        .cross_join(periods, None)
        .filter(col(SEEN).lt_eq(col(PERIOD)));
    let ended = map
        .applied(past, range)
        .group_by([col(PERIOD), col(ACCOUNT_ID), col(SEEN)])
        .agg([col(CLOSING_CUSTOMERS).sum()])
        .join(
            followed.clone(),
            key(),
            key(),
            JoinArgs::new(JoinType::Inner),
        )
        .filter(has_left())
        .group_by(key())
        .agg([col(SEEN).min().alias(ENDED)]);
    let own = accounts.select([
        col(ACCOUNT_ID),
        col(PERIOD).alias(ENDED),
        col(PERIOD).alias(TOLD),
    ]);
    let end = [col(ACCOUNT_ID), col(ENDED)];
    Ok(followed
        .join(ended, key(), key(), JoinArgs::new(JoinType::Left))
        .join(own, end.clone(), end, JoinArgs::new(JoinType::Left))
        .with_column(coalesce(&[col(TOLD), col(PERIOD)]).alias(TOLD)))
}
