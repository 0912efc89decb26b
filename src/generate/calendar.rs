//! Days and instants of Asia/Tokyo, which has no daylight saving time: a day is a day since 1970-01-01, an instant
//! seconds since 1970-01-01 UTC.

use chrono::NaiveDate;

use super::dice::Dice;
use crate::period::civil;

pub(super) const DAY: i64 = 86_400;
pub(super) const HOUR: i64 = 3_600;
const TOKYO: i64 = 9 * HOUR;
const HISTORY_MONTHS: i32 = 18;
const MOST_MONTHS: usize = 1_200;

/// The days that the company's history covers.
#[derive(Debug, Clone)]
pub(super) struct Timeline {
    /// First day on which an account may sign up.
    pub begin: i32,
    /// First day of the first reported month.
    pub start: i32,
    /// First day that is not covered any more.
    pub end: i32,
}

impl Timeline {
    pub fn new(start: NaiveDate, months: usize) -> Timeline {
        let start = super::first_of_month(start);
        let months = months.min(MOST_MONTHS) as i32;
        let begin = months_after(start, -HISTORY_MONTHS);
        Timeline {
            begin,
            start,
            end: months_after(start, months),
        }
    }

    /// The instant from which on nothing has happened yet.
    pub fn horizon(&self) -> i64 {
        midnight(self.end)
    }
}

/// The instant of a local midnight.
pub(super) fn midnight(day: i32) -> i64 {
    i64::from(day) * DAY - TOKYO
}

/// The local day of an instant.
pub(super) fn local_day(instant: i64) -> i32 {
    (instant + TOKYO).div_euclid(DAY) as i32
}

/// Seconds after local midnight, within office hours.
pub(super) fn office_time(dice: &mut Dice) -> i64 {
    9 * HOUR + dice.between(0, 9 * HOUR)
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
pub(super) fn day_of(year: i32, month: u32, day: u32) -> i32 {
    let (year, month, day) = (i64::from(year), i64::from(month), i64::from(day));
    // Years begin in March here, so that the leap day is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era - 719_468) as i32
}

/// The same day so many months later, or the month's last day where there is none.
pub(super) fn months_after(day: i32, months: i32) -> i32 {
    let (year, month, day_of_month) = civil(day);
    let index = year * 12 + month as i32 - 1 + months;
    let first = first_of(index);
    let length = first_of(index + 1) - first;
    first + (day_of_month as i32).min(length) - 1
}

fn first_of(month_index: i32) -> i32 {
    day_of(
        month_index.div_euclid(12),
        month_index.rem_euclid(12) as u32 + 1,
        1,
    )
}

/// The first day of the day's month.
pub(super) fn month_start(day: i32) -> i32 {
    day - civil(day).2 as i32 + 1
}

/// The first day of a month that is not before `day`.
pub(super) fn next_month_start(day: i32) -> i32 {
    if civil(day).2 == 1 {
        day
    } else {
        months_after(month_start(day), 1)
    }
}

/// The first days of the months that begin in `first..after`; `first` itself should be one.
pub(super) fn months(first: i32, after: i32) -> impl Iterator<Item = i32> {
    (0..)
        .map(move |month| months_after(first, month))
        .take_while(move |&day| day < after)
}

/// A day of `first..=last`, seldom one on which offices are closed.
pub(super) fn busy_day(first: i32, last: i32, dice: &mut Dice) -> i32 {
    let day = dice.days(first, last);
    let is_quiet = business(day) < 50;
    if is_quiet {
        dice.days(first, last)
    } else {
        day
    }
}

/// How busy an office is on this day, in percent of a working day.
pub(super) fn business(day: i32) -> u64 {
    // 1970-01-01 was a Thursday.
    let weekday = (day + 3).rem_euclid(7);
    let is_weekend = weekday >= 5;
    let (_, month, day_of_month) = civil(day);
    let is_new_year = matches!((month, day_of_month), (12, 29..) | (1, ..=3));
    let is_holiday = matches!(
        (month, day_of_month),
        (2, 11 | 23) | (4, 29) | (5, 3..=5) | (8, 11) | (11, 3 | 23)
    );
    let is_obon = matches!((month, day_of_month), (8, 13..=15));
    match () {
        () if is_new_year => 5,
        () if is_weekend => 10,
        () if is_holiday => 12,
        () if is_obon => 55,
        () if weekday == 4 => 90,
        () => 100,
    }
}
