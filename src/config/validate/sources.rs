//! `sources`: where each input table lies, and how its columns become ours.

use std::collections::BTreeMap;

use chrono::format::{Item, StrftimeItems};
use chrono_tz::Tz;
use encoding_rs::Encoding;
use serde_json::Value as Json;

use super::{calendar, did_you_mean, file_dates, places, row_sql};
use crate::config::error::{Problems, YamlPath, show};
use crate::config::raw::{Format, RawCsv, RawNumbers, RawSource, RawSources};
use crate::config::{CsvDialect, Input, Numbers, Source};
use crate::sql::nearest::nearest;
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
    } = raw;
    if usage_events.is_some() && usage_sessions.is_some() {
        let hint = "sessions can be cut from events; leave one of the two out".to_string();
        let path = YamlPath::keys(["sources", "usage_sessions"]);
        problems.push(
            path,
            "`usage_events` and `usage_sessions` are both there, and would count twice",
            hint,
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
    let csv = csv(&raw.csv, is_tab_separated, &path.key("csv"), problems);
    let numbers = numbers(&raw.numbers, &path.key("numbers"), problems);
    for (index, format) in raw.dates.iter().enumerate() {
        check_date_format(format, &path.key("dates").index(index), problems);
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

fn csv(
    raw: &RawCsv,
    is_tab_separated: bool,
    path: &YamlPath,
    problems: &mut Problems,
) -> Option<CsvDialect> {
    let delimiter = match one_byte(&raw.delimiter) {
        // The default of a file whose ending says otherwise.
        Some(b',') if is_tab_separated => Some(b'\t'),
        Some(byte) if !byte.is_ascii_alphanumeric() && byte != b'\n' && byte != b'\r' => Some(byte),
        _ => {
            let message = format!(
                "expected one ASCII character, found `{}`",
                show(&raw.delimiter)
            );
            let hint = r#"`","`, `";"`, `"|"` or `"\t"`"#.to_string();
            problems.push(path.key("delimiter"), message, hint);
            None
        }
    };
    let quote = match (raw.quote.is_empty(), one_byte(&raw.quote)) {
        (true, _) => None,
        (false, Some(byte)) if !byte.is_ascii_alphanumeric() && !byte.is_ascii_whitespace() => {
            Some(byte)
        }
        _ => {
            let message = format!(
                "expected one ASCII character or nothing, found `{}`",
                show(&raw.quote)
            );
            problems.push(
                path.key("quote"),
                message,
                Some(r#"`'"'`, or `""` for none"#.to_string()),
            );
            None
        }
    };
    if quote.is_some() && quote == delimiter {
        problems.push(
            path.key("quote"),
            "`quote` and `delimiter` are the same character",
            None,
        );
    }
    let encoding = encoding(&raw.encoding, &path.key("encoding"), problems);
    Some(CsvDialect {
        delimiter: delimiter?,
        quote,
        has_header: raw.header,
        null_words: raw.null_words.clone(),
        encoding: encoding?,
    })
}

fn one_byte(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() => Some(*byte),
        // Single quotes and plain text keep YAML from reading the escape.
        br"\t" => Some(b'\t'),
        _ => None,
    }
}

fn encoding(label: &str, path: &YamlPath, problems: &mut Problems) -> Option<&'static Encoding> {
    const SUGGESTED: &[&str] = &[
        "utf-8",
        "shift_jis",
        "euc-jp",
        "iso-2022-jp",
        "windows-1252",
        "iso-8859-1",
        "utf-16le",
        "utf-16be",
        "gbk",
        "big5",
        "euc-kr",
    ];
    const OTHER_NAMES: &[(&str, &str)] = &[
        ("cp932", "shift_jis"),
        ("utf-8-sig", "utf-8"),
        ("utf8-bom", "utf-8"),
        ("cp1252", "windows-1252"),
        ("latin-1", "iso-8859-1"),
        ("eucjp", "euc-jp"),
    ];
    let found = Encoding::for_label_no_replacement(label.as_bytes());
    if found.is_none() {
        let lowered = label.trim().to_lowercase();
        let other = OTHER_NAMES
            .iter()
            .find(|(name, _)| *name == lowered)
            .map(|(_, known)| vec![*known]);
        let near = other.unwrap_or_else(|| nearest(&lowered, SUGGESTED.iter().copied(), 1));
        let hint = did_you_mean(&near)
            .unwrap_or("for example `utf-8`, `shift_jis`, `euc-jp`, `windows-1252`".into());
        problems.push(path, format!("unknown encoding `{}`", show(label)), hint);
    }
    found
}

fn numbers(raw: &RawNumbers, path: &YamlPath, problems: &mut Problems) -> Option<Numbers> {
    let mark = |text: &str| {
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(mark), None)
                if !mark.is_alphanumeric() && !matches!(mark, '-' | '+') && !mark.is_control() =>
            {
                Some(mark)
            }
            _ => None,
        }
    };
    let thousands = mark(&raw.thousands);
    if thousands.is_none() && !raw.thousands.is_empty() {
        let message = format!(
            "expected one character or nothing, found `{}`",
            show(&raw.thousands)
        );
        problems.push(
            path.key("thousands"),
            message,
            Some(r#"`","`, `"."`, `" "` or `""`"#.to_string()),
        );
    }
    let decimal = mark(&raw.decimal);
    if decimal.is_none() {
        let message = format!("expected one character, found `{}`", show(&raw.decimal));
        problems.push(
            path.key("decimal"),
            message,
            Some(r#"`"."` or `","`"#.to_string()),
        );
    }
    if decimal.is_some() && thousands == decimal {
        let message = format!(
            "`thousands` and `decimal` are both `{}`",
            show(&raw.decimal)
        );
        let hint = match raw.decimal.as_str() {
            "," => r#"add `thousands: "."`, or `thousands: ""` for none"#,
            _ => r#"add `decimal: ","`, or `thousands: ""` for none"#,
        };
        problems.push(path, message, Some(hint.to_string()));
    }
    Some(Numbers {
        thousands,
        decimal: decimal?,
    })
}

fn check_date_format(format: &str, path: &YamlPath, problems: &mut Problems) {
    let items: Vec<Item<'_>> = StrftimeItems::new(format).collect();
    let is_valid = !items.contains(&Item::Error);
    let has_parts = items
        .iter()
        .any(|item| matches!(item, Item::Numeric(..) | Item::Fixed(_)));
    if is_valid && has_parts {
        return;
    }
    let guess = format
        .replace("YYYY", "%Y")
        .replace("yyyy", "%Y")
        .replace("MM", "%m")
        .replace("DD", "%d")
        .replace("dd", "%d")
        .replace("HH", "%H")
        .replace("mm", "%M")
        .replace("ss", "%S");
    let hint = match guess != format && !format.contains('%') {
        true => format!("did you mean `{}`?", show(&guess)),
        false => "for example `%Y/%m/%d` or `%d.%m.%Y %H:%M`".to_string(),
    };
    problems.push(
        path,
        format!("`{}` is not a date format", show(format)),
        hint,
    );
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

    #[test]
    fn separators_may_be_written_as_escapes() {
        assert_eq!(one_byte("\\t"), Some(b'\t'));
        assert_eq!(one_byte("\t"), Some(b'\t'));
        assert_eq!(one_byte("、"), None);
        assert_eq!(one_byte(",,"), None);
    }
}
