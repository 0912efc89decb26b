//! A run that can be ended by a signal: the commit at hand is finished, results are written, the lock is given back.

use super::results::{RunResults, RunStatus};
use super::stages::{Cost, Stage, Stages};
use crate::publish::{PublishError, Session};
use chrono::{DateTime, Utc};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a signal needs to know of the run; empty before it has taken its lock and after it has given it back.
#[derive(Default)]
pub struct Live {
    pub(super) stages: Stages,
    run: Mutex<Option<Begun>>,
}

/// The run's session, and what it has come to so far.
type Begun = (Arc<Session>, Arc<Mutex<RunResults>>);

impl Live {
    /// Opens the run's session. A signal waits until it is open: from the moment in which it takes the lock, there is one to
    /// give back.
    pub(super) fn begin(
        &self,
        results: &Arc<Mutex<RunResults>>,
        open: impl FnOnce() -> Result<Session, PublishError>,
    ) -> Result<Arc<Session>, PublishError> {
        let mut run = held(&self.run);
        let session = Arc::new(open()?);
        *run = Some((Arc::clone(&session), Arc::clone(results)));
        Ok(session)
    }

    pub(super) fn end(&self) {
        *held(&self.run) = None;
        self.stages.end();
    }

    /// What the run's stages took and did so far.
    pub fn stages(&self) -> Vec<Stage> {
        self.stages.so_far()
    }

    /// Ends the run in good order. The process must exit after this: nothing will begin any more.
    pub fn interrupt(&self, now: DateTime<Utc>, cost: Cost, reason: &str) -> Option<RunResults> {
        let run = held(&self.run);
        let Some((session, results)) = &*run else {
            std::mem::forget(run);
            return None;
        };
        let gate = session.between_commits();
        if session.is_closed() {
            // It was done when the signal came.
            return None;
        }
        let mut results = held(results).clone();
        results.status = RunStatus::Interrupted;
        results.finished_at = Some(now);
        results.stages = self.stages.so_far();
        results.cost = cost;
        results.error = Some(reason.to_owned());
        let store = session.store.as_ref();
        if let Err(error) = results
            .write(store)
            .map_err(Into::into)
            .and_then(|()| results.record(store))
        {
            tracing::warn!("the results of the interrupted run could not be written: {error}");
        }
        if let Err(error) = session.close() {
            tracing::warn!(
                "the interrupted run could not be closed; the next one clears up after it: {error}"
            );
        }
        // The run's own thread goes on until the process ends; it must not commit.
        std::mem::forget(gate);
        Some(results)
    }
}

pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
