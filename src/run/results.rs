//! The results of a run: as JSON for schedulers and people who ask what happened, and as rows of the tables `runs` and
//! `checks`.

use super::inputs::InputSummary;
use super::stages::{Cost, Stage};
use super::{Request, RunError};
use crate::config::Pipeline;
use crate::plan::PeriodPlan;
use crate::publish::{PublishError, PublishedUnit, UnitStatus, ledger};
use crate::storage::{Condition, StorageError, Store};
use chrono::{DateTime, Utc};
use polars::prelude::*;
use serde::{Deserialize, Serialize};

/// `<root>/_cskpi/runs/<run_id>/run_results.json`; written again after every period.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunResults {
    pub run_id: String,
    /// The run whose failed units this one takes up.
    pub retry_of: Option<String>,
    pub pipeline: String,
    pub version: String,
    pub status: RunStatus,
    pub as_of: DateTime<Utc>,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    pub periods: Vec<chrono::NaiveDate>,
    /// Tables that were asked for.
    pub tables: Vec<String>,
    pub inputs: Vec<InputSummary>,
    pub rows_rejected: u64,
    pub units: Vec<PublishedUnit>,
    pub notices: Vec<String>,
    /// In order.
    pub stages: Vec<Stage>,
    #[serde(default)]
    pub cost: Cost,
    /// The first thing that went wrong.
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    Running,
    Success,
    /// Some units were published, some were not.
    Partial,
    Failed,
    /// Ended by a signal, or by a crash.
    Interrupted,
    NothingToDo,
}

/// One line for a scheduler.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub run_id: String,
    pub status: &'static str,
    pub periods: usize,
    pub created: usize,
    pub replaced: usize,
    pub reused: usize,
    pub up_to_date: usize,
    pub failed: usize,
    pub not_attempted: usize,
    pub restated: usize,
    pub rows: usize,
    pub bytes: usize,
    pub seconds: f64,
    pub cost: Cost,
    pub stages: Vec<Stage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl RunStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Success => "success",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::NothingToDo => "nothing_to_do",
        }
    }
}

impl RunResults {
    /// Results of a run that has done nothing yet.
    pub fn begun(pipeline: &Pipeline, request: &Request) -> Self {
        Self {
            run_id: request.run_id.clone(),
            retry_of: request.retry_of.clone(),
            pipeline: pipeline.name.clone(),
            version: super::program(),
            status: RunStatus::Running,
            as_of: request.as_of,
            started_at: request.started_at,
            finished_at: None,
            periods: request
                .periods
                .iter()
                .map(|index| pipeline.calendar.start_of(*index))
                .collect(),
            tables: super::wanted_tables(pipeline, request)
                .into_iter()
                .map(str::to_owned)
                .collect(),
            inputs: Vec::new(),
            rows_rejected: 0,
            units: Vec::new(),
            notices: Vec::new(),
            stages: Vec::new(),
            cost: Cost::default(),
            error: None,
        }
    }

    pub fn key(run_id: &str) -> String {
        format!("_cskpi/runs/{run_id}/run_results.json")
    }

    pub fn write(&self, store: &dyn Store) -> Result<(), StorageError> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        store.put(&Self::key(&self.run_id), text.as_bytes(), Condition::Always)?;
        crate::fault::step("results_written");
        Ok(())
    }

    /// The results of an earlier run.
    pub fn read(store: &dyn Store, run_id: &str) -> Result<Self, RunError> {
        // The id becomes part of a path.
        let is_id = !run_id.is_empty()
            && run_id
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-');
        let found = if is_id {
            store.read(&Self::key(run_id)).map_err(PublishError::from)?
        } else {
            None
        };
        let (bytes, _) = found.ok_or_else(|| RunError::UnknownRun {
            run_id: run_id.to_owned(),
            place: store.shown("_cskpi/runs"),
        })?;
        serde_json::from_slice(&bytes).map_err(|source| RunError::DamagedResults {
            path: store.shown(&Self::key(run_id)),
            source,
        })
    }

    pub fn count(&self, status: UnitStatus) -> usize {
        self.units
            .iter()
            .filter(|unit| unit.status == status)
            .count()
    }

    pub fn summary(&self) -> Summary {
        let finished = self.finished_at.unwrap_or(self.started_at);
        Summary {
            run_id: self.run_id.clone(),
            status: self.status.as_str(),
            periods: self.periods.len(),
            created: self.count(UnitStatus::Created),
            replaced: self.count(UnitStatus::Replaced),
            reused: self.count(UnitStatus::Reused),
            up_to_date: self.count(UnitStatus::UpToDate),
            failed: self.count(UnitStatus::Failed),
            not_attempted: self.count(UnitStatus::NotAttempted),
            restated: self
                .units
                .iter()
                .filter(|unit| unit.table == "restatements" && unit.status == UnitStatus::Replaced)
                .count(),
            rows: self.units.iter().map(|unit| unit.rows).sum(),
            bytes: self.units.iter().map(|unit| unit.bytes).sum(),
            seconds: (finished - self.started_at).num_milliseconds() as f64 / 1000.0,
            cost: self.cost,
            stages: self.stages.clone(),
            error: self.error.clone(),
        }
    }

    /// Units of a period that were not computed.
    pub fn skip(&mut self, plan: &PeriodPlan) {
        self.units
            .extend(plan.units.iter().map(|unit| PublishedUnit {
                reason: String::new(),
                ..unit_of(plan, &unit.table, UnitStatus::UpToDate)
            }));
    }

    /// Says of every unit of a period that it is not there, and why.
    pub fn fail(&mut self, plan: &PeriodPlan, status: UnitStatus, reason: &str) {
        self.units.retain(|unit| unit.period != plan.period_start);
        self.units
            .extend(plan.units.iter().map(|unit| PublishedUnit {
                reason: reason.to_owned(),
                ..unit_of(plan, &unit.table, status)
            }));
    }

    /// Units of a period that were published, with the reason for which the plan chose them.
    pub fn publish(&mut self, plan: &PeriodPlan, units: Vec<PublishedUnit>) {
        self.units.retain(|unit| unit.period != plan.period_start);
        self.units.extend(units.into_iter().map(|unit| {
            let planned = plan
                .units
                .iter()
                .find(|planned| planned.table == unit.table);
            let reason = planned.map(|planned| match planned.reasons.is_empty() {
                true => planned.state.as_str().to_owned(),
                false => format!("{}: {}", planned.state.as_str(), planned.reasons.join("; ")),
            });
            PublishedUnit {
                reason: reason.unwrap_or_default(),
                ..unit
            }
        }));
    }

    /// What the units say of the run as a whole.
    pub fn conclude(&mut self, now: DateTime<Utc>) {
        let failed = self.count(UnitStatus::Failed) + self.count(UnitStatus::NotAttempted);
        let published = self.units.len() - failed - self.count(UnitStatus::UpToDate);
        self.status = match (failed, published) {
            (0, 0) if self.error.is_none() => RunStatus::NothingToDo,
            (0, _) if self.error.is_none() => RunStatus::Success,
            (_, 0) => RunStatus::Failed,
            _ => RunStatus::Partial,
        };
        self.finished_at = Some(now);
    }

    /// Puts the run into the tables `runs` and `checks`.
    pub fn record(&self, store: &dyn Store) -> Result<(), PublishError> {
        let encode = |source| PublishError::Encode {
            table: "runs".to_owned(),
            period: self.started_at.date_naive(),
            source,
        };
        let started_on = self.started_at.date_naive();
        ledger::record(
            store,
            "runs",
            &self.run_id,
            started_on,
            self.runs().map_err(encode)?,
        )?;
        ledger::record(
            store,
            "checks",
            &self.run_id,
            started_on,
            self.checks().map_err(encode)?,
        )?;
        crate::fault::step("ledger_written");
        Ok(())
    }

    fn runs(&self) -> PolarsResult<DataFrame> {
        let units: Vec<Option<&PublishedUnit>> = match self.units.is_empty() {
            true => vec![None],
            false => self.units.iter().map(Some).collect(),
        };
        let rows = units.len();
        let rows_in: i64 = self.inputs.iter().map(|input| input.rows as i64).sum();
        let instants = |of: &dyn Fn(&PublishedUnit) -> Option<DateTime<Utc>>| -> Vec<Option<chrono::NaiveDateTime>> {
            units.iter().map(|unit| unit.and_then(of).map(|at| at.naive_utc())).collect()
        };
        let hashes = |of: &dyn Fn(&PublishedUnit) -> Option<String>| -> Vec<Option<String>> {
            units.iter().map(|unit| unit.and_then(of)).collect()
        };
        let counts = |of: &dyn Fn(&PublishedUnit) -> i64| -> Vec<Option<i64>> {
            units.iter().map(|unit| unit.map(of)).collect()
        };
        df!(
            "run_id" => vec![self.run_id.as_str(); rows],
            "pipeline" => vec![self.pipeline.as_str(); rows],
            "program" => vec![self.version.as_str(); rows],
            "run_status" => vec![self.status.as_str(); rows],
            "retry_of" => vec![self.retry_of.as_deref(); rows],
            "as_of" => vec![self.as_of.naive_utc(); rows],
            "started_at" => vec![self.started_at.naive_utc(); rows],
            "finished_at" => vec![self.finished_at.map(|at| at.naive_utc()); rows],
            "unit_table" => units.iter().map(|unit| unit.map(|unit| unit.table.as_str())).collect::<Vec<_>>(),
            "unit_period" => units.iter().map(|unit| unit.map(|unit| unit.period)).collect::<Vec<_>>(),
            "unit_status" => units.iter().map(|unit| unit.map(|unit| unit.status.as_str())).collect::<Vec<_>>(),
            "reason" => units.iter().map(|unit| unit.map(|unit| unit.reason.as_str())).collect::<Vec<_>>(),
            "published_at" => instants(&|unit| unit.published_at),
            "seconds" => units.iter().map(|unit| unit.map(|unit| unit.seconds)).collect::<Vec<_>>(),
            "rows_out" => counts(&|unit| unit.rows as i64),
            "bytes" => counts(&|unit| unit.bytes as i64),
            "hash_before" => hashes(&|unit| unit.hash_before.clone()),
            "hash_after" => hashes(&|unit| unit.content_hash.clone()),
            "rows_in" => vec![rows_in; rows],
            "rows_rejected" => vec![self.rows_rejected as i64; rows],
        )
    }

    fn checks(&self) -> PolarsResult<DataFrame> {
        let numbered = |unit| (unit, 1i64..);
        let all: Vec<_> = self
            .units
            .iter()
            .map(numbered)
            .flat_map(|(unit, numbers): (&PublishedUnit, _)| {
                unit.checks
                    .iter()
                    .zip(numbers)
                    .map(move |(check, number)| (unit, number, check))
            })
            .collect();
        df!(
            "run_id" => vec![self.run_id.as_str(); all.len()],
            "unit_table" => all.iter().map(|(unit, ..)| unit.table.as_str()).collect::<Vec<_>>(),
            "unit_period" => all.iter().map(|(unit, ..)| unit.period).collect::<Vec<_>>(),
            "check_number" => all.iter().map(|(_, number, _)| *number).collect::<Vec<_>>(),
            "check_name" => all.iter().map(|(.., check)| check.name.as_str()).collect::<Vec<_>>(),
            "passed" => all.iter().map(|(.., check)| check.passed).collect::<Vec<_>>(),
            "detail" => all.iter().map(|(.., check)| check.detail.as_deref()).collect::<Vec<_>>(),
        )
    }
}

fn unit_of(plan: &PeriodPlan, table: &str, status: UnitStatus) -> PublishedUnit {
    PublishedUnit {
        table: table.to_owned(),
        period: plan.period_start,
        status,
        reason: String::new(),
        rows: 0,
        bytes: 0,
        hash_before: None,
        content_hash: None,
        seconds: 0.0,
        published_at: None,
        checks: Vec::new(),
    }
}
