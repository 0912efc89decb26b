//! MRR → movements and their causes, by account and product (docs/definitions.md § 3).
//!
//! Opening and closing are two legs of the same snapshots, both seen with the merges of the period they open or close.
//! So no window function looks back over rows, and any range of periods gives what its periods give one by one.

use super::fx::Rates;
use super::mrr::PRODUCT_NUMBER;
use super::spine::{SLOT, Spine};
use super::{Context, Inputs, money, mrr};
use crate::columns::*;
use crate::period::PeriodRange;
use polars::prelude::*;

/// Snapshots of every period that the range needs, and what they were made of.
pub struct Ledger {
    pub versions: LazyFrame,
    pub rates: Rates,
    /// See [`snapshots`].
    pub snapshots: LazyFrame,
}

/// Version × period end at which it is live ([`mrr::snapshots`]), at the ends that a range of results needs: its own, the one before,
/// and for the 12-month figures those of a year before.
pub fn snapshots(versions: &LazyFrame, rates: &Rates, context: Context) -> PolarsResult<LazyFrame> {
    let year = context.calendar.grain.periods_per_year();
    let PeriodRange { first, last } = context.range;
    let own = PeriodRange {
        first: first - 1,
        last,
    };
    let year_ago = PeriodRange {
        first: first - year,
        last: (last - year).min(first - 2),
    };
    let ranges =
        [year_ago, own].map(|range| mrr::snapshots(versions.clone(), rates, range, context));
    concat(ranges, UnionArgs::default())
}

/// From the first to the last of the periods whose snapshots a range of results needs.
pub fn snapshot_range(context: Context) -> PeriodRange {
    let year = context.calendar.grain.periods_per_year();
    PeriodRange {
        first: context.range.first - year,
        last: context.range.last,
    }
}

/// One row per period, account and product that had MRR at the period's start, at its end, or a year before:
/// opening and closing, movement, and causes (signed, or null where the account did not have MRR at both ends).
pub fn product_movements(
    ledger: &Ledger,
    spine: &Spine,
    origins: LazyFrame,
    inputs: &Inputs,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let zero = || money::zero(context.currency);
    let opening = col("opening").sum().over([col(SLOT)])?;
    let revalued = col("revalued").sum().over([col(SLOT)])?;
    let closing = col("closing").sum().over([col(SLOT)])?;

    let products = product_legs(ledger, spine, inputs, context)?;
    let accounts = products.with_columns([
        opening.alias("account_opening"),
        revalued.alias("account_revalued"),
        closing.alias("account_closing"),
    ]);
    let opens = col("account_opening").gt(zero());
    let closes = col("account_closing").gt(zero());
    let change = col("account_closing") - col("account_revalued");
    let is_new = col(FIRST_PAID).gt_eq(col(PERIOD));
    let movement = when(opens.clone().not().and(closes.clone()).and(is_new))
        .then(lit("new"))
        .when(opens.clone().and(closes.clone().not()))
        .then(lit("churn"))
        .when(opens.clone().not().and(closes.clone()))
        .then(lit("reactivation"))
        .when(opens.clone().not())
        .then(lit(NULL))
        .when(change.lt(zero()))
        .then(lit("contraction"))
        // Causes that cancel out are told as an expansion of nothing, so that each product still foots.
        .otherwise(lit("expansion"));
    let stays = opens.and(closes);

    let origin = origins.select([col(SLOT), col(FIRST_PAID)]);
    let with_movement = accounts
        .left_join(origin, col(SLOT), col(SLOT))
        .with_columns([
            movement.cast(DataType::String).alias("movement"),
            stays.alias("stays"),
        ]);
    Ok(with_causes(with_movement, context))
}

/// Opening, revalued opening, closing and what describes them, per period, account and product.
fn product_legs(
    ledger: &Ledger,
    spine: &Spine,
    inputs: &Inputs,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let range = context.range;
    let year = context.calendar.grain.periods_per_year();
    let shifted = |by: i32| {
        ledger
            .snapshots
            .clone()
            .with_column((col(PERIOD) + lit(by)).alias(PERIOD))
            .filter(col(PERIOD).is_between(lit(range.first), lit(range.last), ClosedInterval::Both))
    };
    // The opening is worth what it was at its own rate; revalued at this period's rate, it tells fx from real change.
    let opening =
        shifted(1)
            .rename(["mrr"], ["opening"], true)
            .drop(by_name(["rate"], true, false));
    let rates = &ledger.rates;
    let legs = [
        leg(
            shifted(0),
            [
                ("closing", col("mrr")),
                ("closing_contract", col("contract_mrr")),
                ("closing_quantity", col("quantity")),
                ("closing_tier", col("tier")),
                ("closing_term", col("term_days")),
                ("closing_held", lit(1i64)),
            ],
            context,
        ),
        leg(
            rates.beside(opening, context),
            [
                ("opening", col("opening")),
                ("revalued", rates.converted(col("net_local"), context)),
                (
                    "opening_contract",
                    rates.converted(col("contract_local"), context),
                ),
                ("opening_quantity", col("quantity")),
                ("opening_tier", col("tier")),
                ("opening_term", col("term_days")),
                ("opening_held", lit(1i64)),
            ],
            context,
        ),
        leg(shifted(year), [("year_ago", col("mrr"))], context),
    ];
    let legs = concat(legs, UnionArgs::default())?;
    let is_held = |leg: &str| col(leg).max().gt(lit(0i64));
    let known = |name: &str| {
        let is_known = col(name).neq(lit(UNKNOWN_NUMBER));
        when(is_known).then(col(name)).otherwise(lit(NULL))
    };
    // Row and product in one number: texts are dear to group by.
    let row_and_product = col(SLOT) * lit(1i64 << 32) + col(PRODUCT_NUMBER);
    let aggregates = [
        [SLOT, PERIOD, ACCOUNT_ID, PRODUCT]
            .map(|name| col(name).first())
            .to_vec(),
        LEG_AMOUNTS.map(|name| col(name).sum()).to_vec(),
        LEG_COUNTS.map(|name| col(name).sum()).to_vec(),
        LEG_NUMBERS.map(|name| col(name).max()).to_vec(),
        LEGS_HELD.map(is_held).to_vec(),
    ];
    Ok(spine
        .placed(inputs.account_map.applied(legs, range))
        .group_by([row_and_product.alias("__row_and_product")])
        .agg(aggregates.concat())
        .with_columns(LEG_NUMBERS.map(known))
        .drop(by_name(["__row_and_product"], true, false)))
}

/// What a leg tells of an account's product; each leg some of it.
const LEG_AMOUNTS: [&str; 6] = [
    "opening",
    "revalued",
    "opening_contract",
    "closing",
    "closing_contract",
    "year_ago",
];
const LEG_COUNTS: [&str; 2] = ["opening_quantity", "closing_quantity"];
const LEG_NUMBERS: [&str; 4] = [
    "opening_tier",
    "closing_tier",
    "opening_term",
    "closing_term",
];
const LEGS_HELD: [&str; 2] = ["opening_held", "closing_held"];
/// Stands for a number that is not known: sums and maxima without nulls take a third of the time.
const UNKNOWN_NUMBER: i64 = i64::MIN;

/// The rows of one leg, with all columns of all legs: nothing where they tell nothing.
fn leg<const N: usize>(rows: LazyFrame, told: [(&str, Expr); N], context: Context) -> LazyFrame {
    let of = |name: &str, nothing: Expr| {
        let own = told.iter().find(|(own, _)| *own == name);
        let value = own.map(|(_, value)| value.clone().fill_null(nothing.clone()));
        value.unwrap_or(nothing).alias(name)
    };
    let count = || lit(0i64).cast(DataType::Int64);
    let unknown = || lit(UNKNOWN_NUMBER).cast(DataType::Int64);
    let key = [PERIOD, ACCOUNT_ID, PRODUCT, PRODUCT_NUMBER].map(col);
    let amounts = LEG_AMOUNTS.map(|name| of(name, money::zero(context.currency)));
    let counts = LEG_COUNTS.map(|name| of(name, count()));
    let numbers = LEG_NUMBERS.map(|name| of(name, unknown()));
    let held = LEGS_HELD.map(|name| of(name, count()));
    rows.select([&key[..], &amounts, &counts, &numbers, &held].concat())
}

/// Splits each product's change into causes. They sum to it exactly: the last one takes what is left.
fn with_causes(frame: LazyFrame, context: Context) -> LazyFrame {
    let zero = || money::zero(context.currency);
    let is_added = col("opening_held").not();
    let is_dropped = col("closing_held").not();
    let is_held = col("opening_held").and(col("closing_held"));
    let off = |leg: &str, net: &str| col(leg) - col(net);
    let discount = off("opening_contract", "revalued") - off("closing_contract", "closing");
    let has_quantity = col("opening_quantity").gt(lit(0i64));
    let more = (col("closing_quantity") - col("opening_quantity")).cast(money::working());
    let per_quantity = col("opening_contract").cast(money::working()) * more
        / when(has_quantity.clone())
            .then(col("opening_quantity"))
            .otherwise(lit(1i64))
            .cast(money::working());
    let quantity = when(has_quantity)
        .then(money::to_minor_unit(per_quantity, context.currency))
        .otherwise(zero());
    let tier_changed = col("closing_tier")
        .neq(col("opening_tier"))
        .fill_null(lit(false));
    let term_changed = col("closing_term")
        .neq(col("opening_term"))
        .fill_null(lit(false));
    let rest = col("closing_contract") - col("opening_contract") - col("quantity_mrr");
    let only = |condition: Expr, value: Expr| {
        when(col("stays").and(condition))
            .then(value)
            .otherwise(zero())
    };
    let is_movement = |name: &str| col("movement").eq(lit(name)).fill_null(lit(false));
    let amount_if =
        |name: &str, value: &str| when(is_movement(name)).then(col(value)).otherwise(zero());

    frame
        .with_columns([
            only(is_added, col("closing")).alias("cross_sell_mrr"),
            only(is_dropped, zero() - col("revalued")).alias("product_drop_mrr"),
            only(is_held.clone(), discount).alias("discount_change_mrr"),
            only(is_held.clone(), quantity).alias("quantity_mrr"),
        ])
        .with_columns([
            only(is_held.clone().and(tier_changed.clone()), rest.clone()).alias("plan_mrr"),
            only(
                is_held
                    .clone()
                    .and(tier_changed.clone().not())
                    .and(term_changed.clone()),
                rest.clone(),
            )
            .alias("term_mrr"),
            only(
                is_held.and(tier_changed.not()).and(term_changed.not()),
                rest,
            )
            .alias("price_mrr"),
            when(col("stays"))
                .then(col("revalued") - col("opening"))
                .otherwise(zero())
                .alias(FX_MRR),
            amount_if("new", "closing").alias(NEW_MRR),
            amount_if("reactivation", "closing").alias(REACTIVATION_MRR),
            amount_if("churn", "opening").alias(CHURN_MRR),
        ])
}

/// One row per period and account of the ledger, told by its [`SLOT`]: customers, MRR, movements and causes, as `account_period` has
/// them.
pub fn account_movements(
    products: LazyFrame,
    causes_of_churn: LazyFrame,
    context: Context,
) -> LazyFrame {
    let zero = || money::zero(context.currency);
    let by_account = [col(PERIOD), col(ACCOUNT_ID)];
    let mut sums = vec![
        col(PERIOD).first(),
        col(ACCOUNT_ID).first(),
        col("movement").first(),
        col("stays").first(),
        col("opening").sum().alias(OPENING_MRR),
        col("revalued").sum(),
        col("closing").sum().alias(CLOSING_MRR),
        col("closing_contract").sum().alias("contract_mrr"),
        col("closing_quantity").sum().alias("quantity"),
        col("year_ago").sum().alias("mrr_12m_ago"),
    ];
    for column in [NEW_MRR, REACTIVATION_MRR, CHURN_MRR, FX_MRR] {
        sums.push(col(column).sum());
    }
    sums.extend(CAUSES.iter().map(|(column, _)| col(*column).sum()));

    let change = || col(CLOSING_MRR) - col("revalued");
    let opens = || col(OPENING_MRR).gt(zero());
    let closes = || col(CLOSING_MRR).gt(zero());
    let flag = |condition: Expr| condition.fill_null(lit(false)).cast(DataType::Int64);
    let is_movement = |name: &str| col("movement").eq(lit(name));
    let positive_part = |value: Expr| {
        when(col("stays").and(value.clone().gt(zero())))
            .then(value)
            .otherwise(zero())
    };
    let smaller = |a: &str, b: &str| when(col(a).lt(col(b))).then(col(a)).otherwise(col(b));

    products
        .group_by([col(SLOT)])
        .agg(sums)
        .join(
            causes_of_churn,
            by_account.clone(),
            by_account,
            JoinArgs::new(JoinType::Left),
        )
        .drop(by_name([PERIOD, ACCOUNT_ID], true, false))
        .with_columns([
            positive_part(change()).alias(EXPANSION_MRR),
            positive_part(zero() - change()).alias(CONTRACTION_MRR),
            (col("contract_mrr") - col(CLOSING_MRR)).alias("discount_mrr"),
            smaller(OPENING_MRR, CLOSING_MRR).alias("retained_mrr"),
            when(col("mrr_12m_ago").gt(zero()))
                .then(col(CLOSING_MRR))
                .otherwise(zero())
                .alias("current_mrr_of_12m_ago"),
            smaller("mrr_12m_ago", CLOSING_MRR).alias("retained_mrr_12m"),
            flag(opens()).alias(OPENING_CUSTOMERS),
            flag(is_movement("new")).alias(NEW_CUSTOMERS),
            flag(is_movement("reactivation")).alias(REACTIVATED_CUSTOMERS),
            flag(is_movement("churn")).alias(CHURNED_CUSTOMERS),
            flag(is_movement("churn").and(col("churn_cause").eq(lit("involuntary"))))
                .alias(INVOLUNTARY_CHURNED_CUSTOMERS),
            flag(closes()).alias(CLOSING_CUSTOMERS),
        ])
        .with_columns([
            flag(
                col(EXPANSION_MRR).gt(zero()).and(
                    col("plan_mrr")
                        .gt(zero())
                        .or(col("quantity_mrr").gt(zero())),
                ),
            )
            .alias("upsold_accounts"),
            flag(col("cross_sell_mrr").gt(zero())).alias("cross_sold_accounts"),
        ])
}

/// `period_index`, `account_id`, `churn_cause` of every account that churned: what its last version says.
pub fn causes_of_churn(
    products: LazyFrame,
    versions: LazyFrame,
    inputs: &Inputs,
    context: Context,
) -> LazyFrame {
    let by_account = [col(PERIOD), col(ACCOUNT_ID)];
    let churned = products
        .filter(col("movement").eq(lit("churn")))
        .select(by_account.clone())
        .unique(None, UniqueKeepStrategy::Any);
    let is_involuntary = context
        .policy
        .involuntary_reasons
        .iter()
        .map(|reason| col("end_reason").eq(lit(reason.as_str())))
        .fold(col("status").eq(lit("unpaid")), Expr::or)
        .fill_null(lit(false));
    let cause = when(is_involuntary)
        .then(lit("involuntary"))
        .when(col("end_reason").is_not_null())
        .then(lit("voluntary"))
        .otherwise(lit("unknown"));
    let starts_before_end = context
        .calendar
        .index_of_instant(col("started_at"))
        .lt_eq(col(PERIOD));
    let last_first = SortMultipleOptions::default()
        .with_order_descending_multi([true, true, true])
        .with_nulls_last_multi([false, true, true]);
    let order = [
        col("effective_end"),
        col("started_at"),
        col("subscription_id"),
    ];

    // An account that was merged away churns under its survivor's name, whose versions then include its own.
    let map = &inputs.account_map;
    let plain = churned
        .clone()
        .inner_join(versions.clone(), col(ACCOUNT_ID), col(ACCOUNT_ID));
    let candidates = if map.is_empty() {
        plain
    } else {
        let is_involved = map.involves(col(ACCOUNT_ID));
        let periods = churned
            .clone()
            .select([col(PERIOD)])
            .unique(None, UniqueKeepStrategy::Any);
        let merged = map
            .applied(
                versions
                    .filter(is_involved.clone())
                    .cross_join(periods, None),
                context.range,
            )
            .join(
                churned,
                by_account.clone(),
                by_account.clone(),
                JoinArgs::new(JoinType::Semi),
            );
        let args = UnionArgs {
            diagonal: true,
            ..UnionArgs::default()
        };
        concat([plain.clone().filter(is_involved.not()), merged], args).unwrap_or(plain)
    };
    candidates
        .filter(starts_before_end)
        .with_column(cause.alias("churn_cause"))
        .group_by(by_account)
        .agg([col("churn_cause").sort_by(order, last_first).first()])
}
