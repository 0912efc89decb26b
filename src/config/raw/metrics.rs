//! `metrics` of a pipeline file.

use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Which metrics are published, and what they mean.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawMetrics {
    /// Only these (all when not given).
    pub only: Option<Vec<String>>,
    /// Not these.
    pub exclude: Vec<String>,
    /// New metrics, or shipped ones with fields replaced, by id.
    pub define: BTreeMap<String, RawMetric>,
}

/// A metric of the catalogue. Shipped metrics and a pipeline's own have this same form.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RawMetric {
    /// English and Japanese label.
    pub label: Option<RawLabel>,
    /// What the number says, in a sentence: text, or `{en: …, ja: …}`.
    pub description: Option<RawDescription>,
    pub unit: Option<Unit>,
    pub good: Option<Direction>,
    /// SQL: aggregates over account_period columns (`SUM(churned_customers)`), or an expression over other metrics' ids, of which it may say
    /// `previous(mrr)`, `year_ago(mrr)` and `total(mrr)`.
    pub numerator: Option<String>,
    /// SQL of the same kind. Value = numerator / denominator; without it, value = numerator.
    pub denominator: Option<String>,
    /// Pool numerator and denominator over this many trailing periods: a number, or the name of a policy (`ltv_churn_periods`).
    pub trailing: Option<Trailing>,
    /// The 95 % interval that the value carries; none when not given.
    pub interval: Option<RawInterval>,
    /// SQL aggregate: how many observations the value rests on. The denominator when not given, for proportions.
    pub sample: Option<String>,
    /// SQL aggregate: the sum of squares that the interval of a mean needs.
    pub squares: Option<String>,
    /// SQL aggregate: observations whose outcome is not known yet; the value is mature when there are none.
    pub pending: Option<String>,
    /// Told of one thing at a time, in `kpi_breakdown`; an aggregate then reads the columns of that thing.
    pub by: Option<Breakdown>,
    /// Made by a routine of this name rather than by SQL; only of shipped metrics.
    pub estimator: Option<Estimator>,
    /// Dimensions and cohorts for which it is published, beside the total; all when not given.
    pub dimensions: Option<Vec<String>>,
    /// Where the definition comes from.
    pub source: Option<String>,
    /// Whether the metric is published or only feeds others.
    pub hidden: Option<bool>,
    /// Input tables without which the metric is null; also `usage` (events or sessions), `features` (events that name them), `member_onboarding` (`onboarding` by export).
    pub needs: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawLabel {
    pub en: String,
    pub ja: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Trailing {
    Periods(u32),
    Policy(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Accounts,
    Users,
    Seats,
    Currency,
    Ratio,
    Multiple,
    Months,
    Minutes,
    Count,
    Percent,
    Points,
    Hours,
    Days,
    Periods,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Up,
    Down,
    Neutral,
}

/// A sentence in one language or two.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawDescription {
    Text(String),
    Both(RawLabel),
}

/// How the interval of a value is made (docs/definitions.md § 11).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawInterval {
    Named(IntervalName),
    Through {
        /// The formula at the bounds of this metric.
        through: String,
    },
}

/// `proportion`: Wilson's, of numerator / denominator. `mean`: of a mean, from its `squares`. `bootstrap`: by account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntervalName {
    Proportion,
    Mean,
    Bootstrap,
}

/// Things of which a metric of `kpi_breakdown` is told one at a time, and the columns it may sum up: `survey_item` (csat_answers,
/// csat_satisfied), `feature` (feature_customers), `phase` (cs_seconds).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Breakdown {
    SurveyItem,
    Feature,
    Phase,
}

/// Routines that make a value where SQL cannot: `onboarding_days` (Kaplan–Meier median), `expected_lifetime` (periods, discounted,
/// by the survival model).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    OnboardingDays,
    ExpectedLifetime,
}
