//! What is published: one manifest per period, `_cskpi/manifest/period=<start>.json`, with what each file is and what it was
//! made of.

use crate::config::settings::Settings;
use crate::storage::{StorageError, Store, Version};
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

pub const FOLDER: &str = "_cskpi/manifest";

/// The published files of one period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub period_start: NaiveDate,
    pub period_end: NaiveDate,
    /// By table.
    pub units: BTreeMap<String, Unit>,
    /// By fingerprint: what the units were made of.
    pub bases: BTreeMap<String, Basis>,
    /// The last run that tried to publish the period and could not.
    #[serde(default)]
    pub failure: Option<Failure>,
}

/// Why a period could not be published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub run_id: String,
    pub reason: String,
}

/// One published file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    pub key: String,
    pub rows: usize,
    pub bytes: u64,
    /// BLAKE3 of the file's bytes.
    pub content_hash: String,
    /// What the store said of the file when it was committed.
    pub version: Version,
    /// Names and types, in order.
    pub columns: Vec<(String, String)>,
    /// Fingerprint of the basis.
    pub basis: String,
    /// The run that wrote this content.
    pub run_id: String,
    pub published_at: DateTime<Utc>,
}

/// All that decides a unit's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// By input table: the files that the period needs, sorted by path.
    pub inputs: BTreeMap<String, Vec<InputFile>>,
    pub settings: Settings,
    /// Version of the program and of the definitions it ships.
    pub program: String,
    pub is_complete: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InputFile {
    pub path: String,
    pub size: u64,
    pub etag: Version,
}

impl Basis {
    /// Short name of all that it says.
    pub fn fingerprint(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        blake3::hash(&text).to_hex()[..32].to_owned()
    }
}

impl Manifest {
    pub fn new(period_start: NaiveDate, period_end: NaiveDate) -> Self {
        Self {
            period_start,
            period_end,
            units: BTreeMap::new(),
            bases: BTreeMap::new(),
            failure: None,
        }
    }

    pub fn key(period_start: NaiveDate) -> String {
        format!("{FOLDER}/period={period_start}.json")
    }

    pub fn basis_of(&self, table: &str) -> Option<&Basis> {
        self.bases.get(&self.units.get(table)?.basis)
    }

    /// Takes units and the bases they rest on; drops bases that nothing rests on any more.
    pub fn update(
        &mut self,
        units: impl IntoIterator<Item = (String, Unit)>,
        bases: impl IntoIterator<Item = Basis>,
    ) {
        self.units.extend(units);
        self.failure = None;
        self.bases
            .extend(bases.into_iter().map(|basis| (basis.fingerprint(), basis)));
        let used: BTreeSet<&String> = self.units.values().map(|unit| &unit.basis).collect();
        let unused: Vec<String> = self
            .bases
            .keys()
            .filter(|name| !used.contains(name))
            .cloned()
            .collect();
        for name in unused {
            self.bases.remove(&name);
        }
    }

    pub fn json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }
}

/// Manifests by the first day of their period, each with its own version.
pub type Manifests = BTreeMap<NaiveDate, (Manifest, Version)>;

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest {path} cannot be understood")]
    Damaged {
        path: String,
        source: serde_json::Error,
    },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Reads all manifests under a root.
pub fn read_all(store: &dyn Store) -> Result<Manifests, ManifestError> {
    let entries = store.list(FOLDER)?;
    let read = super::in_parallel(&entries, |entry| -> Result<_, ManifestError> {
        let Some((bytes, version)) = store.read(&entry.key)? else {
            return Ok(None);
        };
        let damaged = |source| ManifestError::Damaged {
            path: store.shown(&entry.key),
            source,
        };
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(damaged)?;
        Ok(Some((manifest.period_start, (manifest, version))))
    });
    read.into_iter().filter_map(Result::transpose).collect()
}
