//! Where results and events go, how stores are reached, and when a period is frozen.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

/// Where results go.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawOutputs {
    /// Folder under which every table gets its own; local, or on S3: `s3://bucket/prefix`.
    pub root: String,
    /// Tables to publish (all when not given).
    pub tables: Option<Vec<String>>,
    #[serde(default)]
    pub compression: Compression,
    /// Seconds (5–86400) after which the lock of a run that shows no sign of life counts no more.
    #[serde(default = "sixty")]
    pub lock_expiry_seconds: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    #[default]
    Zstd,
    Snappy,
    Uncompressed,
}

/// How paths that begin with `s3://` are reached. What is left out, or empty, is left to the environment (`AWS_…`).
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawS3 {
    /// Address of the store: `https://…`. AWS's own when neither given nor in `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`.
    pub endpoint: Option<String>,
    /// Region, such as `ap-northeast-1`.
    pub region: Option<String>,
    /// Whether the bucket is the first part of an address's path (`endpoint/bucket/key`) and not of its host.
    pub path_style: Option<bool>,
    /// Whether the endpoint may be `http://`, which is not encrypted.
    pub allow_http: bool,
    /// Profile of `~/.aws` whose credentials and settings are used. Not together with `access_key_id`.
    pub profile: Option<String>,
    /// Together with `secret_access_key`.
    pub access_key_id: Option<String>,
    /// Together with `access_key_id`; from a variable: `${AWS_SECRET_ACCESS_KEY}`.
    pub secret_access_key: Option<String>,
    /// Of temporary keys; only with `access_key_id` and `secret_access_key`.
    pub session_token: Option<String>,
    /// Seconds (1–3600) that one request may take.
    pub timeout_seconds: u32,
    /// How often (0–100) a request that failed is sent again.
    pub max_retries: u32,
}

impl Default for RawS3 {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            path_style: None,
            allow_http: false,
            profile: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            timeout_seconds: 30,
            max_retries: 10,
        }
    }
}

/// It may hold secrets.
impl fmt::Debug for RawS3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawS3").finish_non_exhaustive()
    }
}

/// When a period is frozen: what was published of it is not changed any more.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawClose {
    /// Business days (0–366) after a period's end, Mondays to Fridays but for the holidays, after which it is frozen.
    pub business_days: u32,
    /// Dates that are no business days (`2026-01-01`).
    #[serde(default)]
    pub holidays: Vec<String>,
}

/// Where a run's OpenLineage events go: one of `url` and `file`.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawLineage {
    /// Address that the events are sent to, such as `https://marquez.example/api/v1/lineage`.
    pub url: Option<String>,
    /// Local file that the events are appended to, one JSON object a line.
    pub file: Option<String>,
    /// Sent with every event to `url`; from a variable: `${OPENLINEAGE_API_KEY}`.
    pub api_key: Option<String>,
    /// Namespace of the job in the events.
    pub namespace: String,
}

impl Default for RawLineage {
    fn default() -> Self {
        Self {
            url: None,
            file: None,
            api_key: None,
            namespace: "cskpi".into(),
        }
    }
}

/// It may hold a secret.
impl fmt::Debug for RawLineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawLineage").finish_non_exhaustive()
    }
}

fn sixty() -> u32 {
    60
}
