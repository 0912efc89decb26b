//! The model: one row per account and period from the account's first sign of life, with every fact as an additive column.
//!
//! Everything published is made from this frame. It is joined from the spine outwards, so a month in which everyone left
//! still has its rows.

mod families;
mod ground;
mod history;

use crate::columns::*;
use crate::facts::fx::Rates;
use crate::facts::movements::{self, Ledger};
use crate::facts::spine::{self, IS_THERE, SLOT, Spine};
use crate::facts::{Context, Hold, Inputs, attributes, cost, money, mrr, revenue, summed, usage};
use crate::period::PeriodRange;
use chrono::{DateTime, Utc};
use polars::prelude::*;

pub use families::Details;
pub use ground::Ground;
pub use history::{History, history};

/// Whether a row of the spine is there in the end: an account that was merged away has none.
const IS_KEPT: &str = "__is_kept";

/// The facts of every account in every period of a range. Built by [`account_periods`] only.
#[derive(Clone)]
pub struct AccountPeriods {
    /// One row per account and period; the columns of docs/definitions.md § 4 but dimensions, LTV and segments, and the
    /// account's own attributes.
    pub facts: LazyFrame,
    /// One row per period, account and product of the ledger, with movement and causes.
    pub products: LazyFrame,
    pub details: Details,
}

/// One row per period: `period_index`, `period_start`, `period_end`, `days_in_period`, `is_complete`.
pub fn periods(context: Context, as_of: DateTime<Utc>) -> PolarsResult<DataFrame> {
    let calendar = context.calendar;
    let all: Vec<_> = context
        .range
        .indices()
        .map(|index| calendar.period(index))
        .collect();
    df!(
        PERIOD => all.iter().map(|period| period.index).collect::<Vec<_>>(),
        PERIOD_START => all.iter().map(|period| period.start).collect::<Vec<_>>(),
        PERIOD_END => all.iter().map(|period| period.end).collect::<Vec<_>>(),
        "days_in_period" => all.iter().map(|period| (period.end - period.start).num_days()).collect::<Vec<_>>(),
        IS_COMPLETE => all.iter().map(|period| calendar.is_complete(period, as_of)).collect::<Vec<_>>(),
    )
}

/// Joins all facts onto the spine. `window_days` is how far the scores look back.
pub fn account_periods(
    inputs: &Inputs,
    ground: &Ground,
    context: Context,
    as_of: DateTime<Utc>,
    window_days: i32,
    hold: Hold,
) -> PolarsResult<AccountPeriods> {
    let (rates, versions) = (&ground.rates, ground.versions.clone());
    let map = &inputs.account_map;
    let of_account = attributes::at_all_times(inputs);
    let accounts = ground.first_signs.clone();
    let accounts = accounts.left_join(of_account, col(ACCOUNT_ID), col(ACCOUNT_ID));
    let spine = Spine::of(accounts, map, context, hold)?;
    let snapshots = movements::snapshots(&versions, rates, context)?;
    let ledger = Ledger {
        versions: versions.clone(),
        rates: rates.clone(),
        snapshots: hold("snapshots", snapshots)?.lazy(),
    };
    let origins = ground.origins.clone();
    let origins = mrr::origins_by_period(origins, &spine, inputs, context)?;
    let origins = hold("origins", origins)?.lazy();
    let products = movements::product_movements(&ledger, &spine, origins.clone(), inputs, context)?;
    let products = hold("products", products)?.lazy();
    let churn_causes =
        movements::causes_of_churn(products.clone(), versions.clone(), inputs, context);
    let churn_causes = hold("causes of churn", churn_causes)?.lazy();
    let movements = movements::account_movements(products.clone(), churn_causes.clone(), context);
    let described = ["movement", "stays", "revalued", "churn_cause"];
    let plans = attributes::main_plans(ledger.snapshots.clone(), &spine, inputs, context.range)?;
    let trials = mrr::trials(versions.clone(), rates, context);
    let trials = summed(trials, [(col("trial_mrr"), "trial_mrr")], map, context);

    // Facts have their names, whatever an account's own columns are called.
    let attributes = attributes::by_period(inputs, context.calendar, context.range);
    let mut parts: Vec<LazyFrame> = attributes
        .into_iter()
        .map(|rows| spine.beside(spine.told_by_slot(rows)))
        .collect();
    parts.extend([
        histories(inputs, ground, &spine, context)?,
        spine.counted(movements.drop(by_name(described, true, false))),
        spine.counted(origins),
        spine.beside(plans),
        spine.counted(spine.told_by_slot(trials)),
    ]);
    if let Some(usage) = &inputs.usage {
        let used = spine.told_by_slot(usage.per_period(map, context)?);
        parts.push(spine.counted(used));
        if !map.is_empty() {
            let exact = usage::merged_active_days(usage.merged.clone(), map, window_days, context);
            parts.push(spine.beside(spine.told_by_slot(exact)));
        }
    }
    let details = families::details(inputs, context, hold)?;
    parts.extend(families::families(
        &spine, inputs, &details, rates, context,
    )?);
    let mut facts = spine::side_by_side(parts)?;
    if !map.is_empty() {
        facts = facts.filter(col(IS_KEPT));
        if inputs.usage.is_some() {
            let exact = [col("merged_active_days"), col("window_active_days")];
            facts = facts.with_column(coalesce(&exact).alias("window_active_days"));
        }
    }
    let facts = finished(facts, inputs, as_of, context)?;
    let facts = families::with_targets(facts, inputs, context);
    let facts = spine::without_places(facts).drop(by_name([IS_KEPT], false, false));
    let facts = families::with_missing_facts(facts, context)?;
    // What rules read as a condition.
    let community_active = col("community_active_accounts").gt(lit(0i64));
    let facts = facts.with_column(community_active.alias("community_active"));
    let facts = with_costs(hold("facts", facts)?.lazy(), inputs, rates, context)?;

    let key = || [col(PERIOD), col(ACCOUNT_ID)];
    let products = products
        .join(churn_causes, key(), key(), JoinArgs::new(JoinType::Left))
        .drop(by_name([SLOT], true, false));
    Ok(AccountPeriods {
        facts: hold("costs", facts)?.lazy(),
        products: hold("ledger", products)?.lazy(),
        details,
    })
}

/// Puts the costs onto `facts`, which are in memory: who takes what is read off them. Rows of what belongs to no account stay
/// where there is any.
fn with_costs(
    facts: LazyFrame,
    inputs: &Inputs,
    rates: &Rates,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let facts = match &inputs.costs {
        None => facts,
        Some(costs) => {
            let map = &inputs.account_map;
            let mut costs = cost::per_period(costs.clone(), facts.clone(), rates, map, context)?;
            let nulls = cost::KINDS.map(|(_, column)| column);
            let zeros = families::zeros(&mut costs)?;
            let key = || [col(PERIOD), col(ACCOUNT_ID)];
            facts
                .drop(by_name(nulls, true, false))
                .join(costs, key(), key(), JoinArgs::new(JoinType::Left))
                .with_columns(zeros)
        }
    };
    match families::may_be_unallocated(inputs) {
        true => families::without_empty(facts),
        false => Ok(facts),
    }
}

/// The rows of the spine with all that accumulates over an account's life: sign-up, revenue, last payment, last use, windows. Where
/// accounts are merged, [`IS_KEPT`] tells which rows there are in the end.
fn histories(
    inputs: &Inputs,
    ground: &Ground,
    spine: &Spine,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let mut parts = vec![spine.rows.clone()];
    let mut sums: Vec<&str> = Vec::new();
    let mut latest = Vec::new();
    if let Some(daily) = ground.daily_revenue.clone() {
        let revenue = revenue::per_period(spine, daily, context)?;
        parts.push(revenue);
        sums.extend([
            REVENUE,
            "usage_revenue",
            "revenue_to_date",
            "invoices_to_date",
            "revenue_12m",
            "invoices_12m",
        ]);
        sums.extend(["window_revenue", "window_invoices"]);
        latest.push("last_payment");
    }
    if let Some(days) = ground.usage_days.clone() {
        parts.push(usage::recency(spine, days, context)?);
        sums.push("window_active_days");
        latest.push("last_use");
    }
    let history = spine::side_by_side(parts)?;
    let map = &inputs.account_map;
    if map.is_empty() {
        return Ok(history);
    }
    let own: Vec<Expr> = ["signup"]
        .iter()
        .chain(&sums)
        .chain(&latest)
        .map(|name| col(*name))
        .collect();
    let mut merged = vec![col("signup").min()];
    merged.extend(sums.iter().map(|name| col(*name).sum()));
    merged.extend(latest.iter().map(|name| col(*name).max()));
    let is_merged = || map.involves(col(ACCOUNT_ID));
    let apart = history.clone().filter(is_merged().not());
    let parts = history.filter(is_merged().and(col(IS_THERE)));
    let parts = map
        .applied(parts, context.range)
        .group_by([col(PERIOD), col(ACCOUNT_ID)])
        .agg(merged);
    let columns = [&[col(SLOT)][..], &own].concat();
    let kept = [apart, spine.placed(parts)].map(|rows| rows.select(columns.clone()));
    let kept = concat(kept, UnionArgs::default())?.with_column(lit(true).alias(IS_KEPT));
    let rows = spine.rows.clone().drop(by_name(["signup"], true, false));
    spine::side_by_side(vec![rows, spine.beside(kept)])
}

/// Beside the causes of expansion and contraction.
const LEDGER_MONEY: [&str; 16] = [
    OPENING_MRR,
    NEW_MRR,
    REACTIVATION_MRR,
    EXPANSION_MRR,
    CONTRACTION_MRR,
    CHURN_MRR,
    FX_MRR,
    CLOSING_MRR,
    "contract_mrr",
    "discount_mrr",
    "trial_mrr",
    "retained_mrr",
    "mrr_12m_ago",
    "current_mrr_of_12m_ago",
    "retained_mrr_12m",
    COHORT_MRR,
];

const LEDGER_COUNTS: [&str; 8] = [
    OPENING_CUSTOMERS,
    NEW_CUSTOMERS,
    REACTIVATED_CUSTOMERS,
    CHURNED_CUSTOMERS,
    CLOSING_CUSTOMERS,
    INVOLUNTARY_CHURNED_CUSTOMERS,
    "upsold_accounts",
    "cross_sold_accounts",
];

const USAGE_COUNTS: [&str; 7] = [
    "events",
    "sessions",
    "session_seconds",
    "active_days",
    "active_user_days",
    "wau",
    "mau",
];

/// Zeros where an account has nothing, nulls where the input is not there, and what follows from both.
fn finished(
    facts: LazyFrame,
    inputs: &Inputs,
    as_of: DateTime<Utc>,
    context: Context,
) -> PolarsResult<LazyFrame> {
    let has_invoices = inputs.invoice_lines.is_some();
    let has_usage = inputs.usage.is_some();
    let zero = || money::zero(context.currency);
    let is_customer = || col(CLOSING_CUSTOMERS).eq(lit(1i64));
    let null_count = || lit(NULL).cast(DataType::Int64);
    let null_money = || lit(NULL).cast(money::summed(context.currency));
    let null_date = || lit(NULL).cast(DataType::Date);
    let since = |last: &str| {
        (col(PERIOD_END).cast(DataType::Int32) - lit(1) - col(last).cast(DataType::Int32))
            .cast(DataType::Int64)
    };

    let mut filled: Vec<Expr> = LEDGER_COUNTS
        .iter()
        .map(|name| col(*name).fill_null(lit(0i64)))
        .collect();
    let amounts = LEDGER_MONEY
        .into_iter()
        .chain(CAUSES.map(|(cause, _)| cause));
    filled.extend(amounts.map(|name| col(name).fill_null(zero())));
    filled.push(col("quantity").fill_null(lit(0i64)));
    for name in USAGE_COUNTS {
        let is_told = inputs
            .usage
            .as_ref()
            .is_some_and(|usage| !usage.missing.contains(&name));
        filled.push(if is_told {
            col(name).fill_null(lit(0i64))
        } else {
            null_count().alias(name)
        });
    }
    if !has_usage {
        filled.extend([
            null_date().alias("last_use"),
            null_count().alias("window_active_days"),
        ]);
    }
    let usage_mrr = if has_invoices {
        per_month(col("usage_revenue"), context)
    } else {
        null_money()
    };
    filled.push(usage_mrr.alias("usage_mrr"));
    if !has_invoices {
        filled.extend(
            [REVENUE, "revenue_to_date", "revenue_12m", "window_revenue"]
                .map(|name| null_money().alias(name)),
        );
        filled.extend(
            ["invoices_to_date", "invoices_12m", "window_invoices"]
                .map(|name| null_count().alias(name)),
        );
        filled.push(null_date().alias("last_payment"));
    }
    let shrunk = col(CLOSING_MRR).lt(col(COHORT_MRR));
    let retained_of_cohort = when(shrunk)
        .then(col(CLOSING_MRR))
        .otherwise(col(COHORT_MRR));
    let purchased = col("invoices_12m").gt(lit(0i64)).cast(DataType::Int64);
    let active = col("active_days").gt(lit(0i64)).cast(DataType::Int64);
    let tenure =
        col(PERIOD_END).cast(DataType::Int64) - col("first_paid_date").cast(DataType::Int64);
    let seats = coalesce(&[col("seats"), col("quantity")]);
    let signup = || context.calendar.index_of_date(col("signup"));
    let periods = periods(context, as_of)?.drop(PERIOD)?;
    let (epoch, first_days) = first_days(context);
    let first_day = |index: &str| looked_up(&first_days, col(index) - lit(epoch));
    let of_period = periods.columns().iter().map(|column| {
        let values = column.as_materialized_series();
        looked_up(values, col(PERIOD) - lit(context.range.first)).alias(column.name().clone())
    });
    Ok(facts
        .with_columns(of_period.collect::<Vec<_>>())
        .with_columns(filled)
        .with_columns([
            // Rules see the seats of a customer, dimensions what the CRM says.
            col("seats").alias(OWN_SEATS),
            when(is_customer())
                .then(seats)
                .otherwise(lit(0i64))
                .alias("seats"),
            when(is_customer())
                .then(tenure)
                .otherwise(lit(0i64))
                .alias("tenure_days"),
            retained_of_cohort.alias(RETAINED_COHORT_MRR),
            purchased.alias("purchasing_accounts_12m"),
            active.alias("active_accounts"),
            since("last_payment").alias(DAYS_SINCE_LAST_PAYMENT),
            since("last_use").alias(DAYS_SINCE_LAST_USE),
            // A deal may be told of before the account has signed up.
            when(signup().lt_eq(col(PERIOD)))
                .then(signup())
                .otherwise(lit(NULL))
                .alias("signup_index"),
            col(CLOSING_MRR).alias("mrr"),
        ])
        .with_columns([
            first_day(FIRST_PAID).alias(COHORT_FIRST_PAID),
            first_day("signup_index").alias(COHORT_SIGNUP),
        ]))
}

/// The value at `index`, which may be null or lie outside.
fn looked_up(values: &Series, index: Expr) -> Expr {
    let known = when(index.clone().gt_eq(lit(0))).then(index);
    lit(values.clone()).gather(known.otherwise(lit(NULL)), true)
}

/// Money of a period as money of a month.
fn per_month(of_period: Expr, context: Context) -> Expr {
    let months = |count: i64| lit(count).cast(money::working());
    let periods_per_year = i64::from(context.calendar.grain.periods_per_year());
    let per_month = of_period.cast(money::working()) * months(periods_per_year) / months(12);
    money::to_minor_unit(per_month, context.currency)
}

/// The first day of every period since 1970, and the index of the first one.
fn first_days(context: Context) -> (i32, Series) {
    let calendar = context.calendar;
    let range = PeriodRange {
        first: calendar.index_of(chrono::NaiveDate::default()),
        last: context.range.last,
    };
    let starts: Vec<_> = range
        .indices()
        .map(|index| calendar.start_of(index))
        .collect();
    (range.first, Series::new("first_day".into(), starts))
}
