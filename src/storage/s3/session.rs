//! How buckets are reached: one set of settings and credentials for our own client and for polars.

use super::words::explained;
use super::{Credentials, Provider};
use crate::config::S3;
use crate::storage::StorageError;
use object_store::RetryConfig;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::ClientConfigKey;
use polars::io::cloud::credential_provider::{ObjectStoreCredential, PlCredentialProvider};
use polars::prelude::cloud::{CloudOptions, CloudRetryConfig};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::Runtime;

/// Settings and connections shared by all buckets.
pub struct S3Session {
    endpoint: Option<String>,
    pub(super) region: Option<String>,
    path_style: bool,
    allow_http: bool,
    pub(super) timeout: Duration,
    max_retries: usize,
    pub(super) credentials: Arc<Credentials>,
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
    pub(super) fn runtime(&self) -> Result<&Arc<Runtime>, StorageError> {
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

    pub(super) fn url_of(&self, bucket: &str) -> String {
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
