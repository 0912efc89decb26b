//! Periods of the business calendar: pure date arithmetic, once for single dates and once for columns.
//!
//! A period is half-open, `[start, end)`. It is known by its *index*, a number that grows by one from period to period
//! (docs/definitions.md § 1), so that "the period before" is a subtraction and never a join.

use crate::config::{Calendar, Close, Grain, Weekday};
use chrono::{
    DateTime, Datelike, Days, Duration, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Utc,
};
use polars::prelude::{TimeZone as TimeZone_, *};

/// One period: grain, bounds as local dates and as UTC instants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    pub index: i32,
    /// First local day.
    pub start: NaiveDate,
    /// The local day after the last one.
    pub end: NaiveDate,
    pub end_at: DateTime<Utc>,
}

/// A non-empty run of consecutive periods, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeriodRange {
    pub first: i32,
    pub last: i32,
}

impl PeriodRange {
    pub fn indices(self) -> impl DoubleEndedIterator<Item = i32> {
        self.first..=self.last
    }

    pub fn len(self) -> usize {
        (self.last - self.first + 1).max(0) as usize
    }

    pub fn is_empty(self) -> bool {
        self.last < self.first
    }
}

/// Why a text names no period.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PeriodError {
    #[error("`{text}` is not a {grain} (write it like `{example}`, or `last`, or `last-3`)")]
    NotAPeriod {
        text: String,
        grain: &'static str,
        example: &'static str,
    },
    #[error(
        "`{text}` is not the first day of a {grain}; the {grain} that holds it starts on {start}"
    )]
    OffBoundary {
        text: String,
        grain: &'static str,
        start: NaiveDate,
    },
}

/// Years whose periods can be asked for.
const YEARS: std::ops::Range<i32> = 1900..2200;
const EPOCH: NaiveDate = NaiveDate::from_ymd_opt(1970, 1, 1).expect("1970-01-01 is a date");

impl Grain {
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Quarter => "quarter",
        }
    }

    /// How many periods a year has; a year of weeks counts 52.
    pub fn periods_per_year(self) -> i32 {
        match self {
            Self::Day => 365,
            Self::Week => 52,
            Self::Month => 12,
            Self::Quarter => 4,
        }
    }
}

/// Days from 1970-01-01 to the first `weekday` on or after it (1970-01-01 was a Thursday).
fn first_weekday_offset(weekday: Weekday) -> i32 {
    let monday_based = match weekday {
        Weekday::Monday => 0,
        Weekday::Tuesday => 1,
        Weekday::Wednesday => 2,
        Weekday::Thursday => 3,
        Weekday::Friday => 4,
        Weekday::Saturday => 5,
        Weekday::Sunday => 6,
    };
    (monday_based - 3i32).rem_euclid(7)
}

fn epoch_day(date: NaiveDate) -> i32 {
    (date - EPOCH).num_days() as i32
}

fn from_epoch_day(day: i32) -> NaiveDate {
    EPOCH + Duration::days(i64::from(day))
}

/// Year, month and day of a day since 1970-01-01, any at all (after Howard Hinnant's `civil_from_days`).
pub fn civil(day: i32) -> (i32, u32, u32) {
    // Years begin in March here, so that the leap day is the last one.
    let shifted = i64::from(day) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as i32, month as u32, day as u32)
}

fn month_start(months: i32) -> NaiveDate {
    let first = NaiveDate::from_ymd_opt(months.div_euclid(12), months.rem_euclid(12) as u32 + 1, 1);
    first.unwrap_or(NaiveDate::MAX)
}

/// The instant at which a day begins in a zone.
pub fn first_instant(date: NaiveDate, zone: chrono_tz::Tz) -> DateTime<Utc> {
    let micros = utc_of_local(zone, date.and_time(NaiveTime::MIN));
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

impl Calendar {
    /// Index of the period that holds a local date.
    pub fn index_of(&self, date: NaiveDate) -> i32 {
        let months = date.year() * 12 + date.month0() as i32;
        match self.grain {
            Grain::Day => epoch_day(date),
            Grain::Week => (epoch_day(date) - first_weekday_offset(self.week_start)).div_euclid(7),
            Grain::Month => months,
            Grain::Quarter => (months + 1 - i32::from(self.fiscal_year_start)).div_euclid(3),
        }
    }

    /// First local day of a period.
    pub fn start_of(&self, index: i32) -> NaiveDate {
        match self.grain {
            Grain::Day => from_epoch_day(index),
            Grain::Week => from_epoch_day(index * 7 + first_weekday_offset(self.week_start)),
            Grain::Month => month_start(index),
            Grain::Quarter => month_start(index * 3 + i32::from(self.fiscal_year_start) - 1),
        }
    }

    pub fn period(&self, index: i32) -> Period {
        let end = self.start_of(index + 1);
        Period {
            index,
            start: self.start_of(index),
            end,
            end_at: self.midnight(end),
        }
    }

    /// The instant at which a local day begins.
    pub fn midnight(&self, date: NaiveDate) -> DateTime<Utc> {
        first_instant(date, self.time_zone)
    }

    /// Whether results for the period can be taken as final.
    pub fn is_complete(&self, period: &Period, as_of: DateTime<Utc>) -> bool {
        period.end_at + self.ready_after <= as_of
    }

    /// The last complete period at `as_of`, if it is not before `begin`; never one at or after `end`.
    pub fn last_complete(&self, as_of: DateTime<Utc>) -> Option<i32> {
        let today = as_of.with_timezone(&self.time_zone).date_naive();
        let first = self.index_of(self.begin);
        let last = self.end.map_or(i32::MAX, |end| self.index_of(end) - 1);
        let is_complete = |index: &i32| self.is_complete(&self.period(*index), as_of);
        (first..=self.index_of(today).min(last))
            .rev()
            .find(is_complete)
    }

    /// What a nightly run looks at: the last complete period and `lookback` before it.
    pub fn nightly(&self, last: i32) -> PeriodRange {
        let lookback = i32::try_from(self.lookback).unwrap_or(i32::MAX);
        let begin = self.index_of(self.begin);
        PeriodRange {
            first: last.saturating_sub(lookback).max(begin),
            last,
        }
    }

    /// The local day at whose start a period is closed: `business_days` have passed since its end.
    pub fn closes_on(&self, period: &Period, close: &Close) -> NaiveDate {
        let is_business_day = |day: &NaiveDate| {
            let is_weekend = matches!(day.weekday(), chrono::Weekday::Sat | chrono::Weekday::Sun);
            !is_weekend && !close.holidays.contains(day)
        };
        let Some(days_before_last) = close.business_days.checked_sub(1) else {
            return period.end;
        };
        let mut business_days = period.end.iter_days().filter(is_business_day);
        let last = business_days.nth(days_before_last as usize);
        last.and_then(|day| day.succ_opt())
            .unwrap_or(NaiveDate::MAX)
    }

    /// Mean number of months in a period: 1 for months, 3 for quarters, 12/52 for weeks.
    pub fn months_per_period(&self) -> f64 {
        12.0 / f64::from(self.grain.periods_per_year())
    }

    /// Reads a period as a user writes it: `2026-07`, `2026-07-01`, `2026-W31`, `2026-Q2`.
    pub fn parse_period(&self, text: &str) -> Result<i32, PeriodError> {
        let example = match self.grain {
            Grain::Day => "2026-07-31",
            Grain::Week => "2026-W31",
            Grain::Month => "2026-07",
            Grain::Quarter => "2026-Q2",
        };
        let unreadable = || PeriodError::NotAPeriod {
            text: text.to_owned(),
            grain: self.grain.name(),
            example,
        };
        if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            if !YEARS.contains(&date.year()) {
                return Err(unreadable());
            }
            let index = self.index_of(date);
            let start = self.start_of(index);
            if start != date {
                return Err(PeriodError::OffBoundary {
                    text: text.to_owned(),
                    grain: self.grain.name(),
                    start,
                });
            }
            return Ok(index);
        }
        let (year, rest) = text.split_once('-').ok_or_else(unreadable)?;
        let year: i32 = year
            .parse()
            .ok()
            .filter(|year| YEARS.contains(year))
            .ok_or_else(unreadable)?;
        let numbered = |mark: char| {
            rest.strip_prefix(mark)
                .and_then(|digits| digits.parse::<u32>().ok())
        };
        match self.grain {
            Grain::Month => {
                let month: u32 = rest.parse().map_err(|_| unreadable())?;
                let date = NaiveDate::from_ymd_opt(year, month, 1).ok_or_else(unreadable)?;
                Ok(self.index_of(date))
            }
            Grain::Quarter => {
                // A fiscal year is named for the calendar year in which it starts.
                let quarter = numbered('Q')
                    .filter(|q| (1..=4).contains(q))
                    .ok_or_else(unreadable)?;
                let start = NaiveDate::from_ymd_opt(year, u32::from(self.fiscal_year_start), 1)
                    .ok_or_else(unreadable)?;
                Ok(self.index_of(start + Months::new(3 * (quarter - 1))))
            }
            Grain::Week => {
                let week = numbered('W').ok_or_else(unreadable)?;
                let thursday = NaiveDate::from_isoywd_opt(year, week, chrono::Weekday::Thu)
                    .ok_or_else(unreadable)?;
                Ok(self.index_of(thursday))
            }
            Grain::Day => Err(unreadable()),
        }
    }

    /// How a period is shown to people: `2026-07`, `2026-07-06 (week)`, `2026-07-31`.
    pub fn label(&self, index: i32) -> String {
        let start = self.start_of(index);
        match self.grain {
            Grain::Month => start.format("%Y-%m").to_string(),
            _ => start.to_string(),
        }
    }

    // The same arithmetic over columns.

    /// Local date of a UTC instant column.
    pub fn local_date(&self, instant: Expr) -> Expr {
        match fixed_offset_micros(self.time_zone) {
            // Zones without clock changes (all of Japan's history since 1952) need no table look-up per row.
            Some(offset) => (instant.cast(DataType::Int64) + lit(offset))
                .cast(utc_micros())
                .dt()
                .date(),
            None => instant
                .dt()
                .convert_time_zone(polars_zone(self.time_zone))
                .dt()
                .date(),
        }
    }

    /// Index of the period that holds a local date column (Int32).
    pub fn index_of_date(&self, date: Expr) -> Expr {
        let months = || {
            date.clone().dt().year().cast(DataType::Int32) * lit(12)
                + date.clone().dt().month().cast(DataType::Int32)
                - lit(1)
        };
        match self.grain {
            Grain::Day => date.cast(DataType::Int32),
            Grain::Week => {
                let days = date.cast(DataType::Int32) - lit(first_weekday_offset(self.week_start));
                days.floor_div(lit(7))
            }
            Grain::Month => months(),
            Grain::Quarter => {
                (months() + lit(1) - lit(i32::from(self.fiscal_year_start))).floor_div(lit(3))
            }
        }
    }

    /// Index of the period that holds a UTC instant column (Int32).
    pub fn index_of_instant(&self, instant: Expr) -> Expr {
        self.index_of_date(self.local_date(instant))
    }
}

/// Microseconds since 1970-01-01 UTC of a local time. Where clocks skip it, the first instant that exists; where they show
/// it twice, the earlier.
pub fn utc_of_local(zone: chrono_tz::Tz, local: NaiveDateTime) -> i64 {
    let existing = (0..=3).find_map(|hours| {
        zone.from_local_datetime(&(local + Duration::hours(hours)))
            .earliest()
    });
    existing.map_or_else(
        || local.and_utc().timestamp_micros(),
        |instant| instant.timestamp_micros(),
    )
}

/// The UTC instant of a column of local times without zone. A time that the clocks skip is read an hour later, one
/// that they show twice as the earlier.
pub fn instant_of_local(zone: chrono_tz::Tz, local: Expr) -> Expr {
    let naive = local.cast(DataType::Datetime(TimeUnit::Microseconds, None));
    if let Some(offset) = fixed_offset_micros(zone) {
        return (naive.cast(DataType::Int64) - lit(offset)).cast(utc_micros());
    }
    let zoned = |local: Expr| {
        local
            .dt()
            .replace_time_zone(Some(polars_zone(zone)), lit("earliest"), NonExistent::Null)
            .dt()
            .convert_time_zone(TimeZone_::UTC)
    };
    let hour_later = (naive.clone().cast(DataType::Int64) + lit(3_600_000_000i64))
        .cast(DataType::Datetime(TimeUnit::Microseconds, None));
    coalesce(&[zoned(naive), zoned(hour_later)])
}

/// The zone's offset from UTC if it never changes between 1970 and 2100.
fn fixed_offset_micros(zone: chrono_tz::Tz) -> Option<i64> {
    use chrono::Offset;
    let offset_on = |day: NaiveDate| {
        let offset = zone
            .offset_from_utc_datetime(&day.and_time(NaiveTime::MIN))
            .fix();
        i64::from(offset.local_minus_utc()) * 1_000_000
    };
    let first = offset_on(EPOCH);
    let weeks = (0..6_800u64).map(|week| EPOCH + Days::new(7 * week));
    weeks
        .map(offset_on)
        .all(|offset| offset == first)
        .then_some(first)
}

/// The type of every staged instant: microseconds, UTC.
pub fn utc_micros() -> DataType {
    DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone_::UTC))
}

/// A chrono zone as polars names it.
pub fn polars_zone(zone: chrono_tz::Tz) -> TimeZone_ {
    TimeZone_::from_chrono(&zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    /// When the month before `end` is closed.
    fn closes_on(end: &str, business_days: u32, holidays: &[&str]) -> String {
        let calendar = Calendar {
            grain: Grain::Month,
            time_zone: chrono_tz::Asia::Tokyo,
            week_start: Weekday::Monday,
            fiscal_year_start: 1,
            begin: day("2024-04-01"),
            end: None,
            ready_after: Duration::zero(),
            lookback: 1,
        };
        let period = calendar.period(calendar.index_of(day(end)) - 1);
        assert_eq!(period.end, day(end));
        let close = Close {
            business_days,
            holidays: holidays.iter().map(|text| day(text)).collect(),
        };
        calendar.closes_on(&period, &close).to_string()
    }

    #[test]
    fn a_period_closes_after_its_business_days() {
        // 2026-05-01 is a Friday.
        assert_eq!(closes_on("2026-05-01", 0, &[]), "2026-05-01");
        assert_eq!(closes_on("2026-05-01", 1, &[]), "2026-05-02");
        assert_eq!(closes_on("2026-05-01", 2, &[]), "2026-05-05");
        assert_eq!(closes_on("2026-05-01", 5, &[]), "2026-05-08");
        // 2026-08-01 is a Saturday.
        assert_eq!(closes_on("2026-08-01", 0, &[]), "2026-08-01");
        assert_eq!(closes_on("2026-08-01", 1, &[]), "2026-08-04");
    }

    #[test]
    fn holidays_are_no_business_days() {
        // Of these the 2nd and 3rd of May are on a weekend.
        let golden_week = [
            "2026-04-29",
            "2026-05-02",
            "2026-05-03",
            "2026-05-04",
            "2026-05-05",
            "2026-05-06",
        ];
        assert_eq!(closes_on("2026-05-01", 0, &golden_week), "2026-05-01");
        assert_eq!(closes_on("2026-05-01", 1, &golden_week), "2026-05-02");
        assert_eq!(closes_on("2026-05-01", 2, &golden_week), "2026-05-08");
        assert_eq!(closes_on("2026-05-01", 5, &golden_week), "2026-05-13");
        // The first business days of the year.
        let new_year = ["2026-01-01", "2026-01-02"];
        assert_eq!(closes_on("2026-01-01", 1, &new_year), "2026-01-06");
    }
}
