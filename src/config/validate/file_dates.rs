//! `sources.….file_dates`: how a file's path names its days.

use crate::config::FileDates;
use crate::config::error::{Problems, YamlPath, list_names, show};
use crate::config::raw::RawSource;
use crate::contract::{self, INPUT_TABLES};

pub(super) fn file_dates(
    raw: &RawSource,
    table: &str,
    path: &YamlPath,
    problems: &mut Problems,
) -> Option<FileDates> {
    let pattern = raw.file_dates.as_deref()?;
    // Only rows that are of a day lie in files that may be known by their days.
    let is_dated = |table: &&str| contract::of(table).dated_by.is_some();
    if !is_dated(&table) {
        let hint = format!(
            "leave it out; it is for {}",
            list_names(INPUT_TABLES.into_iter().filter(is_dated))
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
