//! The pipeline file: parsed ([`raw`]) → checked ([`load`]) → what the program uses ([`Pipeline`]).
//!
//! Every mistake is collected and reported with file, line and YAML path before anything runs. No input is opened here.

pub mod error;
pub mod file_dates;
pub mod load;
pub mod locate;
pub mod raw;
pub mod schema;
pub mod settings;
mod shape;
mod validate;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use crate::currency::Currency;
pub use file_dates::FileDates;
pub use settings::Settings;
pub use validate::FURTHER_NEEDS;

pub use raw::{
    AmountBasis, Breakdown, ChurnAt, Compression, CrcAllocation, Direction, DiscountPolicy,
    Estimator, Format, FrequencyBasis, Grain, MauWindow, MonetaryBasis, OnboardingUnit,
    RawOnboardingRule, RecencyBasis, RfmMethod, TouchModelName, Unit, UpsellBase, Weekday,
};

/// A pipeline that passed every check that needs no data.
#[derive(Debug, Clone)]
pub struct Pipeline {
    pub name: String,
    /// Path of the file it came from, for messages.
    pub file: String,
    pub currency: Currency,
    pub calendar: Calendar,
    /// By canonical table name (`accounts`, `subscriptions`, …); only those that the file maps.
    pub sources: BTreeMap<&'static str, Source>,
    pub policy: Policy,
    pub dimensions: Vec<Dimension>,
    pub cohorts: Vec<Cohort>,
    pub metrics: MetricChoice,
    pub rfm: Option<Rfm>,
    pub touch_model: Option<TouchModel>,
    pub outputs: Outputs,
    pub s3: S3,
    /// When a period is frozen; `None`: never.
    pub close: Option<Close>,
    pub lineage: Option<Lineage>,
    /// What of the file shapes the numbers, for telling later which key was changed.
    pub settings: Settings,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    pub grain: Grain,
    pub time_zone: chrono_tz::Tz,
    pub week_start: Weekday,
    pub fiscal_year_start: u8,
    /// First day of the first period; on a period's boundary.
    pub begin: chrono::NaiveDate,
    /// Day after the last period, where the data has come to an end.
    pub end: Option<chrono::NaiveDate>,
    pub ready_after: chrono::Duration,
    pub lookback: u32,
}

#[derive(Debug, Clone)]
pub struct Source {
    pub input: Input,
    pub csv: CsvDialect,
    pub dates: Vec<String>,
    pub numbers: Numbers,
    pub time_zone: chrono_tz::Tz,
    /// Our column → source column or SQL expression (which of the two shows when the header is read).
    pub columns: BTreeMap<String, String>,
    /// Our column → constant as text (`None`: null).
    pub constants: BTreeMap<String, Option<String>>,
    pub filter: Option<String>,
    /// How a file's path names the days that its rows are of; only with [`Input::Files`].
    pub file_dates: Option<FileDates>,
}

#[derive(Debug, Clone)]
pub enum Input {
    /// File or glob.
    Files { pattern: String, format: Format },
    /// Rows written in the pipeline: column names, then each row's values as text.
    Rows {
        columns: Vec<String>,
        rows: Vec<Vec<Option<String>>>,
    },
}

#[derive(Debug, Clone)]
pub struct CsvDialect {
    pub delimiter: u8,
    pub quote: Option<u8>,
    pub has_header: bool,
    pub null_words: Vec<String>,
    pub encoding: &'static encoding_rs::Encoding,
}

#[derive(Debug, Clone)]
pub struct Numbers {
    pub thousands: Option<char>,
    pub decimal: char,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct Policy {
    pub gross_margin: f64,
    pub amount: AmountBasis,
    pub discounts: DiscountPolicy,
    pub past_due_grace_days: Option<u32>,
    pub churn_at: ChurnAt,
    pub involuntary_reasons: Vec<String>,
    pub nrr_includes_reactivation: bool,
    pub ltv_churn_periods: u32,
    pub ltv_segment: Option<String>,
    pub mau_window: MauWindow,
    pub session_gap_minutes: u32,
    pub cohort_max_age: u32,
    pub upsell_base: UpsellBase,
    pub crc_allocation: CrcAllocation,
    pub nps_window_days: u32,
    pub community_window_days: u32,
    pub onboarding_window_days: u32,
    pub onboarding_unit: OnboardingUnit,
    pub onboarding_rule: Option<RawOnboardingRule>,
    pub small_sample: u32,
    pub bootstrap_samples: u32,
    /// Per year.
    pub discount_rate: f64,
    pub survival_horizon: u32,
    pub at_risk_within: f64,
}

/// A dimension by which KPIs are cut. `sql` is an account column or an expression over account columns.
#[derive(Debug, Clone)]
pub struct Dimension {
    pub name: String,
    pub sql: String,
}

/// A cohort of combined dimensions; the member is their values joined with ` | `.
#[derive(Debug, Clone)]
pub struct Cohort {
    pub name: String,
    pub by: Vec<String>,
}

/// The catalogue's changes and the choice of what is published; resolved against the shipped catalogue in `metrics`.
#[derive(Debug, Clone, Default)]
pub struct MetricChoice {
    pub only: Option<Vec<String>>,
    pub exclude: Vec<String>,
    pub define: BTreeMap<String, raw::RawMetric>,
}

#[derive(Debug, Clone)]
pub struct Rfm {
    pub method: RfmMethod,
    pub window_days: u32,
    pub recency: RecencyBasis,
    pub frequency: FrequencyBasis,
    pub monetary: MonetaryBasis,
    /// Present with `method: thresholds`.
    pub thresholds: Option<Thresholds>,
    /// In order; together they cover every cell, each once unless the file says `first_match`.
    pub segments: Vec<RfmSegment>,
}

#[derive(Debug, Clone)]
pub struct Thresholds {
    pub recency: [f64; 4],
    pub frequency: [f64; 4],
    pub monetary: [f64; 4],
}

/// Inclusive score ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RfmSegment {
    pub name: String,
    pub r: (u8, u8),
    pub f: (u8, u8),
    pub m: (u8, u8),
}

#[derive(Debug, Clone)]
pub struct TouchModel {
    pub rules: Vec<TouchRule>,
    pub hold_periods: u32,
    pub owners: BTreeMap<TouchModelName, Vec<String>>,
}

#[derive(Debug, Clone)]
pub struct TouchRule {
    pub name: String,
    pub model: TouchModelName,
    pub when: String,
    pub capacity: Option<u32>,
}

#[derive(Debug, Clone)]
pub struct Outputs {
    /// Folder under which every table gets its own.
    pub root: String,
    /// Tables to publish, a subset of the catalogue of tables; `None`: all.
    pub tables: Option<Vec<String>>,
    pub compression: Compression,
    /// How long a lock on the results counts after its last sign of life.
    pub lock_expiry: std::time::Duration,
}

/// How paths that begin with `s3://` are reached. What is `None` is left to the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3 {
    /// Without a slash at its end; `http://` only with `allow_http`.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub path_style: Option<bool>,
    pub allow_http: bool,
    /// Never together with `keys`.
    pub profile: Option<String>,
    pub keys: Option<S3Keys>,
    /// Of one request.
    pub timeout: std::time::Duration,
    pub max_retries: u32,
}

#[derive(Clone, PartialEq, Eq)]
pub struct S3Keys {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
}

/// When a period is frozen: so many business days after its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    pub business_days: u32,
    /// Days that are no business days, beside Saturdays and Sundays.
    pub holidays: BTreeSet<chrono::NaiveDate>,
}

/// Where a run's OpenLineage events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    pub target: LineageTarget,
    pub namespace: String,
}

#[derive(Clone, PartialEq, Eq)]
pub enum LineageTarget {
    Http {
        url: String,
        api_key: Option<String>,
    },
    /// A local file; events are appended.
    File(String),
}

impl Default for S3 {
    /// The section left out.
    fn default() -> Self {
        let raw::RawS3 {
            allow_http,
            timeout_seconds,
            max_retries,
            ..
        } = raw::RawS3::default();
        Self {
            endpoint: None,
            region: None,
            path_style: None,
            allow_http,
            profile: None,
            keys: None,
            timeout: std::time::Duration::from_secs(u64::from(timeout_seconds)),
            max_retries,
        }
    }
}

impl fmt::Debug for S3Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Keys")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LineageTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { url, .. } => f
                .debug_struct("Http")
                .field("url", url)
                .finish_non_exhaustive(),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl TouchModelName {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Low => "low",
            Self::Tech => "tech",
            Self::Community => "community",
        }
    }
}
