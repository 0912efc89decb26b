//! One run at a time publishes under a root. The lock is an object that is only ever written under a condition, so two runs
//! cannot both take it, and one that has lost it finds out before it can do harm.
//!
//! The lock also names the journal that is being committed: whoever takes the lock next knows what to finish, and a run
//! without the lock cannot begin to commit.

use crate::fault::step;
use crate::storage::{Condition, StorageError, Store, Version};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub const LOCK: &str = "_cskpi/lock.json";

/// What stands in the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockRecord {
    pub run_id: String,
    pub is_held: bool,
    /// The journal that must be finished before anything else is published.
    pub journal: Option<String>,
    /// Runs that ended without a word, whose results are still to be closed.
    #[serde(default)]
    pub unclosed: Vec<String>,
    /// The latest instant that a run has taken for now. A period that was closed by then stays closed, whatever instant a later
    /// run is given.
    #[serde(default)]
    pub latest_as_of: DateTime<Utc>,
    pub host: String,
    /// Boot, process namespace and id: where it can be seen whether the holder lives.
    pub process: Option<String>,
    pub since: DateTime<Utc>,
    pub expiry_seconds: u64,
    /// Grows with every heartbeat.
    pub beats: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(
        "run {} on {} holds the lock of {place} since {}",
        holder.run_id, holder.host, holder.since.format("%Y-%m-%d %H:%M:%S UTC")
    )]
    Held {
        place: String,
        holder: Box<LockRecord>,
        /// Until it may be taken over if its holder is dead.
        seconds_left: i64,
    },
    #[error("this run has lost its lock of {place}: another run took it over")]
    Lost { place: String },
    #[error("the lock {place} cannot be understood")]
    Damaged {
        place: String,
        source: serde_json::Error,
    },
    #[error("run {run_id} does not hold the lock of {place}{}", actual.as_ref().map_or(": nobody does".to_owned(), |id| format!("; {id} does")))]
    NotHolder {
        place: String,
        run_id: String,
        actual: Option<String>,
    },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A lock that is held, and kept alive by a thread of its own.
#[derive(Debug)]
pub struct Lock {
    held: Arc<Held>,
    heart: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Held {
    store: Arc<dyn Store>,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug)]
struct State {
    record: LockRecord,
    version: Version,
    is_lost: bool,
    is_over: bool,
}

/// Reads the lock as it stands.
pub fn read(store: &dyn Store) -> Result<Option<(LockRecord, Version)>, LockError> {
    let Some((bytes, version)) = store.read(LOCK)? else {
        return Ok(None);
    };
    let record = serde_json::from_slice(&bytes).map_err(|source| LockError::Damaged {
        place: store.shown(LOCK),
        source,
    })?;
    Ok(Some((record, version)))
}

impl Lock {
    /// Takes the lock: a free one, that of a process that has died, or one that has not been renewed for its expiry by the
    /// store's clock.
    pub fn take(
        store: &Arc<dyn Store>,
        run_id: &str,
        expiry: Duration,
        now: DateTime<Utc>,
        as_of: Option<DateTime<Utc>>,
    ) -> Result<Self, LockError> {
        let clock = store.probe(&format!("_cskpi/probe/{run_id}"))?;
        step("lock_probed");
        let found = read(store.as_ref())?;
        let mut record = LockRecord {
            run_id: run_id.to_owned(),
            is_held: true,
            journal: None,
            unclosed: Vec::new(),
            // An instant yet to come closes nothing for good.
            latest_as_of: as_of.map_or(DateTime::UNIX_EPOCH, |as_of| as_of.min(now)),
            host: host(),
            process: process(),
            since: now,
            expiry_seconds: expiry.as_secs(),
            beats: 0,
        };
        let before = match found {
            None => None,
            Some((old, version)) => {
                if old.is_held {
                    let expired = seconds_left(store.as_ref(), &old, clock)?;
                    if let (Some(seconds_left), false) = (expired, is_dead(&old)) {
                        return Err(LockError::Held {
                            place: store.shown(""),
                            holder: Box::new(old),
                            seconds_left,
                        });
                    }
                    tracing::warn!(
                        run_id = old.run_id,
                        host = old.host,
                        "a run died holding the lock; it is taken over"
                    );
                    record.unclosed.push(old.run_id.clone());
                }
                record.latest_as_of = record.latest_as_of.max(old.latest_as_of);
                record.journal = old.journal;
                record.unclosed.extend(old.unclosed);
                Some(version)
            }
        };
        let version = match store.put(LOCK, &json(&record), Condition::unchanged(before.as_ref())) {
            Ok(version) => version,
            Err(StorageError::Conflict { .. }) => return Err(faster(store.as_ref(), record)?),
            Err(error) => return Err(error.into()),
        };
        step("lock_taken");
        let held = Arc::new(Held {
            store: Arc::clone(store),
            state: Mutex::new(State {
                record,
                version,
                is_lost: false,
                is_over: false,
            }),
            wake: Condvar::new(),
        });
        let beating = Arc::clone(&held);
        let heart = std::thread::spawn(move || beating.beat(expiry / 3));
        Ok(Self {
            held,
            heart: Some(heart),
        })
    }

    /// The journal that a run before us began to commit.
    pub fn journal(&self) -> Option<String> {
        self.held.state().record.journal.clone()
    }

    /// The latest instant that a run has taken for now, this one included.
    pub fn latest_as_of(&self) -> DateTime<Utc> {
        self.held.state().record.latest_as_of
    }

    /// Runs that died, whose results are still to be closed.
    pub fn unclosed(&self) -> Vec<String> {
        self.held.state().record.unclosed.clone()
    }

    /// Names the journal that is committed from now on, or says that it is done. Fails if the lock is ours no longer: nothing
    /// may be committed then.
    pub fn set_journal(&self, journal: Option<String>) -> Result<(), LockError> {
        self.held.change(|record| record.journal = journal)
    }

    pub fn set_closed(&self) -> Result<(), LockError> {
        self.held.change(|record| record.unclosed.clear())
    }

    /// Asks the store whether the lock is still ours.
    pub fn confirm(&self) -> Result<(), LockError> {
        self.held.change(|record| record.beats += 1)
    }

    /// Gives the lock back. A journal that is not finished stays named in it.
    pub fn free(&mut self) -> Result<(), LockError> {
        let freed = self.held.change(|record| record.is_held = false);
        self.stop();
        freed
    }

    fn stop(&mut self) {
        self.held.state().is_over = true;
        self.held.wake.notify_all();
        if let Some(heart) = self.heart.take() {
            let _ = heart.join();
        }
    }
}

impl Drop for Lock {
    /// A run that an error has ended gives the lock back all the same; the next one closes its results.
    fn drop(&mut self) {
        let is_ours = {
            let state = self.held.state();
            state.record.is_held && !state.is_lost
        };
        if is_ours {
            let freed = self.held.change(|record| {
                record.is_held = false;
                record.unclosed.push(record.run_id.clone());
            });
            if let Err(error) = freed {
                tracing::warn!("the lock could not be given back: {error}");
            }
        }
        self.stop();
    }
}

impl Held {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self) -> LockError {
        LockError::Lost {
            place: self.store.shown(""),
        }
    }

    /// Writes a changed record, on the condition that the lock is as we left it.
    fn change(&self, change: impl FnOnce(&mut LockRecord)) -> Result<(), LockError> {
        self.write(&mut self.state(), change)
    }

    fn write(
        &self,
        state: &mut State,
        change: impl FnOnce(&mut LockRecord),
    ) -> Result<(), LockError> {
        if state.is_lost {
            return Err(self.lost());
        }
        let mut record = state.record.clone();
        change(&mut record);
        match self
            .store
            .put(LOCK, &json(&record), Condition::Matches(&state.version))
        {
            Ok(version) => {
                state.record = record;
                state.version = version;
                Ok(())
            }
            Err(StorageError::Conflict { .. }) => {
                state.is_lost = true;
                Err(self.lost())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Renews the lock until the run is over.
    fn beat(&self, every: Duration) {
        let mut state = self.state();
        loop {
            let waited = self.wake.wait_timeout(state, every);
            let (now, rest) = waited.unwrap_or_else(PoisonError::into_inner);
            state = now;
            if state.is_over || state.is_lost {
                return;
            }
            if !rest.timed_out() {
                continue;
            }
            match self.write(&mut state, |record| record.beats += 1) {
                Ok(()) => {}
                Err(LockError::Lost { .. }) => {
                    tracing::error!("the lock was taken over by another run");
                    return;
                }
                Err(error) => tracing::warn!("the lock could not be renewed: {error}"),
            }
        }
    }
}

/// Frees a lock whose holder is known to be gone. A journal that is not finished stays named in it.
pub fn unlock(store: &dyn Store, run_id: &str) -> Result<LockRecord, LockError> {
    let found = read(store)?;
    let (record, version) = match found {
        Some((record, version)) if record.is_held && record.run_id == run_id => (record, version),
        other => {
            return Err(LockError::NotHolder {
                place: store.shown(""),
                run_id: run_id.to_owned(),
                actual: other
                    .filter(|(record, _)| record.is_held)
                    .map(|(record, _)| record.run_id),
            });
        }
    };
    let mut freed = record.clone();
    freed.is_held = false;
    if !freed.unclosed.contains(&record.run_id) {
        freed.unclosed.push(record.run_id.clone());
    }
    store.put(LOCK, &json(&freed), Condition::Matches(&version))?;
    Ok(record)
}

/// Seconds until a lock expires by the store's clock; `None` once it has.
fn seconds_left(
    store: &dyn Store,
    record: &LockRecord,
    clock: DateTime<Utc>,
) -> Result<Option<i64>, LockError> {
    let renewed = store.entry(LOCK)?.map_or(clock, |entry| entry.modified);
    let expiry = i64::try_from(record.expiry_seconds).unwrap_or(i64::MAX);
    let left = expiry.saturating_sub((clock - renewed).num_seconds());
    Ok((left >= 0).then_some(left))
}

/// Another run took the lock between our look and our write.
fn faster(store: &dyn Store, ours: LockRecord) -> Result<LockError, LockError> {
    let holder = read(store)?.map_or(ours, |(record, _)| record);
    Ok(LockError::Held {
        place: store.shown(""),
        seconds_left: i64::try_from(holder.expiry_seconds).unwrap_or(i64::MAX),
        holder: Box::new(holder),
    })
}

/// Whether the holder was a process of this machine that is no more. Unknown is alive.
fn is_dead(record: &LockRecord) -> bool {
    let (Some(theirs), Some(ours)) = (&record.process, process()) else {
        return false;
    };
    let (Some((their_space, their_id)), Some((our_space, our_id))) =
        (theirs.rsplit_once('/'), ours.rsplit_once('/'))
    else {
        return false;
    };
    if their_space != our_space {
        return false;
    }
    // Our own number on a lock that we have not taken: an earlier process that had it.
    their_id == our_id || their_id.parse().is_ok_and(|id| !is_running(id))
}

#[cfg(unix)]
fn is_running(id: i32) -> bool {
    let Some(process) = rustix::process::Pid::from_raw(id) else {
        return false;
    };
    // A process of somebody else is refused, not absent.
    rustix::process::test_kill_process(process) != Err(rustix::io::Errno::SRCH)
}

#[cfg(not(unix))]
fn is_running(_: i32) -> bool {
    true
}

/// This process, in words that mean the same to every process which could look at it.
fn process() -> Option<String> {
    let read = |path: &str| {
        std::fs::read(path)
            .ok()
            .map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    let boot = read("/proc/sys/kernel/random/boot_id")?;
    let space = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{boot}/{}/{}", space.display(), std::process::id()))
}

fn host() -> String {
    let name = std::fs::read("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = String::from_utf8_lossy(&name).trim().to_owned();
    if name.is_empty() {
        "unknown host".to_owned()
    } else {
        name
    }
}

fn json(record: &LockRecord) -> Vec<u8> {
    serde_json::to_vec_pretty(record).unwrap_or_default()
}
