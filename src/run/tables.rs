//! Model and scores → the tables that a request publishes.

use super::scores::Scored;
use super::{Progress, collected, part};
use crate::account_period::{Details, periods};
use crate::columns::*;
use crate::config::Pipeline;
use crate::config::{Estimator, Policy};
use crate::contract;
use crate::facts::{Context, Inputs};
use crate::marts::{self, Shape};
use crate::metrics::aggregate::{Available, Estimate, evaluated};
use crate::metrics::catalogue::Catalogue;
use crate::metrics::{bootstrap, breakdown, cohort, drivers, interval, survival, target};
use crate::publish::Table;
use crate::segments::rfm;
use chrono::{DateTime, Utc};
use polars::prelude::*;
use tracing::{debug_span, field};

/// All that tables are made of.
pub(super) struct Ingredients<'a> {
    pub pipeline: &'a Pipeline,
    pub catalogue: &'a Catalogue,
    pub inputs: &'a Inputs,
    /// The ledger by account and product.
    pub products: &'a LazyFrame,
    /// Facts below the account.
    pub details: &'a Details,
    pub scored: &'a Scored,
    pub shape: Shape<'a>,
    pub context: Context<'a>,
    pub as_of: DateTime<Utc>,
}

/// The wanted tables, each with the rows of all published periods.
pub(super) fn tables(
    from: &Ingredients,
    wanted: &[&'static str],
    progress: &dyn Progress,
) -> PolarsResult<Vec<Table>> {
    let all_periods = periods(from.context, from.as_of)?;
    let needs_kpis = wanted.iter().any(|table| table.starts_with("kpi_"));
    let needs_exits = wanted.contains(&"survival")
        || (needs_kpis && from.catalogue.needs(Estimator::ExpectedLifetime));
    let exits = if needs_exits {
        part("exits", || exits(from))?
    } else {
        LazyFrame::default()
    };
    let kpis = if needs_kpis {
        let kpis = || collected(kpis(from, &exits)?);
        part("kpis", kpis)?.lazy()
    } else {
        LazyFrame::default()
    };
    let table = |name: &&'static str| {
        let span = debug_span!("table", name, rows = field::Empty).entered();
        let frame = frame(from, name, &kpis, &exits, &all_periods)?;
        let conformed = marts::conformed(frame, all_periods.clone(), name, from.shape);
        let rows = collected(conformed)?;
        span.record("rows", rows.height());
        progress.advance(rows.height() as u64, 0);
        Ok(Table {
            contract: contract::of(name),
            rows,
        })
    };
    wanted.iter().map(table).collect()
}

/// What metrics may need.
pub(super) fn available(inputs: &Inputs, policy: &Policy) -> Available {
    Available::of(inputs.mapped.clone(), inputs.features.is_some(), policy)
}

/// The catalogue evaluated for the total, every dimension and every cohort.
fn kpis(from: &Ingredients, exits: &LazyFrame) -> PolarsResult<LazyFrame> {
    let groupings = marts::groupings(from.pipeline);
    let accounts = from.scored.accounts.clone();
    let mut estimates = Vec::new();
    if from.catalogue.needs(Estimator::ExpectedLifetime) {
        let lifetimes = survival::expected_lifetimes(exits.clone(), from.context);
        let names = (["expected_lifetime", "subjects"], ["value", "sample_size"]);
        estimates.push(Estimate {
            by: Estimator::ExpectedLifetime,
            rows: collected(lifetimes.rename(names.0, names.1, true))?.lazy(),
        });
    }
    if let Some(durations) = &from.details.onboardings
        && from.catalogue.needs(Estimator::OnboardingDays)
    {
        let rows = breakdown::in_groups(durations.clone(), &accounts, &groupings, &[]);
        let columns = [PERIOD, DIMENSION, MEMBER, "days", "is_completed"].map(col);
        let rows: Vec<LazyFrame> = rows.map(|rows| rows.select(columns.clone())).collect();
        let medians = survival::median_days(concat(rows, UnionArgs::default())?);
        estimates.push(Estimate {
            by: Estimator::OnboardingDays,
            rows: collected(medians)?.lazy(),
        });
    }
    let available = available(from.inputs, from.context.policy);
    let (catalogue, context) = (from.catalogue, from.context);
    let drawn = bootstrap::bounds(
        accounts.clone(),
        &groupings,
        catalogue,
        &available,
        context,
        from.shape.published,
    )?;
    let values = evaluated(
        accounts, &groupings, catalogue, &estimates, &available, context,
    )?;
    interval::with_intervals(values, drawn, catalogue, &available, context)
}

/// Who left and who stayed, for the survival table and the lifetimes that metrics rest on.
fn exits(from: &Ingredients) -> PolarsResult<LazyFrame> {
    let calendar = from.context.calendar;
    let begin = calendar.index_of(calendar.begin);
    let mut range = from.shape.published;
    if from.catalogue.looks_back() {
        range.first = begin.min(range.first);
    }
    let exits = survival::exits(
        from.scored.accounts.clone(),
        &marts::groupings(from.pipeline),
        &from.inputs.account_map,
        begin,
        range,
    )?;
    Ok(collected(exits)?.lazy())
}

fn frame(
    from: &Ingredients,
    table: &str,
    kpis: &LazyFrame,
    exits: &LazyFrame,
    all_periods: &LazyFrame,
) -> PolarsResult<LazyFrame> {
    let accounts = || from.scored.accounts.clone();
    let published = from.shape.published;
    match table {
        "kpi_values" => marts::kpi_values(kpis.clone(), from.catalogue, from.context.policy),
        "kpi_summary" => Ok(marts::kpi_summary(kpis.clone(), from.catalogue)),
        "kpi_breakdown" => breakdown::breakdown(
            accounts(),
            from.details,
            &marts::groupings(from.pipeline),
            kpis.clone(),
            from.catalogue,
            &available(from.inputs, from.context.policy),
            from.context,
        )
        .map(|rows| marts::kpi_breakdown(rows, from.context.policy)),
        "time_spent" => breakdown::time_spent(from.details, accounts()),
        "kpi_attainment" => target::kpi_attainment(
            kpis.clone(),
            from.inputs.targets.clone().unwrap_or_default(),
            from.catalogue,
            from.context.policy.at_risk_within,
            published,
        ),
        "kpi_drivers" => kpi_drivers(from, kpis.clone()),
        "mrr_movements" => {
            let groupings = marts::groupings(from.pipeline);
            let map = &from.inputs.account_map;
            marts::mrr_movements(
                accounts(),
                from.products.clone(),
                &groupings,
                map,
                from.context,
            )
        }
        "cohort_retention" => {
            let begin = from
                .pipeline
                .calendar
                .index_of(from.pipeline.calendar.begin);
            let has_revenue = from.inputs.invoice_lines.is_some();
            let map = &from.inputs.account_map;
            let triangle = cohort::cohort_retention(
                accounts(),
                map,
                begin,
                published,
                has_revenue,
                from.context,
            )?;
            Ok(marts::with_cohort_start(triangle, all_periods.clone()))
        }
        "survival" => {
            let is_published = col(PERIOD).gt_eq(lit(published.first));
            Ok(survival::survival(
                exits.clone().filter(is_published),
                from.context,
            ))
        }
        "account_period" => Ok(marts::account_period(accounts(), from.shape.dimensions)),
        "rfm_scores" => Ok(from.scored.rfm.clone().unwrap_or_default()),
        "rfm_boundaries" => match (&from.scored.rfm, &from.pipeline.rfm) {
            (Some(scores), Some(rules)) => rfm::rfm_boundaries(scores.clone(), rules),
            _ => Ok(LazyFrame::default()),
        },
        "touch_segments" => Ok(from.scored.touch.clone().unwrap_or_default()),
        "metric_dictionary" => marts::metric_dictionary(from.catalogue, published),
        unknown => polars_bail!(ComputeError: "no table `{unknown}` can be built"),
    }
}

fn kpi_drivers(from: &Ingredients, kpis: LazyFrame) -> PolarsResult<LazyFrame> {
    let groupings = marts::groupings(from.pipeline);
    let calendar = from.context.calendar;
    let published = from.shape.published;
    match drivers::compared(kpis, &groupings, from.catalogue, calendar, published)? {
        Some(compared) => drivers::kpi_drivers(collected(compared)?.lazy(), from.catalogue),
        None => Ok(marts::no_rows("kpi_drivers", from.shape)),
    }
}
