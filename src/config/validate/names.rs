//! Names that are taken, and how names look.

use crate::config::error::{Problems, YamlPath, show};

/// Tables that a run can publish.
pub const TABLES: &[&str] = &[
    "kpi_values",
    "kpi_summary",
    "kpi_breakdown",
    "kpi_attainment",
    "kpi_drivers",
    "cohort_retention",
    "survival",
    "mrr_movements",
    "account_period",
    "rfm_scores",
    "rfm_boundaries",
    "touch_segments",
    "time_spent",
    "metric_dictionary",
];

/// Tables that a pipeline can map.
pub(super) const INPUT_TABLES: &[&str] = &[
    "accounts",
    "subscriptions",
    "account_merges",
    "plans",
    "invoice_lines",
    "fx_rates",
    "opportunities",
    "members",
    "onboarding",
    "surveys",
    "tickets",
    "community",
    "costs",
    "time_entries",
    "targets",
    "usage_events",
    "usage_sessions",
];

/// What a metric may need beside an input table: events or sessions, events that name features, onboarding by export.
pub const FURTHER_NEEDS: [&str; 3] = ["usage", "features", "member_onboarding"];

/// Columns of `account_period` beside the dimensions (docs/definitions.md §4).
pub const ACCOUNT_PERIOD_COLUMNS: &[&str] = &[
    "period_start",
    "period_end",
    "account_id",
    "account_name",
    "owner_id",
    "is_strategic",
    "cohort_first_paid",
    "cohort_signup",
    "is_complete",
    "opening_customers",
    "new_customers",
    "reactivated_customers",
    "churned_customers",
    "closing_customers",
    "involuntary_churned_customers",
    "opening_mrr",
    "new_mrr",
    "reactivation_mrr",
    "expansion_mrr",
    "contraction_mrr",
    "churn_mrr",
    "fx_mrr",
    "closing_mrr",
    "cross_sell_mrr",
    "product_drop_mrr",
    "plan_mrr",
    "quantity_mrr",
    "discount_change_mrr",
    "term_mrr",
    "price_mrr",
    "contract_mrr",
    "discount_mrr",
    "trial_mrr",
    "usage_mrr",
    "retained_mrr",
    "mrr_12m_ago",
    "current_mrr_of_12m_ago",
    "retained_mrr_12m",
    "cohort_mrr",
    "retained_cohort_mrr",
    "upsold_accounts",
    "cross_sold_accounts",
    "seats",
    "tenure_days",
    "revenue",
    "revenue_to_date",
    "invoices_to_date",
    "revenue_12m",
    "invoices_12m",
    "purchasing_accounts_12m",
    "days_since_last_payment",
    "events",
    "sessions",
    "session_seconds",
    "active_days",
    "active_user_days",
    "wau",
    "mau",
    "active_accounts",
    "days_since_last_use",
    "ltv_to_date",
    "ltv_expected",
    "ltv_percentile",
    "deals_won",
    "deals_lost",
    "won_amount",
    "lost_amount",
    "renewals_won",
    "renewals_lost",
    "upsell_target_accounts",
    "upsold_target_accounts",
    "cross_sell_target_accounts",
    "cross_sold_target_accounts",
    "members",
    "members_onboarded",
    "onboardings_started",
    "onboardings_completed",
    "onboardings_open",
    "onboardings_due",
    "onboardings_due_completed",
    "nps_respondents",
    "nps_promoters",
    "nps_detractors",
    "csat_answers",
    "csat_satisfied",
    "tickets_opened",
    "tickets_escalated",
    "tickets_responded",
    "first_response_seconds",
    "tickets_closed",
    "resolution_seconds",
    "ticket_ratings",
    "ticket_ratings_satisfied",
    "community_activities",
    "community_users",
    "community_active_accounts",
    "marketing_cost",
    "sales_cost",
    "cs_people_cost",
    "cs_tools_cost",
    "cs_seconds",
    "features_used",
];

/// Dimensions of `kpi_values` that are always there.
const STANDING_DIMENSIONS: &[&str] = &["total", "cohort_first_paid", "cohort_signup"];

/// Checks a name that becomes a column of `account_period` or a dimension of `kpi_values`.
pub(super) fn check_column_name(name: &str, kind: &str, path: &YamlPath, problems: &mut Problems) {
    if !check_snake_case(name, kind, path, problems) {
        return;
    }
    let hint = Some(format!("for example `{name}_group`"));
    if STANDING_DIMENSIONS.contains(&name) {
        problems.push(
            path,
            format!("`{name}` is a dimension that is always there"),
            hint,
        );
    } else if ACCOUNT_PERIOD_COLUMNS.contains(&name) {
        let message =
            format!("`{name}` is a column of account_period; a {kind} needs another name");
        problems.push(path, message, hint);
    }
}

/// Lower-case letters, digits and underscores, a letter first.
pub(super) fn check_snake_case(
    name: &str,
    kind: &str,
    path: &YamlPath,
    problems: &mut Problems,
) -> bool {
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    let is_snake_case = name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if starts_well && is_snake_case && name.len() <= 64 {
        return true;
    }
    let suggestion: String = name
        .trim()
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    let suggestion = suggestion.trim_matches('_');
    let is_usable =
        suggestion.starts_with(|c: char| c.is_ascii_lowercase()) && suggestion.len() <= 64;
    let hint = match is_usable {
        true => format!("for example `{suggestion}`"),
        false => "up to 64 lower-case letters, digits and `_`, beginning with a letter".to_string(),
    };
    problems.push(
        path,
        format!("`{}` cannot be the name of a {kind}", show(name)),
        hint,
    );
    false
}
