//! Where tables and the program's own files lie: a folder of the local disk, or a bucket of an object store.
//!
//! The only room that lists, writes, renames and removes. Both stores keep one promise, on which publishing rests: a
//! write under a [`Condition`] happens wholly or not at all, and only if the condition held at that instant.

mod credentials;
mod find;
mod local;
mod s3;

use crate::config::S3;
use chrono::{DateTime, Utc};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use find::{FindError, Found};
pub use s3::S3Session;

/// A folder on the local disk, or a prefix in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Local(PathBuf),
    S3 { bucket: String, prefix: String },
}

/// What an object or file was like when it was looked at: it changes with every write. An ETag, or size, time and inode.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Version(pub String);

/// One file of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Below the store's root, `/` between folders.
    pub key: String,
    pub size: u64,
    pub version: Version,
    /// By the store's clock, not ours.
    pub modified: DateTime<Utc>,
}

/// What must hold for a write to happen.
#[derive(Debug, Clone, Copy)]
pub enum Condition<'a> {
    Always,
    /// There is nothing under the key.
    Absent,
    /// What is there is what we saw.
    Matches(&'a Version),
}

impl<'a> Condition<'a> {
    /// The key still holds what was seen there, be it nothing.
    pub fn unchanged(seen: Option<&'a Version>) -> Self {
        seen.map_or(Condition::Absent, Condition::Matches)
    }
}

/// A failed access, with what it was about.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("{action} {path} failed")]
    Failed {
        action: &'static str,
        path: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store knows us and says no, or does not know us.
    #[error("{action} {path} was refused: {reason}")]
    Refused {
        action: &'static str,
        path: String,
        reason: String,
    },
    #[error("the bucket {bucket} does not exist")]
    NoBucket { bucket: String },
    /// A conditional write found something else than what we had seen.
    #[error("{path} was changed by someone else in the meantime")]
    Conflict { path: String },
    #[error("another process keeps {path} locked")]
    Busy { path: String },
    #[error("{text}")]
    Setup { text: String, hint: &'static str },
}

/// The verbs of a store. Keys lie below its root, `/` between folders.
pub trait Store: fmt::Debug + Send + Sync {
    /// How a key is shown to people.
    fn shown(&self, key: &str) -> String;
    /// What a key holds; `None` if there is nothing.
    fn read(&self, key: &str) -> Result<Option<(Vec<u8>, Version)>, StorageError>;
    /// What a listing says of a key, without reading it.
    fn entry(&self, key: &str) -> Result<Option<Entry>, StorageError>;
    /// All files below a folder (`""`: everything), by key.
    fn list(&self, folder: &str) -> Result<Vec<Entry>, StorageError>;
    /// Writes in one step, durably; readers see the old content or the new.
    fn put(&self, key: &str, bytes: &[u8], condition: Condition) -> Result<Version, StorageError>;
    /// Writes a file that nobody reads yet. It need not outlive a power cut before it is published.
    fn stage(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError>;
    /// Puts a staged file in its place in one step, durably.
    fn publish(
        &self,
        staged: &str,
        key: &str,
        condition: Condition,
    ) -> Result<Version, StorageError>;
    /// Removes files; those that are not there are removed already.
    fn remove(&self, keys: &[String]) -> Result<(), StorageError>;
    /// Removes a folder with all that is in it, if it is there.
    fn remove_folder(&self, folder: &str) -> Result<(), StorageError>;
    /// Uploads that were begun and never finished, as `(key, id)`.
    fn unfinished_uploads(&self) -> Result<Vec<(String, String)>, StorageError>;
    fn abort_upload(&self, key: &str, id: &str) -> Result<(), StorageError>;
    /// What time it is by the store's own clock, found by writing `key` and removing it again. A store that does not keep
    /// conditional writes is an error: nothing could be published safely there.
    fn probe(&self, key: &str) -> Result<DateTime<Utc>, StorageError>;
}

/// All that is needed to reach any place; connections are made when the first one is needed.
#[derive(Debug)]
pub struct Storage {
    s3: Arc<S3Session>,
}

impl Place {
    /// `s3://bucket/prefix`, or a path.
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix("s3://") {
            Some(rest) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                Self::S3 {
                    bucket: bucket.to_owned(),
                    prefix: prefix.trim_end_matches('/').to_owned(),
                }
            }
            None => Self::Local(PathBuf::from(text)),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl Storage {
    /// `environment` answers for what the pipeline file leaves open: region and endpoint.
    pub fn new(s3: &S3, environment: &dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            s3: Arc::new(S3Session::new(s3, environment)),
        }
    }

    /// The store below a place.
    pub fn store(&self, root: &str) -> Result<Arc<dyn Store>, StorageError> {
        Ok(match Place::parse(root) {
            Place::Local(path) => Arc::new(local::LocalFolder::new(path)),
            Place::S3 { bucket, prefix } => Arc::new(s3::S3Prefix::new(
                Arc::clone(&self.s3),
                self.s3.bucket(&bucket)?,
                bucket,
                prefix,
            )),
        })
    }

    /// How polars reaches the same bucket, with the same credentials.
    pub fn cloud_options(
        &self,
        bucket: &str,
    ) -> Result<polars::prelude::cloud::CloudOptions, StorageError> {
        self.s3.cloud_options(bucket)
    }
}

/// Adds a line to a local file, which is created if there is none.
pub fn append_line(path: &str, line: &str) -> Result<(), StorageError> {
    use std::io::Write;
    let append = || -> std::io::Result<()> {
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path)?;
        // One write: lines of two runs do not mix.
        file.write_all(format!("{line}\n").as_bytes())
    };
    append().map_err(|error| StorageError::Failed {
        action: "writing",
        path: path.to_owned(),
        source: error.into(),
    })
}

/// The folder of a key.
fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}
