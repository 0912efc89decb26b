//! `sources.….file_dates`: how a file's path names its days.

use crate::config::FileDates;
use crate::config::error::{Problems, YamlPath, list_names, show};
use crate::config::raw::RawSource;

/// Tables whose rows are of a day, so that a file may be known by its days.
const DATED_TABLES: &[&str] = &[
    "invoice_lines",
    "usage_events",
    "usage_sessions",
    "fx_rates",
    "opportunities",
    "onboarding",
    "surveys",
    "tickets",
    "community",
    "costs",
    "time_entries",
];

pub(super) fn file_dates(
    raw: &RawSource,
    table: &str,
    path: &YamlPath,
    problems: &mut Problems,
) -> Option<FileDates> {
    let pattern = raw.file_dates.as_deref()?;
    if !DATED_TABLES.contains(&table) {
        let hint = format!(
            "leave it out; it is for {}",
            list_names(DATED_TABLES.iter().copied())
        );
        problems.push(path, format!("`{table}` has no `file_dates`"), hint);
        return None;
    }
    if raw.path.is_none() && raw.rows.is_some() {
        let hint = "leave `file_dates` out".to_string();
        problems.push(path, "`rows` are written here and lie in no file", hint);
        return None;
    }
    match FileDates::parse(pattern) {
        Ok(dates) => Some(dates),
        Err(message) => {
            let hint = match FileDates::guess(pattern) {
                Some(meant) => format!("did you mean `{}`?", show(&meant)),
                None => {
                    "for example `invoices-%Y-%m.csv`; `%Y`, `%m` and `%d` are year, month and day"
                        .to_string()
                }
            };
            problems.push(path, message, hint);
            None
        }
    }
}
