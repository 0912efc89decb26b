//! What a pipeline file may say: the parsed form, before anything is checked.
//!
//! `schemas/pipeline.schema.json` is generated from these types, so the doc comments here are what an editor shows.

mod metrics;
mod operations;
mod policy;

use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

pub use metrics::{
    Breakdown, Direction, Estimator, IntervalName, RawDescription, RawInterval, RawLabel,
    RawMetric, RawMetrics, Trailing, Unit,
};
pub use operations::{Compression, RawClose, RawLineage, RawOutputs, RawS3};
pub use policy::{
    AmountBasis, ChurnAt, CrcAllocation, DiscountPolicy, MauWindow, OnboardingUnit,
    RawOnboardingRule, RawPolicy, UpsellBase,
};

/// A cskpi pipeline: which tables come in, what the numbers mean, where the results go.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPipeline {
    /// Version of this file's format. Always 1.
    pub version: u32,
    /// Short name of the pipeline (lower-case letters, digits, `-` and `_`).
    pub name: String,
    /// Reporting currency, ISO 4217 (`JPY`, `USD`, `EUR`, …). All money is published in it.
    pub currency: String,
    pub calendar: RawCalendar,
    pub sources: RawSources,
    pub policy: RawPolicy,
    /// Dimensions that KPIs are cut by: name → an account column or a SQL expression over account columns.
    #[serde(default)]
    pub dimensions: BTreeMap<String, String>,
    /// Further cohorts beside the two that are always there, `cohort_first_paid` and `cohort_signup`: each a name and the dimensions it combines.
    #[serde(default)]
    pub cohorts: BTreeMap<String, RawCohort>,
    #[serde(default)]
    pub metrics: RawMetrics,
    pub rfm: Option<RawRfm>,
    pub touch_model: Option<RawTouchModel>,
    pub outputs: RawOutputs,
    pub s3: Option<RawS3>,
    pub close: Option<RawClose>,
    pub lineage: Option<RawLineage>,
}

/// Periods and when they are ready.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCalendar {
    #[serde(default)]
    pub grain: Grain,
    /// IANA time zone of the business day, such as `Asia/Tokyo`.
    pub time_zone: String,
    #[serde(default)]
    pub week_start: Weekday,
    /// Month (1–12) in which the fiscal year starts; quarters count from it.
    #[serde(default = "one")]
    pub fiscal_year_start: u8,
    /// First day of the first period to publish (`2024-04-01`).
    pub begin: String,
    /// Day after the last period, where the data has come to an end; later periods are never computed.
    pub end: Option<String>,
    /// How long after its end a period counts as complete: `0h`, `6h`, `2d`.
    #[serde(default = "zero_hours")]
    pub ready_after: String,
    /// How many periods before the last complete one `run` computes again.
    #[serde(default = "one_u32")]
    pub lookback: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grain {
    Day,
    Week,
    #[default]
    Month,
    Quarter,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weekday {
    #[default]
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// The input tables. Only `accounts` and `subscriptions` are needed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSources {
    pub accounts: RawSource,
    pub subscriptions: RawSource,
    pub account_merges: Option<RawSource>,
    pub plans: Option<RawSource>,
    pub invoice_lines: Option<RawSource>,
    pub fx_rates: Option<RawSource>,
    pub opportunities: Option<RawSource>,
    pub members: Option<RawSource>,
    pub onboarding: Option<RawSource>,
    pub surveys: Option<RawSource>,
    pub tickets: Option<RawSource>,
    pub community: Option<RawSource>,
    pub costs: Option<RawSource>,
    pub time_entries: Option<RawSource>,
    pub targets: Option<RawSource>,
    pub usage_events: Option<RawSource>,
    pub usage_sessions: Option<RawSource>,
    pub usage_daily: Option<RawSource>,
    pub usage_features: Option<RawSource>,
}

/// One input table: where it lies and how its columns become ours.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSource {
    /// File or glob, relative to the folder that `cskpi` is run in, or on S3: `s3://bucket/prefix/*.parquet`. `period=…/` style folders become columns.
    pub path: Option<String>,
    /// How a file's path names the days that its rows are of: `%Y`, `%m` and `%d` stand for year, month and day, as in `invoices-%Y-%m.csv`. Files that are not needed are not read, and rows outside of their file's days are violations. For tables whose rows are of a day: `invoice_lines`, `fx_rates`, `usage_events`, `usage_sessions`, `usage_daily`, `usage_features`, `opportunities`, `onboarding`, `surveys`, `tickets`, `community`, `costs` and `time_entries`.
    pub file_dates: Option<String>,
    /// The table itself, written here row by row, in place of `path`. Every value is text, a number, a boolean or null.
    pub rows: Option<Vec<BTreeMap<String, serde_json::Value>>>,
    /// Taken from the file's ending when not given.
    pub format: Option<Format>,
    #[serde(default)]
    pub csv: RawCsv,
    /// Date and date-time formats to try in order, in chrono's notation (`%Y/%m/%d`). ISO 8601 and `2024/4/1` are always understood.
    #[serde(default)]
    pub dates: Vec<String>,
    #[serde(default)]
    pub numbers: RawNumbers,
    /// Time zone of times that carry none. The calendar's when not given.
    pub time_zone: Option<String>,
    /// Our column → a column of the source, or a SQL expression over the source's columns. A column of the same name needs no line.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// Our column → the same value in every row.
    #[serde(default)]
    pub constants: BTreeMap<String, serde_json::Value>,
    /// SQL condition over the source's columns; rows for which it is not true are left out.
    pub filter: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Csv,
    Parquet,
}

/// CSV dialect.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawCsv {
    /// One ASCII character: `,` `;` `\t` `|`.
    pub delimiter: String,
    /// One ASCII character, or empty for none.
    pub quote: String,
    /// Whether the first row names the columns; if not, they are `column_1`, `column_2`, ….
    pub header: bool,
    /// Words that stand for "no value", beside the empty field.
    pub null_words: Vec<String>,
    /// `utf-8`, `shift_jis`, `euc-jp`, `windows-1252`, ….
    pub encoding: String,
}

impl Default for RawCsv {
    fn default() -> Self {
        Self {
            delimiter: ",".into(),
            quote: "\"".into(),
            header: true,
            null_words: Vec::new(),
            encoding: "utf-8".into(),
        }
    }
}

/// How numbers are written. Currency signs (¥ $ € £ 円) and blanks around a number are always ignored.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawNumbers {
    /// Thousands separator, taken out before reading: `,` in `¥1,234`.
    pub thousands: String,
    /// Decimal mark.
    pub decimal: String,
}

impl Default for RawNumbers {
    fn default() -> Self {
        Self {
            thousands: ",".into(),
            decimal: ".".into(),
        }
    }
}

/// A cohort made of dimensions.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCohort {
    /// Dimensions whose values, joined with ` | `, name the member.
    pub by: Vec<String>,
}

/// Recency, frequency and monetary scores.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawRfm {
    pub method: RfmMethod,
    /// Days before the period's end that count.
    pub window_days: u32,
    pub recency: RecencyBasis,
    pub frequency: FrequencyBasis,
    pub monetary: MonetaryBasis,
    /// For `method: thresholds`: four rising values per axis. Recency in days (smaller is better), frequency and monetary as counted.
    pub thresholds: Option<RawThresholds>,
    /// Score ranges → segment. The field's usual ten when not given.
    pub segments: Option<Vec<RawRfmSegment>>,
    /// Let the first matching segment win where ranges overlap.
    pub first_match: bool,
}

impl Default for RawRfm {
    fn default() -> Self {
        Self {
            method: RfmMethod::Quantile,
            window_days: 365,
            recency: RecencyBasis::Usage,
            frequency: FrequencyBasis::ActiveDays,
            monetary: MonetaryBasis::Revenue,
            thresholds: None,
            segments: None,
            first_match: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RfmMethod {
    Quantile,
    Ntile,
    Thresholds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecencyBasis {
    Usage,
    Payment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FrequencyBasis {
    ActiveDays,
    Invoices,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MonetaryBasis {
    Revenue,
    Mrr,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawThresholds {
    pub recency: Vec<f64>,
    pub frequency: Vec<f64>,
    pub monetary: Vec<f64>,
}

/// A named range of scores, bounds included. An axis left out means 1 to 5.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRfmSegment {
    pub name: String,
    pub r: Option<[u8; 2]>,
    pub f: Option<[u8; 2]>,
    pub m: Option<[u8; 2]>,
}

/// Which accounts are served by people, and which by product and community.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawTouchModel {
    /// Ordered; the first rule whose condition holds wins.
    pub rules: Option<Vec<RawTouchRule>>,
    /// An account changes its model only after the rules have named another one for this many further periods.
    pub hold_periods: u32,
    /// Touch model → owners who serve it; tells whether an account's owner fits.
    pub owners: BTreeMap<TouchModelName, Vec<String>>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTouchRule {
    /// Name that `touch_segments.rule` shows.
    pub name: String,
    pub model: TouchModelName,
    /// SQL condition over the account's columns of the period.
    pub when: String,
    /// At most this many accounts per owner, the highest LTV first; the others go on to the next rule.
    pub capacity: Option<u32>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema, serde::Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum TouchModelName {
    High,
    Low,
    Tech,
    Community,
}

fn one() -> u8 {
    1
}
fn one_u32() -> u32 {
    1
}
fn zero_hours() -> String {
    "0h".into()
}
