//! An open root: its lock is held, what dead runs left is cleared up, and periods are published one after the other.

use super::candidate::Candidate;
use super::journal::{self, Journal};
use super::lock::{Lock, LockError};
use super::manifest::{self, Basis, Manifest, ManifestError, Manifests};
use super::upkeep::{self, Remains};
use super::{
    PublishError, PublishedPeriod, PublishedUnit, Publisher, Session, UnitStatus, Work, data_files,
    held, in_parallel,
};
use crate::fault::step;
use crate::period::Period;
use crate::storage::{Condition, Entry, StorageError, Store, Version};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tracing::debug_span;

impl Session {
    /// Takes the lock, finishes what a dead run began, and clears what it left.
    pub fn open(store: Arc<dyn Store>, publisher: Publisher) -> Result<Self, PublishError> {
        let now = (publisher.clock)();
        let expiry = publisher.lock_expiry;
        let lock = Lock::take(&store, &publisher.run_id, expiry, now, publisher.as_of)?;
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

    /// The latest instant that a run has taken for now, this one included.
    pub fn latest_as_of(&self) -> DateTime<Utc> {
        held(&self.lock).latest_as_of()
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
        let part = |name: &'static str| debug_span!("part", name);
        let known = old.as_ref().map(|(manifest, _)| manifest);
        let candidates = part("encoding").in_scope(|| self.candidates(&work, known))?;
        let prefix = upkeep::staging(&self.publisher.run_id);
        let audits = part("staging and auditing").in_scope(|| {
            in_parallel(&candidates, |candidate| {
                self.staged(candidate, &prefix, &work)
            })
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
            part("committing").in_scope(|| self.commit(journal))?;
        } else if is_news {
            self.put_manifest(manifest, version.as_ref())?;
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
                journal.finish(self.store.as_ref()).map_err(again)?
            }
        };
        held(&self.manifests).insert(period, committed);
        held(&self.lock).set_journal(None)?;
        step("lock_working");
        // The lock names it no longer: nobody will look at it again.
        self.store.remove(&[key])?;
        Ok(())
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
        self.put_manifest(manifest, version.as_ref())?;
        Ok(())
    }

    /// Writes what is known of a period, unless another has since `before`.
    fn put_manifest(
        &self,
        manifest: Manifest,
        before: Option<&Version>,
    ) -> Result<(), StorageError> {
        let period = manifest.period_start;
        let key = Manifest::key(period);
        let unchanged = Condition::unchanged(before);
        let version = self.store.put(&key, &manifest.json(), unchanged)?;
        held(&self.manifests).insert(period, (manifest, version));
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
        .map(|_| ())
        .map_err(|source| PublishError::Commit { period, source })
}
