//! Whether dimensions and rules name columns that the accounts have.

use crate::columns::*;
use crate::config::Pipeline;
use crate::config::error::{Problems, YamlPath};
use crate::contract;
use crate::facts::attributes::PLAN_COLUMNS;
use crate::sql::{self, Scope};
use crate::staging::Staged;

/// Pushes every name in a dimension or rule that no column answers to.
pub fn unknown_names(pipeline: &Pipeline, account_columns: &[String]) -> Problems {
    let mut problems = Problems::new(&pipeline.file);
    check_names(pipeline, account_columns, &mut problems);
    problems
}

/// The same, into a list that knows the file's lines.
pub fn check_names(pipeline: &Pipeline, account_columns: &[String], problems: &mut Problems) {
    let facts = contract::of("account_period")
        .columns
        .iter()
        .filter(|column| column.each.is_none());
    let mut known: Vec<&str> = facts.map(|column| column.name.as_str()).collect();
    known.extend(account_columns.iter().map(String::as_str));
    known.extend(PLAN_COLUMNS);
    known.extend(["mrr", "community_active"]);
    let scores_too: Vec<&str> = known
        .iter()
        .copied()
        .chain([RFM_SEGMENT, TOUCH_MODEL])
        .collect();
    let for_rules: Vec<&str> = known.iter().copied().chain([RFM_SEGMENT]).collect();
    let mut check = |text: &str, path: YamlPath, known: &[&str]| {
        let Ok(expression) = sql::parse_in(text, Scope::Account) else {
            return;
        };
        for unknown in expression.check_columns(known) {
            let hint = match unknown.nearest.as_slice() {
                [] => {
                    "accounts have the columns of the source, and those of docs/definitions.md § 4"
                        .to_owned()
                }
                nearest => format!("did you mean `{}`?", nearest.join("`, `")),
            };
            problems.push(
                path.clone(),
                format!("no account has a column `{}`", unknown.name),
                Some(hint),
            );
        }
    };
    for dimension in &pipeline.dimensions {
        check(
            &dimension.sql,
            YamlPath::keys(["dimensions", dimension.name.as_str()]),
            &scores_too,
        );
    }
    for (index, rule) in pipeline
        .touch_model
        .iter()
        .flat_map(|touch| touch.rules.iter().enumerate())
    {
        check(
            &rule.when,
            YamlPath::keys(["touch_model", "rules"])
                .index(index)
                .key("when"),
            &for_rules,
        );
    }
}

/// Warns of dimensions and rules that read a column which no source has: it is null for every account. A column of the
/// source that is nearly called like one of ours may have been meant.
pub fn warn_of_missing(pipeline: &Pipeline, accounts: &Staged, problems: &mut Problems) {
    let own = contract::of("accounts")
        .columns
        .iter()
        .map(|column| column.name.as_str());
    let missing: Vec<&str> = own
        .filter(|name| !accounts.mapped.iter().any(|mapped| mapped == name))
        .collect();
    let mut warn = |text: &str, path: YamlPath| {
        let Ok(expression) = sql::parse_in(text, Scope::Account) else {
            return;
        };
        for name in expression
            .columns()
            .iter()
            .filter(|name| missing.contains(&name.as_str()))
        {
            let near = sql::nearest::nearest(name, accounts.extra.iter().map(String::as_str), 1);
            let hint = near
                .first()
                .map(|near| format!("did you mean `{near}`, which the source has?"));
            problems.warn(
                path.clone(),
                format!("no source has `{name}`: it is null for every account"),
                hint,
            );
        }
    };
    for dimension in &pipeline.dimensions {
        warn(
            &dimension.sql,
            YamlPath::keys(["dimensions", dimension.name.as_str()]),
        );
    }
    for (index, rule) in pipeline
        .touch_model
        .iter()
        .flat_map(|touch| touch.rules.iter().enumerate())
    {
        // The default rules read is_strategic; who has no such column does not want to hear of it.
        if rule.name != "strategic_or_top_decile" {
            warn(
                &rule.when,
                YamlPath::keys(["touch_model", "rules"])
                    .index(index)
                    .key("when"),
            );
        }
    }
}
