//! Text → instant, in the spellings that exports have.

use crate::period::utc_of_local;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};
use chrono_tz::Tz;

/// How the times of one source are read.
#[derive(Debug, Clone)]
pub struct InstantReader {
    /// The source's own formats, tried first, in chrono's notation.
    pub formats: Vec<String>,
    /// Zone of times that carry none.
    pub time_zone: Tz,
    /// Zone in which a date begins.
    pub business_zone: Tz,
}

enum Reading {
    Date(NaiveDate),
    Local(NaiveDateTime),
    /// Microseconds since 1970-01-01 UTC.
    Instant(i64),
}

impl InstantReader {
    /// Microseconds since 1970-01-01 UTC; `None` if the text is no date or time.
    pub fn micros(&self, text: &str) -> Option<i64> {
        let text = text.trim();
        let own = self
            .formats
            .iter()
            .find_map(|format| formatted(text, format));
        match own.or_else(|| iso(text))? {
            Reading::Date(date) => Some(utc_of_local(
                self.business_zone,
                date.and_time(NaiveTime::MIN),
            )),
            Reading::Local(time) => Some(utc_of_local(self.time_zone, time)),
            Reading::Instant(micros) => Some(micros),
        }
    }
}

fn formatted(text: &str, format: &str) -> Option<Reading> {
    if let Ok(instant) = DateTime::parse_from_str(text, format) {
        return Some(Reading::Instant(instant.timestamp_micros()));
    }
    if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
        return Some(Reading::Local(time));
    }
    NaiveDate::parse_from_str(text, format)
        .ok()
        .map(Reading::Date)
}

/// ISO 8601 and its neighbours: `2024-04-01`, `2024/4/1`, `2024-04-01 09:30`, `2024-04-01T00:30:00.5Z`, `… +09:00`, `… +09`,
/// `… UTC`.
fn iso(text: &str) -> Option<Reading> {
    let (date, rest) = iso_date(text)?;
    if rest.is_empty() {
        return Some(Reading::Date(date));
    }
    let rest = rest.strip_prefix(['T', ' '])?;
    let (time, zone) = iso_time(rest)?;
    let local = date.and_time(time);
    let zone = zone.trim_start();
    if zone.is_empty() {
        return Some(Reading::Local(local));
    }
    let offset_seconds = iso_offset(zone)?;
    Some(Reading::Instant(
        local.and_utc().timestamp_micros() - offset_seconds * 1_000_000,
    ))
}

/// Up to `most` leading digits as a number, and what follows them.
fn digits(text: &str, least: usize, most: usize) -> Option<(u32, &str)> {
    let count = text
        .bytes()
        .take(most)
        .take_while(u8::is_ascii_digit)
        .count();
    let number = text.get(..count).filter(|_| count >= least)?;
    Some((number.parse().ok()?, &text[count..]))
}

fn iso_date(text: &str) -> Option<(NaiveDate, &str)> {
    let (year, rest) = digits(text, 4, 4)?;
    let mark = rest
        .chars()
        .next()
        .filter(|mark| matches!(mark, '-' | '/'))?;
    let (month, rest) = digits(&rest[1..], 1, 2)?;
    let (day, rest) = digits(rest.strip_prefix(mark)?, 1, 2)?;
    Some((NaiveDate::from_ymd_opt(year as i32, month, day)?, rest))
}

fn iso_time(text: &str) -> Option<(NaiveTime, &str)> {
    let (hour, rest) = digits(text, 1, 2)?;
    let (minute, rest) = digits(rest.strip_prefix(':')?, 2, 2)?;
    let Some(rest) = rest.strip_prefix(':') else {
        return Some((NaiveTime::from_hms_opt(hour, minute, 0)?, rest));
    };
    let (second, rest) = digits(rest, 2, 2)?;
    let (micros, rest) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(fraction) => {
            let count = fraction.bytes().take_while(u8::is_ascii_digit).count();
            // Digits beyond the microsecond are cut off.
            let (number, _) = digits(fraction, 1, 6)?;
            (
                number * 10u32.pow(6 - count.min(6) as u32),
                &fraction[count..],
            )
        }
    };
    Some((
        NaiveTime::from_hms_micro_opt(hour, minute, second, micros)?,
        rest,
    ))
}

fn iso_offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z" | "UTC") {
        return Some(0);
    }
    let sign = match zone.bytes().next()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, rest) = digits(&zone[1..], 2, 2)?;
    let minutes = match rest.strip_prefix(':').unwrap_or(rest) {
        "" => 0,
        rest => {
            digits(rest, 2, 2)
                .filter(|(minutes, rest)| *minutes < 60 && rest.is_empty())?
                .0
        }
    };
    Some(sign * i64::from(hours * 3600 + minutes * 60)).filter(|_| hours < 24)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono_tz::{Asia::Tokyo, UTC};

    fn read(text: &str) -> Option<String> {
        let reader = InstantReader {
            formats: vec!["%d.%m.%Y".into()],
            time_zone: UTC,
            business_zone: Tokyo,
        };
        let micros = reader.micros(text)?;
        DateTime::from_timestamp_micros(micros).map(|instant| instant.to_rfc3339())
    }

    #[test]
    fn dates_begin_in_the_business_zone_and_times_in_their_own() {
        let midnight = Some("2024-03-31T15:00:00+00:00".to_owned());
        assert_eq!(read("2024-04-01"), midnight);
        assert_eq!(read("2024/4/1"), midnight);
        assert_eq!(read(" 01.04.2024 "), midnight);
        let morning = Some("2024-04-01T09:30:00+00:00".to_owned());
        for text in [
            "2024-04-01 09:30",
            "2024-04-01T09:30:00",
            "2024/04/01 9:30:00",
            "2024-04-01T09:30:00Z",
            "2024-04-01 09:30:00 UTC",
            "2024-04-01 18:30:00+09",
            "2024-04-01T18:30:00+09:00",
            "2024-04-01 18:30:00.000 +0900",
            "2024-04-01 06:00:00-03:30",
        ] {
            assert_eq!(read(text), morning, "{text}");
        }
        assert_eq!(
            read("2024-04-01T00:00:00.123456789Z"),
            Some("2024-04-01T00:00:00.123456+00:00".to_owned())
        );
    }

    #[test]
    fn what_is_no_date_is_not_guessed() {
        for text in [
            "",
            "yesterday",
            "2024-13-01",
            "2024-02-30",
            "2024-04",
            "20240401",
            "2024-04-01x",
            "2024-04-01 25:00",
            "2024-04-01T09:30:00+9",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
