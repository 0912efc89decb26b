//! What is kept of usage between runs: the parts of each source file, and the facts of each bucket.
//!
//! It lies below the outputs, `_cskpi/cache/usage`. Objects are named by the hash of their bytes and verified when they are read;
//! `index.json` says which file and which bucket each is of. Nothing here is ever the only copy of anything: what is missing, damaged
//! or made by other settings is made again from the sources.

use super::bundle;
use crate::publish::{PublishError, Session, at_once};
use crate::run::live::held;
use crate::sources::SourceFile;
use crate::storage::{Condition, StorageError, Version};
use polars::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Where it lies.
pub const FOLDER: &str = "_cskpi/cache/usage";
const INDEX: &str = "_cskpi/cache/usage/index.json";
/// Goes up with every change of what parts or buckets hold, or of how they are written.
pub const FORMAT: u32 = 1;
/// How much of a long first run may be lost when it is killed.
const SAVED_EVERY: Duration = Duration::from_secs(10);
/// Objects removed at the same time.
const AT_ONCE: usize = 8;

/// A file of the cache: bytes of this hash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Object {
    hash: String,
}

/// What is kept of a source file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    size: u64,
    version: Version,
    /// The same for files whose columns are the same.
    pub columns: String,
    /// Each with its calendar month.
    pub parts: Vec<(i32, Object)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeptBucket {
    /// Of all that the bucket was made of.
    key: String,
    object: Object,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Index {
    format: u32,
    /// Hash of the settings that shape parts.
    settings: String,
    files: BTreeMap<String, Kept>,
    buckets: BTreeMap<i32, KeptBucket>,
}

/// The index as it is written: a hash of it beside it.
#[derive(Serialize, Deserialize)]
struct Sealed {
    index: Index,
    blake3: String,
}

/// The cache of one run.
pub struct UsageCache {
    /// `None`: nothing is written, all is kept in memory.
    session: Option<Arc<Session>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    index: Index,
    version: Option<Version>,
    is_changed: bool,
    saved_at: Option<Instant>,
    in_memory: BTreeMap<Object, Arc<Vec<u8>>>,
}

impl Object {
    fn of(bytes: &[u8]) -> Self {
        Self {
            hash: blake3::hash(bytes).to_hex().to_string(),
        }
    }

    fn key(&self) -> String {
        format!("{FOLDER}/{}", self.hash)
    }

    pub fn hash(&self) -> &str {
        &self.hash
    }
}

impl Kept {
    pub fn new(file: &SourceFile, columns: String, parts: Vec<(i32, Object)>) -> Self {
        Self {
            size: file.size,
            version: file.etag.clone(),
            columns,
            parts,
        }
    }

    /// Of rows that lie in no file.
    pub fn of_rows(parts: Vec<(i32, Object)>) -> Self {
        Self {
            size: 0,
            version: Version(String::new()),
            columns: String::new(),
            parts,
        }
    }

    fn is_of(&self, file: &SourceFile) -> bool {
        (self.size, &self.version) == (file.size, &file.etag)
    }
}

impl Index {
    /// Forgets buckets that no part is near: even a quarter begins at most two months before its last day.
    fn forget_lone_buckets(&mut self) {
        let parts = self.files.values().flat_map(|kept| &kept.parts);
        let months: BTreeSet<i32> = parts.map(|(month, _)| *month).collect();
        let is_near = |bucket: i32| months.range(bucket - 1..=bucket + 2).next().is_some();
        self.buckets.retain(|bucket, _| is_near(*bucket));
    }

    fn sealed(self) -> Result<Vec<u8>, serde_json::Error> {
        let blake3 = blake3::hash(&serde_json::to_vec(&self)?)
            .to_hex()
            .to_string();
        serde_json::to_vec(&Sealed {
            index: self,
            blake3,
        })
    }

    /// `None` for what is damaged or of another format.
    fn unsealed(bytes: &[u8]) -> Option<Self> {
        let Sealed { index, blake3 } = serde_json::from_slice(bytes).ok()?;
        let own = blake3::hash(&serde_json::to_vec(&index).ok()?);
        let is_whole = own.to_hex().as_str() == blake3 && index.format == FORMAT;
        is_whole.then_some(index)
    }
}

/// What a file is entered under.
fn entry(table: &str, path: &str) -> String {
    format!("{table} {path}")
}

impl UsageCache {
    /// A cache that lives as long as the run.
    pub fn in_memory() -> Self {
        Self {
            session: None,
            state: Mutex::default(),
        }
    }

    /// What earlier runs have kept below the root of a session.
    pub fn opened(session: &Arc<Session>) -> Self {
        let (index, version) = match session.store.read(INDEX) {
            Ok(None) => (None, None),
            Ok(Some((bytes, version))) => (Index::unsealed(&bytes), Some(version)),
            Err(error) => {
                tracing::warn!("what is kept of usage cannot be read: {error}");
                (None, None)
            }
        };
        if index.is_none() && version.is_some() {
            tracing::warn!(
                "what is kept of usage is damaged or of another version; it is made again"
            );
        }
        Self {
            session: Some(Arc::clone(session)),
            state: Mutex::new(State {
                index: index.unwrap_or_default(),
                version,
                ..State::default()
            }),
        }
    }

    /// What is kept of a file as it is now.
    pub fn of_file(&self, table: &str, file: &SourceFile) -> Option<Kept> {
        let state = held(&self.state);
        let kept = state.index.files.get(&entry(table, &file.path))?;
        kept.is_of(file).then(|| kept.clone())
    }

    /// Whether parts were made by these settings; if not, they are forgotten.
    pub fn is_of(&self, settings: &str) -> bool {
        let mut state = held(&self.state);
        let settings = blake3::hash(settings.as_bytes()).to_hex().to_string();
        if state.index.settings == settings {
            return true;
        }
        if !state.index.files.is_empty() {
            tracing::info!("what is kept of usage was made by other settings; it is made again");
            state.is_changed = true;
        }
        state.index = Index {
            format: FORMAT,
            settings,
            ..Index::default()
        };
        false
    }

    /// Keeps frames; they are not part of the index yet.
    pub fn kept(&self, frames: &mut [DataFrame]) -> PolarsResult<Object> {
        let bytes = bundle::encoded(frames)?;
        let object = Object::of(&bytes);
        // What cannot be kept costs the next run time, and nothing else.
        let staged = self
            .session
            .as_ref()
            .map(|session| session.store.stage(&object.key(), &bytes));
        match staged {
            Some(Ok(())) => {}
            other => {
                if let Some(Err(error)) = other {
                    tracing::warn!("usage cannot be kept for the next run: {error}");
                }
                held(&self.state)
                    .in_memory
                    .insert(object.clone(), Arc::new(bytes));
            }
        }
        Ok(object)
    }

    /// The frames of an object; `None` if its bytes are not there, or not what was written.
    pub fn frames<const N: usize>(&self, object: &Object) -> Option<[DataFrame; N]> {
        let in_memory = held(&self.state).in_memory.get(object).cloned();
        if let Some(bytes) = in_memory {
            return bundle::decoded(&bytes);
        }
        let (bytes, _) = self.session.as_ref()?.store.read(&object.key()).ok()??;
        (Object::of(&bytes) == *object).then(|| bundle::decoded(&bytes))?
    }

    /// Enters the parts of a file.
    pub fn enter(&self, table: &str, file: &SourceFile, kept: Kept) {
        let mut state = held(&self.state);
        state.index.files.insert(entry(table, &file.path), kept);
        state.is_changed = true;
        let is_due = state.saved_at.is_none_or(|at| at.elapsed() > SAVED_EVERY);
        if state.saved_at.is_none() {
            state.saved_at = Some(Instant::now());
        } else if is_due {
            self.save(&mut state);
        }
    }

    /// Forgets a file whose parts are not what they should be.
    pub fn forget(&self, table: &str, path: &str) {
        let mut state = held(&self.state);
        state.index.files.remove(&entry(table, path));
        state.is_changed = true;
    }

    /// The object of a bucket, if it was made of the same.
    pub fn of_bucket(&self, bucket: i32, key: &str) -> Option<Object> {
        let state = held(&self.state);
        let kept = state.index.buckets.get(&bucket)?;
        (kept.key == key).then(|| kept.object.clone())
    }

    pub fn enter_bucket(&self, bucket: i32, key: String, object: Object) {
        let mut state = held(&self.state);
        state
            .index
            .buckets
            .insert(bucket, KeptBucket { key, object });
        state.is_changed = true;
    }

    /// Ends a run: what is of no file any more goes, and objects that nothing names.
    pub fn finish<'a>(
        &self,
        listed: impl Iterator<Item = (&'a str, &'a SourceFile)>,
    ) -> Result<(), PublishError> {
        let Some(session) = &self.session else {
            return Ok(());
        };
        let mut state = held(&self.state);
        let listed: BTreeMap<String, &SourceFile> = listed
            .map(|(table, file)| (entry(table, &file.path), file))
            .collect();
        let before = state.index.files.len();
        let is_there =
            |path: &str, kept: &Kept| listed.get(path).is_some_and(|file| kept.is_of(file));
        state.index.files.retain(|path, kept| is_there(path, kept));
        let has_lost = state.index.files.len() < before;
        if has_lost {
            state.index.forget_lone_buckets();
        }
        if !state.is_changed && !has_lost {
            return Ok(());
        }
        let is_saved = self.save(&mut state);
        // The lock may have been lost by now: what another run keeps must stay.
        session.confirm()?;
        if !is_saved {
            // So must what the index that lies there names.
            return Ok(());
        }
        let index = &state.index;
        let of_files = index
            .files
            .values()
            .flat_map(|kept| kept.parts.iter().map(|(_, object)| object));
        let of_buckets = index.buckets.values().map(|kept| &kept.object);
        let named: BTreeSet<String> = of_files.chain(of_buckets).map(Object::key).collect();
        let there = session
            .store
            .list(FOLDER)?
            .into_iter()
            .map(|entry| entry.key);
        let orphans: Vec<String> = there
            .filter(|key| key != INDEX && !named.contains(key))
            .collect();
        let chunks: Vec<&[String]> = orphans.chunks(100).collect();
        let removed = at_once(AT_ONCE, &chunks, |keys| session.store.remove(keys));
        removed.into_iter().collect::<Result<(), StorageError>>()?;
        Ok(())
    }

    /// Writes the index, if the lock is still ours and nobody has written it since; says whether it did.
    fn save(&self, state: &mut State) -> bool {
        let Some(session) = &self.session else {
            return false;
        };
        let write = || -> Result<Version, PublishError> {
            let _no_signal_now = session.uninterrupted();
            session.confirm()?;
            let bytes = state.index.clone().sealed().unwrap_or_default();
            let before = Condition::unchanged(state.version.as_ref());
            Ok(session.store.put(INDEX, &bytes, before)?)
        };
        state.saved_at = Some(Instant::now());
        match write() {
            Ok(version) => {
                state.version = Some(version);
                state.is_changed = false;
                true
            }
            Err(error) => {
                tracing::warn!("what is kept of usage could not be entered: {error}");
                false
            }
        }
    }
}
