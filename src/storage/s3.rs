//! A prefix in a bucket of S3, or of a store that speaks like it.
//!
//! Every request is retried with back-off. A conditional write whose answer was lost is settled by looking: if what lies
//! there is what we wrote, we wrote it.

mod multipart;
mod session;
mod words;

use super::credentials::{Credentials, Http, Provider, context};
use super::{Condition, Entry, StorageError, Store, Version};
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use object_store::aws::AmazonS3;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion,
};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use words::{between, encoded, explained, is_expired, is_not_found, said, unescaped};

pub use session::S3Session;

/// Larger files go up in parts, each of which is retried by itself.
const ONE_PUT: usize = 16 << 20;
const PART: usize = 8 << 20;
/// Tries of a request beyond the client's own retries: a connection cut after the request was sent, keys that have expired.
const TRIES: u32 = 4;
/// Objects removed by one request.
const REMOVED_AT_ONCE: usize = 16;

/// A prefix in a bucket.
#[derive(Debug)]
pub struct S3Prefix {
    session: Arc<S3Session>,
    client: Arc<AmazonS3>,
    bucket: String,
    prefix: String,
}

impl S3Prefix {
    pub fn new(
        session: Arc<S3Session>,
        client: Arc<AmazonS3>,
        bucket: String,
        prefix: String,
    ) -> Self {
        Self {
            session,
            client,
            bucket,
            prefix,
        }
    }

    fn full(&self, key: &str) -> String {
        match (self.prefix.as_str(), key) {
            ("", key) => key.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, key) => format!("{prefix}/{key}"),
        }
    }

    fn path(&self, key: &str) -> Result<Path, StorageError> {
        Path::parse(self.full(key))
            .map_err(|error| explained("reaching", self.shown(key), error.into()))
    }

    fn below(&self, path: &str) -> String {
        let below = path.strip_prefix(self.prefix.as_str()).unwrap_or(path);
        below.trim_start_matches('/').to_owned()
    }

    /// Runs a request, again if it may succeed the next time.
    fn tried<T, F>(
        &self,
        action: &'static str,
        key: &str,
        request: impl Fn() -> F,
    ) -> Result<T, StorageError>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let runtime = self.session.runtime()?;
        let begun = Instant::now();
        let mut tries = 1;
        loop {
            let error = match runtime.block_on(request()) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let is_late = begun.elapsed() > self.session.timeout;
            if tries >= TRIES || is_late || !self.is_worth_another(&error) {
                return Err(explained(action, self.shown(key), error));
            }
            tracing::debug!(key, tries, "S3 request tried again: {error}");
            std::thread::sleep(Duration::from_millis(100) * 2u32.pow(tries));
            tries += 1;
        }
    }

    /// A lost connection, or keys that have expired: those are fetched anew.
    fn is_worth_another(&self, error: &Error) -> bool {
        match error {
            Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::Generic { .. }
                if is_expired(&said(error)) =>
            {
                if let Ok(runtime) = self.session.runtime() {
                    runtime.block_on(self.session.credentials.refused());
                }
                true
            }
            // The client has already retried what the server answered; this is what never got an answer.
            Error::Generic { .. } => !error.to_string().contains("status"),
            _ => false,
        }
    }

    fn put_whole(
        &self,
        key: &str,
        bytes: &[u8],
        condition: Condition,
    ) -> Result<Version, StorageError> {
        let path = self.path(key)?;
        let mode = match condition {
            Condition::Always => PutMode::Overwrite,
            Condition::Absent => PutMode::Create,
            Condition::Matches(version) => PutMode::Update(UpdateVersion {
                e_tag: Some(version.0.clone()),
                version: None,
            }),
        };
        let payload = PutPayload::from(bytes.to_vec());
        let options = PutOptions::from(mode);
        let put = self.tried("writing", key, || {
            self.client
                .put_opts(&path, payload.clone(), options.clone())
        });
        match put {
            Ok(result) => self.version(key, result.e_tag),
            // Ours may have arrived although the answer did not: then a second try finds its own work.
            Err(error) => match self.read(key) {
                Ok(Some((found, version))) if found == bytes => Ok(version),
                _ => Err(error),
            },
        }
    }

    /// Writes under conditions that hold, and under some that do not.
    fn keeps_conditions(&self, key: &str) -> Result<(), StorageError> {
        let first = self.put(key, b"first", Condition::Absent)?;
        let careless = |done| Err(careless(self.shown(key), done));
        match self.put(key, b"second", Condition::Absent) {
            Err(StorageError::Conflict { .. }) => {}
            Ok(_) => return careless("it overwrote an object in spite of If-None-Match"),
            Err(error) => return Err(error),
        }
        match self.put(key, b"third", Condition::Matches(&first)) {
            Ok(_) => {}
            Err(StorageError::Conflict { .. }) => {
                return careless("it refused an If-Match that was right");
            }
            Err(error) => return Err(error),
        }
        match self.put(key, b"fourth", Condition::Matches(&first)) {
            Err(StorageError::Conflict { .. }) => {}
            Ok(_) => return careless("it overwrote an object in spite of If-Match"),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn version(&self, key: &str, e_tag: Option<String>) -> Result<Version, StorageError> {
        e_tag.map(Version).ok_or_else(|| StorageError::Setup {
            text: format!("the store gives no ETag for {}", self.shown(key)),
            hint: "cskpi needs a store that keeps ETags and conditional writes",
        })
    }
}

impl Store for S3Prefix {
    fn shown(&self, key: &str) -> String {
        format!("s3://{}/{}", self.bucket, self.full(key))
    }

    fn read(&self, key: &str) -> Result<Option<(Vec<u8>, Version)>, StorageError> {
        let path = self.path(key)?;
        let read = self.tried("reading", key, || async {
            let result = self.client.get(&path).await?;
            let e_tag = result.meta.e_tag.clone();
            Ok((result.bytes().await?, e_tag))
        });
        match read {
            Ok((bytes, e_tag)) => Ok(Some((bytes.to_vec(), self.version(key, e_tag)?))),
            Err(StorageError::Failed { source, .. }) if is_not_found(source.as_ref()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn entry(&self, key: &str) -> Result<Option<Entry>, StorageError> {
        let path = self.path(key)?;
        match self.tried("reading", key, || self.client.head(&path)) {
            Ok(meta) => Ok(Some(Entry {
                key: key.to_owned(),
                size: meta.size,
                version: self.version(key, meta.e_tag)?,
                modified: meta.last_modified,
            })),
            Err(StorageError::Failed { source, .. }) if is_not_found(source.as_ref()) => Ok(None),
            // The answer to HEAD has no body; that to GET says why.
            Err(refused @ StorageError::Refused { .. }) if is_without_words(&refused) => {
                let read = self.tried("reading", key, || self.client.get_range(&path, 0..1));
                Err(match read {
                    Err(told @ StorageError::Refused { .. }) => told,
                    _ => refused,
                })
            }
            Err(error) => Err(error),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<Entry>, StorageError> {
        let full = self.full(folder);
        let prefix = if full.is_empty() {
            None
        } else {
            Some(self.path(folder)?)
        };
        let found = self.tried("listing", folder, || {
            self.client.list(prefix.as_ref()).try_collect::<Vec<_>>()
        })?;
        let mut entries = found
            .into_iter()
            .filter(|meta| !is_folder(meta))
            .map(|meta| {
                let key = self.below(meta.location.as_ref());
                Ok(Entry {
                    version: self.version(&key, meta.e_tag)?,
                    key,
                    size: meta.size,
                    modified: meta.last_modified,
                })
            })
            .collect::<Result<Vec<_>, StorageError>>()?;
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    fn put(&self, key: &str, bytes: &[u8], condition: Condition) -> Result<Version, StorageError> {
        if bytes.len() > ONE_PUT {
            self.put_parts(key, bytes, condition)
        } else {
            self.put_whole(key, bytes, condition)
        }
    }

    fn stage(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        self.put(key, bytes, Condition::Always).map(|_| ())
    }

    fn publish(
        &self,
        staged: &str,
        key: &str,
        condition: Condition,
    ) -> Result<Version, StorageError> {
        let Some((bytes, _)) = self.read(staged)? else {
            return Err(StorageError::Failed {
                action: "publishing",
                path: self.shown(staged),
                source: "the staged file is gone".into(),
            });
        };
        self.put(key, &bytes, condition)
    }

    fn remove(&self, keys: &[String]) -> Result<(), StorageError> {
        for chunk in keys.chunks(REMOVED_AT_ONCE) {
            let paths = chunk
                .iter()
                .map(|key| self.path(key))
                .collect::<Result<Vec<_>, _>>()?;
            self.tried("removing", &chunk[0], || {
                futures_util::future::try_join_all(paths.iter().map(|path| async move {
                    match self.client.delete(path).await {
                        Err(Error::NotFound { .. }) => Ok(()),
                        done => done,
                    }
                }))
            })?;
        }
        Ok(())
    }

    fn remove_folder(&self, folder: &str) -> Result<(), StorageError> {
        let keys: Vec<String> = self
            .list(folder)?
            .into_iter()
            .map(|entry| entry.key)
            .collect();
        self.remove(&keys)
    }

    fn unfinished_uploads(&self) -> Result<Vec<(String, String)>, StorageError> {
        let prefix = self.full("");
        let prefix = if prefix.is_empty() {
            prefix
        } else {
            format!("{prefix}/")
        };
        let query = format!("prefix={}&uploads=", encoded(&prefix));
        let text = self.signed("listing", "", "GET", &query, None, String::new())?;
        let uploads = text.split("<Upload>").skip(1);
        Ok(uploads
            .filter_map(|upload| {
                let key = between(upload, "<Key>", "</Key>")?;
                let id = between(upload, "<UploadId>", "</UploadId>")?;
                Some((self.below(&unescaped(key)), unescaped(id)))
            })
            .collect())
    }

    fn abort_upload(&self, key: &str, id: &str) -> Result<(), StorageError> {
        let path = self.path(key)?;
        let id = id.to_owned();
        match self.tried("removing", key, || self.client.abort_multipart(&path, &id)) {
            Err(StorageError::Failed { source, .. }) if is_not_found(source.as_ref()) => Ok(()),
            done => done,
        }
    }

    fn probe(&self, key: &str) -> Result<DateTime<Utc>, StorageError> {
        let looked = self.keeps_conditions(key).and_then(|()| self.entry(key));
        // Where we may not write there is nothing to remove.
        let removed = match &looked {
            Ok(_) | Err(StorageError::Setup { .. }) => self.remove(&[key.to_owned()]),
            Err(_) => Ok(()),
        };
        let entry = looked?;
        removed?;
        Ok(entry.map_or(DateTime::UNIX_EPOCH, |entry| entry.modified))
    }
}

/// A store that takes no notice of conditions.
fn careless(path: String, done: &str) -> StorageError {
    StorageError::Setup {
        text: format!("the store behind {path} does not keep conditional writes: {done}"),
        hint: "publish to a store that honours If-None-Match and If-Match on PUT (AWS S3, Ceph, recent MinIO and R2 do); two runs at once could tear tables here",
    }
}

/// An empty object that a console or another engine has put there for a folder (`usage/`). The client takes the slash away.
fn is_folder(meta: &ObjectMeta) -> bool {
    let has_ending = meta
        .location
        .filename()
        .is_some_and(|name| name.contains('.'));
    meta.size == 0 && !has_ending
}

/// A refusal of which the store gave nothing but the status.
fn is_without_words(refused: &StorageError) -> bool {
    matches!(refused, StorageError::Refused { reason, .. } if reason.starts_with("40"))
}
