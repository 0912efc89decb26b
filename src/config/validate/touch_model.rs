//! `touch_model`: ordered rules that say how an account is served.

use super::{Dimensions, check_range, row_sql};
use crate::config::error::{Problems, YamlPath, show};
use crate::config::raw::{RawTouchModel, RawTouchRule};
use crate::config::{TouchModel, TouchModelName, TouchRule};
use crate::sql::Scope;

const DEFAULT_RULES: &[(&str, TouchModelName, &str)] = &[
    (
        "strategic_or_top_decile",
        TouchModelName::High,
        "is_strategic OR ltv_percentile >= 0.9",
    ),
    (
        "next_40_percent",
        TouchModelName::Low,
        "ltv_percentile >= 0.5",
    ),
    ("community", TouchModelName::Community, "community_active"),
    ("rest", TouchModelName::Tech, "TRUE"),
];

pub(super) fn touch_model(
    raw: &RawTouchModel,
    dimensions: &Dimensions,
    problems: &mut Problems,
) -> TouchModel {
    let section = YamlPath::keys(["touch_model"]);
    check_range(
        raw.hold_periods,
        0..=3_660,
        &section.key("hold_periods"),
        problems,
    );
    let rules = match &raw.rules {
        Some(written) => {
            check_rules(written, dimensions, &section.key("rules"), problems);
            written.iter().map(rule).collect()
        }
        None => default_rules(),
    };
    TouchModel {
        rules,
        hold_periods: raw.hold_periods,
        owners: raw.owners.clone(),
    }
}

fn default_rules() -> Vec<TouchRule> {
    let rule = |&(name, model, when): &(&str, TouchModelName, &str)| TouchRule {
        name: name.into(),
        model,
        when: when.into(),
        capacity: None,
    };
    DEFAULT_RULES.iter().map(rule).collect()
}

fn rule(raw: &RawTouchRule) -> TouchRule {
    TouchRule {
        name: raw.name.clone(),
        model: raw.model,
        when: raw.when.clone(),
        capacity: raw.capacity,
    }
}

fn check_rules(
    rules: &[RawTouchRule],
    dimensions: &Dimensions,
    path: &YamlPath,
    problems: &mut Problems,
) {
    if rules.is_empty() {
        problems.push(
            path,
            "there are no rules",
            Some("leave the key out for the usual four".to_string()),
        );
        return;
    }
    let last = rules.len() - 1;
    for (index, rule) in rules.iter().enumerate() {
        let path = path.index(index);
        if rule.name.trim().is_empty() {
            problems.push(path.key("name"), "a rule needs a name", None);
        }
        if rules[..index]
            .iter()
            .any(|earlier| earlier.name == rule.name)
        {
            problems.push(
                path.key("name"),
                format!("there is a rule `{}` already", show(&rule.name)),
                None,
            );
        }
        if let Some(capacity) = rule.capacity {
            check_range(capacity, 1..=1_000_000, &path.key("capacity"), problems);
        }
        let Some(sql) = row_sql(
            &rule.when,
            Scope::Account,
            "a rule",
            &path.key("when"),
            problems,
        ) else {
            continue;
        };
        for column in sql.columns() {
            let dimension = dimensions.get(column);
            if column == "touch_model"
                || dimension.is_some_and(|dimension| dimension.reads("touch_model"))
            {
                let message =
                    format!("`{column}` is what the rules decide and cannot be read by one");
                problems.push(path.key("when"), message, None);
            }
        }
        let takes_all = sql.is_always_true() && rule.capacity.is_none();
        if takes_all && index < last {
            let message = format!("no account gets beyond the rule `{}`", show(&rule.name));
            problems.warn(path.key("when"), message, Some("put it last".to_string()));
        } else if !takes_all && index == last {
            let hint = "end with a rule `when: \"TRUE\"` without capacity to give every account a touch model".to_string();
            problems.warn(
                path.key("when"),
                "accounts that no rule takes have no touch model",
                hint,
            );
        }
    }
}
