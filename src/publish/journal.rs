//! The write-ahead journal of one period: what is staged, where it belongs, and the manifest that follows. It is written before
//! the first file is committed and named in the lock, so that the next run can finish what a dead one began.

use super::manifest::Manifest;
use crate::fault::step;
use crate::storage::{Condition, StorageError, Store, Version};
use serde::{Deserialize, Serialize};
use tracing::debug_span;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Journal {
    pub run_id: String,
    pub entries: Vec<Entry>,
    /// As it will be; versions of the entries' files are filled in when they are known.
    pub manifest: Manifest,
    /// The manifest that it follows.
    pub manifest_before: Option<Version>,
}

/// One file to commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    pub table: String,
    pub staged: String,
    pub key: String,
    /// What lay there when the period was computed.
    pub before: Option<Version>,
    pub content_hash: String,
}

impl Journal {
    pub fn key(run_id: &str) -> String {
        format!("_cskpi/journal/{run_id}.json")
    }

    pub fn write(&self, store: &dyn Store) -> Result<String, StorageError> {
        let key = Self::key(&self.run_id);
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        store.put(&key, &text, Condition::Always)?;
        step("journal_written");
        Ok(key)
    }

    /// Commits every file, then the manifest.
    pub fn commit(mut self, store: &dyn Store) -> Result<(Manifest, Version), StorageError> {
        let committed = super::in_parallel(&self.entries, |entry| {
            let name = format_args!("committing {}", entry.table);
            let _span = debug_span!("file", name).entered();
            let version = entry.commit(store, entry.before.as_ref());
            step("unit_committed");
            version
        });
        let versions = committed.into_iter().collect::<Result<Vec<_>, _>>()?;
        step("period_committed");
        for (entry, version) in self.entries.iter().zip(versions) {
            if let Some(unit) = self.manifest.units.get_mut(&entry.table) {
                unit.version = version;
            }
        }
        let key = Manifest::key(self.manifest.period_start);
        let condition = Condition::unchanged(self.manifest_before.as_ref());
        let version = store.put(&key, &self.manifest.json(), condition)?;
        step("manifest_written");
        Ok((self.manifest, version))
    }

    /// Whether all that is not committed yet is still staged.
    pub fn can_be_finished(&self, store: &dyn Store) -> Result<bool, StorageError> {
        for entry in &self.entries {
            let is_staged = store.entry(&entry.staged)?.is_some();
            if !is_staged && entry.committed(store)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Finishes what a run that is gone has begun. Whatever lies at a target now is either what it wrote or gives way to it:
    /// nobody else may have published since.
    pub fn finish(mut self, store: &dyn Store) -> Result<(Manifest, Version), StorageError> {
        for entry in &mut self.entries {
            entry.before = store.entry(&entry.key)?.map(|entry| entry.version);
        }
        let key = Manifest::key(self.manifest.period_start);
        self.manifest_before = store.entry(&key)?.map(|entry| entry.version);
        self.commit(store)
    }
}

impl Entry {
    fn commit(&self, store: &dyn Store, before: Option<&Version>) -> Result<Version, StorageError> {
        let error = match store.publish(&self.staged, &self.key, Condition::unchanged(before)) {
            Ok(version) => return Ok(version),
            Err(error) => error,
        };
        match self.committed(store) {
            Ok(Some(version)) => Ok(version),
            _ => Err(error),
        }
    }

    /// The version of what was committed before, by us or by the run whose journal this is.
    fn committed(&self, store: &dyn Store) -> Result<Option<Version>, StorageError> {
        let found = store.read(&self.key)?;
        let is_it =
            |bytes: &[u8]| blake3::hash(bytes).to_hex().as_str() == self.content_hash.as_str();
        Ok(found.and_then(|(bytes, version)| is_it(&bytes).then_some(version)))
    }
}
