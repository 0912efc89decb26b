//! One set of credentials for everything that reaches S3: our own requests and polars' scans.
//!
//! Keys named in the pipeline come first; then the chain every AWS tool follows (environment, profile, SSO, web identity, process,
//! container, instance role). Whatever expires is fetched again before it does.

use crate::config::S3;
use object_store::aws::AwsCredential;
use reqsign_aws_v4::{
    Credential, DefaultCredentialProvider, ProfileCredentialProvider, StaticCredentialProvider,
};
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
    chain: ProvideCredentialChain<Credential>,
    profile: Option<String>,
    current: Mutex<Option<(Arc<AwsCredential>, Credential, Instant)>>,
}

impl Credentials {
    pub fn new(settings: &S3) -> Self {
        let context = context();
        let chain = match (&settings.keys, &settings.profile) {
            (Some(keys), _) => {
                let fixed =
                    StaticCredentialProvider::new(&keys.access_key_id, &keys.secret_access_key);
                ProvideCredentialChain::new().push(match &keys.session_token {
                    Some(token) => fixed.with_session_token(token),
                    None => fixed,
                })
            }
            // A profile that is named means that profile, not keys that happen to stand in the environment.
            (None, Some(profile)) => ProvideCredentialChain::new()
                .push(ProfileCredentialProvider::new().with_profile(profile))
                .push(
                    DefaultCredentialProvider::builder()
                        .no_env()
                        .with_profile(profile)
                        .build(),
                ),
            (None, None) => ProvideCredentialChain::new().push(DefaultCredentialProvider::new()),
        };
        Self {
            context,
            chain,
            profile: settings.profile.clone(),
            current: Mutex::new(None),
        }
    }

    /// Credentials that are still good for a while.
    pub async fn get(&self) -> Result<Arc<AwsCredential>, String> {
        let mut current = self.current.lock().await;
        if let Some((usable, credential, since)) = &*current
            && (credential.is_valid() || since.elapsed() < AT_LEAST)
        {
            return Ok(Arc::clone(usable));
        }
        let found = self.chain.provide_credential(&self.context).await;
        let credential = found
            .map_err(|error| format!("no S3 credentials: {error}"))?
            .ok_or_else(|| match &self.profile {
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
