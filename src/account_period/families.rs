//! The families of facts whose inputs may be missing: each is joined where its table is mapped, and null where it is not.

use crate::columns::*;
use crate::config::UpsellBase;
use crate::contract;
use crate::facts::fx::Rates;
use crate::facts::spine::{SLOT, Spine};
use crate::facts::{
    Context, Hold, Inputs, community, cost, onboarding, opportunity, support, survey, time, usage,
};
use polars::prelude::*;

/// Facts below the account: what `kpi_breakdown`, `time_spent` and the onboarding time are made of. Rows of the range, by
/// surviving account.
#[derive(Clone, Default)]
pub struct Details {
    /// See [`onboarding::durations`].
    pub onboardings: Option<LazyFrame>,
    /// See [`survey::items`].
    pub survey_items: Option<LazyFrame>,
    /// See [`usage::features`].
    pub features: Option<LazyFrame>,
    /// See [`time::phases`].
    pub phases: Option<LazyFrame>,
}

/// The details of what is mapped, in memory.
pub(super) fn details(inputs: &Inputs, context: Context, hold: Hold) -> PolarsResult<Details> {
    let map = &inputs.account_map;
    let onboardings = onboarding::onboardings(inputs, context)?;
    let durations = onboardings.map(|all| onboarding::durations(all, map, context));
    let features = inputs.features.clone();
    let surveys = inputs.surveys.clone();
    let entries = inputs.time_entries.clone();
    let held = |name, rows: Option<LazyFrame>| {
        let rows = rows.map(|rows| hold(name, rows)).transpose()?;
        PolarsResult::Ok(rows.map(IntoLazy::lazy))
    };
    Ok(Details {
        onboardings: held("onboardings", durations.transpose()?)?,
        survey_items: held(
            "survey items",
            surveys.map(|surveys| survey::items(surveys, map, context)),
        )?,
        features: held(
            "features",
            features.map(|used| usage::features(used, map, context)),
        )?,
        phases: held(
            "phases",
            entries.map(|entries| time::phases(entries, map, context)),
        )?,
    })
}

/// Every mapped family, beside the rows of the spine; 0 where an account has nothing of it.
pub(super) fn families(
    spine: &Spine,
    inputs: &Inputs,
    details: &Details,
    rates: &Rates,
    context: Context,
) -> PolarsResult<Vec<LazyFrame>> {
    let map = &inputs.account_map;
    let mut families = Vec::new();
    if let Some(opportunities) = &inputs.opportunities {
        if context.policy.upsell_base == UpsellBase::Offered {
            families.push(opportunity::offers(opportunities.clone(), map, context));
        }
        families.push(opportunity::per_period(
            opportunities.clone(),
            rates,
            map,
            context,
        ));
    }
    if let Some(all) = onboarding::onboardings(inputs, context)? {
        families.push(onboarding::per_period(all, map, context));
    }
    if let Some(members) = &inputs.members {
        let done = inputs.onboarding.clone();
        families.push(onboarding::members(members.clone(), done, map, context));
    }
    if let Some(surveys) = &inputs.surveys {
        families.push(survey::per_period(surveys.clone(), map, context));
    }
    if let Some(tickets) = &inputs.tickets {
        families.push(support::per_period(tickets.clone(), map, context));
    }
    if let Some(activities) = &inputs.community {
        families.push(community::per_period(activities.clone(), map, context));
    }
    if let Some(entries) = &inputs.time_entries {
        families.push(time::per_period(entries.clone(), map, context));
    }
    let beside = |mut family: LazyFrame| {
        let zeros = zeros(&mut family)?;
        let family = spine.counted(spine.told_by_slot(family));
        Ok(family.with_columns(zeros))
    };
    let mut families = families
        .into_iter()
        .map(beside)
        .collect::<PolarsResult<Vec<_>>>()?;
    if let Some(used) = &details.features {
        let count = len().cast(DataType::Int64).alias("features_used");
        let counts = spine.placed(used.clone());
        let counts = counts.group_by([col(SLOT)]).agg([count]);
        families.push(spine.counted(counts));
    }
    Ok(families)
}

/// The columns of a family, told by period and account: 0 where there is none.
pub(super) fn zeros(family: &mut LazyFrame) -> PolarsResult<Vec<Expr>> {
    let schema = family.collect_schema()?;
    let own = schema
        .iter()
        .filter(|(name, _)| *name != PERIOD && *name != ACCOUNT_ID);
    Ok(own
        .map(|(name, dtype)| col(name.clone()).fill_null(lit(0i64).cast(dtype.clone())))
        .collect())
}

/// What upsell and cross-sell are shares of, and who of it bought.
pub(super) fn with_targets(facts: LazyFrame, inputs: &Inputs, context: Context) -> LazyFrame {
    let (upsell, cross_sell) = match (context.policy.upsell_base, &inputs.opportunities) {
        (UpsellBase::Offered, Some(_)) => ("upsell_offered", "cross_sell_offered"),
        _ => (OPENING_CUSTOMERS, OPENING_CUSTOMERS),
    };
    let of = |target: &str, bought: &str| col(target) * col(bought);
    facts.with_columns([
        col(upsell).alias("upsell_target_accounts"),
        col(cross_sell).alias("cross_sell_target_accounts"),
        of(upsell, "upsold_accounts").alias("upsold_target_accounts"),
        of(cross_sell, "cross_sold_accounts").alias("cross_sold_target_accounts"),
    ])
}

/// Accounts and local days that the further inputs tell of: signs of life.
pub(super) fn signs(inputs: &Inputs, context: Context) -> Vec<LazyFrame> {
    let on = |instant: &str| context.calendar.local_date(col(instant));
    let tables = [
        (&inputs.opportunities, on("created_at")),
        (&inputs.members, on("joined_at")),
        (&inputs.onboarding, on("started_at")),
        (&inputs.surveys, on("answered_at")),
        (&inputs.tickets, on("opened_at")),
        (&inputs.community, on("occurred_at")),
        (&inputs.costs, col("date")),
        (&inputs.time_entries, col("date")),
    ];
    let own = tables.into_iter().filter_map(|(table, day)| {
        let rows = table.clone()?.filter(col(ACCOUNT_ID).is_not_null());
        Some(rows.select([col(ACCOUNT_ID), day.alias("day")]))
    });
    own.collect()
}

/// Whether something may belong to no account.
pub(super) fn may_be_unallocated(inputs: &Inputs) -> bool {
    inputs.opportunities.is_some() || inputs.costs.is_some() || inputs.time_entries.is_some()
}

/// Without the rows of [`UNALLOCATED`] in which there is nothing.
pub(super) fn without_empty(mut facts: LazyFrame) -> PolarsResult<LazyFrame> {
    let known = facts.collect_schema()?;
    let costs = cost::KINDS.map(|(_, column)| column);
    let is_there = UNALLOCATED_FACTS
        .into_iter()
        .chain(costs)
        .filter(|name| known.contains(name))
        .map(|name| {
            col(name)
                .cast(DataType::Float64)
                .neq(lit(0.0))
                .fill_null(lit(false))
        })
        .reduce(Expr::or)
        .unwrap_or(lit(false));
    Ok(facts.filter(col(ACCOUNT_ID).neq(lit(UNALLOCATED)).or(is_there)))
}

/// Columns of `account_period` that what belongs to no account may have, beside those of costs.
const UNALLOCATED_FACTS: [&str; 7] = [
    "deals_won",
    "deals_lost",
    "won_amount",
    "lost_amount",
    "renewals_won",
    "renewals_lost",
    "cs_seconds",
];

/// Null for every fact whose input is not mapped.
pub(super) fn with_missing_facts(
    mut facts: LazyFrame,
    context: Context,
) -> PolarsResult<LazyFrame> {
    use contract::Kind;
    let known = facts.collect_schema()?;
    let is_missing = |column: &&contract::Column| {
        let is_fact = matches!(column.kind, Kind::Integer | Kind::Money);
        is_fact && !column.required && !known.contains(&column.name)
    };
    let columns = contract::of("account_period").columns.iter();
    let nulls = columns.filter(is_missing).map(|column| {
        let dtype = match column.kind {
            Kind::Money => crate::facts::money::summed(context.currency),
            _ => DataType::Int64,
        };
        lit(NULL).cast(dtype).alias(&column.name)
    });
    Ok(facts.with_columns(nulls.collect::<Vec<_>>()))
}
