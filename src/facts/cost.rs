//! Costs → accounts: what was spent on one is its own, the rest is allocated, exactly (docs/definitions.md § 10).

use super::allocation::largest_remainder;
use super::fx::Rates;
use super::merges::AccountMap;
use super::{Context, in_period, money};
use crate::columns::{
    ACCOUNT_ID, CLOSING_CUSTOMERS, CLOSING_MRR, CURRENCY, NEW_CUSTOMERS, PERIOD, UNALLOCATED,
};
use crate::config::CrcAllocation;
use polars::prelude::*;

/// `costs.kind` and the column of `account_period`.
pub const KINDS: [(&str, &str); 4] = [
    ("marketing", "marketing_cost"),
    ("sales", "sales_cost"),
    ("cs_people", "cs_people_cost"),
    ("cs_tools", "cs_tools_cost"),
];

/// The cost columns per period and account. `accounts` are the account × period rows of the model; their `channel`, new and
/// closing customers, MRR and `cs_seconds` say who takes what belongs to no account.
pub fn per_period(
    costs: LazyFrame,
    accounts: LazyFrame,
    rates: &Rates,
    map: &AccountMap,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let has_own = || col("has_own");
    let entries = rates
        .beside(entries(costs, context), context)
        .with_column(rates.converted(col("amount"), context).alias("amount"));
    let own = map
        .applied(entries.clone().filter(has_own()), context.range)
        .select([col(PERIOD), col(ACCOUNT_ID), col("kind"), col("amount")]);
    let pools = entries
        .filter(has_own().not())
        .group_by([col(PERIOD), col("kind"), col("channel")])
        .agg([col("amount").sum()]);
    let parts = allocated(shares(pools, accounts, context)?, context);
    let of = |kind: &str| {
        let amount = when(col("kind").eq(lit(kind)))
            .then(col("amount"))
            .otherwise(money::zero(context.currency));
        amount.sum()
    };
    Ok(concat([own, parts], UnionArgs::default())?
        .group_by([col(PERIOD), col(ACCOUNT_ID)])
        .agg(KINDS.map(|(kind, column)| of(kind).alias(column))))
}

/// Entries of the range in their period and currency. Only acquisition goes by channel.
fn entries(costs: LazyFrame, context: Context) -> LazyFrame {
    let channel = when(is_acquisition())
        .then(col("channel"))
        .otherwise(lit(NULL));
    let with_owner = costs.with_columns([
        col(ACCOUNT_ID).is_not_null().alias("has_own"),
        channel.alias("channel"),
        coalesce(&[col(CURRENCY), lit(context.currency.code.as_str())]).alias(CURRENCY),
    ]);
    in_period(with_owner, col("date"), context)
}

fn is_acquisition() -> Expr {
    let is = |kind: &str| col("kind").eq(lit(kind));
    is("marketing").or(is("sales"))
}

/// Entries whose currency has no rate: `period_index`, `currency`.
pub fn missing_rates(costs: LazyFrame, rates: &Rates, context: Context) -> LazyFrame {
    rates
        .beside(entries(costs, context), context)
        .filter(col("rate").is_null())
        .select([col(PERIOD), col(CURRENCY)])
}

/// One row per pool and account that takes part of it, with its `weight`. A pool that nobody can take is unallocated.
fn shares(pools: LazyFrame, accounts: LazyFrame, context: Context) -> PolarsResult<LazyFrame> {
    let weight = |value: Expr| value.cast(money::summed(context.currency)).alias("weight");
    let takers = |is_one: Expr, value: Expr, more: &[&str]| {
        let columns = [PERIOD, ACCOUNT_ID].iter().chain(more);
        let columns: Vec<Expr> = columns.map(|name| col(*name)).collect();
        accounts
            .clone()
            .filter(is_one)
            .select([columns, vec![weight(value)]].concat())
    };
    let is_new = || col(NEW_CUSTOMERS).gt(lit(0i64));
    let is_customer = || col(CLOSING_CUSTOMERS).gt(lit(0i64));
    let has_time = || col("cs_seconds").gt(lit(0i64)).fill_null(lit(false));
    let by_policy = match context.policy.crc_allocation {
        CrcAllocation::Equal => takers(is_customer(), lit(1i64), &[]),
        CrcAllocation::Mrr => takers(is_customer(), col(CLOSING_MRR), &[]),
    };
    // Time tells, in the periods in which anyone has entered any.
    let by_time = takers(has_time(), col("cs_seconds"), &[]);
    let by_policy = by_policy.anti_join(
        by_time.clone().select([col(PERIOD)]),
        col(PERIOD),
        col(PERIOD),
    );
    let retained_by = concat([by_time, by_policy], UnionArgs::default())?;

    let has_channel = || col("channel").is_not_null();
    let left = JoinArgs::new(JoinType::Left);
    let columns = [PERIOD, "kind", "channel", ACCOUNT_ID, "amount", "weight"].map(col);
    let of_channel = pools
        .clone()
        .filter(is_acquisition().and(has_channel()))
        .join(
            takers(is_new(), lit(1i64), &["channel"]),
            [col(PERIOD), col("channel")],
            [col(PERIOD), col("channel")],
            left.clone(),
        );
    let of_all = pools
        .clone()
        .filter(is_acquisition().and(has_channel().not()))
        .left_join(takers(is_new(), lit(1i64), &[]), col(PERIOD), col(PERIOD));
    let of_retention =
        pools
            .filter(is_acquisition().not())
            .left_join(retained_by, col(PERIOD), col(PERIOD));
    let nobody = || col(ACCOUNT_ID).is_null();
    let one = lit(1i64).cast(money::summed(context.currency));
    let all = [of_channel, of_all, of_retention].map(|frame| frame.select(columns.clone()));
    Ok(concat(all, UnionArgs::default())?.with_columns([
        when(nobody())
            .then(one)
            .otherwise(col("weight"))
            .alias("weight"),
        col(ACCOUNT_ID).fill_null(lit(UNALLOCATED)),
    ]))
}

/// Each account's part of every pool: `period_index`, `account_id`, `kind`, `amount`.
fn allocated(shares: LazyFrame, context: Context) -> LazyFrame {
    let digits = context.currency.minor_digits as usize;
    let split = move |frame: DataFrame| with_parts(frame, digits);
    let order = SortMultipleOptions::default();
    shares
        .sort([PERIOD, "kind", "channel", ACCOUNT_ID], order)
        .map(split, OptFlags::empty(), None, Some("largest remainder"))
        .select([col(PERIOD), col(ACCOUNT_ID), col("kind"), col("amount")])
}

/// Replaces the `amount` of the pool, in rows sorted by pool and account, by the account's part of it.
fn with_parts(mut frame: DataFrame, digits: usize) -> PolarsResult<DataFrame> {
    let units = |name: &str| -> PolarsResult<Vec<i128>> {
        let column = frame.column(name)?.as_materialized_series().clone();
        let physical = column.decimal()?.physical().iter();
        Ok(physical.map(Option::unwrap_or_default).collect())
    };
    let (amounts, weights) = (units("amount")?, units("weight")?);
    let periods = frame.column(PERIOD)?.i32()?.clone();
    let kinds = frame.column("kind")?.str()?.clone();
    let channels = frame.column("channel")?.str()?.clone();
    let pool = |row: usize| (periods.get(row), kinds.get(row), channels.get(row));
    let mut parts: Vec<i128> = Vec::with_capacity(amounts.len());
    while parts.len() < amounts.len() {
        let first = parts.len();
        let rows = (first..amounts.len()).take_while(|row| pool(*row) == pool(first));
        let last = rows.last().unwrap_or(first);
        let split = largest_remainder(amounts[first], &weights[first..=last]);
        let too_large = || polars_err!(ComputeError: "the {} cost of a period is too large to be allocated", kinds.get(first).unwrap_or_default());
        parts.extend(split.ok_or_else(too_large)?);
    }
    let parts = Int128Chunked::from_vec("amount".into(), parts).into_decimal(38, digits)?;
    frame.with_column(parts.into_series().into_column())?;
    Ok(frame)
}
