//! From a request to published periods: plan → compute in batches → publish period by period → results.

use super::live::{Live, held};
use super::results::{RunResults, RunStatus};
use super::stages::Accounted;
use super::walk::Walk;
use super::{Progress, Project, Request, RunError, inputs, wanted_tables};
use crate::columns::PERIOD;
use crate::contract;
use crate::fault::step;
use crate::period::{Period, PeriodRange};
use crate::plan::{self, PeriodPlan, Published, Wanted};
use crate::publish::lock::{self, LockError};
use crate::publish::manifest::{self, Manifests};
use crate::publish::{self, PublishError, Publisher, Session, Table, UnitStatus, Work, schema};
use crate::storage::{Entry, Store};
use chrono::{DateTime, Utc};
use inputs::usage_rollup::cache::UsageCache;
use inputs::{InputError, Listing};
use polars::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// What a run did, and the first thing that went wrong.
#[derive(Debug)]
pub struct Outcome {
    pub results: RunResults,
    pub failure: Option<RunError>,
}

/// What a run would do: listings only, nothing is opened, locked or written.
pub fn planned(
    project: &Project,
    request: &Request,
) -> Result<(Vec<PeriodPlan>, Listing), RunError> {
    let listing = inputs::listed(project.pipeline, project.storage)?;
    let store = project
        .storage
        .store(&project.pipeline.outputs.root)
        .map_err(PublishError::from)?;
    let lock = lock::read(store.as_ref()).map_err(PublishError::from)?;
    let known = Known {
        manifests: manifest::read_all(store.as_ref()).map_err(PublishError::from)?,
        files: publish::data_files(store.as_ref()).map_err(PublishError::from)?,
        latest_as_of: lock.map_or(request.as_of, |(record, _)| record.latest_as_of),
    };
    Ok((plans(project, request, &listing, &known), listing))
}

/// Computes and publishes what the request asks for and the plan finds wanting.
pub fn execute(
    project: &Project,
    request: &Request,
    live: &Live,
    progress: &dyn Progress,
) -> Result<Outcome, RunError> {
    let pipeline = project.pipeline;
    let progress = Accounted {
        stages: &live.stages,
        watcher: progress,
    };
    progress.stage("listing inputs");
    let listing = inputs::listed(pipeline, project.storage)?;
    progress.stage("opening outputs");
    let store = project
        .storage
        .store(&pipeline.outputs.root)
        .map_err(PublishError::from)?;
    let publisher = Publisher {
        run_id: request.run_id.clone(),
        compression: pipeline.outputs.compression,
        lock_expiry: pipeline.outputs.lock_expiry,
        as_of: Some(request.as_of),
        clock: request.clock,
    };
    let results = Arc::new(Mutex::new(RunResults::begun(pipeline, request)));
    let session = live.begin(&results, || Session::open(store, publisher))?;
    let run = Run {
        project,
        request,
        listing: &listing,
        session: &session,
        results: &results,
        cache: &UsageCache::opened(&session),
        progress: &progress,
    };
    let outcome = run.go();
    live.end();
    outcome
}

/// What is known of a root.
struct Known {
    manifests: Manifests,
    /// Data files by key.
    files: BTreeMap<String, Entry>,
    /// The latest instant that a run has taken for now: a period that was closed by then stays closed.
    latest_as_of: DateTime<Utc>,
}

fn plans(
    project: &Project,
    request: &Request,
    listing: &Listing,
    known: &Known,
) -> Vec<PeriodPlan> {
    let periods: Vec<Period> = request
        .periods
        .iter()
        .map(|index| project.pipeline.calendar.period(*index))
        .collect();
    let dimensions = project.dimensions();
    let range = PeriodRange {
        first: request.periods.iter().copied().min().unwrap_or(0),
        last: request.periods.iter().copied().max().unwrap_or(0),
    };
    let wanted = Wanted {
        tables: &wanted_tables(project.pipeline, request),
        shape: project.shape(&dimensions, range),
        basis: &|period, table| project.basis(listing, period, table, request.as_of),
        closing: &|period| project.closing(period, known.latest_as_of.max(request.as_of)),
    };
    let published = Published {
        manifests: &known.manifests,
        listing: &known.files,
    };
    plan::plan(&periods, &wanted, &published)
}

/// A run that holds its lock.
struct Run<'a> {
    project: &'a Project<'a>,
    request: &'a Request,
    listing: &'a Listing,
    session: &'a Arc<Session>,
    results: &'a Mutex<RunResults>,
    cache: &'a UsageCache,
    progress: &'a Accounted<'a>,
}

impl Run<'_> {
    fn go(&self) -> Result<Outcome, RunError> {
        self.close_the_dead()?;
        self.progress.stage("planning");
        let session = self.session;
        let known = Known {
            manifests: session.manifests(),
            files: session.listing(),
            latest_as_of: session.latest_as_of(),
        };
        let all = plans(self.project, self.request, self.listing, &known);
        let (chosen, rest): (Vec<PeriodPlan>, Vec<PeriodPlan>) = all
            .into_iter()
            .partition(|plan| plan.is_chosen(self.request.reprocess));
        rest.iter().for_each(|plan| held(self.results).skip(plan));
        {
            let _no_signal_now = session.uninterrupted();
            self.written()?;
        }
        step("results_begun");
        let failure = self.published(&chosen);
        let listed = self.listing.iter();
        let listed = listed.flat_map(|(table, files)| files.iter().map(move |file| (*table, file)));
        if let Err(error) = self.cache.finish(listed) {
            tracing::warn!("the cache of usage could not be cleared up: {error}");
        }
        self.progress.stage("writing results");
        // The root may be another run's by now.
        {
            let _no_signal_now = session.uninterrupted();
            if let Err(lost @ LockError::Lost { .. }) = session.confirm() {
                session.abandon();
                let lost = RunError::from(PublishError::from(lost));
                self.say_interrupted(&lost);
                return Err(lost);
            }
        }
        let _no_signal_now = session.between_commits();
        let results = {
            let mut results = held(self.results);
            results.error = failure
                .as_ref()
                .map(|failure| crate::failure::Failure::text_of(failure));
            results.stages = self.progress.stages.so_far();
            results.cost = (self.request.cost)();
            results.conclude((self.request.clock)());
            results.clone()
        };
        let store = session.store.as_ref();
        results.write(store).map_err(PublishError::from)?;
        results.record(store)?;
        session.close()?;
        Ok(Outcome { results, failure })
    }

    /// Publishes the chosen periods; gives the first failure.
    fn published(&self, chosen: &[PeriodPlan]) -> Option<RunError> {
        if chosen.is_empty() {
            return None;
        }
        let begun = self
            .checked_schema(chosen)
            .and_then(|()| self.begun(chosen));
        let mut walk = match begun {
            Ok(walk) => walk,
            Err(error) => return Some(self.failed(chosen.iter().collect(), Vec::new(), error)),
        };
        // What comes after a period that lacks a rate counts amounts that nobody can convert.
        let unrated = walk.unrated();
        let is_rated = |plan: &&PeriodPlan| match &unrated {
            Some((from, _)) => plan.index < *from,
            None => true,
        };
        let (rated, rateless): (Vec<&PeriodPlan>, Vec<&PeriodPlan>) =
            chosen.iter().partition(is_rated);
        let mut first = None;
        for step in walk.steps(self.request.batch_size) {
            let (now, later): (Vec<&PeriodPlan>, Vec<&PeriodPlan>) = rated
                .iter()
                .filter(|plan| plan.index >= step.first)
                .partition(|plan| plan.index <= step.last);
            if now.is_empty() && later.is_empty() {
                break;
            }
            let published = (!now.is_empty()).then(|| range_of(now.iter().copied()));
            let tables = match walk.step(step, published) {
                Ok(tables) => tables,
                // The next step needs this one.
                Err(error) => {
                    let (failed, rest) = match now.is_empty() {
                        true => (later, now),
                        false => (now, later),
                    };
                    return Some(first.unwrap_or(self.failed(failed, rest, error)));
                }
            };
            for (at, plan) in now.iter().enumerate() {
                let Err(error) = self.publish(plan, &tables) else {
                    continue;
                };
                let ends_run = matches!(&error, RunError::Publish(error) if error.ends_run());
                let rest = match ends_run {
                    true => now[at + 1..].iter().chain(&later).copied().collect(),
                    false => Vec::new(),
                };
                let error = self.failed(vec![plan], rest, error);
                if ends_run {
                    return Some(error);
                }
                first.get_or_insert(error);
            }
        }
        if let Some((_, error)) = unrated.filter(|_| !rateless.is_empty()) {
            let error = self.failed(rateless, Vec::new(), error);
            first.get_or_insert(error);
        }
        first
    }

    /// Types that differ from what stays published are refused before anything is computed.
    fn checked_schema(&self, chosen: &[PeriodPlan]) -> Result<(), RunError> {
        let dimensions = self.project.dimensions();
        let range = range_of(chosen.iter());
        let written: BTreeSet<_> = chosen.iter().map(|plan| plan.period_start).collect();
        let manifests = self.session.manifests();
        for table in wanted_tables(self.project.pipeline, self.request) {
            schema::check(
                &manifests,
                contract::of(table),
                self.project.shape(&dimensions, range),
                &written,
            )
            .map_err(PublishError::from)?;
        }
        Ok(())
    }

    /// Reads the inputs.
    fn begun(&self, chosen: &[PeriodPlan]) -> Result<Walk<'_>, RunError> {
        let published = range_of(chosen.iter());
        let last = self.project.pipeline.calendar.period(published.last);
        let files = inputs::to_read(self.listing, &last);
        let walk = Walk::begun(
            self.project,
            self.request,
            published,
            &files,
            self.cache,
            self.progress,
        )?;
        // What was planned, read and fingerprinted must be one and the same.
        let now = inputs::listed(self.project.pipeline, self.project.storage)?;
        let changes = self.moved(&now, &last);
        if !changes.is_empty() {
            return Err(InputError::Moved { changes }.into());
        }
        let mut results = held(self.results);
        results.inputs = walk.inputs().to_vec();
        results.notices = walk.notices();
        Ok(walk)
    }

    fn moved(&self, now: &Listing, last: &Period) -> Vec<String> {
        let basis = |listing: &Listing| {
            self.project
                .basis(listing, last, "kpi_values", self.request.as_of)
        };
        publish::input_changes(&basis(self.listing), &basis(now))
    }

    fn publish(&self, plan: &PeriodPlan, tables: &[Table]) -> Result<(), RunError> {
        let pipeline = self.project.pipeline;
        let period = pipeline.calendar.period(plan.index);
        self.progress.stage(&format!(
            "publishing {}",
            pipeline.calendar.label(plan.index)
        ));
        let split = |table: &Table| Ok((table.contract, of_period(&table.rows, plan.index)?));
        let tables = tables.iter().map(split).collect::<PolarsResult<Vec<_>>>();
        let tables = tables.map_err(|source| RunError::Compute {
            stage: "splitting the tables by period",
            source,
        })?;
        let dimensions = self.project.dimensions();
        let range = PeriodRange {
            first: plan.index,
            last: plan.index,
        };
        let mut published = self.session.publish(Work {
            period: &period,
            tables,
            basis: &|table| {
                self.project
                    .basis(self.listing, &period, table, self.request.as_of)
            },
            shape: self.project.shape(&dimensions, range),
            closing: self
                .project
                .closing(&period, self.session.latest_as_of().max(self.request.as_of)),
        })?;
        let units = std::mem::take(&mut published.units);
        for unit in units.iter().filter(|unit| unit.status.is_written()) {
            self.progress.advance(unit.rows as u64, unit.bytes as u64);
        }
        held(self.results).publish(plan, units);
        self.written()
    }

    /// Says in the results, and in the manifests, what was not published and why.
    fn failed(
        &self,
        failed: Vec<&PeriodPlan>,
        not_attempted: Vec<&PeriodPlan>,
        error: RunError,
    ) -> RunError {
        let reason = crate::failure::Failure::text_of(&error);
        let mut results = held(self.results);
        for plan in &failed {
            results.fail(plan, UnitStatus::Failed, &reason);
            if let RunError::Publish(PublishError::Audit { table, checks, .. }) = &error {
                let unit = results
                    .units
                    .iter_mut()
                    .find(|unit| unit.period == plan.period_start && unit.table == *table);
                if let Some(unit) = unit {
                    unit.checks = checks.clone();
                }
            }
        }
        if let RunError::Input(InputError::Violations { found }) = &error {
            results.rows_rejected = found.iter().map(|violation| violation.rows).sum();
        }
        for plan in not_attempted {
            results.fail(
                plan,
                UnitStatus::NotAttempted,
                "the run ended before its turn",
            );
        }
        drop(results);
        if matches!(&error, RunError::Publish(PublishError::Lock(_))) {
            return error;
        }
        for plan in failed {
            let period = self.project.pipeline.calendar.period(plan.index);
            if let Err(error) = self.session.record_failure(&period, &reason) {
                tracing::warn!(
                    "the failure of {} could not be recorded: {error}",
                    plan.period_start
                );
            }
        }
        let _no_signal_now = self.session.uninterrupted();
        let _ = self.written();
        error
    }

    /// Runs that died said nothing at their end; this is said for them.
    fn close_the_dead(&self) -> Result<(), RunError> {
        let _no_signal_now = self.session.uninterrupted();
        let store = self.session.store.as_ref();
        for run_id in self.session.unclosed() {
            match RunResults::read(store, &run_id) {
                Ok(mut results) if results.finished_at.is_none() => {
                    results.status = RunStatus::Interrupted;
                    results.error = Some(format!(
                        "the run died; {} cleared up after it",
                        self.request.run_id
                    ));
                    results.write(store).map_err(PublishError::from)?;
                    results.record(store)?;
                }
                Ok(results) => results.record(store)?,
                // It died before it had begun.
                Err(RunError::UnknownRun { .. }) => {}
                Err(error) => tracing::warn!("the results of run {run_id} are lost: {error}"),
            }
        }
        Ok(self.session.set_closed().map_err(PublishError::from)?)
    }

    /// The run that took the lock over says so, too; but what stands there may be of us since.
    fn say_interrupted(&self, why: &RunError) {
        let mut results = held(self.results);
        results.status = RunStatus::Interrupted;
        results.error = Some(crate::failure::Failure::text_of(why));
        results.finished_at = Some((self.request.clock)());
        drop(results);
        if let Err(error) = self.written() {
            tracing::warn!("the results could not be written: {error}");
        }
    }

    fn written(&self) -> Result<(), RunError> {
        let mut results = held(self.results).clone();
        results.stages = self.progress.stages.so_far();
        results.cost = (self.request.cost)();
        let store: &dyn Store = self.session.store.as_ref();
        Ok(results.write(store).map_err(PublishError::from)?)
    }
}

fn range_of<'a>(plans: impl Iterator<Item = &'a PeriodPlan> + Clone) -> PeriodRange {
    let indices = || plans.clone().map(|plan| plan.index);
    PeriodRange {
        first: indices().min().unwrap_or(0),
        last: indices().max().unwrap_or(0),
    }
}

/// The rows of a period, which are sorted by it.
fn of_period(rows: &DataFrame, index: i32) -> PolarsResult<DataFrame> {
    let periods = rows.column(PERIOD)?.i32()?;
    let before = periods.lt(index).num_trues();
    let own = periods.equal(index).num_trues();
    rows.slice(before as i64, own).drop(PERIOD)
}
