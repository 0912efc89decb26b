//! Publishes tables, period by period, so that readers see the old files or the new ones and no crash can leave a third state.
//!
//! A [`Session`] holds the root's lock. For each period: encode → compare with what is published → stage what differs → audit
//! it as it lies there → journal → commit → manifest. What a dead run left is finished or cleared when the next session opens.
//! A file whose bytes are those already published is left alone.

mod audit;
mod candidate;
pub mod encode;
pub mod journal;
pub mod ledger;
pub mod lock;
pub mod manifest;
mod restate;
pub mod schema;
mod session;
pub mod upkeep;

use crate::config::Compression;
use crate::contract::{self, Contract};
use crate::marts::Shape;
use crate::period::Period;
use crate::storage::{Entry, StorageError, Store};
use chrono::{DateTime, NaiveDate, Utc};
use lock::{Lock, LockError};
use manifest::{Basis, ManifestError, Manifests};
use polars::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

pub use audit::{AuditError, Check};
pub use restate::input_changes;

/// Files staged, audited or committed at the same time: they wait for a disk or a network, not for a core.
const AT_ONCE: usize = 8;

/// A table of a run: the rows of all its periods, in the order of its key.
pub struct Table {
    pub contract: &'static Contract,
    pub rows: DataFrame,
}

/// What became of one table and period.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublishedUnit {
    pub table: String,
    pub period: NaiveDate,
    pub status: UnitStatus,
    /// Why it was computed, or why it failed.
    pub reason: String,
    pub rows: usize,
    pub bytes: usize,
    /// BLAKE3 of the file that was there.
    pub hash_before: Option<String>,
    /// BLAKE3 of the file that is there now.
    pub content_hash: Option<String>,
    /// Encoding, staging and audit of this file.
    pub seconds: f64,
    pub published_at: Option<DateTime<Utc>>,
    pub checks: Vec<Check>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitStatus {
    /// There was nothing before.
    Created,
    /// The content differs from what was there.
    Replaced,
    /// The bytes are those that were there; nothing was written.
    Reused,
    /// Not computed: nothing it is made of has changed.
    UpToDate,
    /// Computed, and not fit to be published.
    Failed,
    /// The run ended before its turn.
    NotAttempted,
}

impl UnitStatus {
    /// Whether a file was put in its place.
    pub fn is_written(self) -> bool {
        matches!(self, Self::Created | Self::Replaced)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Replaced => "replaced",
            Self::Reused => "reused",
            Self::UpToDate => "up_to_date",
            Self::Failed => "failed",
            Self::NotAttempted => "not_attempted",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("the staged table {table} of {period} does not keep its contract")]
    Audit {
        table: String,
        period: NaiveDate,
        checks: Vec<Check>,
        source: Box<AuditError>,
    },
    #[error("the table {table} of {period} cannot be written as Parquet")]
    Encode {
        table: String,
        period: NaiveDate,
        source: PolarsError,
    },
    #[error("the published file {path} cannot be read back")]
    Published { path: String, source: PolarsError },
    #[error("the period {period} is committed in part; the next run finishes it")]
    Commit {
        period: NaiveDate,
        source: StorageError,
    },
    #[error(transparent)]
    Schema(#[from] Box<schema::SchemaError>),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl PublishError {
    /// Whether later periods cannot be published either.
    pub fn ends_run(&self) -> bool {
        matches!(self, Self::Lock(_) | Self::Commit { .. })
    }
}

/// Who publishes, and how.
#[derive(Debug, Clone)]
pub struct Publisher {
    pub run_id: String,
    pub compression: Compression,
    pub lock_expiry: Duration,
    /// The instant that the run takes for now.
    pub as_of: Option<DateTime<Utc>>,
    pub clock: fn() -> DateTime<Utc>,
}

/// When a period's values freeze.
#[derive(Debug, Clone, Copy)]
pub struct Closing {
    pub closes_on: NaiveDate,
    pub is_closed: bool,
}

/// One period to publish.
pub struct Work<'a> {
    pub period: &'a Period,
    pub tables: Vec<(&'static Contract, DataFrame)>,
    /// What each table is made of.
    pub basis: &'a (dyn Fn(&str) -> Basis + Sync),
    pub shape: Shape<'a>,
    /// Present with `close:` in the pipeline.
    pub closing: Option<Closing>,
}

/// An open root: ours until it is closed.
pub struct Session {
    pub store: Arc<dyn Store>,
    publisher: Publisher,
    lock: Mutex<Lock>,
    /// Shared by all that writes below the root, so that a signal can wait for it and let nothing begin after it.
    gate: RwLock<()>,
    is_closed: AtomicBool,
    manifests: Mutex<Manifests>,
    /// Data files as they lay there when the session opened, by key.
    listing: Mutex<BTreeMap<String, Entry>>,
}

/// What was published of a period. No signal ends the run before this is dropped: first the results say so.
pub struct PublishedPeriod<'a> {
    pub units: Vec<PublishedUnit>,
    _gate: RwLockReadGuard<'a, ()>,
}

/// Where a table's rows of a period stand.
pub fn key(table: &str, period_start: NaiveDate) -> String {
    format!("{table}/period={period_start}/part-0.parquet")
}

/// Data files under a root, by key.
pub fn data_files(store: &dyn Store) -> Result<BTreeMap<String, Entry>, StorageError> {
    let tables: Vec<&str> = contract::OUTPUT_TABLES
        .into_iter()
        .chain(contract::PUBLISHED_BESIDE)
        .collect();
    let listed = in_parallel(&tables, |table| store.list(table));
    let mut all = BTreeMap::new();
    for entries in listed {
        all.extend(entries?.into_iter().map(|entry| (entry.key.clone(), entry)));
    }
    Ok(all)
}

/// Locks a mutex; a panic elsewhere does not make its content wrong.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does the same to several things at once, for work that waits more than it computes. Results keep the order.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    at_once(AT_ONCE, items, work)
}

/// Does the same to so many things at once. Results keep the order.
pub(crate) fn at_once<T: Sync, R: Send>(
    count: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let one_thread = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else {
                return done;
            };
            done.push((index, work(item)));
        }
    };
    let mut all: Vec<(usize, R)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count.min(items.len()))
            .map(|_| scope.spawn(one_thread))
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Vec<(usize, R)>>| match thread.join()
        {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().flat_map(join).collect()
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, result)| result).collect()
}
