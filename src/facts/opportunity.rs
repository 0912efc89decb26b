//! Opportunities → deals and renewals of the period, and who was offered more.

use super::fx::Rates;
use super::merges::AccountMap;
use super::{Context, each_period, flag, in_period, money, summed};
use crate::columns::{ACCOUNT_ID, CURRENCY, PERIOD};
use polars::prelude::*;

/// `deals_won`, `deals_lost`, `won_amount`, `lost_amount`, `renewals_won`, `renewals_lost` per period and account. A renewal
/// is no deal.
pub fn per_period(
    opportunities: LazyFrame,
    rates: &Rates,
    map: &AccountMap,
    context: Context,
) -> LazyFrame {
    let is_renewal = || col("kind").eq(lit("renewal"));
    let is_won = || col("is_won");
    let won = || is_renewal().not().and(is_won());
    let lost = || is_renewal().not().and(is_won().not());
    let amount = rates
        .converted(col("amount"), context)
        .fill_null(money::zero(context.currency));
    let of = |condition: Expr| {
        when(condition)
            .then(col("amount"))
            .otherwise(money::zero(context.currency))
    };
    let sums = [
        (flag(won()), "deals_won"),
        (flag(lost()), "deals_lost"),
        (of(won()), "won_amount"),
        (of(lost()), "lost_amount"),
        (flag(is_renewal().and(is_won())), "renewals_won"),
        (flag(is_renewal().and(is_won().not())), "renewals_lost"),
    ];
    let closed = rates
        .beside(closed(opportunities, context), context)
        .with_column(amount.alias("amount"));
    summed(closed, sums, map, context)
}

/// Those that were won or lost in the range, in their period and currency.
fn closed(opportunities: LazyFrame, context: Context) -> LazyFrame {
    let closed = opportunities.filter(col("closed_at").is_not_null());
    let day = context.calendar.local_date(col("closed_at"));
    let currency = coalesce(&[col(CURRENCY), lit(context.currency.code.as_str())]);
    in_period(closed, day, context).with_column(currency.alias(CURRENCY))
}

/// Closed ones whose currency has no rate: `period_index`, `currency`.
pub fn missing_rates(opportunities: LazyFrame, rates: &Rates, context: Context) -> LazyFrame {
    // A renewal is counted, not valued.
    let is_deal = col("kind").neq(lit("renewal"));
    let worth = opportunities.filter(col("amount").is_not_null().and(is_deal));
    rates
        .beside(closed(worth, context), context)
        .filter(col("rate").is_null())
        .select([col(PERIOD), col(CURRENCY)])
}

/// `upsell_offered`, `cross_sell_offered`: 1 for accounts with such an opportunity open at some instant of the period.
pub fn offers(opportunities: LazyFrame, map: &AccountMap, context: Context) -> LazyFrame {
    let index = |instant: &str| context.calendar.index_of_instant(col(instant));
    let is_of = |kind: &str| flag(col("kind").eq(lit(kind)).any(true));
    let offers = opportunities.filter(
        col(ACCOUNT_ID).is_not_null().and(
            col("kind")
                .eq(lit("upsell"))
                .or(col("kind").eq(lit("cross_sell"))),
        ),
    );
    let open = each_period(
        offers,
        index("created_at"),
        index("closed_at"),
        context.range,
    );
    map.applied(open, context.range)
        .group_by([col(PERIOD), col(ACCOUNT_ID)])
        .agg([
            is_of("upsell").alias("upsell_offered"),
            is_of("cross_sell").alias("cross_sell_offered"),
        ])
}
