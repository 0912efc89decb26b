//! Whether dimensions and rules name columns that the accounts have.

use crate::columns::*;
use crate::config::Pipeline;
use crate::config::error::{Problems, YamlPath};
use crate::contract;
use crate::facts::attributes::PLAN_COLUMNS;
use crate::sql;

/// Columns that only later stages know.
const SCORES: [&str; 2] = [RFM_SEGMENT, TOUCH_MODEL];

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
    let scores_too: Vec<&str> = known.iter().copied().chain(SCORES).collect();
    let for_rules: Vec<&str> = known.iter().copied().chain([RFM_SEGMENT]).collect();
    let mut check = |text: &str, path: YamlPath, known: &[&str]| {
        let Ok(expression) = sql::parse(text) else {
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
