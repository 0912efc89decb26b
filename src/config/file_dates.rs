//! How a file's path names the days that its rows are of: `invoices-%Y-%m.csv`.

use std::fmt;

use chrono::{Datelike, Days, Months, NaiveDate};
use regex::Regex;

use super::error::show;

/// Longer patterns are no file names.
const LONGEST_PATTERN: usize = 1_024;
/// Years that a path can name.
const YEARS: std::ops::Range<i32> = 1900..2200;

/// A pattern that is looked for in paths.
#[derive(Clone)]
pub struct FileDates {
    pattern: String,
    /// Matches a path up to the pattern's last match.
    regex: Regex,
}

/// A piece of a pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    Character(char),
    Year,
    Month,
    Day,
}

impl Piece {
    fn is_number(self) -> bool {
        !matches!(self, Self::Character(_))
    }
}

impl FileDates {
    /// Reads a pattern: `%Y`, `%m` and `%d` are year, month and day, `%%` is a percent sign. The error says what is wrong with it.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        let pieces = pieces(pattern)?;
        for (piece, name) in [
            (Piece::Year, "%Y"),
            (Piece::Month, "%m"),
            (Piece::Day, "%d"),
        ] {
            if pieces.iter().filter(|other| **other == piece).count() > 1 {
                return Err(format!("`{name}` stands there more than once"));
            }
        }
        if !pieces.contains(&Piece::Year) {
            return Err(format!("`{}` names no year; it needs `%Y`", show(pattern)));
        }
        if pieces.contains(&Piece::Day) && !pieces.contains(&Piece::Month) {
            return Err("a day (`%d`) needs its month (`%m`)".into());
        }
        if pieces.contains(&Piece::Character('*')) {
            return Err(
                "there are no wildcards here; the pattern is looked for anywhere in a path".into(),
            );
        }
        if pattern.len() > LONGEST_PATTERN {
            return Err(format!("a pattern has at most {LONGEST_PATTERN} bytes"));
        }
        let regex = Regex::new(&regex_of(&pieces))
            .map_err(|_| format!("`{}` cannot be looked for", show(pattern)))?;
        Ok(Self {
            pattern: pattern.to_string(),
            regex,
        })
    }

    /// What someone may have meant who wrote a pattern that [`FileDates::parse`] refuses.
    pub(super) fn guess(pattern: &str) -> Option<String> {
        let guess = pattern
            .replace("%F", "%Y-%m-%d")
            .replace("%y", "%Y")
            .replace("%M", "%m")
            .replace("%D", "%d")
            .replace("YYYY", "%Y")
            .replace("yyyy", "%Y")
            .replace("MM", "%m")
            .replace("DD", "%d")
            .replace("dd", "%d");
        // What stands around the day needs no wildcards.
        let guess = guess.trim_start_matches('*').trim_end_matches('*');
        let is_other = guess != pattern;
        (is_other && Self::parse(guess).is_ok()).then(|| guess.to_string())
    }

    /// The days that a path names, `[from, to)`: a day, a month or a year. The pattern's last match counts; `None` where
    /// there is none, or one that is no date. A number is not part of a longer one.
    pub fn days(&self, path: &str) -> Option<(NaiveDate, NaiveDate)> {
        let found = self.regex.captures(path)?;
        let number = |name: &str| found.name(name)?.as_str().parse::<u32>().ok();
        let year = number("year")
            .and_then(|year| i32::try_from(year).ok())
            .filter(|year| YEARS.contains(year))?;
        let (month, day) = (number("month"), number("day"));
        let from = NaiveDate::from_ymd_opt(year, month.unwrap_or(1), day.unwrap_or(1))?;
        let to = match (month, day) {
            (_, Some(_)) => from.checked_add_days(Days::new(1)),
            (Some(_), None) => from.checked_add_months(Months::new(1)),
            (None, None) => from.with_year(year + 1),
        };
        Some((from, to?))
    }
}

/// The pattern as the pipeline file writes it.
impl fmt::Display for FileDates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pattern)
    }
}

impl fmt::Debug for FileDates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FileDates").field(&self.pattern).finish()
    }
}

fn pieces(pattern: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            pieces.push(Piece::Character(character));
            continue;
        }
        pieces.push(match characters.next() {
            Some('Y') => Piece::Year,
            Some('m') => Piece::Month,
            Some('d') => Piece::Day,
            Some('%') => Piece::Character('%'),
            Some(other) => {
                return Err(format!(
                    "`%{}` means nothing here; `%%` is a percent sign",
                    show(&other.to_string())
                ));
            }
            None => return Err("a `%` stands at the end; `%%` is a percent sign".into()),
        });
    }
    Ok(pieces)
}

/// What precedes the pattern is taken as long as can be, so that the last match is found.
fn regex_of(pieces: &[Piece]) -> String {
    let begins_with_number = pieces.first().is_some_and(|piece| piece.is_number());
    let ends_with_number = pieces.last().is_some_and(|piece| piece.is_number());
    let mut regex = String::from(match begins_with_number {
        true => "(?s)^(?:.*[^0-9])?",
        false => "(?s)^.*",
    });
    for piece in pieces {
        match piece {
            Piece::Character(character) => {
                regex.push_str(&regex::escape(character.encode_utf8(&mut [0; 4])));
            }
            Piece::Year => regex.push_str("(?P<year>[0-9]{4})"),
            Piece::Month => regex.push_str("(?P<month>[0-9]{2})"),
            Piece::Day => regex.push_str("(?P<day>[0-9]{2})"),
        }
    }
    if ends_with_number {
        regex.push_str("(?:[^0-9]|$)");
    }
    regex
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(pattern: &str, path: &str) -> Option<(String, String)> {
        let (from, to) = FileDates::parse(pattern).unwrap().days(path)?;
        Some((from.to_string(), to.to_string()))
    }

    fn interval(from: &str, to: &str) -> Option<(String, String)> {
        Some((from.into(), to.into()))
    }

    #[test]
    fn a_path_names_a_year_a_month_or_a_day() {
        assert_eq!(
            days("invoices-%Y-%m.csv", "data/invoices-2024-12.csv"),
            interval("2024-12-01", "2025-01-01")
        );
        assert_eq!(
            days("year=%Y/", "s3://bucket/usage/year=2024/part-0.parquet"),
            interval("2024-01-01", "2025-01-01")
        );
        assert_eq!(
            days("%Y%m%d", "events/20240229.csv.gz"),
            interval("2024-02-29", "2024-03-01")
        );
        assert_eq!(
            days("%d.%m.%Y", "31.12.2024"),
            interval("2024-12-31", "2025-01-01")
        );
        assert_eq!(
            days("%Y年%m月", "請求/2024年02月.csv"),
            interval("2024-02-01", "2024-03-01")
        );
    }

    #[test]
    fn the_last_match_counts() {
        assert_eq!(
            days("%Y-%m", "2023-01/backup-2023-02/2024-03.csv"),
            interval("2024-03-01", "2024-04-01")
        );
        // Also where it begins inside of an earlier one.
        assert_eq!(
            days("%Y-%m", "2023-2024-03.csv"),
            interval("2024-03-01", "2024-04-01")
        );
        assert_eq!(days("%Y-%m", "2024-03/2024-13.csv"), None);
    }

    #[test]
    fn what_names_no_date_gives_none() {
        for (pattern, path) in [
            ("invoices-%Y-%m.csv", "invoices-2024-12-csv"),
            ("invoices-%Y-%m.csv", "invoices-24-12.csv"),
            ("%Y-%m-%d", "2023-02-29.csv"),
            ("%Y-%m", "2024-00.csv"),
            ("%Y", "id-0042.csv"),
            ("%Y", ""),
            // Parts of longer numbers.
            ("%Y", "id-120245.csv"),
            ("%Y%m", "20240501.csv"),
            ("%Y", "２０２４.csv"),
        ] {
            assert_eq!(days(pattern, path), None, "{pattern} in {path}");
        }
    }

    #[test]
    fn all_else_stands_for_itself() {
        assert_eq!(
            days("a.b(%Y)+100%%", "a.b(2024)+100%.csv"),
            interval("2024-01-01", "2025-01-01")
        );
        assert_eq!(days("a.%Y", "ab2024"), None);
    }

    #[test]
    fn odd_patterns_are_refused() {
        for pattern in [
            "",
            "a",
            "%m",
            "%d",
            "%m-%d",
            "%Y-%d",
            "%Y-%Y",
            "%Y-%m-%m",
            "%Y-%m-%d %d",
            "%Y-%H",
            "%Y%",
            "%y",
            "%Y-%M",
            "YYYY-MM",
            "*%Y",
            "%%Y",
            "%Y-% m",
        ] {
            assert!(FileDates::parse(pattern).is_err(), "{pattern}");
        }
        assert!(FileDates::parse(&format!("%Y{}", "é".repeat(1_000_000))).is_err());
    }

    #[test]
    fn patterns_are_guessed() {
        let guess = |pattern| FileDates::guess(pattern).unwrap_or_default();
        assert_eq!(guess("invoices-YYYY-MM.csv"), "invoices-%Y-%m.csv");
        assert_eq!(guess("%y-%M"), "%Y-%m");
        assert_eq!(guess("%F.csv"), "%Y-%m-%d.csv");
        assert_eq!(guess("*%Y-%m*"), "%Y-%m");
        assert_eq!(guess("invoices.csv"), "");
    }
}
