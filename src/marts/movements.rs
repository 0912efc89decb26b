//! The MRR waterfall by dimension, member and product (docs/definitions.md § 5).

use crate::columns::*;
use crate::facts::merges::AccountMap;
use crate::facts::{Context, money};
use crate::metrics::aggregate::Grouping;
use polars::prelude::*;

/// What each period closed with: one row per period, account and product with MRR, with the account's member of each grouping.
pub fn closings(
    accounts: LazyFrame,
    products: LazyFrame,
    groupings: &[Grouping],
    context: Context,
) -> LazyFrame {
    let closing = products
        .filter(col("closing").gt(money::zero(context.currency)))
        .select([
            col(PERIOD),
            col(ACCOUNT_ID),
            col(PRODUCT),
            col("closing").alias("mrr"),
        ]);
    with_members(closing, accounts, groupings)
}

fn with_members(rows: LazyFrame, accounts: LazyFrame, groupings: &[Grouping]) -> LazyFrame {
    let key = || [col(PERIOD), col(ACCOUNT_ID)];
    let members = groupings.iter().map(member_of);
    let members = accounts.select(key().into_iter().chain(members).collect::<Vec<_>>());
    rows.join(members, key(), key(), JoinArgs::new(JoinType::Left))
}

/// One row per period, dimension, member, product, movement and cause.
///
/// `accounts` are the account × period rows with their members, `products` the ledger, `closings` what [`closings`] gives, from the
/// period before on. A member's `opening` is its closing of the period before; accounts that changed member since stand in
/// `segment_exit` and `segment_entry`.
pub fn mrr_movements(
    accounts: LazyFrame,
    products: LazyFrame,
    closings: LazyFrame,
    groupings: &[Grouping],
    account_map: &AccountMap,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let joined = |rows: LazyFrame| with_members(rows, accounts.clone(), groupings);
    let moved = joined(account_rows(products, context)?);
    // What the previous period closed with, by the members of then, and of now.
    let before = closings
        .with_column((col(PERIOD) + lit(1)).alias(PERIOD))
        .filter(col(PERIOD).lt_eq(lit(context.range.last)));
    let names: Vec<String> = groupings
        .iter()
        .map(|grouping| grouping.dimension.clone())
        .collect();
    let was = |name: &str| format!("was:{name}");
    let was_names: Vec<String> = names.iter().map(|name| was(name)).collect();
    let before = before
        .rename(names.iter(), was_names.iter(), true)
        .with_column(col(ACCOUNT_ID).alias("was_account"));
    let across = joined(account_map.applied(before, context.range));

    // A row is of one account, product, movement and cause; so rows are accounts.
    let told = |rows: LazyFrame, movement: Expr, cause: Expr, mrr: Expr, member: &str| {
        rows.select([
            col(PERIOD),
            col(PRODUCT),
            movement.alias("movement"),
            cause.alias("cause"),
            mrr.alias("mrr"),
            col(member).alias(MEMBER),
        ])
    };
    let none = || lit(NULL).cast(DataType::String);
    let of_grouping = |name: &String| {
        let (now, then) = (name.as_str(), was(name));
        let changed = across.clone().filter(col(now).neq_missing(col(&then)));
        // Several accounts may have become one on their way.
        let entered = changed
            .clone()
            .group_by([PERIOD, ACCOUNT_ID, PRODUCT, now].map(col))
            .agg([col("mrr").sum()]);
        let left = money::zero(context.currency) - col("mrr");
        let rows = [
            told(across.clone(), lit("opening"), none(), col("mrr"), &then),
            told(changed, lit("segment_exit"), none(), left, &then),
            told(entered, lit("segment_entry"), none(), col("mrr"), now),
            told(
                moved.clone(),
                col("movement"),
                col("cause"),
                col("mrr"),
                now,
            ),
        ];
        let key = [PERIOD, MEMBER, PRODUCT, "movement", "cause"].map(col);
        Ok(concat(rows, UnionArgs::default())?
            .group_by(key)
            .agg([
                col("mrr").sum(),
                len().cast(DataType::Int64).alias("accounts"),
            ])
            .filter(col(MEMBER).is_not_null())
            .with_column(lit(now).alias(DIMENSION)))
    };
    let rows: Vec<LazyFrame> = names.iter().map(of_grouping).collect::<PolarsResult<_>>()?;
    let is_something = col("mrr").neq(money::zero(context.currency));
    Ok(concat(rows, UnionArgs::default())?.filter(is_something))
}

fn member_of(grouping: &Grouping) -> Expr {
    grouping
        .member
        .clone()
        .cast(DataType::String)
        .alias(&grouping.dimension)
}

/// One row per period, account, product, movement and cause; all but opening and the changes of segment.
fn account_rows(products: LazyFrame, context: Context) -> PolarsResult<LazyFrame> {
    let none = || lit(NULL).cast(DataType::String);
    let rows = |movement: Expr, cause: Expr, mrr: Expr| {
        products
            .clone()
            .select([
                col(PERIOD),
                col(ACCOUNT_ID),
                col(PRODUCT),
                movement.alias("movement"),
                cause.alias("cause"),
                mrr.alias("mrr"),
            ])
            .filter(col("mrr").neq(money::zero(context.currency)))
    };
    let mut all = vec![
        rows(lit("new"), none(), col(NEW_MRR)),
        rows(lit("reactivation"), none(), col(REACTIVATION_MRR)),
        rows(
            lit("churn"),
            col("churn_cause"),
            money::zero(context.currency) - col(CHURN_MRR),
        ),
        rows(lit("fx"), none(), col(FX_MRR)),
        rows(lit("closing"), none(), col("closing")),
    ];
    all.extend(
        CAUSES
            .iter()
            .map(|(column, cause)| rows(col("movement"), lit(*cause), col(*column))),
    );
    concat(all, UnionArgs::default())
}
