//! One set of credentials for everything that reaches S3: our own requests and polars' scans.
//!
//! Keys named in the pipeline come first; then the chain every AWS tool follows (environment, profile, SSO, web identity, process,
//! container, instance role). Whatever expires is fetched again before it does.

use crate::config::S3;
use object_store::aws::AwsCredential;
use reqsign_aws_v4::{Credential, DefaultCredentialProvider, ProfileCredentialProvider};
use reqsign_core::{
    Context, HttpSend, OsEnv, ProvideCredential, ProvideCredentialChain, SigningCredential,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Credentials so short-lived that they are always about to expire are still used this long.
const AT_LEAST: Duration = Duration::from_secs(1);
/// Where credentials come from answers at once, or is not there: outside of a cloud nobody answers at its address.
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Credentials {
    context: Context,
    source: Source,
    current: Mutex<Option<(Arc<AwsCredential>, Credential, Instant)>>,
}

enum Source {
    /// Named in the pipeline. Not a link of the chain, which logs its links, secrets and all.
    Named(Arc<AwsCredential>),
    Chain {
        chain: ProvideCredentialChain<Credential>,
        profile: Option<String>,
    },
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Named(_) => "Named",
            Self::Chain { .. } => "Chain",
        })
    }
}

impl Credentials {
    pub fn new(settings: &S3) -> Self {
        let profile = settings.profile.clone();
        let source = match (&settings.keys, &settings.profile) {
            (Some(keys), _) => Source::Named(Arc::new(AwsCredential {
                key_id: keys.access_key_id.clone(),
                secret_key: keys.secret_access_key.clone(),
                token: keys.session_token.clone(),
            })),
            // A profile that is named means that profile, not keys that happen to stand in the environment.
            (None, Some(name)) => Source::Chain {
                chain: ProvideCredentialChain::new()
                    .push(ProfileCredentialProvider::new().with_profile(name))
                    .push(
                        DefaultCredentialProvider::builder()
                            .no_env()
                            .with_profile(name)
                            .build(),
                    ),
                profile,
            },
            (None, None) => Source::Chain {
                chain: ProvideCredentialChain::new().push(DefaultCredentialProvider::new()),
                profile,
            },
        };
        Self {
            context: context(),
            source,
            current: Mutex::new(None),
        }
    }

    /// Credentials that are still good for a while.
    pub async fn get(&self) -> Result<Arc<AwsCredential>, String> {
        let (chain, profile) = match &self.source {
            Source::Named(keys) => return Ok(Arc::clone(keys)),
            Source::Chain { chain, profile } => (chain, profile),
        };
        let mut current = self.current.lock().await;
        if let Some((usable, credential, since)) = &*current
            && (credential.is_valid() || since.elapsed() < AT_LEAST)
        {
            return Ok(Arc::clone(usable));
        }
        let found = chain.provide_credential(&self.context).await;
        let credential = found
            .map_err(|error| format!("no S3 credentials: {error}"))?
            .ok_or_else(|| match profile {
                Some(profile) => format!("no S3 credentials: none in the profile `{profile}` (s3.profile), and no role"),
                None => "no S3 credentials: none in the pipeline (s3.access_key_id), the environment, a profile or an instance role".to_owned(),
            })?;
        let usable = Arc::new(AwsCredential {
            key_id: credential.access_key_id.clone(),
            secret_key: credential.secret_access_key.clone(),
            token: credential.session_token.clone(),
        });
        *current = Some((Arc::clone(&usable), credential, Instant::now()));
        Ok(usable)
    }

    /// Forgets what the store has refused, so that the next request fetches anew.
    pub async fn refused(&self) {
        *self.current.lock().await = None;
    }
}

/// Handed to `object_store`.
#[derive(Debug)]
pub struct Provider(pub Arc<Credentials>);

#[async_trait::async_trait]
impl object_store::CredentialProvider for Provider {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.0
            .get()
            .await
            .map_err(|text| object_store::Error::Unauthenticated {
                path: String::new(),
                source: text.into(),
            })
    }
}

/// What credential providers may use: files, the environment, processes and HTTP.
pub fn context() -> Context {
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECTED_WITHIN)
        .timeout(ANSWERED_WITHIN);
    Context::new()
        .with_file_read(reqsign_file_read_tokio::TokioFileRead)
        .with_command_execute(reqsign_command_execute_tokio::TokioCommandExecute)
        .with_http_send(Http(client.build().unwrap_or_default()))
        .with_env(OsEnv)
}

/// HTTP for the credential providers.
#[derive(Debug)]
pub struct Http(pub reqwest::Client);

impl HttpSend for Http {
    async fn http_send(
        &self,
        request: http::Request<bytes::Bytes>,
    ) -> reqsign_core::Result<http::Response<bytes::Bytes>> {
        let failed = |error: reqwest::Error| {
            reqsign_core::Error::unexpected(error.without_url().to_string())
        };
        let request = reqwest::Request::try_from(request).map_err(failed)?;
        let answer = self.0.execute(request).await.map_err(failed)?;
        let mut response = http::Response::builder().status(answer.status());
        if let Some(headers) = response.headers_mut() {
            headers.extend(answer.headers().clone());
        }
        let body = answer.bytes().await.map_err(failed)?;
        response
            .body(body)
            .map_err(|error| reqsign_core::Error::unexpected(error.to_string()))
    }
}
