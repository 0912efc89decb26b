//! Looking after a root: what is there but should not be, and the other way round.

use super::manifest::{self, ManifestError};
use super::{data_files, in_parallel};
use crate::storage::{Entry, StorageError, Store};
use chrono::{DateTime, Utc};
use serde::Serialize;

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
/// Staging and unfinished uploads are cleared whenever a session opens.
pub fn leftovers(
    store: &dyn Store,
    older_than: DateTime<Utc>,
) -> Result<Vec<Leftover>, ManifestError> {
    let is_old = |entry: &Entry| entry.modified < older_than;
    let leftover = |entry: Entry, what| Leftover {
        key: entry.key,
        what,
        bytes: entry.size,
    };
    let mut all: Vec<Leftover> = Vec::new();
    for folder in ["_cskpi/staging", "_cskpi/journal"] {
        let what = "left by a run that died";
        all.extend(
            store
                .list(folder)?
                .into_iter()
                .map(|entry| leftover(entry, what)),
        );
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

/// Removes all that is staged. Only for the holder of the lock.
pub fn clear_staging(store: &dyn Store) -> Result<(), StorageError> {
    store.remove_folder("_cskpi/staging")
}

/// Removes what runs that died have left: staged files, journals that are done, unfinished uploads. Only for the
/// holder of the lock, after recovery.
pub fn clear_leftovers(store: &dyn Store) -> Result<(), StorageError> {
    for folder in ["_cskpi/staging", "_cskpi/journal"] {
        store.remove_folder(folder)?;
    }
    // Some stores cannot list uploads, some keys may not. Nobody reads what was not finished; it only takes room.
    let aborted = store.unfinished_uploads().and_then(|uploads| {
        uploads
            .iter()
            .try_for_each(|(key, id)| store.abort_upload(key, id))
    });
    if let Err(error) = aborted {
        tracing::warn!("uploads that dead runs did not finish could not be cleared: {error}");
    }
    Ok(())
}
