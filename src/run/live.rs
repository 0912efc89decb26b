//! A run that can be ended by a signal: the commit at hand is finished, results are written, the lock is given back.

use super::results::{RunResults, RunStatus};
use crate::publish::Session;
use chrono::{DateTime, Utc};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a signal needs to know of the run; empty before it has taken its lock and after it has given it back.
#[derive(Default)]
pub struct Live {
    run: Mutex<Option<(Arc<Session>, Arc<Mutex<RunResults>>)>>,
}

impl Live {
    pub(super) fn begin(&self, session: &Arc<Session>, results: &Arc<Mutex<RunResults>>) {
        *held(&self.run) = Some((Arc::clone(session), Arc::clone(results)));
    }

    pub(super) fn end(&self) {
        *held(&self.run) = None;
    }

    /// Ends the run in good order, and gives its results if it had begun. The process must exit after this: no commit will
    /// begin any more.
    pub fn interrupt(&self, now: DateTime<Utc>, reason: &str) -> Option<RunResults> {
        let run = held(&self.run);
        let (session, results) = run.as_ref()?;
        let gate = session.between_commits();
        let mut results = held(results).clone();
        results.status = RunStatus::Interrupted;
        results.finished_at = Some(now);
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
        std::mem::forget(gate);
        Some(results)
    }
}

pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
