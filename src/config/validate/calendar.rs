//! `calendar`: periods, time zone, and when a period is ready.

use chrono::{Datelike, Duration, NaiveDate};
use chrono_tz::{TZ_VARIANTS, Tz};

use super::{check_range, did_you_mean};
use crate::config::Calendar;
use crate::config::error::{Problems, YamlPath, show};
use crate::config::raw::{Grain, RawCalendar, Weekday};
use crate::sql::nearest::nearest;

const LONGEST_WAIT_DAYS: i64 = 366;
const MOST_LOOKBACK: u32 = 3_660;

pub(super) fn calendar(raw: &RawCalendar, problems: &mut Problems) -> Option<Calendar> {
    let section = YamlPath::keys(["calendar"]);
    let time_zone = time_zone(&raw.time_zone, &section.key("time_zone"), problems);
    check_range(
        u32::from(raw.fiscal_year_start),
        1..=12,
        &section.key("fiscal_year_start"),
        problems,
    );
    check_range(
        raw.lookback,
        0..=MOST_LOOKBACK,
        &section.key("lookback"),
        problems,
    );
    let ready_after = ready_after(&raw.ready_after);
    if ready_after.is_none() {
        let message = format!("expected a time span, found `{}`", show(&raw.ready_after));
        let hint = format!(
            "a whole number and `m`, `h` or `d`: `30m`, `6h`, `2d`; at most {LONGEST_WAIT_DAYS} days"
        );
        problems.push(section.key("ready_after"), message, hint);
    }
    let begin = boundary("begin", &raw.begin, raw, problems);
    let end = match &raw.end {
        None => Some(None),
        Some(text) => boundary("end", text, raw, problems).map(Some),
    };
    if let (Some(begin), Some(Some(end))) = (begin, end)
        && end <= begin
    {
        problems.push(
            section.key("end"),
            "`end` must lie after `begin`; it is the day after the last period",
            None,
        );
    }
    Some(Calendar {
        grain: raw.grain,
        time_zone: time_zone?,
        week_start: raw.week_start,
        fiscal_year_start: raw.fiscal_year_start,
        begin: begin?,
        end: end?,
        ready_after: ready_after?,
        lookback: raw.lookback,
    })
}

/// A time zone by its IANA name.
pub(super) fn time_zone(name: &str, path: &YamlPath, problems: &mut Problems) -> Option<Tz> {
    let found = TZ_VARIANTS.iter().find(|zone| zone.name() == name).copied();
    if found.is_none() {
        let hint = did_you_mean(&nearest_zones(name))
            .unwrap_or("an IANA name, such as `Asia/Tokyo` or `UTC`".into());
        problems.push(path, format!("unknown time zone `{}`", show(name)), hint);
    }
    found
}

fn nearest_zones(name: &str) -> Vec<&'static str> {
    const ABBREVIATIONS: &[(&str, &str)] = &[
        ("JST", "Asia/Tokyo"),
        ("KST", "Asia/Seoul"),
        ("SGT", "Asia/Singapore"),
        ("IST", "Asia/Kolkata"),
        ("BST", "Europe/London"),
        ("CEST", "Europe/Berlin"),
        ("EDT", "America/New_York"),
        ("PST", "America/Los_Angeles"),
        ("PDT", "America/Los_Angeles"),
        ("Z", "UTC"),
    ];
    if let Some((_, zone)) = ABBREVIATIONS
        .iter()
        .find(|(short, _)| short.eq_ignore_ascii_case(name))
    {
        return vec![zone];
    }
    let zones = || TZ_VARIANTS.iter().map(|zone| zone.name());
    let wanted = name.trim().replace(' ', "_");
    let city = |zone: &str| {
        zone.rsplit('/')
            .next()
            .is_some_and(|city| city.eq_ignore_ascii_case(&wanted))
    };
    let by_city: Vec<&str> = zones().filter(|zone| city(zone)).take(3).collect();
    if by_city.is_empty() {
        nearest(&wanted, zones(), 1)
    } else {
        by_city
    }
}

fn ready_after(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let digits = &text[..text.len() - unit.len_utf8()];
    if digits.is_empty() || digits.len() > 6 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: i64 = digits.parse().ok()?;
    let span = match unit {
        'm' => Duration::minutes(count),
        'h' => Duration::hours(count),
        'd' => Duration::try_days(count)?,
        _ => return None,
    };
    (span <= Duration::days(LONGEST_WAIT_DAYS)).then_some(span)
}

/// A date on a boundary between two periods.
fn boundary(
    key: &str,
    text: &str,
    raw: &RawCalendar,
    problems: &mut Problems,
) -> Option<NaiveDate> {
    let section = YamlPath::keys(["calendar"]);
    let path = section.key(key);
    let Some(begin) = date(text) else {
        let message = format!("expected a date, found `{}`", show(text));
        let hint = format!("year-month-day: `{key}: 2024-04-01`");
        problems.push(path, message, Some(hint));
        return None;
    };
    // Where the grain itself is wrong, no boundary is known.
    let is_grain_known = ["grain", "week_start", "fiscal_year_start"]
        .iter()
        .all(|key| !problems.is_silenced(&section.key(key)));
    let boundary = boundary_before(begin, raw)?;
    if is_grain_known && boundary != begin {
        let message = format!("`{begin}` is not the first day of {}", period_name(raw));
        problems.push(
            path,
            message,
            Some(format!("the one it lies in begins on `{boundary}`")),
        );
    }
    Some(begin)
}

/// A date as the file writes it.
pub(super) fn date(text: &str) -> Option<NaiveDate> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    (text.len() == 10 && (1900..2200).contains(&date.year())).then_some(date)
}

fn period_name(raw: &RawCalendar) -> String {
    match raw.grain {
        Grain::Day => "a day".into(),
        Grain::Week => format!("a week that starts on {:?}", raw.week_start),
        Grain::Month => "a month".into(),
        Grain::Quarter if raw.fiscal_year_start == 1 => "a quarter".into(),
        Grain::Quarter => format!(
            "a quarter of a fiscal year that starts in month {}",
            raw.fiscal_year_start
        ),
    }
}

/// First day of the period in which a date lies; `None` where no fiscal year is known.
fn boundary_before(date: NaiveDate, raw: &RawCalendar) -> Option<NaiveDate> {
    match raw.grain {
        Grain::Day => Some(date),
        Grain::Week => {
            let days_into_week = date.weekday().days_since(chrono_weekday(raw.week_start));
            date.checked_sub_days(chrono::Days::new(u64::from(days_into_week)))
        }
        Grain::Month => date.with_day(1),
        Grain::Quarter => {
            let first_month = u32::from(raw.fiscal_year_start);
            if !(1..=12).contains(&first_month) {
                return None;
            }
            let months_into_quarter = (12 + date.month() - first_month) % 3;
            date.with_day(1)?
                .checked_sub_months(chrono::Months::new(months_into_quarter))
        }
    }
}

fn chrono_weekday(weekday: Weekday) -> chrono::Weekday {
    match weekday {
        Weekday::Monday => chrono::Weekday::Mon,
        Weekday::Tuesday => chrono::Weekday::Tue,
        Weekday::Wednesday => chrono::Weekday::Wed,
        Weekday::Thursday => chrono::Weekday::Thu,
        Weekday::Friday => chrono::Weekday::Fri,
        Weekday::Saturday => chrono::Weekday::Sat,
        Weekday::Sunday => chrono::Weekday::Sun,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boundary(grain: Grain, week_start: Weekday, fiscal_year_start: u8, day: &str) -> String {
        let raw = RawCalendar {
            grain,
            time_zone: "UTC".into(),
            week_start,
            fiscal_year_start,
            begin: day.into(),
            end: None,
            ready_after: "0h".into(),
            lookback: 1,
        };
        boundary_before(date(day).unwrap(), &raw)
            .unwrap()
            .to_string()
    }

    #[test]
    fn every_date_lies_in_a_period() {
        use Grain::*;
        use Weekday::*;
        assert_eq!(boundary(Day, Monday, 1, "2024-02-29"), "2024-02-29");
        assert_eq!(boundary(Week, Monday, 1, "2024-03-03"), "2024-02-26");
        assert_eq!(boundary(Week, Sunday, 1, "2024-03-03"), "2024-03-03");
        assert_eq!(boundary(Month, Monday, 4, "2024-02-29"), "2024-02-01");
        assert_eq!(boundary(Quarter, Monday, 1, "2024-06-30"), "2024-04-01");
        assert_eq!(boundary(Quarter, Monday, 2, "2024-01-31"), "2023-11-01");
        assert_eq!(boundary(Quarter, Monday, 12, "2024-02-10"), "2023-12-01");
    }

    #[test]
    fn spans_are_small_and_plain() {
        assert_eq!(ready_after("6h"), Some(Duration::hours(6)));
        assert_eq!(ready_after("0m"), Some(Duration::zero()));
        assert_eq!(ready_after("366d"), Some(Duration::days(366)));
        for text in [
            "",
            "h",
            "6",
            "-6h",
            "6 h",
            "1.5d",
            "367d",
            "99999999999999999999d",
            "6時",
        ] {
            assert_eq!(ready_after(text), None, "{text}");
        }
    }

    #[test]
    fn zones_are_suggested() {
        assert_eq!(nearest_zones("JST"), ["Asia/Tokyo"]);
        assert_eq!(nearest_zones("tokyo"), ["Asia/Tokyo"]);
        assert_eq!(nearest_zones("Asia/Tokio"), ["Asia/Tokyo"]);
        assert_eq!(nearest_zones("asia/tokyo"), ["Asia/Tokyo"]);
        assert_eq!(nearest_zones("New York"), ["America/New_York"]);
    }
}
