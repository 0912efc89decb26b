//! Names that are taken, and how names look.

use crate::columns::{COHORT_FIRST_PAID, COHORT_SIGNUP, TOTAL};
use crate::config::error::{Problems, YamlPath, show};
use crate::contract;

/// What a metric may need beside an input table: events or sessions, events that name features, onboarding by export.
pub const FURTHER_NEEDS: [&str; 3] = ["usage", "features", "member_onboarding"];

/// Dimensions of `kpi_values` that are always there.
const STANDING_DIMENSIONS: [&str; 3] = [TOTAL, COHORT_FIRST_PAID, COHORT_SIGNUP];

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
    } else if contract::of("account_period").column(name).is_some() {
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
