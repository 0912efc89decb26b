//! Model and scores → the tables that a request publishes.

use super::past::Past;
use super::scores::Scored;
use super::{Progress, collected, part};
use crate::account_period::{Details, periods};
use crate::columns::*;
use crate::config::{Calendar, Estimator, Pipeline, Policy};
use crate::contract;
use crate::facts::{Context, Inputs};
use crate::marts::{self, Shape};
use crate::metrics::aggregate::{Available, Estimate, Grouping, evaluated, sums};
use crate::metrics::bootstrap::{self, Bootstrap, reach as reach_of_metrics};
use crate::metrics::catalogue::{Catalogue, Metric};
use crate::metrics::{breakdown, cohort, drivers, interval, survival, target};
use crate::period::PeriodRange;
use crate::publish::Table;
use crate::segments::rfm;
use chrono::{DateTime, Utc};
use polars::prelude::*;
use tracing::{debug_span, field};

/// All that tables are made of: a step of the run, and what is known of the periods before it.
pub(super) struct Ingredients<'a> {
    pub pipeline: &'a Pipeline,
    pub catalogue: &'a Catalogue,
    pub inputs: &'a Inputs,
    /// The ledger by account and product.
    pub products: &'a LazyFrame,
    /// Facts below the account.
    pub details: &'a Details,
    pub scored: &'a Scored,
    /// The periods of the step.
    pub context: Context<'a>,
    pub as_of: DateTime<Utc>,
    /// The first period that the run publishes.
    pub first_published: i32,
}

/// What a step adds to the past, together with it.
#[derive(Default)]
struct Known {
    survival: LazyFrame,
    lifetimes: LazyFrame,
    estimates: Vec<Estimate>,
    sums: LazyFrame,
    draws: Option<LazyFrame>,
    ledger: LazyFrame,
    closings: LazyFrame,
    changes: LazyFrame,
    cohorts: LazyFrame,
    merged: Option<LazyFrame>,
}

/// The wanted tables of the periods that `shape` names, if it does; `past` learns of the step.
pub(super) fn tables(
    from: &Ingredients,
    past: &mut Past,
    wanted: &[&'static str],
    shape: Option<Shape>,
    progress: &dyn Progress,
) -> PolarsResult<Vec<Table>> {
    let known = learnt(from, past, wanted)?;
    let Some(shape) = shape else {
        return Ok(Vec::new());
    };
    let all_periods = periods(from.context, from.as_of)?.lazy();
    let kpis = match needs_kpis(wanted) {
        true => part("kpis", || collected(kpis(from, &known, shape)?))?.lazy(),
        false => LazyFrame::default(),
    };
    let table = |name: &&'static str| {
        let frame = frame(from, name, &kpis, &known, shape)?;
        let conformed = marts::conformed(frame, all_periods.clone(), name, shape);
        let span = debug_span!("table", name, rows = field::Empty).entered();
        let rows = sorted(collected(conformed)?, marts::order(name))?;
        span.record("rows", rows.height());
        progress.advance(rows.height() as u64, 0);
        Ok(Table {
            contract: contract::of(name),
            rows,
        })
    };
    wanted.iter().map(table).collect()
}

/// The rows in order. They are the widest there are, and often have it already: then none is copied.
fn sorted(rows: DataFrame, by: Vec<&str>) -> PolarsResult<DataFrame> {
    let by: Vec<Expr> = by.into_iter().map(col).collect();
    let options = SortMultipleOptions::default()
        .with_nulls_last(false)
        .with_maintain_order(true);
    let order = rows.clone().lazy().select([arg_sort_by(by, options)]);
    let order = collected(order)?;
    let order = order.columns()[0].idx()?;
    match (0..)
        .zip(order.iter())
        .all(|(place, row)| row == Some(place))
    {
        true => Ok(rows),
        false => rows.take(order),
    }
}

fn needs_kpis(wanted: &[&str]) -> bool {
    wanted.iter().any(|table| table.starts_with("kpi_"))
}

fn needs_exits(wanted: &[&str], catalogue: &Catalogue) -> bool {
    let by_kpis = needs_kpis(wanted) && catalogue.needs(Estimator::ExpectedLifetime);
    wanted.contains(&"survival") || by_kpis
}

/// How many periods before its own the tables of a period rest on, beside those that their members rest on; `None` for all.
pub(super) fn reach(catalogue: &Catalogue, wanted: &[&str], calendar: &Calendar) -> Option<i32> {
    if needs_exits(wanted, catalogue) {
        return None;
    }
    let kpis = match needs_kpis(wanted) {
        true => reach_of_kpis(catalogue, wanted, calendar),
        false => 0,
    };
    Some(kpis.max(i32::from(wanted.contains(&"mrr_movements"))))
}

/// How many periods before its own the KPIs of a period rest on, or are compared with.
fn reach_of_kpis(catalogue: &Catalogue, wanted: &[&str], calendar: &Calendar) -> i32 {
    let compared = match wanted.contains(&"kpi_drivers") {
        true => calendar.grain.periods_per_year(),
        false => 0,
    };
    reach_of_values(catalogue, calendar) + compared
}

/// The same without what is only compared. Nothing that survival gives is.
fn reach_of_values(catalogue: &Catalogue, calendar: &Calendar) -> i32 {
    let metrics: Vec<&Metric> = catalogue.metrics().collect();
    reach_of_metrics(&metrics, calendar)
}

/// What metrics may need.
pub(super) fn available(inputs: &Inputs, policy: &Policy) -> Available {
    Available::of(inputs.mapped.clone(), inputs.features.is_some(), policy)
}

/// Adds to `past` what later steps need of this one.
fn learnt(from: &Ingredients, past: &mut Past, wanted: &[&str]) -> PolarsResult<Known> {
    let mut known = Known::default();
    let PeriodRange { first, last } = from.context.range;
    let calendar = from.context.calendar;
    let begin = calendar.index_of(calendar.begin);
    let groupings = marts::groupings(from.pipeline);
    let map = &from.inputs.account_map;
    let accounts = || from.scored.accounts.clone();
    let reach = reach_of_kpis(from.catalogue, wanted, calendar);
    // Before these, no group is looked at.
    let since = (from.first_published - reach).max(first);
    let of_groups = accounts().filter(col(PERIOD).gt_eq(lit(since)));
    // And of these, nothing is forgotten before a later step has looked at it.
    let forgotten = last + 1 - reach;

    if needs_exits(wanted, from.catalogue) {
        let reach = reach_of_values(from.catalogue, calendar);
        let range = PeriodRange {
            first: (from.first_published - reach).max(first).max(begin),
            last,
        };
        let earlier = past.subjects.rows();
        let exits = survival::exits(accounts(), earlier, &groupings, map, begin, range)?;
        let exits = part("exits", || collected(exits))?;
        let kept = survival::kept(accounts(), &groupings, map);
        past.subjects.add(collected(kept)?)?;
        let curves = survival::survival(exits.lazy(), from.context);
        known.survival = part("survival curves", || collected(curves))?.lazy();
        let lifetimes = collected(survival::lifetimes(known.survival.clone()))?;
        known.lifetimes = past.lifetimes.before(lifetimes.clone().lazy())?;
        past.lifetimes.add_since(lifetimes, last + 1 - reach)?;
    }
    if needs_kpis(wanted) {
        let available = available(from.inputs, from.context.policy);
        let sums = sums(
            &of_groups,
            &groupings,
            from.catalogue,
            &available,
            from.context,
        )?;
        let sums = part("sums of groups", || collected(sums))?;
        known.sums = past.sums.before(sums.clone().lazy())?;
        past.sums.add_since(sums, forgotten)?;
        if let Some(bootstrap) = Bootstrap::of(from.catalogue, &available, from.context) {
            let is_drawn = col(PERIOD).gt_eq(lit(from.first_published - bootstrap.reach()));
            let draws = bootstrap.sums(accounts().filter(is_drawn), &groupings)?;
            let draws = part("draws", || collected(draws))?;
            let all = past.draws.before(draws.clone().lazy())?;
            known.draws = Some(match past.draws.rows() {
                Some(_) => all.sort(bootstrap::KEY, SortMultipleOptions::default()),
                None => all,
            });
            past.draws.add_since(draws, last + 1 - bootstrap.reach())?;
        }
        known.estimates = estimates(from, past, &known.lifetimes, &groupings, forgotten)?;
    }
    if wanted.contains(&"mrr_movements") {
        let ledger = marts::ledger(from.products.clone(), &accounts(), &groupings);
        known.ledger = part("ledger by member", || collected(ledger))?.lazy();
        let closings = marts::closings(known.ledger.clone(), &groupings, from.context);
        let closings = part("closings", || collected(closings))?;
        known.closings = past.closings.before(closings.clone().lazy())?;
        past.closings.add_since(closings, last)?;
        let changes = marts::changes(
            known.closings.clone(),
            &accounts(),
            &groupings,
            map,
            from.context,
        );
        known.changes = part("changes of member", || collected(changes))?.lazy();
    }
    if wanted.contains(&"cohort_retention") {
        let seen = cohort::seen(accounts(), map, from.context);
        let seen = part("cohorts", || collected(seen))?;
        past.cohorts.add(seen)?;
        known.cohorts = past.cohorts.all();
        if let Some(merged) = cohort::merged(accounts(), map) {
            past.merged.add(collected(merged)?)?;
            known.merged = Some(past.merged.all());
        }
    }
    Ok(known)
}

/// What routines make of the catalogue.
fn estimates(
    from: &Ingredients,
    past: &mut Past,
    lifetimes: &LazyFrame,
    groupings: &[Grouping],
    forgotten: i32,
) -> PolarsResult<Vec<Estimate>> {
    let mut estimates = Vec::new();
    if from.catalogue.needs(Estimator::ExpectedLifetime) {
        estimates.push(Estimate {
            by: Estimator::ExpectedLifetime,
            rows: lifetimes.clone(),
        });
    }
    if let Some(durations) = &from.details.onboardings
        && from.catalogue.needs(Estimator::OnboardingDays)
    {
        let accounts = &from.scored.accounts;
        let rows = breakdown::in_groups(durations.clone(), accounts, groupings, &[]);
        let columns = [PERIOD, DIMENSION, MEMBER, "days", "is_completed"].map(col);
        let rows: Vec<LazyFrame> = rows.map(|rows| rows.select(columns.clone())).collect();
        let medians = survival::median_days(concat(rows, UnionArgs::default())?);
        let medians = collected(medians)?;
        estimates.push(Estimate {
            by: Estimator::OnboardingDays,
            rows: past.onboarding_days.before(medians.clone().lazy())?,
        });
        past.onboarding_days.add_since(medians, forgotten)?;
    }
    Ok(estimates)
}

/// The catalogue evaluated for the total, every dimension and every cohort.
fn kpis(from: &Ingredients, known: &Known, shape: Shape) -> PolarsResult<LazyFrame> {
    let available = available(from.inputs, from.context.policy);
    let (catalogue, context) = (from.catalogue, from.context);
    let drawn = match (&known.draws, Bootstrap::of(catalogue, &available, context)) {
        (Some(draws), Some(bootstrap)) => Some(bootstrap.bounds(draws.clone(), shape.published)?),
        _ => None,
    };
    let values = evaluated(
        known.sums.clone(),
        catalogue,
        &known.estimates,
        &available,
        context,
    )?;
    interval::with_intervals(values, drawn, catalogue, &available, context)
}

fn frame(
    from: &Ingredients,
    table: &str,
    kpis: &LazyFrame,
    known: &Known,
    shape: Shape,
) -> PolarsResult<LazyFrame> {
    let accounts = || from.scored.accounts.clone();
    let published = shape.published;
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
        "kpi_drivers" => kpi_drivers(from, kpis.clone(), shape),
        "mrr_movements" => marts::mrr_movements(
            known.ledger.clone(),
            known.closings.clone(),
            known.changes.clone(),
            &marts::groupings(from.pipeline),
            from.context,
        ),
        "cohort_retention" => {
            let begin = from
                .pipeline
                .calendar
                .index_of(from.pipeline.calendar.begin);
            let triangle = cohort::cohort_retention(
                known.cohorts.clone(),
                known.merged.clone(),
                &from.inputs.account_map,
                begin,
                published,
                from.inputs.invoice_lines.is_some(),
                from.context,
            )?;
            let range = PeriodRange {
                first: begin.min(published.first),
                last: published.last,
            };
            let context = Context {
                range,
                ..from.context
            };
            Ok(marts::with_cohort_start(
                triangle,
                periods(context, from.as_of)?.lazy(),
            ))
        }
        "survival" => {
            let PeriodRange { first, last } = published;
            let is_published = col(PERIOD).is_between(lit(first), lit(last), ClosedInterval::Both);
            Ok(known.survival.clone().filter(is_published))
        }
        "account_period" => Ok(marts::account_period(accounts(), shape.dimensions)),
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

fn kpi_drivers(from: &Ingredients, kpis: LazyFrame, shape: Shape) -> PolarsResult<LazyFrame> {
    let groupings = marts::groupings(from.pipeline);
    let calendar = from.context.calendar;
    let published = shape.published;
    match drivers::compared(kpis, &groupings, from.catalogue, calendar, published)? {
        Some(compared) => drivers::kpi_drivers(collected(compared)?.lazy(), from.catalogue),
        None => Ok(marts::no_rows("kpi_drivers", shape)),
    }
}
