//! Subscriptions → MRR: what each version is worth per month, and at which period ends it is live
//! (docs/definitions.md § 3).

use super::fx::Rates;
use super::spine::{SLOT, Spine};
use super::{Context, Inputs, each_period, money};
use crate::columns::{ACCOUNT_ID, CURRENCY, FIRST_PAID, PERIOD, PRODUCT};
use crate::config::{AmountBasis, ChurnAt, DiscountPolicy};
use crate::period::PeriodRange;
use polars::prelude::*;

/// Number of a row's product among all versions'.
pub const PRODUCT_NUMBER: &str = "__product";
/// Product of every plan where no `plans` table tells families apart.
const ALL_PRODUCTS: &str = "(all)";
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// One row per subscription version: its monthly worth in its own currency and the period ends it is live at.
///
/// `paid_first`/`paid_last` and `trial_first`/`trial_last` are period indices, both included; a null `_last` is open, and
/// `_last < _first` means that no period end falls into the interval.
pub fn versions(inputs: &Inputs, context: Context) -> LazyFrame {
    let calendar = context.calendar;
    let policy = context.policy;
    let with_products = match &inputs.plans {
        Some(plans) => inputs.subscriptions.clone().left_join(
            plans
                .clone()
                .select([col("plan_id"), col("family").alias(PRODUCT), col("tier")]),
            col("plan_id"),
            col("plan_id"),
        ),
        None => inputs.subscriptions.clone().with_columns([
            lit(NULL).cast(DataType::String).alias(PRODUCT),
            lit(NULL).cast(DataType::Int64).alias("tier"),
        ]),
    };
    let currency = coalesce(&[col(CURRENCY), lit(context.currency.code.as_str())]);
    let status = coalesce(&[col("status"), lit("active")]);
    let effective_end = match policy.churn_at {
        ChurnAt::ServiceEnd => col("ended_at"),
        ChurnAt::CancelRequest => earlier(col("ended_at"), col("cancel_requested_at")),
    };

    let is_trialing = col("status").eq(lit("trialing"));
    let is_past_due = col("status").eq(lit("past_due"));
    let counts = col("status").eq(lit("active")).or(is_past_due.clone());
    let paid_from = later(col("started_at"), col("trial_end"));
    let paid_until = match policy.past_due_grace_days {
        None => col("effective_end"),
        Some(days) => {
            let grace = lit(i64::from(days) * MICROS_PER_DAY)
                .cast(DataType::Duration(TimeUnit::Microseconds));
            when(is_past_due)
                .then(earlier(col("effective_end"), col("started_at") + grace))
                .otherwise(col("effective_end"))
        }
    };
    let trial_until = when(is_trialing.clone())
        .then(col("effective_end"))
        .otherwise(earlier(col("trial_end"), col("effective_end")));
    let is_trial = is_trialing.or(counts.clone().and(col("trial_end").is_not_null()));
    // Live at E iff start < E <= end: from the end of the period that holds the start, to the last end not after `end`.
    let first = |start: Expr| calendar.index_of_instant(start);
    let last = |end: Expr| calendar.index_of_instant(end) - lit(1);
    let never = lit(i32::MIN / 2);

    with_products
        .with_columns([
            currency.alias(CURRENCY),
            status.alias("status"),
            effective_end.alias("effective_end"),
            coalesce(&[col(PRODUCT), lit(ALL_PRODUCTS)]).alias(PRODUCT),
            coalesce(&[col("quantity"), lit(1i64)]).alias("quantity"),
            term_days().alias("term_days"),
        ])
        .with_columns([
            contract_per_month(policy.amount).alias("contract"),
            discount(policy).alias("discount"),
        ])
        .with_columns([
            money::to_own_minor_unit(
                coalesce(&[col("mrr"), per_month(col("contract"))]),
                col(CURRENCY),
            )
            .alias("contract_local"),
            money::to_own_minor_unit(
                coalesce(&[col("mrr"), per_month(after_discount())]),
                col(CURRENCY),
            )
            .alias("net_local"),
            paid_from.clone().alias("paid_from"),
            first(paid_from).alias("paid_first"),
            when(counts)
                .then(last(paid_until))
                .otherwise(never.clone())
                .alias("paid_last"),
            first(col("started_at")).alias("trial_first"),
            when(is_trial)
                .then(last(trial_until))
                .otherwise(never)
                .alias("trial_last"),
        ])
        .select([
            col(ACCOUNT_ID),
            col("subscription_id"),
            col("started_at"),
            col("effective_end"),
            col("end_reason"),
            col("status"),
            col("plan_id"),
            col(PRODUCT),
            product_number().alias(PRODUCT_NUMBER),
            col("tier"),
            col(CURRENCY),
            col("quantity"),
            col("term_days"),
            col("contract_local"),
            col("net_local"),
            col("paid_from"),
            col("paid_first"),
            col("paid_last"),
            col("trial_first"),
            col("trial_last"),
        ])
}

fn product_number() -> Expr {
    let dense = RankOptions {
        method: RankMethod::Dense,
        descending: false,
    };
    col(PRODUCT).rank(dense, None).cast(DataType::Int64)
}

fn earlier(a: Expr, b: Expr) -> Expr {
    when(a.clone().is_null().or(b.clone().lt(a.clone())))
        .then(coalesce(&[b, a.clone()]))
        .otherwise(a)
}

fn later(a: Expr, b: Expr) -> Expr {
    when(b.clone().gt(a.clone())).then(b).otherwise(a)
}

/// Line amount per billing interval.
fn contract_per_month(basis: AmountBasis) -> Expr {
    let amount = col("amount").cast(money::working());
    match basis {
        AmountBasis::Unit => amount * col("quantity").cast(money::working()),
        AmountBasis::Total => amount,
    }
}

/// Discount per billing interval that the policy takes off the line amount.
fn discount(policy: &crate::config::Policy) -> Expr {
    let kind = || coalesce(&[col("discount_kind"), lit("recurring")]);
    let value = || coalesce(&[col("discount"), lit(0i64)]).cast(money::working());
    let is_percent = kind()
        .eq(lit("recurring_percent"))
        .or(kind().eq(lit("one_off_percent")));
    let is_recurring = kind()
        .eq(lit("recurring"))
        .or(kind().eq(lit("recurring_percent")));
    let line = contract_per_month(policy.amount);
    let off = when(is_percent)
        .then(line * value() / lit(100i64).cast(money::working()))
        .otherwise(value());
    let none = lit(0i64).cast(money::working());
    match policy.discounts {
        DiscountPolicy::All => off,
        DiscountPolicy::Recurring => when(is_recurring).then(off).otherwise(none),
        DiscountPolicy::None => none,
    }
}

/// A discount never takes a line below zero.
fn after_discount() -> Expr {
    let zero = lit(0i64).cast(money::working());
    when(col("discount").gt(col("contract")))
        .then(zero)
        .otherwise(col("contract") - col("discount"))
}

fn per_month(per_interval: Expr) -> Expr {
    let interval = || coalesce(&[col("interval"), lit("month")]);
    let count = coalesce(&[col("interval_count"), lit(1i64)]);
    let times = when(interval().eq(lit("week")))
        .then(lit(52i64))
        .when(interval().eq(lit("day")))
        .then(lit(365i64))
        .otherwise(lit(1i64));
    let months = when(interval().eq(lit("month")))
        .then(lit(1i64))
        .when(interval().eq(lit("quarter")))
        .then(lit(3i64))
        .otherwise(lit(12i64));
    per_interval * times.cast(money::working()) / (months * count).cast(money::working())
}

/// Length of the billing interval, only to see whether it changed.
fn term_days() -> Expr {
    let interval = || col("interval");
    let days = when(interval().eq(lit("day")))
        .then(lit(1i64))
        .when(interval().eq(lit("week")))
        .then(lit(7i64))
        .when(interval().eq(lit("quarter")))
        .then(lit(90i64))
        .when(interval().eq(lit("year")))
        .then(lit(365i64))
        .otherwise(lit(30i64));
    days * coalesce(&[col("interval_count"), lit(1i64)])
}

/// One row per version and period end at which it is paid-live, with `mrr` and `contract_mrr` at that period's rate.
pub fn snapshots(
    versions: LazyFrame,
    rates: &Rates,
    range: PeriodRange,
    context: Context,
) -> LazyFrame {
    let live = each_period(versions, col("paid_first"), col("paid_last"), range);
    rates.beside(live, context).with_columns([
        rates.converted(col("net_local"), context).alias("mrr"),
        rates
            .converted(col("contract_local"), context)
            .alias("contract_mrr"),
    ])
}

/// `period_index`, `account_id`, `trial_mrr`: what running trials would pay.
pub fn trials(versions: LazyFrame, rates: &Rates, context: Context) -> LazyFrame {
    let live = each_period(
        versions,
        col("trial_first"),
        col("trial_last"),
        context.range,
    );
    rates.beside(live, context).select([
        col(PERIOD),
        col(ACCOUNT_ID),
        rates
            .converted(col("net_local"), context)
            .alias("trial_mrr"),
    ])
}

/// `period_index`, `currency` of paid or trial versions that have no rate; anything here stops the run.
pub fn missing_rates(
    versions: LazyFrame,
    rates: &Rates,
    range: PeriodRange,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let foreign = versions.filter(col(CURRENCY).neq(lit(context.currency.code.as_str())));
    let lacking = |first: &str, last: &str| {
        rates
            .beside(
                each_period(foreign.clone(), col(first), col(last), range),
                context,
            )
            .filter(col("rate").is_null())
            .select([col(PERIOD), col(CURRENCY)])
    };
    concat(
        [
            lacking("paid_first", "paid_last"),
            lacking("trial_first", "trial_last"),
        ],
        UnionArgs::default(),
    )
}

/// Where each account's life as a customer began: `account_id`, `first_paid_index` (the first period at whose end it had
/// MRR), `cohort_mrr` (how much), `first_paid_date` (local date on which that began).
pub fn origins(versions: LazyFrame, rates: &Rates, context: Context) -> LazyFrame {
    let is_ever_live = col("paid_last")
        .is_null()
        .or(col("paid_first").lt_eq(col("paid_last")));
    let is_paying = col("net_local").gt(lit(0i64).cast(money::working()));
    let paying = versions.filter(is_ever_live.and(is_paying));
    let firsts = paying
        .clone()
        .group_by([col(ACCOUNT_ID)])
        .agg([col("paid_first").min().alias(FIRST_PAID)]);
    let at_first = paying
        .inner_join(firsts, col(ACCOUNT_ID), col(ACCOUNT_ID))
        .filter(col("paid_first").eq(col(FIRST_PAID)))
        .with_column(col(FIRST_PAID).alias(PERIOD));
    rates
        .beside(at_first, context)
        .with_column(
            rates
                .converted(col("net_local"), context)
                .alias("cohort_mrr"),
        )
        .group_by([col(ACCOUNT_ID)])
        .agg([
            col(FIRST_PAID).first(),
            col("cohort_mrr").sum(),
            context
                .calendar
                .local_date(col("paid_from").min())
                .alias("first_paid_date"),
        ])
}

/// The same by row of the spine from the first paid period on, [`SLOT`]: a merged account began where the first of its parts did.
pub fn origins_by_period(
    origins: LazyFrame,
    spine: &Spine,
    inputs: &Inputs,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let map = &inputs.account_map;
    let columns = [SLOT, FIRST_PAID, "cohort_mrr", "first_paid_date"].map(col);
    let has_begun = || col(FIRST_PAID).lt_eq(col(PERIOD));
    let apart = spine
        .rows
        .clone()
        .select([col(SLOT), col(ACCOUNT_ID), col(PERIOD)])
        .inner_join(origins.clone(), col(ACCOUNT_ID), col(ACCOUNT_ID))
        .filter(has_begun());
    if map.is_empty() {
        return Ok(apart.select(columns));
    }
    let is_merged = || map.involves(col(ACCOUNT_ID));
    let apart = apart.filter(is_merged().not()).select(columns.clone());
    let periods: Vec<i32> = context.range.indices().collect();
    let every_period = df!(PERIOD => periods)?.lazy();
    let parts = origins.filter(is_merged()).cross_join(every_period, None);
    let mapped = map.applied(parts, context.range);
    let earliest = col(FIRST_PAID).min().over([col(PERIOD), col(ACCOUNT_ID)])?;
    let merged = mapped
        .filter(col(FIRST_PAID).eq(earliest).and(has_begun()))
        .group_by([col(PERIOD), col(ACCOUNT_ID)])
        .agg([
            col(FIRST_PAID).first(),
            col("cohort_mrr").sum(),
            col("first_paid_date").min(),
        ]);
    concat(
        [apart, spine.placed(merged).select(columns)],
        UnionArgs::default(),
    )
}
