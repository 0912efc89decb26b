//! `policy` of a pipeline file.

use schemars::JsonSchema;
use serde::Deserialize;

/// The switches of the metric specification.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPolicy {
    /// Gross margin, 0 to 1: what LTV takes as profit.
    pub gross_margin: f64,
    /// What `subscriptions.amount` is: the price of one unit (times `quantity`), or the total of the line.
    #[serde(default)]
    pub amount: AmountBasis,
    /// Which discounts reduce MRR.
    #[serde(default)]
    pub discounts: DiscountPolicy,
    /// How many days a past-due subscription still counts; null: until it is cancelled.
    pub past_due_grace_days: Option<u32>,
    /// When a cancellation takes effect.
    #[serde(default)]
    pub churn_at: ChurnAt,
    /// `end_reason` values that mean the customer did not choose to leave.
    #[serde(default = "involuntary_reasons")]
    pub involuntary_reasons: Vec<String>,
    #[serde(default)]
    pub nrr_includes_reactivation: bool,
    /// Trailing periods whose pooled churn feeds LTV.
    #[serde(default = "six")]
    pub ltv_churn_periods: u32,
    /// Dimension whose churn an account's expected LTV takes; null: the whole company's.
    pub ltv_segment: Option<String>,
    #[serde(default)]
    pub mau_window: MauWindow,
    /// Minutes without an event that end a session, when sessions are not given.
    #[serde(default = "thirty")]
    pub session_gap_minutes: u32,
    /// Highest age, in periods, of `cohort_retention`.
    #[serde(default = "thirty_six")]
    pub cohort_max_age: u32,
    /// What the rates of upsell and cross-sell are shares of: the opening customers, or the accounts with such an offer in `opportunities`.
    #[serde(default)]
    pub upsell_base: UpsellBase,
    /// How the cost of retention is put onto accounts where no time entries tell: in equal parts, or by MRR.
    #[serde(default)]
    pub crc_allocation: CrcAllocation,
    /// Local days before the period's end in which the latest NPS answer of a respondent counts.
    #[serde(default = "ninety")]
    pub nps_window_days: u32,
    /// Local days before the period's end in which an account is active in the community.
    #[serde(default = "ninety")]
    pub community_window_days: u32,
    /// Days from its start within which an onboarding is to be completed.
    #[serde(default = "thirty")]
    pub onboarding_window_days: u32,
    /// Which rows of `onboarding` are the onboardings that are counted: those of accounts (without `user_id`), or those of members.
    #[serde(default)]
    pub onboarding_unit: OnboardingUnit,
    /// Onboarding as usage tells it, in place of `onboarding` (whose rows then tell of members only).
    pub onboarding_rule: Option<RawOnboardingRule>,
    /// A sample below this size is small.
    #[serde(default = "thirty")]
    pub small_sample: u32,
    /// Draws of the bootstrap by which money rates and LTV get their intervals; 0: none.
    #[serde(default = "two_hundred")]
    pub bootstrap_samples: u32,
    /// Interest per year at which the survival model discounts (0.1 is 10 %).
    #[serde(default = "ten_percent")]
    pub discount_rate: f64,
    /// Periods that `survival` projects beyond the oldest subject's age.
    #[serde(default = "twelve")]
    pub survival_horizon: u32,
    /// How far, as a share of the target, a metric may fall short of it and be at risk rather than missed.
    #[serde(default = "ten_percent")]
    pub at_risk_within: f64,
}

/// Used so many features, and so many hours, within so many days from sign-up.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawOnboardingRule {
    /// Distinct features used (0: any).
    #[serde(default)]
    pub features: u32,
    /// Hours in sessions (0: any).
    #[serde(default)]
    pub hours: f64,
    pub within_days: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpsellBase {
    #[default]
    Opening,
    Offered,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CrcAllocation {
    #[default]
    Equal,
    Mrr,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnboardingUnit {
    #[default]
    Account,
    Member,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AmountBasis {
    #[default]
    Unit,
    Total,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DiscountPolicy {
    #[default]
    Recurring,
    All,
    None,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChurnAt {
    #[default]
    ServiceEnd,
    CancelRequest,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MauWindow {
    #[default]
    #[serde(rename = "rolling_30")]
    Rolling30,
    Calendar,
}

fn six() -> u32 {
    6
}
fn thirty() -> u32 {
    30
}
fn thirty_six() -> u32 {
    36
}
fn involuntary_reasons() -> Vec<String> {
    ["payment_failed", "dunning", "card_expired", "unpaid"]
        .map(String::from)
        .to_vec()
}
fn ninety() -> u32 {
    90
}
fn two_hundred() -> u32 {
    200
}
fn twelve() -> u32 {
    12
}
fn ten_percent() -> f64 {
    0.1
}
