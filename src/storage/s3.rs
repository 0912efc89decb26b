//! A prefix in a bucket of S3, or of a store that speaks like it.
//!
//! Every request is retried with back-off. A conditional write whose answer was lost is settled by looking: if what lies
//! there is what we wrote, we wrote it.

use super::credentials::{Credentials, Http, Provider, context};
use super::{Condition, Entry, StorageError, Store, Version};
use crate::config::S3;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};
use object_store::client::ClientConfigKey;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
    UpdateVersion,
};
use polars::prelude::cloud::{CloudOptions, CloudRetryConfig};
use polars_cloud::{ObjectStoreCredential, PlCredentialProvider};
use reqsign_aws_v4::{RequestSigner, StaticCredentialProvider};
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Runtime;

use polars::io::cloud::credential_provider as polars_cloud;

/// Larger files go up in parts, each of which is retried by itself.
const ONE_PUT: usize = 16 << 20;
const PART: usize = 8 << 20;
/// Tries of a request beyond the client's own retries: a connection cut after the request was sent, keys that have expired.
const TRIES: u32 = 4;
/// With these codes a store says that it does not know us, or that we may not.
const REFUSALS: [&str; 6] = [
    "AccessDenied",
    "AuthorizationHeaderMalformed",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "ExpiredToken",
];
const EXPIRED: [&str; 3] = ["ExpiredToken", "TokenRefreshRequired", "RequestExpired"];
/// Objects removed by one request.
const REMOVED_AT_ONCE: usize = 16;

/// Settings and connections shared by all buckets.
pub struct S3Session {
    endpoint: Option<String>,
    region: Option<String>,
    path_style: bool,
    allow_http: bool,
    timeout: Duration,
    max_retries: usize,
    credentials: Arc<Credentials>,
    runtime: OnceLock<Arc<Runtime>>,
    buckets: Mutex<HashMap<String, Arc<AmazonS3>>>,
}

impl std::fmt::Debug for S3Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (endpoint, region) = (&self.endpoint, &self.region);
        f.debug_struct("S3Session")
            .field("endpoint", endpoint)
            .field("region", region)
            .finish_non_exhaustive()
    }
}

impl S3Session {
    pub fn new(settings: &S3, environment: &dyn Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| {
            let mut values = names.iter().filter_map(|name| environment(name));
            values.find(|value| !value.is_empty())
        };
        let endpoint = settings.endpoint.clone();
        let endpoint = endpoint.or_else(|| first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]));
        let region = settings.region.clone();
        let region = region.or_else(|| first(&["AWS_REGION", "AWS_DEFAULT_REGION"]));
        Self {
            path_style: settings.path_style.unwrap_or(endpoint.is_some()),
            region: region.or_else(|| endpoint.is_some().then(|| "us-east-1".to_owned())),
            endpoint: endpoint.map(|text| text.trim_end_matches('/').to_owned()),
            allow_http: settings.allow_http,
            timeout: settings.timeout,
            max_retries: settings.max_retries as usize,
            credentials: Arc::new(Credentials::new(settings)),
            runtime: OnceLock::new(),
            buckets: Mutex::default(),
        }
    }

    /// Two threads wait for the network; polars has its own.
    fn runtime(&self) -> Result<&Arc<Runtime>, StorageError> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|source| StorageError::Failed {
                action: "starting",
                path: "the network threads".into(),
                source: source.into(),
            })?;
        Ok(self.runtime.get_or_init(|| Arc::new(runtime)))
    }

    fn url_of(&self, bucket: &str) -> String {
        let host = match &self.endpoint {
            None => format!(
                "https://s3.{}.amazonaws.com",
                self.region.as_deref().unwrap_or_default()
            ),
            Some(endpoint) => endpoint.clone(),
        };
        match (
            self.path_style || self.endpoint.is_none(),
            host.split_once("://"),
        ) {
            (false, Some((scheme, host))) => format!("{scheme}://{bucket}.{host}"),
            _ => format!("{host}/{bucket}"),
        }
    }

    /// The one description of how a bucket is reached, for our own client and for polars.
    fn settings_of(&self, bucket: &str) -> Result<Vec<(AmazonS3ConfigKey, String)>, StorageError> {
        let region = self.region.clone().ok_or_else(|| StorageError::Setup {
            text: format!("no region is known for s3://{bucket}"),
            hint: "name it in the pipeline (`s3: {region: ap-northeast-1}`) or in AWS_REGION",
        })?;
        if let Some(endpoint) = &self.endpoint
            && endpoint.starts_with("http://")
            && !self.allow_http
        {
            return Err(StorageError::Setup {
                text: format!("the S3 endpoint {endpoint} is not encrypted"),
                hint: "use https://, or allow it in the pipeline: `s3: {allow_http: true}`",
            });
        }
        let mut all = vec![
            (AmazonS3ConfigKey::Region, region),
            (
                AmazonS3ConfigKey::VirtualHostedStyleRequest,
                (!self.path_style && self.endpoint.is_some()).to_string(),
            ),
            (
                AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp),
                self.allow_http.to_string(),
            ),
            (
                AmazonS3ConfigKey::Client(ClientConfigKey::Timeout),
                format!("{}s", self.timeout.as_secs()),
            ),
        ];
        if let Some(endpoint) = &self.endpoint {
            let is_path_style = self.path_style;
            let endpoint = if is_path_style {
                endpoint.clone()
            } else {
                self.url_of(bucket)
            };
            // polars' client also takes AWS_ENDPOINT_URL_S3 from the environment, which would come before the plain one.
            all.push((AmazonS3ConfigKey::S3Endpoint, endpoint.clone()));
            all.push((AmazonS3ConfigKey::Endpoint, endpoint));
        }
        Ok(all)
    }

    pub fn bucket(&self, bucket: &str) -> Result<Arc<AmazonS3>, StorageError> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = buckets.get(bucket) {
            return Ok(Arc::clone(client));
        }
        let mut builder = AmazonS3Builder::new().with_bucket_name(bucket);
        for (key, value) in self.settings_of(bucket)? {
            builder = builder.with_config(key, value);
        }
        let provider = Provider(Arc::clone(&self.credentials));
        let retry = RetryConfig {
            max_retries: self.max_retries,
            ..RetryConfig::default()
        };
        let client = builder
            .with_credentials(Arc::new(provider))
            .with_retry(retry)
            .build();
        let client = Arc::new(
            client.map_err(|error| explained("reaching", format!("s3://{bucket}"), error))?,
        );
        buckets.insert(bucket.to_owned(), Arc::clone(&client));
        Ok(client)
    }

    /// How polars reaches a bucket; the credentials are ours, fetched on our threads.
    pub fn cloud_options(&self, bucket: &str) -> Result<CloudOptions, StorageError> {
        let runtime = self.runtime()?.handle().clone();
        let credentials = Arc::clone(&self.credentials);
        let provider = PlCredentialProvider::from_func(move || {
            let credentials = Arc::clone(&credentials);
            let fetched = runtime.spawn(async move { credentials.get().await });
            Box::pin(async move {
                let failed = |text: String| polars::prelude::polars_err!(ComputeError: "{text}");
                let found = fetched
                    .await
                    .map_err(|error| failed(error.to_string()))?
                    .map_err(failed)?;
                // Asked again soon: the room above knows when they expire.
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                Ok((ObjectStoreCredential::Aws(found), now.as_secs() + 1))
            })
        });
        // polars would give up after ten seconds, whatever the pipeline says.
        let retry = RetryConfig::default();
        let retry = CloudRetryConfig {
            max_retries: Some(self.max_retries),
            retry_timeout: Some(retry.retry_timeout),
            ..CloudRetryConfig::default()
        };
        Ok(CloudOptions::default()
            .with_retry_config(retry)
            .with_aws(self.settings_of(bucket)?)
            .with_credential_provider(Some(provider)))
    }
}

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

    /// Uploads in parts. The last step carries the condition; until then nobody sees anything.
    fn put_parts(
        &self,
        key: &str,
        bytes: &[u8],
        condition: Condition,
    ) -> Result<Version, StorageError> {
        let path = self.path(key)?;
        let upload = self.tried("writing", key, || self.client.create_multipart(&path))?;
        let finished = self.put_all_parts(key, bytes, &upload).and_then(|parts| {
            crate::fault::step("multipart_uploaded");
            self.completed(key, &upload, &parts, condition)
        });
        match finished {
            Ok(version) => Ok(version),
            Err(error) => match self.read(key) {
                Ok(Some((found, version))) if found == bytes => Ok(version),
                _ => {
                    if let Err(left) = self.abort_upload(key, &upload) {
                        tracing::warn!(
                            key,
                            "an upload that was given up is left for vacuum: {left}"
                        );
                    }
                    Err(error)
                }
            },
        }
    }

    fn put_all_parts(
        &self,
        key: &str,
        bytes: &[u8],
        upload: &String,
    ) -> Result<Vec<PartId>, StorageError> {
        let path = self.path(key)?;
        let parts = bytes.chunks(PART).enumerate();
        parts
            .map(|(index, part)| {
                let payload = PutPayload::from(part.to_vec());
                self.tried("writing", key, || {
                    self.client.put_part(&path, upload, index, payload.clone())
                })
            })
            .collect()
    }

    /// Completes an upload under a condition, which the client's own call cannot say.
    fn completed(
        &self,
        key: &str,
        upload: &str,
        parts: &[PartId],
        condition: Condition,
    ) -> Result<Version, StorageError> {
        let listed: String = parts
            .iter()
            .enumerate()
            .map(|(index, part)| {
                format!(
                    "<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>",
                    index + 1,
                    part.content_id
                )
            })
            .collect();
        let body = format!("<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>");
        let header = match condition {
            Condition::Always => None,
            Condition::Absent => Some(("if-none-match", "*".to_owned())),
            Condition::Matches(version) => Some(("if-match", version.0.clone())),
        };
        let query = format!("uploadId={}", encoded(upload));
        let text = self.signed("writing", key, "POST", &query, header, body)?;
        let tag = between(&text, "<ETag>", "</ETag>").map(|tag| tag.replace("&quot;", "\""));
        self.version(
            key,
            tag.map(|tag| {
                if tag.starts_with('"') {
                    tag
                } else {
                    format!("\"{tag}\"")
                }
            }),
        )
    }

    /// A request that the client does not know, signed with the same credentials.
    fn signed(
        &self,
        action: &'static str,
        key: &str,
        method: &'static str,
        query: &str,
        header: Option<(&'static str, String)>,
        body: String,
    ) -> Result<String, StorageError> {
        let path: Vec<String> = self.full(key).split('/').map(encoded).collect();
        let path = if key.is_empty() {
            String::new()
        } else {
            format!("/{}", path.join("/"))
        };
        let url = format!("{}{path}?{query}", self.session.url_of(&self.bucket));
        let request = || async {
            let generic = |text: String| Error::Generic {
                store: "S3",
                source: text.into(),
            };
            let credential: Arc<AwsCredential> =
                self.session.credentials.get().await.map_err(generic)?;
            let fixed = StaticCredentialProvider::new(&credential.key_id, &credential.secret_key);
            let fixed = match &credential.token {
                Some(token) => fixed.with_session_token(token),
                None => fixed,
            };
            let region = self.session.region.clone().unwrap_or_default();
            let signer =
                reqsign_core::Signer::new(context(), fixed, RequestSigner::new("s3", &region));
            let mut builder = http::Request::builder().method(method).uri(&url);
            if let Some((name, value)) = &header {
                builder = builder.header(*name, value);
            }
            let request = builder
                .body(())
                .map_err(|error| generic(error.to_string()))?;
            let (mut parts, ()) = request.into_parts();
            signer
                .sign(&mut parts, None)
                .await
                .map_err(|error| generic(error.to_string()))?;
            let request = http::Request::from_parts(parts, bytes::Bytes::from(body.clone()));
            let http = Http(
                reqwest::Client::builder()
                    .timeout(self.session.timeout)
                    .build()
                    .unwrap_or_default(),
            );
            let answer = reqsign_core::HttpSend::http_send(&http, request).await;
            let answer = answer.map_err(|error| generic(error.to_string()))?;
            let text = String::from_utf8_lossy(answer.body()).into_owned();
            let shown = || self.shown(key);
            match answer.status().as_u16() {
                // S3 may answer 200 and tell of an error in the body.
                200..=299 if !text.contains("<Error>") => Ok(text),
                412 | 409 => Err(Error::Precondition {
                    path: shown(),
                    source: text.into(),
                }),
                401 | 403 => Err(Error::PermissionDenied {
                    path: shown(),
                    source: text.into(),
                }),
                404 => Err(Error::NotFound {
                    path: shown(),
                    source: text.into(),
                }),
                _ => Err(generic(text)),
            }
        };
        self.tried(action, key, request)
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

fn is_not_found(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref::<Error>(), Some(Error::NotFound { .. }))
}

/// What the store said, in words: bucket, key, and what was refused.
fn explained(action: &'static str, path: String, error: Error) -> StorageError {
    let text = said(&error);
    let code = between(&text, "<Code>", "</Code>").unwrap_or_default();
    if code == "NoSuchBucket" {
        let bucket = path
            .trim_start_matches("s3://")
            .split('/')
            .next()
            .unwrap_or_default();
        return StorageError::NoBucket {
            bucket: bucket.to_owned(),
        };
    }
    match &error {
        Error::AlreadyExists { .. } | Error::Precondition { .. } => StorageError::Conflict { path },
        Error::NotFound { .. } => StorageError::Failed {
            action,
            path,
            source: error.into(),
        },
        _ if is_refusal(&error, &text, code) => StorageError::Refused {
            action,
            path,
            reason: reason(&error),
        },
        _ => StorageError::Failed {
            action,
            path,
            source: reason(&error).into(),
        },
    }
}

/// Listings and parts are refused without a type of error of their own.
fn is_refusal(error: &Error, text: &str, code: &str) -> bool {
    let is_typed = matches!(
        error,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. }
    );
    is_typed
        || REFUSALS.contains(&code)
        || ["401", "403"].contains(&status(text).split(' ').next().unwrap_or_default())
}

/// The answer to HEAD has no body that could say so.
fn is_expired(text: &str) -> bool {
    let is_silent = status(text).starts_with("400") && !text.contains("<Code>");
    is_silent || EXPIRED.iter().any(|code| text.contains(code))
}

/// `403 Forbidden`, as the client quotes it.
fn status(text: &str) -> &str {
    let rest = text.split_once("status code: ").map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split([':', '\n']).next())
        .unwrap_or_default()
        .trim()
}

/// What the store said, or what became of the connection, without how the client came by it.
fn reason(error: &Error) -> String {
    let text = said(error);
    if let Some(code) = between(&text, "<Code>", "</Code>") {
        let message = between(&text, "<Message>", "</Message>").unwrap_or_default();
        return unescaped(format!("{code}: {message}").trim_end_matches(": "));
    }
    if !status(&text).is_empty() {
        return status(&text).to_owned();
    }
    let mut causes = vec![error.to_string()];
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Most errors quote their cause.
        if causes.last().is_some_and(|last| last.contains(&cause_text)) {
            causes.pop();
        }
        causes.push(cause_text);
        source = cause.source();
    }
    causes.join(": ")
}

/// All that an error and its causes say.
fn said(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!("\n{cause}"));
        source = cause.source();
    }
    text
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(open)?;
    rest.split_once(close).map(|(inner, _)| inner)
}

fn unescaped(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">");
    text.replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

/// Percent-encodes all that a signature would.
fn encoded(text: impl AsRef<str>) -> String {
    text.as_ref()
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
