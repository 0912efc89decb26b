//! Publishes tables, period by period, so that readers see the old files or the new ones and no crash can leave a third state.
//!
//! A [`Session`] holds the root's lock. For each period: encode → compare with what is published → stage what differs → audit
//! it as it lies there → journal → commit → manifest. What a dead run left is finished or cleared when the next session opens.
//! A file whose bytes are those already published is left alone.

mod audit;
mod encode;
pub mod journal;
pub mod ledger;
pub mod lock;
pub mod manifest;
mod restate;
pub mod schema;
pub mod upkeep;

use crate::config::Compression;
use crate::contract::{self, Contract};
use crate::fault::step;
use crate::marts::Shape;
use crate::period::Period;
use crate::storage::{Condition, Entry, StorageError, Store, Version};
use chrono::{DateTime, NaiveDate, Utc};
use journal::Journal;
use lock::{Lock, LockError};
use manifest::{Basis, Manifest, ManifestError, Manifests, Unit};
use polars::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};
use upkeep::Remains;

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
        source: AuditError,
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
    Schema(#[from] schema::SchemaError),
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

/// A file to be, with what lies at its place.
struct Candidate {
    contract: &'static Contract,
    key: String,
    rows: usize,
    bytes: Vec<u8>,
    columns: Vec<(String, String)>,
    content_hash: String,
    hash_before: Option<String>,
    before: Option<Version>,
    seconds: f64,
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

impl Session {
    /// Takes the lock, finishes what a dead run began, and clears what it left.
    pub fn open(store: Arc<dyn Store>, publisher: Publisher) -> Result<Self, PublishError> {
        let now = (publisher.clock)();
        let lock = Lock::take(&store, &publisher.run_id, publisher.lock_expiry, now)?;
        if let Some(key) = lock.journal() {
            if let Err(error) = recover(store.as_ref(), &key) {
                // It may have failed because the lock is another's by now.
                lock.confirm()?;
                return Err(error);
            }
            lock.set_journal(None)?;
            store.remove(&[key])?;
        }
        let remains = Remains::of_the_dead(store.as_ref(), lock.unclosed())?;
        if !remains.is_empty() {
            lock.confirm()?;
            remains.clear(store.as_ref())?;
        }
        step("recovered");
        let manifests = manifest::read_all(store.as_ref())?;
        let listing = data_files(store.as_ref())?;
        Ok(Self {
            store,
            publisher,
            lock: Mutex::new(lock),
            gate: RwLock::new(()),
            is_closed: AtomicBool::new(false),
            manifests: Mutex::new(manifests),
            listing: Mutex::new(listing),
        })
    }

    pub fn run_id(&self) -> &str {
        &self.publisher.run_id
    }

    pub fn manifests(&self) -> Manifests {
        held(&self.manifests).clone()
    }

    pub fn listing(&self) -> BTreeMap<String, Entry> {
        held(&self.listing).clone()
    }

    /// Runs that died without closing their results.
    pub fn unclosed(&self) -> Vec<String> {
        held(&self.lock).unclosed()
    }

    pub fn set_closed(&self) -> Result<(), LockError> {
        held(&self.lock).set_closed()
    }

    /// Publishes one period: all of its tables, or none.
    pub fn publish(&self, work: Work) -> Result<PublishedPeriod<'_>, PublishError> {
        let period = work.period;
        let old = held(&self.manifests).get(&period.start).cloned();
        let candidates = self.candidates(&work, old.as_ref().map(|(manifest, _)| manifest))?;
        let prefix = upkeep::staging(&self.publisher.run_id);
        let audits = in_parallel(&candidates, |candidate| {
            self.staged(candidate, &prefix, &work)
        });
        let audits = audits.into_iter().collect::<Result<Vec<_>, _>>()?;
        step("period_audited");

        let now = (self.publisher.clock)();
        let mut manifest = old.as_ref().map_or_else(
            || Manifest::new(period.start, period.end),
            |(manifest, _)| manifest.clone(),
        );
        let bases: Vec<Basis> = candidates
            .iter()
            .map(|candidate| (work.basis)(&candidate.contract.table))
            .collect();
        let units = candidates.iter().zip(&bases).map(|(candidate, basis)| {
            let table = candidate.contract.table.clone();
            let unit = self.unit(candidate, basis, manifest.units.get(&table), now);
            (table, unit)
        });
        let units: Vec<_> = units.collect();
        manifest.update(units, bases);
        let changed: Vec<&Candidate> = candidates
            .iter()
            .filter(|candidate| candidate.status() != UnitStatus::Reused)
            .collect();
        let is_news = old.as_ref().is_none_or(|(old, _)| *old != manifest);
        let version = old.map(|(_, version)| version);
        let gate = self.uninterrupted();
        if !changed.is_empty() {
            let entries = changed.iter().map(|candidate| journal::Entry {
                table: candidate.contract.table.clone(),
                staged: format!("{prefix}/{}", candidate.key),
                key: candidate.key.clone(),
                before: candidate.before.clone(),
                content_hash: candidate.content_hash.clone(),
            });
            let journal = Journal {
                run_id: self.publisher.run_id.clone(),
                entries: entries.collect(),
                manifest,
                manifest_before: version,
            };
            self.commit(journal)?;
        } else if is_news {
            let key = Manifest::key(period.start);
            let version = self.store.put(
                &key,
                &manifest.json(),
                Condition::unchanged(version.as_ref()),
            )?;
            held(&self.manifests).insert(period.start, (manifest, version));
        }
        let published = candidates
            .iter()
            .zip(audits)
            .map(|(candidate, (checks, seconds))| PublishedUnit {
                table: candidate.contract.table.clone(),
                period: period.start,
                status: candidate.status(),
                reason: String::new(),
                rows: candidate.rows,
                bytes: candidate.bytes.len(),
                hash_before: candidate.hash_before.clone(),
                content_hash: Some(candidate.content_hash.clone()),
                seconds: candidate.seconds + seconds,
                published_at: Some(now),
                checks,
            });
        Ok(PublishedPeriod {
            units: published.collect(),
            _gate: gate,
        })
    }

    /// From here on the period will be committed, by this run or by the next one.
    fn commit(&self, journal: Journal) -> Result<(), PublishError> {
        let period = journal.manifest.period_start;
        let key = journal.write(self.store.as_ref())?;
        held(&self.lock).set_journal(Some(key.clone()))?;
        step("lock_committing");
        let committed = match journal.clone().commit(self.store.as_ref()) {
            Ok(committed) => committed,
            Err(error) => {
                // Either the lock is gone, or the store failed or somebody wrote past the lock: the journal says what must be there.
                held(&self.lock).confirm()?;
                tracing::warn!("committing {period} failed, it is tried once more: {error}");
                let again = |source| PublishError::Commit { period, source };
                journal.finish(self.store.as_ref()).map_err(again)?;
                let (manifests, manifest_key) = (manifest::read_all(self.store.as_ref())?, period);
                manifests
                    .into_iter()
                    .find(|(start, _)| *start == manifest_key)
                    .map(|(_, found)| found)
                    .ok_or(error)
                    .map_err(again)?
            }
        };
        held(&self.manifests).insert(period, committed);
        held(&self.lock).set_journal(None)?;
        step("lock_working");
        // The lock names it no longer: nobody will look at it again.
        self.store.remove(&[key])?;
        Ok(())
    }

    /// Everything that the period consists of, encoded, with what lies there now.
    fn candidates(
        &self,
        work: &Work,
        old: Option<&Manifest>,
    ) -> Result<Vec<Candidate>, PublishError> {
        let mut frames: Vec<(&'static Contract, DataFrame)> = work
            .tables
            .iter()
            .map(|(contract, frame)| (*contract, frame.clone()))
            .collect();
        let kpis = frames
            .iter()
            .position(|(contract, _)| contract.table == "kpi_values");
        if let (Some(at), Some(closing)) = (kpis, work.closing) {
            let contract = contract::of("kpi_as_reported");
            let reported = self.published_frame(&key(&contract.table, work.period.start))?;
            let encode = |source| PublishError::Encode {
                table: contract.table.clone(),
                period: work.period.start,
                source,
            };
            let reported = match reported {
                Some(reported) if closing.is_closed => {
                    frames[at].1 =
                        restate::marked(frames[at].1.clone(), &reported).map_err(encode)?;
                    reported
                }
                _ => restate::as_reported(&frames[at].1, closing.closes_on).map_err(encode)?,
            };
            frames.push((contract, reported));
        }
        let encoded = in_parallel(&frames, |(contract, frame)| {
            self.candidate(contract, frame, work.period, old)
        });
        let mut candidates = encoded.into_iter().collect::<Result<Vec<_>, _>>()?;
        if let Some(at) = kpis {
            let restatements = self.restatements(&candidates[at], &frames[at].1, work, old)?;
            candidates.push(self.candidate(
                &contract::of("restatements"),
                &restatements,
                work.period,
                old,
            )?);
        }
        Ok(candidates)
    }

    fn candidate(
        &self,
        contract: &&'static Contract,
        frame: &DataFrame,
        period: &Period,
        old: Option<&Manifest>,
    ) -> Result<Candidate, PublishError> {
        let started = Instant::now();
        let bytes = encode::encoded(frame, self.publisher.compression).map_err(|source| {
            PublishError::Encode {
                table: contract.table.clone(),
                period: period.start,
                source,
            }
        })?;
        let key = key(&contract.table, period.start);
        let content_hash = blake3::hash(&bytes).to_hex().to_string();
        let there = held(&self.listing).get(&key).cloned();
        let known = old.and_then(|manifest| manifest.units.get(&contract.table));
        let (before, hash_before) = match (there, known) {
            (None, _) => (None, None),
            (Some(entry), Some(unit)) if entry.version == unit.version => {
                (Some(entry.version), Some(unit.content_hash.clone()))
            }
            // Not as the manifest says, or not in it: what lies there tells.
            (Some(_), _) => match self.store.read(&key)? {
                None => (None, None),
                Some((bytes, version)) => (
                    Some(version),
                    Some(blake3::hash(&bytes).to_hex().to_string()),
                ),
            },
        };
        Ok(Candidate {
            contract,
            key,
            rows: frame.height(),
            columns: schema::columns_of(frame),
            bytes,
            content_hash,
            hash_before,
            before,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Stages a file that differs, and audits it as a reader would find it.
    fn staged(
        &self,
        candidate: &Candidate,
        prefix: &str,
        work: &Work,
    ) -> Result<(Vec<Check>, f64), PublishError> {
        let started = Instant::now();
        let as_staged = if candidate.status() == UnitStatus::Reused {
            None
        } else {
            let staged = format!("{prefix}/{}", candidate.key);
            let _gate = self.uninterrupted();
            self.store.stage(&staged, &candidate.bytes)?;
            step("unit_staged");
            self.store.read(&staged)?.map(|(bytes, _)| bytes)
        };
        let bytes = as_staged.as_ref().unwrap_or(&candidate.bytes);
        let (checks, result) = audit::audited(
            bytes,
            candidate.contract,
            work.period,
            candidate.rows,
            work.shape,
        );
        match result {
            Ok(()) => Ok((checks, started.elapsed().as_secs_f64())),
            Err(source) => Err(PublishError::Audit {
                table: candidate.contract.table.clone(),
                period: work.period.start,
                checks,
                source,
            }),
        }
    }

    fn unit(
        &self,
        candidate: &Candidate,
        basis: &Basis,
        known: Option<&Unit>,
        now: DateTime<Utc>,
    ) -> Unit {
        let is_known = |unit: &&Unit| unit.content_hash == candidate.content_hash;
        let writer = known
            .filter(is_known)
            .filter(|_| candidate.status() == UnitStatus::Reused);
        Unit {
            key: candidate.key.clone(),
            rows: candidate.rows,
            bytes: candidate.bytes.len() as u64,
            content_hash: candidate.content_hash.clone(),
            // Of a file that is about to be committed it is known after that.
            version: candidate.before.clone().unwrap_or(Version(String::new())),
            columns: candidate.columns.clone(),
            basis: basis.fingerprint(),
            run_id: writer
                .map_or_else(|| self.publisher.run_id.clone(), |unit| unit.run_id.clone()),
            published_at: writer.map_or(now, |unit| unit.published_at),
        }
    }

    /// The period's restatements so far, and those of this run.
    fn restatements(
        &self,
        kpis: &Candidate,
        new: &DataFrame,
        work: &Work,
        old: Option<&Manifest>,
    ) -> Result<DataFrame, PublishError> {
        let encode = |source| PublishError::Encode {
            table: "restatements".to_owned(),
            period: work.period.start,
            source,
        };
        let so_far = self.published_frame(&key("restatements", work.period.start))?;
        let before = match kpis.status() {
            UnitStatus::Replaced => self.published_frame(&kpis.key)?,
            _ => None,
        };
        let made = match before {
            None => None,
            Some(before) => {
                let basis = (work.basis)("kpi_values");
                let cause = restate::cause(
                    old.and_then(|manifest| manifest.basis_of("kpi_values")),
                    &basis,
                );
                let about = restate::About {
                    period: work.period,
                    run_id: &self.publisher.run_id,
                    restated_at: (self.publisher.clock)(),
                    was_closed: work.closing.is_some_and(|closing| closing.is_closed),
                    cause: &cause,
                };
                Some(restate::restatements(&before, new, &about).map_err(encode)?)
            }
        };
        let all = [so_far, made].into_iter().flatten();
        restate::ledger(all, work.period).map_err(encode)
    }

    fn published_frame(&self, key: &str) -> Result<Option<DataFrame>, PublishError> {
        if !held(&self.listing).contains_key(key) {
            return Ok(None);
        }
        encode::published(self.store.as_ref(), key)
    }

    /// Remembers that a period could not be published, so that `plan` and `backfill --reprocess failed` know.
    pub fn record_failure(&self, period: &Period, reason: &str) -> Result<(), PublishError> {
        let _gate = self.uninterrupted();
        let old = held(&self.manifests).get(&period.start).cloned();
        let (mut manifest, version) = match old {
            Some((manifest, version)) => (manifest, Some(version)),
            None => (Manifest::new(period.start, period.end), None),
        };
        manifest.failure = Some(manifest::Failure {
            run_id: self.publisher.run_id.clone(),
            reason: reason.to_owned(),
        });
        let key = Manifest::key(period.start);
        let version = self.store.put(
            &key,
            &manifest.json(),
            Condition::unchanged(version.as_ref()),
        )?;
        held(&self.manifests).insert(period.start, (manifest, version));
        Ok(())
    }

    /// A signal waits until the guard is dropped. Do not ask for one while you have one.
    pub fn uninterrupted(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the commit at hand, and lets nothing more be written until the guard is dropped.
    pub fn between_commits(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the store whether the lock is still ours.
    pub fn confirm(&self) -> Result<(), LockError> {
        held(&self.lock).confirm()
    }

    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Clears what we have staged and gives the lock back.
    pub fn close(&self) -> Result<(), PublishError> {
        self.is_closed.store(true, Ordering::SeqCst);
        let mut lock = held(&self.lock);
        if lock.journal().is_none() {
            self.clear_own()?;
        }
        step("staging_cleared");
        lock.free()?;
        step("lock_freed");
        Ok(())
    }

    /// Clears what is ours alone after the lock was lost. If the lock named our journal, its successor finishes that and
    /// clears up.
    pub fn abandon(&self) {
        if held(&self.lock).journal().is_none()
            && let Err(error) = self.clear_own()
        {
            tracing::warn!("what was staged is left for the next run to clear: {error}");
        }
    }

    /// Never the whole folder: should the lock be lost by now, the others in it are those of our successor.
    fn clear_own(&self) -> Result<(), StorageError> {
        let run_id = &self.publisher.run_id;
        self.store.remove(&[Journal::key(run_id)])?;
        self.store.remove_folder(&upkeep::staging(run_id))
    }
}

impl Candidate {
    fn status(&self) -> UnitStatus {
        match &self.hash_before {
            None => UnitStatus::Created,
            Some(before) if *before == self.content_hash => UnitStatus::Reused,
            Some(_) => UnitStatus::Replaced,
        }
    }
}

/// Finishes the journal that the lock names.
fn recover(store: &dyn Store, key: &str) -> Result<(), PublishError> {
    let Some((bytes, _)) = store.read(key)? else {
        tracing::warn!(
            key,
            "the journal of an earlier run is gone; what it had not committed counts as stale"
        );
        return Ok(());
    };
    let journal: Journal =
        serde_json::from_slice(&bytes).map_err(|source| ManifestError::Damaged {
            path: store.shown(key),
            source,
        })?;
    let period = journal.manifest.period_start;
    if !journal.can_be_finished(store)? {
        tracing::warn!(
            run_id = journal.run_id,
            "files that an earlier run had staged for {period} are gone; what it had not committed counts as stale"
        );
        return Ok(());
    }
    tracing::warn!(
        run_id = journal.run_id,
        "finishing the period {period} that an earlier run had begun to commit"
    );
    journal
        .finish(store)
        .map_err(|source| PublishError::Commit { period, source })
}

/// Locks a mutex; a panic elsewhere does not make its content wrong.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does the same to several things at once, for work that waits more than it computes. Results keep the order.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
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
        let threads: Vec<_> = (0..AT_ONCE.min(items.len()))
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
