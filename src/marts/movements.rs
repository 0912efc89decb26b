//! The MRR waterfall by dimension, member and product (docs/definitions.md § 5).

use crate::columns::*;
use crate::facts::merges::AccountMap;
use crate::facts::{Context, money};
use crate::metrics::aggregate::Grouping;
use polars::prelude::*;

/// One row per period, dimension, member, product, movement and cause.
///
/// `accounts` are the account × period rows with their members, `products` the ledger. A member's `opening` is its closing
/// of the period before; accounts that changed member since stand in `segment_exit` and `segment_entry`.
pub fn mrr_movements(
    accounts: LazyFrame,
    products: LazyFrame,
    groupings: &[Grouping],
    account_map: &AccountMap,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let members: Vec<Expr> = groupings.iter().map(member_of).collect();
    let members = accounts.select([vec![col(PERIOD), col(ACCOUNT_ID)], members].concat());
    let key = || [col(PERIOD), col(ACCOUNT_ID)];
    let joined =
        |rows: LazyFrame| rows.join(members.clone(), key(), key(), JoinArgs::new(JoinType::Left));

    let moved = joined(account_rows(products.clone(), context)?);
    // What the previous period closed with, by the members of then, and of now.
    let earlier = products
        .filter(col("closing").gt(money::zero(context.currency)))
        .select([
            col(PERIOD),
            col(ACCOUNT_ID),
            col(PRODUCT),
            col("closing").alias("mrr"),
        ]);
    let before = joined(earlier)
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

    let mut rows = Vec::new();
    for name in &names {
        let opening = across.clone().with_column(lit("opening").alias("movement"));
        let has_moved = col(name.as_str()).neq_missing(col(was(name)));
        let exit = across.clone().filter(has_moved.clone()).with_columns([
            lit("segment_exit").alias("movement"),
            (money::zero(context.currency) - col("mrr")).alias("mrr"),
        ]);
        let entry = across
            .clone()
            .filter(has_moved)
            .with_column(lit("segment_entry").alias("movement"));
        let none = lit(NULL).cast(DataType::String).alias("cause");
        let of = |frame: LazyFrame, account: &str, member: Expr| {
            frame.with_column(none.clone()).select([
                col(PERIOD),
                col(account).alias(ACCOUNT_ID),
                col(PRODUCT),
                col("movement"),
                col("cause"),
                col("mrr"),
                lit(name.as_str()).alias(DIMENSION),
                member.alias(MEMBER),
            ])
        };
        rows.push(of(opening, "was_account", col(was(name))));
        rows.push(of(exit, "was_account", col(was(name))));
        rows.push(of(entry, ACCOUNT_ID, col(name.as_str())));
        rows.push(moved.clone().select([
            col(PERIOD),
            col(ACCOUNT_ID),
            col(PRODUCT),
            col("movement"),
            col("cause"),
            col("mrr"),
            lit(name.as_str()).alias(DIMENSION),
            col(name.as_str()).alias(MEMBER),
        ]));
    }
    let key = [PERIOD, DIMENSION, MEMBER, PRODUCT, "movement", "cause"].map(col);
    Ok(concat(rows, UnionArgs::default())?
        .filter(col(MEMBER).is_not_null())
        .group_by(key)
        .agg([
            col("mrr").sum(),
            col(ACCOUNT_ID)
                .n_unique()
                .cast(DataType::Int64)
                .alias("accounts"),
        ])
        .filter(col("mrr").neq(money::zero(context.currency))))
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
