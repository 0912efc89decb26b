//! The MRR waterfall by dimension, member and product (docs/definitions.md § 5).
//!
//! Rows of the ledger are summed with all their movements side by side; only the sums are turned into one row per movement.

use crate::columns::*;
use crate::facts::merges::AccountMap;
use crate::facts::{Context, money};
use crate::metrics::aggregate::Grouping;
use polars::prelude::*;

/// The ledger with the account's member of each grouping.
pub fn ledger(products: LazyFrame, accounts: &LazyFrame, groupings: &[Grouping]) -> LazyFrame {
    with_members(products, accounts, groupings)
}

/// What each period closed with: one row per period, account and product with MRR, of the [`ledger`].
pub fn closings(ledger: LazyFrame, groupings: &[Grouping], context: Context) -> LazyFrame {
    let members = groupings.iter().map(|grouping| col(&grouping.dimension));
    let own = [
        col(PERIOD),
        col(ACCOUNT_ID),
        col(PRODUCT),
        col("closing").alias("mrr"),
    ];
    ledger
        .filter(col("closing").gt(money::zero(context.currency)))
        .select(own.into_iter().chain(members).collect::<Vec<_>>())
}

/// Of what was closed with, the accounts whose member of any grouping is another one in the period after: the members of then (see
/// [`was`]) and of now, in that period, by the account that they count for in it.
pub fn changes(
    closings: LazyFrame,
    accounts: &LazyFrame,
    groupings: &[Grouping],
    map: &AccountMap,
    context: Context,
) -> LazyFrame {
    let names = || groupings.iter().map(|grouping| grouping.dimension.as_str());
    let then: Vec<String> = names().map(was).collect();
    let before = opened(closings, context).rename(names(), then.iter(), true);
    let has_changed = names().map(|name| col(name).neq_missing(col(was(name))));
    let has_changed = has_changed.reduce(Expr::or).unwrap_or(lit(false));
    with_members(map.applied(before, context.range), accounts, groupings).filter(has_changed)
}

fn was(dimension: &str) -> String {
    format!("was:{dimension}")
}

/// What was closed with is what the period after opens with.
fn opened(closings: LazyFrame, context: Context) -> LazyFrame {
    closings
        .with_column((col(PERIOD) + lit(1)).alias(PERIOD))
        .filter(col(PERIOD).lt_eq(lit(context.range.last)))
}

fn with_members(rows: LazyFrame, accounts: &LazyFrame, groupings: &[Grouping]) -> LazyFrame {
    let key = || [col(PERIOD), col(ACCOUNT_ID)];
    let members = groupings.iter().map(member_of);
    let accounts = accounts.clone();
    let members = accounts.select(key().into_iter().chain(members).collect::<Vec<_>>());
    rows.join(members, key(), key(), JoinArgs::new(JoinType::Left))
}

/// One row per period, dimension, member, product, movement and cause.
///
/// `ledger`, `closings` and `changes` are what the functions of these names give, `closings` from the period before on. A member's
/// `opening` is its closing of the period before; accounts that changed member since stand in `segment_exit` and `segment_entry`.
pub fn mrr_movements(
    ledger: LazyFrame,
    closings: LazyFrame,
    changes: LazyFrame,
    groupings: &[Grouping],
    context: Context,
) -> PolarsResult<LazyFrame> {
    let opened = opened(closings, context);
    let none = || lit(NULL).cast(DataType::String);
    let sums = |rows: LazyFrame, member: &str, movement: &str, mrr: Expr| {
        rows.group_by([col(PERIOD), col(PRODUCT), col(member).alias(MEMBER)])
            .agg([
                mrr.sum().alias("mrr"),
                len().cast(DataType::Int64).alias("accounts"),
            ])
            .select([
                col(PERIOD),
                col(PRODUCT),
                text(),
                lit(movement).alias("movement"),
                none().alias("cause"),
                col("mrr"),
                col("accounts"),
            ])
    };
    let of_grouping = |grouping: &Grouping| {
        let (now, then) = (grouping.dimension.as_str(), was(&grouping.dimension));
        let changed = changes.clone().filter(col(now).neq_missing(col(&then)));
        // Several accounts may have become one on their way.
        let entered = changed
            .clone()
            .group_by([PERIOD, ACCOUNT_ID, PRODUCT, now].map(col))
            .agg([col("mrr").sum()]);
        let left = money::zero(context.currency) - col("mrr");
        let moved = moved(ledger.clone(), now, context);
        let rows = [
            sums(opened.clone(), now, "opening", col("mrr")),
            sums(changed, &then, "segment_exit", left),
            sums(entered, now, "segment_entry", col("mrr")),
        ];
        let rows: Vec<LazyFrame> = rows.into_iter().chain(moved).collect();
        let key = [PERIOD, MEMBER, PRODUCT, "movement", "cause"].map(col);
        Ok(concat(rows, UnionArgs::default())?
            .filter(col(MEMBER).is_not_null())
            .group_by(key)
            .agg([col("mrr").sum(), col("accounts").sum()])
            .with_column(lit(now).alias(DIMENSION)))
    };
    let rows: Vec<LazyFrame> = groupings
        .iter()
        .map(of_grouping)
        .collect::<PolarsResult<_>>()?;
    let is_something = col("mrr").neq(money::zero(context.currency));
    Ok(concat(rows, UnionArgs::default())?.filter(is_something))
}

/// All but opening and the changes of member: sums and numbers of accounts by period, product, member, movement and cause.
fn moved(ledger: LazyFrame, member: &str, context: Context) -> Vec<LazyFrame> {
    let none = || lit(NULL).cast(DataType::String);
    let mut told = vec![
        (NEW_MRR, lit("new"), none()),
        (REACTIVATION_MRR, lit("reactivation"), none()),
        (CHURN_MRR, lit("churn"), col("churn_cause")),
        (FX_MRR, lit("fx"), none()),
        ("closing", lit("closing"), none()),
    ];
    let causes = CAUSES.map(|(column, cause)| (column, col("movement"), lit(cause)));
    told.extend(causes);
    let accounts = |column: &str| format!("accounts:{column}");
    let mut sums = Vec::new();
    for (column, ..) in &told {
        let has_moved = col(*column).neq(money::zero(context.currency));
        sums.push(col(*column).sum());
        sums.push(
            has_moved
                .cast(DataType::Int64)
                .sum()
                .alias(accounts(column)),
        );
    }
    let key = [
        col(PERIOD),
        col(PRODUCT),
        col(member).alias(MEMBER),
        col("movement"),
        col("churn_cause"),
    ];
    let summed = ledger.group_by(key).agg(sums).cache();
    let rows = told.into_iter().map(|(column, movement, cause)| {
        let mrr = match column {
            CHURN_MRR => money::zero(context.currency) - col(column),
            _ => col(column),
        };
        let count = accounts(column);
        summed.clone().filter(col(&count).gt(lit(0i64))).select([
            col(PERIOD),
            col(PRODUCT),
            text(),
            movement.alias("movement"),
            cause.alias("cause"),
            mrr.alias("mrr"),
            col(&count).alias("accounts"),
        ])
    });
    rows.collect()
}

/// The text of a group's member.
fn text() -> Expr {
    col(MEMBER).cast(DataType::String)
}

fn member_of(grouping: &Grouping) -> Expr {
    grouping.member.clone().alias(&grouping.dimension)
}
