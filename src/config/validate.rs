//! What a pipeline file means: [`RawPipeline`] → [`Pipeline`], collecting every problem.

mod calendar;
mod close;
mod file_dates;
mod lineage;
mod names;
mod places;
mod policy;
mod rfm;
mod s3;
mod sources;
mod touch_model;

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::{Problems, YamlPath, list_names, show};
use super::raw::{RawMetrics, RawOutputs, RawPipeline, Trailing};
use super::{Cohort, Currency, Dimension, MetricChoice, Outputs, Pipeline, Settings};
use crate::columns::{COHORT_FIRST_PAID, COHORT_SIGNUP, TOTAL};
use crate::contract::INPUT_TABLES;
use crate::currency::{currency, nearest_currencies};
use crate::sql::nearest::nearest;
use crate::sql::{self, Scope, SqlExpr};

pub use names::FURTHER_NEEDS;

/// Checks a parsed file. `None` if a part could not be understood; its problem is among `problems` then.
pub(super) fn pipeline(
    raw: RawPipeline,
    settings: Settings,
    file: &str,
    problems: &mut Problems,
) -> Option<Pipeline> {
    version(raw.version, problems);
    pipeline_name(&raw.name, problems);
    let currency = reporting_currency(&raw.currency, problems);
    let calendar = calendar::calendar(&raw.calendar, problems);
    // Sources are checked also when the calendar's zone, their default, is unknown.
    let zone = calendar
        .as_ref()
        .map_or(chrono_tz::UTC, |calendar| calendar.time_zone);
    let dimensions = dimensions(&raw.dimensions, &raw, problems);
    let cohorts = cohorts(&raw, &dimensions, problems);
    let policy = policy::policy(&raw.policy, &raw.sources, &dimensions, problems);
    let rfm = raw
        .rfm
        .as_ref()
        .map(|rfm| rfm::rfm(rfm, &raw.sources, problems));
    let touch_model = raw
        .touch_model
        .as_ref()
        .map(|model| touch_model::touch_model(model, &dimensions, problems));
    let outputs = outputs(&raw.outputs, &raw, problems);
    let s3 = raw
        .s3
        .as_ref()
        .map(|s3| s3::s3(s3, problems))
        .unwrap_or_default();
    let close = raw
        .close
        .as_ref()
        .map(|close| close::close(close, problems));
    let lineage = raw
        .lineage
        .as_ref()
        .and_then(|lineage| lineage::lineage(lineage, problems));
    let metrics = metrics(raw.metrics, &dimensions, &cohorts, problems);
    let sources = sources::sources(raw.sources, zone, problems);
    Some(Pipeline {
        name: raw.name,
        file: file.to_string(),
        currency: currency?,
        calendar: calendar?,
        sources,
        policy,
        dimensions: dimensions
            .into_iter()
            .map(|(name, sql)| Dimension {
                name,
                sql: sql.text,
            })
            .collect(),
        cohorts,
        metrics,
        rfm: rfm.map_or(Some(None), |rfm| rfm.map(Some))?,
        touch_model,
        outputs,
        s3,
        close,
        lineage,
        settings,
    })
}

fn version(version: u32, problems: &mut Problems) {
    if version != 1 {
        let message = format!("version {version} of the pipeline format is unknown");
        problems.push(
            YamlPath::keys(["version"]),
            message,
            Some("write `version: 1`".to_string()),
        );
    }
}

fn pipeline_name(name: &str, problems: &mut Problems) {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if !starts_well || !name.chars().all(is_allowed) || name.len() > 64 {
        let message = format!("`{}` cannot be a pipeline's name", show(name));
        let hint =
            "up to 64 lower-case letters, digits, `-` and `_`, beginning with a letter or a digit";
        problems.push(YamlPath::keys(["name"]), message, Some(hint.to_string()));
    }
}

fn reporting_currency(code: &str, problems: &mut Problems) -> Option<Currency> {
    let found = currency(code);
    if found.is_none() {
        let message = format!("`{}` is not a currency of ISO 4217", show(code));
        let hint = did_you_mean(&nearest_currencies(code))
            .unwrap_or("three capital letters, such as `JPY` or `USD`".into());
        problems.push(YamlPath::keys(["currency"]), message, hint);
    }
    found
}

/// A dimension's SQL: parsed, if it could be.
struct DimensionSql {
    text: String,
    parsed: Option<SqlExpr>,
}

impl DimensionSql {
    fn reads(&self, column: &str) -> bool {
        self.parsed
            .as_ref()
            .is_some_and(|sql| sql.columns().iter().any(|read| read == column))
    }
}

/// Dimensions by name.
type Dimensions = BTreeMap<String, DimensionSql>;

fn dimensions(
    written: &BTreeMap<String, String>,
    raw: &RawPipeline,
    problems: &mut Problems,
) -> Dimensions {
    let section = YamlPath::keys(["dimensions"]);
    let mut dimensions = Dimensions::new();
    for (name, text) in written {
        let path = section.key(name);
        names::check_column_name(name, "dimension", &path, problems);
        let parsed = row_sql(text, Scope::Account, "a dimension", &path, problems);
        let dimension = DimensionSql {
            text: text.clone(),
            parsed,
        };
        let segments = [
            ("rfm_segment", "rfm", raw.rfm.is_some()),
            ("touch_model", "touch_model", raw.touch_model.is_some()),
        ];
        for (column, wanted, is_there) in segments {
            if dimension.reads(column)
                && !is_there
                && !problems.is_silenced(&YamlPath::keys([wanted]))
            {
                let hint = format!("add the section, `{wanted}: {{}}` for its defaults");
                problems.push(
                    &path,
                    format!("`{column}` needs the section `{wanted}`"),
                    hint,
                );
            }
        }
        dimensions.insert(name.clone(), dimension);
    }
    dimensions
}

fn cohorts(raw: &RawPipeline, dimensions: &Dimensions, problems: &mut Problems) -> Vec<Cohort> {
    let section = YamlPath::keys(["cohorts"]);
    for (name, cohort) in &raw.cohorts {
        let path = section.key(name);
        names::check_column_name(name, "cohort", &path, problems);
        if dimensions.contains_key(name) {
            problems.push(
                &path,
                format!("`{name}` is already the name of a dimension"),
                None,
            );
        }
        if cohort.by.is_empty() {
            problems.push(
                path.key("by"),
                "a cohort needs at least one dimension",
                None,
            );
        }
        for (index, dimension) in cohort.by.iter().enumerate() {
            let path = path.key("by").index(index);
            check_dimension(dimension, dimensions, &path, problems);
            if cohort.by[..index].contains(dimension) {
                problems.push(path, format!("`{}` is named twice", show(dimension)), None);
            }
        }
    }
    raw.cohorts
        .iter()
        .map(|(name, cohort)| Cohort {
            name: name.clone(),
            by: cohort.by.clone(),
        })
        .collect()
}

fn check_dimension(name: &str, dimensions: &Dimensions, path: &YamlPath, problems: &mut Problems) {
    if dimensions.contains_key(name) || problems.is_silenced(&YamlPath::keys(["dimensions"])) {
        return;
    }
    let known = || dimensions.keys().map(String::as_str);
    let hint =
        did_you_mean(&nearest(name, known(), 1)).unwrap_or_else(|| match dimensions.is_empty() {
            true => "there is no section `dimensions`, or it is empty".into(),
            false => format!("dimensions: {}", list_names(known())),
        });
    problems.push(path, format!("`{}` is not a dimension", show(name)), hint);
}

/// Checks what can be known without the catalogue; the metrics' room knows the rest.
fn metrics(
    raw: RawMetrics,
    dimensions: &Dimensions,
    cohorts: &[Cohort],
    problems: &mut Problems,
) -> MetricChoice {
    let mut groups = vec![TOTAL, COHORT_FIRST_PAID, COHORT_SIGNUP];
    groups.extend(dimensions.keys().map(String::as_str));
    groups.extend(cohorts.iter().map(|cohort| cohort.name.as_str()));
    let define = YamlPath::keys(["metrics", "define"]);
    for (id, metric) in &raw.define {
        let path = define.key(id);
        names::check_snake_case(id, "metric", &path, problems);
        if ["period_start", "period_end", "is_complete"].contains(&id.as_str()) {
            problems.push(&path, format!("`{id}` is a column of every table"), None);
        }
        for (key, text) in [
            ("numerator", &metric.numerator),
            ("denominator", &metric.denominator),
        ] {
            if let Some(text) = text {
                checked_sql(text, Scope::Metrics, &path.key(key), problems);
            }
        }
        if metric.trailing == Some(Trailing::Periods(0)) {
            problems.push(
                path.key("trailing"),
                "expected a number of 1 or more, found `0`",
                None,
            );
        }
        for (index, name) in metric.dimensions.iter().flatten().enumerate() {
            let is_known = groups.contains(&name.as_str());
            if !is_known && !problems.is_silenced(&YamlPath::keys(["dimensions"])) {
                let hint = did_you_mean(&nearest(name, groups.iter().copied(), 1))
                    .unwrap_or_else(|| format!("there are {}", list_names(groups.iter().copied())));
                let message = format!("`{}` is no dimension or cohort", show(name));
                problems.push(path.key("dimensions").index(index), message, hint);
            }
        }
        for (index, table) in metric.needs.iter().flatten().enumerate() {
            let is_further = FURTHER_NEEDS.contains(&table.as_str());
            if !is_further && !INPUT_TABLES.contains(&table.as_str()) {
                let hint = did_you_mean(&nearest(table, INPUT_TABLES, 1))
                    .unwrap_or_else(|| format!("input tables: {}", list_names(INPUT_TABLES)));
                let message = format!("`{}` is not an input table", show(table));
                problems.push(path.key("needs").index(index), message, hint);
            }
        }
    }
    MetricChoice {
        only: raw.only,
        exclude: raw.exclude,
        define: raw.define,
    }
}

fn outputs(raw: &RawOutputs, all: &RawPipeline, problems: &mut Problems) -> Outputs {
    let section = YamlPath::keys(["outputs"]);
    if raw.root.trim().is_empty() {
        problems.push(
            section.key("root"),
            "the folder for the results is empty",
            Some("`root: out`".to_string()),
        );
    } else if raw.root.contains('\0') {
        problems.push(
            section.key("root"),
            "a path cannot hold a NUL character",
            None,
        );
    } else {
        places::check(&raw.root, &section.key("root"), problems);
    }
    check_range(
        raw.lock_expiry_seconds,
        5..=86_400,
        &section.key("lock_expiry_seconds"),
        problems,
    );
    let path = section.key("tables");
    if raw.tables.as_ref().is_some_and(Vec::is_empty) {
        let hint = "name some, or leave the key out for all of them".to_string();
        problems.push(&path, "no table is left to publish", hint);
    }
    let tables = raw.tables.as_deref().unwrap_or_default();
    for (index, table) in tables.iter().enumerate() {
        let path = path.index(index);
        if tables[..index].contains(table) {
            problems.push(&path, format!("`{}` is named twice", show(table)), None);
        }
        let needed = match table.as_str() {
            "rfm_scores" | "rfm_boundaries" => ("rfm", all.rfm.is_some()),
            "touch_segments" => ("touch_model", all.touch_model.is_some()),
            "kpi_attainment" if all.sources.targets.is_none() => {
                let hint = "map it: `sources: {targets: {path: …}}`".to_owned();
                problems.push(&path, "`kpi_attainment` needs the source `targets`", hint);
                continue;
            }
            _ => continue,
        };
        if let (section, false) = needed
            && !problems.is_silenced(&YamlPath::keys([section]))
        {
            let hint = format!("add the section, `{section}: {{}}` for its defaults");
            problems.push(
                &path,
                format!("`{table}` needs the section `{section}`"),
                hint,
            );
        }
    }
    Outputs {
        root: raw.root.clone(),
        tables: raw.tables.clone(),
        compression: raw.compression,
        lock_expiry: Duration::from_secs(u64::from(raw.lock_expiry_seconds)),
    }
}

/// Parses and guards a SQL text.
fn checked_sql(
    text: &str,
    scope: Scope,
    path: &YamlPath,
    problems: &mut Problems,
) -> Option<SqlExpr> {
    match sql::parse_in(text, scope) {
        Ok(sql) => Some(sql),
        Err(error) => {
            problems.push(path, error.to_string(), error.hint());
            None
        }
    }
}

/// The same for a text that is computed row by row.
fn row_sql(
    text: &str,
    scope: Scope,
    subject: &str,
    path: &YamlPath,
    problems: &mut Problems,
) -> Option<SqlExpr> {
    let sql = checked_sql(text, scope, path, problems)?;
    if sql.has_aggregate() {
        let message = format!("{subject} is computed row by row and cannot aggregate");
        let hint = "`SUM`, `COUNT` and the like belong into metrics; `GREATEST` and `LEAST` compare columns";
        problems.push(path, message, Some(hint.to_string()));
    }
    Some(sql)
}

fn check_range(
    value: u32,
    range: std::ops::RangeInclusive<u32>,
    path: &YamlPath,
    problems: &mut Problems,
) {
    if !range.contains(&value) {
        let message = format!(
            "expected a number from {} to {}, found `{value}`",
            range.start(),
            range.end()
        );
        problems.push(path, message, None);
    }
}

/// A text that may be left empty, as a variable without a value leaves it.
fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref()
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

fn did_you_mean(names: &[&str]) -> Option<String> {
    match names {
        [] => None,
        [name] => Some(format!("did you mean `{name}`?")),
        names => Some(format!(
            "did you mean one of {}?",
            list_names(names.iter().copied())
        )),
    }
}
