//! Names of columns that cross a room's wall. Columns that live and die inside one function are literals there.

/// Index of the period (Int32); see `period`. Never published.
pub const PERIOD: &str = "period_index";
pub const PERIOD_START: &str = "period_start";
pub const PERIOD_END: &str = "period_end";
pub const IS_COMPLETE: &str = "is_complete";
pub const ACCOUNT_ID: &str = "account_id";
pub const OWNER_ID: &str = "owner_id";
pub const PRODUCT: &str = "product";
pub const CURRENCY: &str = "currency";

pub const COHORT_FIRST_PAID: &str = "cohort_first_paid";
pub const COHORT_SIGNUP: &str = "cohort_signup";
/// Index of the period at whose end an account first had MRR.
pub const FIRST_PAID: &str = "first_paid_index";
/// Index of the period that a cell of the retention triangle tells of: cohort period + age.
pub const SEEN: &str = "seen_index";

pub const OPENING_CUSTOMERS: &str = "opening_customers";
pub const NEW_CUSTOMERS: &str = "new_customers";
pub const REACTIVATED_CUSTOMERS: &str = "reactivated_customers";
pub const CHURNED_CUSTOMERS: &str = "churned_customers";
pub const CLOSING_CUSTOMERS: &str = "closing_customers";
pub const INVOLUNTARY_CHURNED_CUSTOMERS: &str = "involuntary_churned_customers";

pub const OPENING_MRR: &str = "opening_mrr";
pub const NEW_MRR: &str = "new_mrr";
pub const REACTIVATION_MRR: &str = "reactivation_mrr";
pub const EXPANSION_MRR: &str = "expansion_mrr";
pub const CONTRACTION_MRR: &str = "contraction_mrr";
pub const CHURN_MRR: &str = "churn_mrr";
pub const FX_MRR: &str = "fx_mrr";
pub const CLOSING_MRR: &str = "closing_mrr";
pub const COHORT_MRR: &str = "cohort_mrr";
pub const RETAINED_COHORT_MRR: &str = "retained_cohort_mrr";
/// What the retention triangle takes of a row of an account that is part of a merge.
pub const COHORT_ROW: [&str; 6] = [
    PERIOD,
    ACCOUNT_ID,
    FIRST_PAID,
    COHORT_MRR,
    CLOSING_MRR,
    REVENUE,
];
/// The sums of a cell of the retention triangle.
pub const COHORT_MEASURES: [&str; 5] = ["customers", "mrr", REVENUE, COHORT_MRR, "retained"];

/// Causes of expansion and contraction: the column of `account_period`, and the name that `mrr_movements` shows.
pub const CAUSES: [(&str, &str); 7] = [
    ("cross_sell_mrr", "cross_sell"),
    ("product_drop_mrr", "product_drop"),
    ("plan_mrr", "plan"),
    ("quantity_mrr", "quantity"),
    ("discount_change_mrr", "discount"),
    ("term_mrr", "term"),
    ("price_mrr", "price"),
];

/// `accounts.seats` as it is; `seats` of the model is 0 for who is no customer. Never published.
pub const OWN_SEATS: &str = "own_seats";
pub const REVENUE: &str = "revenue";
pub const DAYS_SINCE_LAST_USE: &str = "days_since_last_use";
pub const DAYS_SINCE_LAST_PAYMENT: &str = "days_since_last_payment";

pub const LTV_TO_DATE: &str = "ltv_to_date";
pub const LTV_EXPECTED: &str = "ltv_expected";
pub const LTV_PERCENTILE: &str = "ltv_percentile";
pub const RFM_SEGMENT: &str = "rfm_segment";
pub const TOUCH_MODEL: &str = "touch_model";

/// What is told of an account after its facts, in this order.
pub const SCORES: [&str; 5] = [
    LTV_TO_DATE,
    LTV_EXPECTED,
    LTV_PERCENTILE,
    RFM_SEGMENT,
    TOUCH_MODEL,
];

pub const DIMENSION: &str = "dimension";
pub const MEMBER: &str = "member";
/// Member of accounts that have no value in a dimension.
pub const UNKNOWN: &str = "(unknown)";
/// The dimension of all accounts together, and its only member.
pub const TOTAL: &str = "total";
/// The account (and member of every dimension) of what belongs to none: costs that nobody can take, deals of prospects.
pub const UNALLOCATED: &str = "(unallocated)";
