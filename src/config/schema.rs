//! The JSON schema of a pipeline file, for editors and for [`super::load`].

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::raw::RawPipeline;
use crate::contract::OUTPUT_TABLES;

const ID: &str = "urn:cskpi:schema:pipeline:1";

/// JSON schema (draft 2020-12) of a pipeline file: the parsed types, and the bounds that the checks add to them.
pub fn json_schema() -> Value {
    SCHEMA.clone()
}

/// The same in one place, made once.
pub(super) static SCHEMA: LazyLock<Value> = LazyLock::new(generated);

fn generated() -> Value {
    let settings = SchemaSettings::draft2020_12();
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<RawPipeline>()
        .to_value();
    set(&mut schema, "", "$id", json!(ID));
    set(&mut schema, "", "title", json!("cskpi pipeline"));
    for (pointer, keyword, value) in refinements() {
        set(&mut schema, pointer, keyword, value);
    }
    schema
}

/// [`json_schema`], printed as `schemas/pipeline.schema.json` holds it.
pub fn json_schema_text() -> String {
    format!("{:#}\n", *SCHEMA)
}

/// Bounds that the Rust types do not express.
fn refinements() -> Vec<(&'static str, &'static str, Value)> {
    let mut refinements = vec![
        ("/properties/version", "const", json!(1)),
        (
            "/properties/name",
            "pattern",
            json!("^[a-z0-9][a-z0-9_-]{0,63}$"),
        ),
        ("/properties/currency", "pattern", json!("^[A-Z]{3}$")),
        (
            "/$defs/RawCalendar/properties/begin",
            "format",
            json!("date"),
        ),
        ("/$defs/RawCalendar/properties/end", "format", json!("date")),
        (
            "/$defs/RawCalendar/properties/fiscal_year_start",
            "minimum",
            json!(1),
        ),
        (
            "/$defs/RawCalendar/properties/fiscal_year_start",
            "maximum",
            json!(12),
        ),
        (
            "/$defs/RawCalendar/properties/ready_after",
            "pattern",
            json!("^[0-9]{1,6}[mhd]$"),
        ),
        (
            "/$defs/RawPolicy/properties/gross_margin",
            "minimum",
            json!(0),
        ),
        (
            "/$defs/RawPolicy/properties/gross_margin",
            "maximum",
            json!(1),
        ),
        (
            "/$defs/RawPolicy/properties/ltv_churn_periods",
            "minimum",
            json!(1),
        ),
        (
            "/$defs/RawPolicy/properties/session_gap_minutes",
            "minimum",
            json!(1),
        ),
        (
            "/$defs/RawPolicy/properties/cohort_max_age",
            "minimum",
            json!(1),
        ),
        ("/$defs/RawRfm/properties/window_days", "minimum", json!(1)),
        ("/$defs/RawOutputs/properties/root", "minLength", json!(1)),
        (
            "/$defs/RawOutputs/properties/tables/items",
            "enum",
            json!(OUTPUT_TABLES),
        ),
        (
            "/$defs/RawClose/properties/holidays/items",
            "format",
            json!("date"),
        ),
        (
            "/$defs/RawLineage/properties/namespace",
            "minLength",
            json!(1),
        ),
    ];
    for (number, least, most) in [
        (
            "/$defs/RawOutputs/properties/lock_expiry_seconds",
            5,
            86_400,
        ),
        ("/$defs/RawS3/properties/timeout_seconds", 1, 3_600),
        ("/$defs/RawS3/properties/max_retries", 0, 100),
        ("/$defs/RawClose/properties/business_days", 0, 366),
        ("/$defs/RawPolicy/properties/nps_window_days", 1, 3_660),
        (
            "/$defs/RawPolicy/properties/community_window_days",
            1,
            3_660,
        ),
        (
            "/$defs/RawPolicy/properties/onboarding_window_days",
            1,
            3_660,
        ),
        ("/$defs/RawPolicy/properties/small_sample", 0, 1_000_000),
        ("/$defs/RawPolicy/properties/bootstrap_samples", 0, 2_000),
        ("/$defs/RawPolicy/properties/survival_horizon", 0, 1_200),
        ("/$defs/RawPolicy/properties/discount_rate", 0, 10),
        ("/$defs/RawPolicy/properties/at_risk_within", 0, 1),
        ("/$defs/RawOnboardingRule/properties/within_days", 1, 3_660),
        ("/$defs/RawOnboardingRule/properties/hours", 0, 100_000),
    ] {
        refinements.extend([
            (number, "minimum", json!(least)),
            (number, "maximum", json!(most)),
        ]);
    }
    for items in [
        "/$defs/RawRfmSegment/properties/r/items",
        "/$defs/RawRfmSegment/properties/f/items",
        "/$defs/RawRfmSegment/properties/m/items",
    ] {
        refinements.extend([(items, "minimum", json!(1)), (items, "maximum", json!(5))]);
    }
    for axis in [
        "/$defs/RawThresholds/properties/recency",
        "/$defs/RawThresholds/properties/frequency",
        "/$defs/RawThresholds/properties/monetary",
    ] {
        refinements.extend([(axis, "minItems", json!(4)), (axis, "maxItems", json!(4))]);
    }
    refinements
}

fn set(schema: &mut Value, pointer: &str, keyword: &str, value: Value) {
    if let Some(Value::Object(node)) = schema.pointer_mut(pointer) {
        node.insert(keyword.into(), value);
    }
}

#[cfg(test)]
mod tests {
    /// What reads the schema knows a choice of words as `enum`; documented variants would become a `oneOf` of constants.
    #[test]
    fn choices_of_words_are_enums() {
        assert!(!super::json_schema_text().contains("\"oneOf\""));
    }
}
