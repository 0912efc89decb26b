//! Looking after a root: what is there but should not be, and the other way round.

use super::manifest::{self, ManifestError};
use super::{data_files, in_parallel};
use crate::storage::{Entry, StorageError, Store};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::BTreeSet;

const STAGING: &str = "_cskpi/staging";
const JOURNALS: &str = "_cskpi/journal";
/// What is kept of the inputs from run to run, and can be made again.
const CACHE: &str = "_cskpi/cache";

/// Something that manifests and files disagree about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The manifest has it, the store has not.
    Missing,
    /// The content is not what was published.
    Altered,
    /// No manifest knows the file.
    Orphan,
}

#[derive(Debug, Clone, Serialize)]
pub struct Discrepancy {
    pub key: String,
    pub finding: Finding,
}

/// What there is to clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leftover {
    pub key: String,
    /// What it is, in words.
    pub what: &'static str,
    pub bytes: u64,
}

/// Holds the manifests against the files. A file whose version differs is read, and judged by its content; `deep` reads all.
pub fn verify(store: &dyn Store, deep: bool) -> Result<(usize, Vec<Discrepancy>), ManifestError> {
    let manifests = manifest::read_all(store)?;
    let mut files = data_files(store)?;
    let mut found = Vec::new();
    let mut looked_at = Vec::new();
    for (manifest, _) in manifests.values() {
        for unit in manifest.units.values() {
            match files.remove(&unit.key) {
                None => found.push(Discrepancy {
                    key: unit.key.clone(),
                    finding: Finding::Missing,
                }),
                Some(entry) => looked_at.push((unit, entry)),
            }
        }
    }
    let judged = in_parallel(&looked_at, |(unit, entry)| -> Result<_, StorageError> {
        if !deep && entry.version == unit.version {
            return Ok(None);
        }
        let hash = store
            .read(&unit.key)?
            .map(|(bytes, _)| blake3::hash(&bytes).to_hex().to_string());
        Ok(
            (hash.as_ref() != Some(&unit.content_hash)).then(|| Discrepancy {
                key: unit.key.clone(),
                finding: Finding::Altered,
            }),
        )
    });
    for judgement in judged {
        found.extend(judgement?);
    }
    found.extend(files.into_keys().map(|key| Discrepancy {
        key,
        finding: Finding::Orphan,
    }));
    found.sort_by(|a, b| a.key.cmp(&b.key));
    Ok((looked_at.len(), found))
}

/// What may be cleared: results of runs that ended before `older_than`, and files that no manifest knows and that are as old.
/// Staging and unfinished uploads are cleared whenever a session opens. `with_cache`: also what is kept of the inputs.
pub fn leftovers(
    store: &dyn Store,
    older_than: DateTime<Utc>,
    with_cache: bool,
) -> Result<Vec<Leftover>, ManifestError> {
    let is_old = |entry: &Entry| entry.modified < older_than;
    let leftover = |entry: Entry, what| Leftover {
        key: entry.key,
        what,
        bytes: entry.size,
    };
    let mut all: Vec<Leftover> = Vec::new();
    for folder in [STAGING, JOURNALS] {
        let what = "left by a run that died";
        all.extend(
            store
                .list(folder)?
                .into_iter()
                .map(|entry| leftover(entry, what)),
        );
    }
    if with_cache {
        let kept = store.list(CACHE)?.into_iter();
        all.extend(kept.map(|entry| leftover(entry, "kept of the inputs")));
    }
    for (folder, what) in [
        ("_cskpi/runs", "results of an old run"),
        ("_cskpi/probe", "left by a run that died"),
    ] {
        let old = store.list(folder)?.into_iter().filter(is_old);
        all.extend(old.map(|entry| leftover(entry, what)));
    }
    let mut files = data_files(store)?;
    for (manifest, _) in manifest::read_all(store)?.values() {
        for unit in manifest.units.values() {
            files.remove(&unit.key);
        }
    }
    all.extend(
        files
            .into_values()
            .filter(is_old)
            .map(|entry| leftover(entry, "file that no manifest knows")),
    );
    Ok(all)
}

/// Where a run stages its files.
pub fn staging(run_id: &str) -> String {
    format!("{STAGING}/{run_id}")
}

/// What runs that died have left: staged files, journals that are done, unfinished uploads.
pub struct Remains {
    runs: BTreeSet<String>,
    journals: Vec<String>,
    uploads: Vec<(String, String)>,
}

impl Remains {
    /// All that lies there. For the holder of the lock, after recovery and before it stages anything itself.
    pub fn of_the_dead(store: &dyn Store, unclosed: Vec<String>) -> Result<Self, StorageError> {
        let mut runs: BTreeSet<String> = unclosed.into_iter().collect();
        for entry in store.list(STAGING)? {
            let below = entry.key.strip_prefix(STAGING).unwrap_or_default();
            let run_id = below.trim_start_matches('/').split('/').next();
            runs.extend(run_id.map(str::to_owned));
        }
        let journals = store.list(JOURNALS)?.into_iter();
        Ok(Self {
            runs,
            journals: journals.map(|entry| entry.key).collect(),
            // Some stores cannot list uploads, some keys may not. Nobody reads what was not finished; it only takes room.
            uploads: store.unfinished_uploads().unwrap_or_else(|error| {
                tracing::warn!("uploads that dead runs did not finish cannot be listed: {error}");
                Vec::new()
            }),
        })
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.journals.is_empty() && self.uploads.is_empty()
    }

    /// Removes it. The lock must have been confirmed since it was listed: then it is of runs before us, and to remove it is
    /// right even if we have lost the lock by now.
    pub fn clear(&self, store: &dyn Store) -> Result<(), StorageError> {
        for run_id in &self.runs {
            store.remove_folder(&staging(run_id))?;
        }
        store.remove(&self.journals)?;
        for (key, id) in &self.uploads {
            tracing::debug!(key, "an unfinished upload is cleared");
            store.abort_upload(key, id)?;
        }
        Ok(())
    }
}
