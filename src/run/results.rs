//! The results of a run as JSON, for schedulers and for people who ask what happened.

use super::Outcome;
use crate::config::Pipeline;
use crate::publish::{PublishedUnit, UnitStatus};
use crate::run::inputs::InputSummary;
use crate::storage::{StorageError, Store};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// `<root>/_cskpi/runs/<run_id>/run_results.json`.
#[derive(Debug, Serialize)]
pub struct RunResults {
    pub run_id: String,
    pub pipeline: String,
    pub version: &'static str,
    pub status: &'static str,
    pub as_of: DateTime<Utc>,
    pub started_at: DateTime<Utc>,
    pub finished_at: DateTime<Utc>,
    pub periods: Vec<chrono::NaiveDate>,
    pub inputs: Vec<InputSummary>,
    pub units: Vec<PublishedUnit>,
    pub notices: Vec<String>,
    /// What went wrong; nothing was published then.
    pub error: Option<String>,
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
    pub rows: usize,
    pub bytes: usize,
    pub seconds: f64,
}

impl RunResults {
    /// Writes the results under the outputs' root.
    pub fn write(&self, pipeline: &Pipeline) -> Result<String, StorageError> {
        let key = format!("_cskpi/runs/{}/run_results.json", self.run_id);
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        let store = Store::new(&pipeline.outputs.root);
        store.write(&key, text.as_bytes())?;
        Ok(store.path(&key).display().to_string())
    }

    pub fn summary(&self) -> Summary {
        let count = |status| {
            self.units
                .iter()
                .filter(|unit| unit.status == status)
                .count()
        };
        Summary {
            run_id: self.run_id.clone(),
            status: self.status,
            periods: self.periods.len(),
            created: count(UnitStatus::Created),
            replaced: count(UnitStatus::Replaced),
            reused: count(UnitStatus::Reused),
            rows: self.units.iter().map(|unit| unit.rows).sum(),
            bytes: self.units.iter().map(|unit| unit.bytes).sum(),
            seconds: (self.finished_at - self.started_at).num_milliseconds() as f64 / 1000.0,
        }
    }

    /// Results of a run that went through.
    pub fn succeeded(mut self, outcome: Outcome) -> Self {
        self.status = "success";
        self.inputs = outcome.inputs;
        self.units = outcome.units;
        self.notices = outcome.notices;
        self
    }
}
