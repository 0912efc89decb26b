//! `sources`: where each input table lies, and how its columns become ours.

mod text;

use std::collections::BTreeMap;

use chrono_tz::Tz;
use serde_json::Value as Json;

use super::{calendar, file_dates, places, row_sql};
use crate::config::error::{Problems, YamlPath, show};
use crate::config::raw::{Format, RawSource, RawSources};
use crate::config::{Input, Source};
use crate::sql::{self, Scope};

/// All sources that the file maps; those with problems may be missing.
pub(super) fn sources(
    raw: RawSources,
    zone: Tz,
    problems: &mut Problems,
) -> BTreeMap<&'static str, Source> {
    let RawSources {
        accounts,
        subscriptions,
        account_merges,
        plans,
        invoice_lines,
        fx_rates,
        opportunities,
        members,
        onboarding,
        surveys,
        tickets,
        community,
        costs,
        time_entries,
        targets,
        usage_events,
        usage_sessions,
        usage_daily,
        usage_features,
    } = raw;
    let of_usage = [
        ("usage_events", &usage_events),
        ("usage_sessions", &usage_sessions),
        ("usage_daily", &usage_daily),
    ];
    let mut mapped = of_usage.iter().filter(|(_, source)| source.is_some());
    if let (Some((first, _)), Some((second, _))) = (mapped.next(), mapped.next()) {
        let hint = "sessions are cut from events, and days made of both; leave all but one out";
        problems.push(
            YamlPath::keys(["sources", second]),
            format!("`{first}` and `{second}` are both there, and would count twice"),
            hint.to_string(),
        );
    }
    if usage_features.is_some() && usage_daily.is_none() {
        let hint = "map `sources.usage_daily` beside it, or `feature` of `usage_events`";
        problems.push(
            YamlPath::keys(["sources", "usage_features"]),
            "`usage_features` stands beside `usage_daily` only",
            hint.to_string(),
        );
    }
    let written = [
        ("accounts", Some(accounts)),
        ("subscriptions", Some(subscriptions)),
        ("account_merges", account_merges),
        ("plans", plans),
        ("invoice_lines", invoice_lines),
        ("fx_rates", fx_rates),
        ("opportunities", opportunities),
        ("members", members),
        ("onboarding", onboarding),
        ("surveys", surveys),
        ("tickets", tickets),
        ("community", community),
        ("costs", costs),
        ("time_entries", time_entries),
        ("targets", targets),
        ("usage_events", usage_events),
        ("usage_sessions", usage_sessions),
        ("usage_daily", usage_daily),
        ("usage_features", usage_features),
    ];
    let mut sources = BTreeMap::new();
    for (table, raw) in written {
        let Some(raw) = raw else { continue };
        let path = YamlPath::keys(["sources", table]);
        if let Some(source) = source(raw, table, zone, &path, problems) {
            sources.insert(table, source);
        }
    }
    sources
}

fn source(
    raw: RawSource,
    table: &str,
    zone: Tz,
    path: &YamlPath,
    problems: &mut Problems,
) -> Option<Source> {
    let is_tab_separated = raw
        .path
        .as_deref()
        .is_some_and(|file| file.to_lowercase().ends_with(".tsv"));
    let csv = text::csv(&raw.csv, is_tab_separated, &path.key("csv"), problems);
    let numbers = text::numbers(&raw.numbers, &path.key("numbers"), problems);
    for (index, format) in raw.dates.iter().enumerate() {
        text::check_date_format(format, &path.key("dates").index(index), problems);
    }
    let time_zone = match &raw.time_zone {
        Some(name) => calendar::time_zone(name, &path.key("time_zone"), problems),
        None => Some(zone),
    };
    for (column, text) in &raw.columns {
        check_column(column, text, &path.key("columns"), problems);
    }
    let constants = constants(&raw, path, problems);
    if let Some(filter) = &raw.filter {
        row_sql(
            filter,
            Scope::Row,
            "a filter",
            &path.key("filter"),
            problems,
        );
    }
    let input = input(&raw, path, problems);
    let file_dates = file_dates::file_dates(&raw, table, &path.key("file_dates"), problems);
    Some(Source {
        input: input?,
        csv: csv?,
        dates: raw.dates,
        numbers: numbers?,
        time_zone: time_zone?,
        columns: raw.columns,
        constants,
        filter: raw.filter,
        file_dates,
    })
}

fn input(raw: &RawSource, path: &YamlPath, problems: &mut Problems) -> Option<Input> {
    match (&raw.path, &raw.rows) {
        (Some(_), Some(_)) => {
            problems.push(
                path,
                "`path` and `rows` are both there",
                Some("keep one of the two".to_string()),
            );
            None
        }
        (None, None) => {
            let hint = "`path:` names a file or glob, `rows:` holds the table itself".to_string();
            problems.push(path, "neither `path` nor `rows` is there", hint);
            None
        }
        (Some(pattern), None) => files(pattern, raw.format, path, problems),
        (None, Some(rows)) => {
            if raw.format.is_some() {
                let hint = "leave `format` out".to_string();
                problems.push(
                    path.key("format"),
                    "`rows` are written here and have no file format",
                    hint,
                );
            }
            Some(inline_rows(rows, &path.key("rows"), problems))
        }
    }
}

fn files(
    pattern: &str,
    format: Option<Format>,
    path: &YamlPath,
    problems: &mut Problems,
) -> Option<Input> {
    if pattern.trim().is_empty() || pattern.contains('\0') {
        problems.push(
            path.key("path"),
            "the path is empty or holds a NUL character",
            None,
        );
        return None;
    }
    if !places::check(pattern, &path.key("path"), problems) {
        return None;
    }
    let lowered = pattern.to_lowercase();
    let ends_with = |endings: &[&str]| endings.iter().any(|ending| lowered.ends_with(ending));
    let from_ending = if ends_with(&[".csv", ".csv.gz", ".tsv"]) {
        Some(Format::Csv)
    } else if ends_with(&[".parquet", ".pq"]) {
        Some(Format::Parquet)
    } else {
        None
    };
    let Some(format) = format.or(from_ending) else {
        let message = format!("the ending of `{}` does not tell the format", show(pattern));
        problems.push(
            path.key("path"),
            message,
            Some("add `format: csv` or `format: parquet`".to_string()),
        );
        return None;
    };
    Some(Input::Files {
        pattern: pattern.to_string(),
        format,
    })
}

fn inline_rows(rows: &[BTreeMap<String, Json>], path: &YamlPath, problems: &mut Problems) -> Input {
    let mut columns: Vec<String> = Vec::new();
    for column in rows.iter().flat_map(BTreeMap::keys) {
        if !columns.contains(column) {
            columns.push(column.clone());
        }
    }
    let mut table = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        let mut cells = Vec::with_capacity(columns.len());
        for column in &columns {
            let cell = row.get(column).unwrap_or(&Json::Null);
            cells.push(scalar_text(cell, &path.index(index).key(column), problems));
        }
        table.push(cells);
    }
    Input::Rows {
        columns,
        rows: table,
    }
}

/// A scalar as text, null as `None`.
fn scalar_text(value: &Json, path: &YamlPath, problems: &mut Problems) -> Option<String> {
    match value {
        Json::Null => None,
        Json::Bool(boolean) => Some(boolean.to_string()),
        Json::Number(number) => Some(number.to_string()),
        Json::String(text) => Some(text.clone()),
        Json::Array(_) | Json::Object(_) => {
            problems.push(
                path,
                "expected text, a number, a boolean or null, found a list or mapping",
                None,
            );
            None
        }
    }
}

fn constants(
    raw: &RawSource,
    path: &YamlPath,
    problems: &mut Problems,
) -> BTreeMap<String, Option<String>> {
    let path = path.key("constants");
    let mut constants = BTreeMap::new();
    for (column, value) in &raw.constants {
        let path = path.key(column);
        if raw.columns.contains_key(column) {
            let message = format!("`{}` is in `columns` as well", show(column));
            problems.push(&path, message, Some("keep one of the two".to_string()));
        }
        constants.insert(column.clone(), scalar_text(value, &path, problems));
    }
    constants
}

/// Checks a mapped column, unless it may be the name of a source's column: that shows when the header is read.
fn check_column(column: &str, text: &str, path: &YamlPath, problems: &mut Problems) {
    let path = path.key(column);
    if text.trim().is_empty() {
        problems.push(
            path,
            "the column is empty",
            Some("name a column, or write a SQL expression".to_string()),
        );
    } else if !may_be_header(text) || sql::parse(text).is_ok_and(|sql| sql.has_aggregate()) {
        row_sql(text, Scope::Row, "a column", &path, problems);
    }
}

/// Whether a text that is not plain SQL may be what some CRM wrote over a column: `Price (USD)`, `Valid from`, `金額(税抜)`.
fn may_be_header(text: &str) -> bool {
    let has_sql_marks =
        text.contains(['\'', '=', '<', '>', '+', '*', ';', '|', '\n']) || text.contains("::");
    let lowered = text.trim().to_lowercase();
    let is_case = lowered.starts_with("case when ")
        || (lowered.starts_with("case ") && lowered.ends_with(" end"));
    let is_query = lowered.contains("select ");
    !has_sql_marks && !is_case && !is_query && !sql::calls_known_function(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_sql_are_told_apart() {
        for header in [
            "Account ID",
            "Price (USD)",
            "金額(税抜)",
            "Valid from",
            "Date and time",
            "A/B",
            "a-b",
            "%",
            "amount",
        ] {
            assert!(may_be_header(header), "{header}");
        }
        for sql in [
            "UPPER(name",
            "a + b",
            "CASE WHEN a THEN b",
            "CASE a WHEN 1 THEN b END",
            "x IN (SELECT a FROM t)",
            "'EUR'",
            "a::date",
            "COALESCE(a, b)",
        ] {
            assert!(!may_be_header(sql), "{sql}");
        }
    }
}
