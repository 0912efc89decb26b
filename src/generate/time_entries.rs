//! The table `time_entries`: what customer-success managers did all day. Accounts that pay much get most of it.

use super::accounts;
use super::calendar::{DAY, Timeline, busy_day, midnight, month_start, months, months_after};
use super::dice::{Dice, Stream};
use super::history::{Stretch, departures};
use super::life::Life;
use super::table::{self, Column, Table};

#[derive(Debug, Clone)]
struct Entry {
    date: i32,
    owner: u32,
    account: Option<u32>,
    /// In hundredths, full quarters.
    hours: i64,
    phase: Option<&'static str>,
}

/// Hundredths of yen a year from which on an account is looked after closely, and at all.
const HIGH: i64 = 250_000_000;
const MIDDLE: i64 = 60_000_000;

/// The table, by date.
pub(super) fn table(
    lives: &[Life],
    stretches: &[Stretch],
    timeline: &Timeline,
    seed: u64,
) -> Table {
    let mut rows = Vec::new();
    let of_accounts = stretches.chunk_by(|a, b| a.account == b.account);
    for (life, stretches) in lives.iter().zip(of_accounts) {
        let mut dice = Dice::new(seed, Stream::TimeEntries, u64::from(life.account));
        rows.extend(on_account(life, stretches, timeline, &mut dice));
    }
    rows.extend(without_account(lives.len(), timeline, seed));
    rows.sort_by_key(|row| (row.date, row.owner, row.account));
    let rows = rows.as_slice();
    let hours = rows.iter().map(|row| Some(i128::from(row.hours)));
    Table {
        name: "time_entries",
        columns: vec![
            ("date", table::date(rows, |row| Some(row.date))),
            (
                "owner_id",
                table::text(rows, |row| Some(accounts::owner_id(row.owner))),
            ),
            (
                "account_id",
                table::text(rows, |row| row.account.map(accounts::id)),
            ),
            ("hours", Column::Decimal(hours.collect(), 2)),
            (
                "phase",
                table::text(rows, |row| row.phase.map(str::to_owned)),
            ),
        ],
    }
}

/// Month by month: two to four entries for who pays much, one now and then for the others.
fn on_account(
    life: &Life,
    stretches: &[Stretch],
    timeline: &Timeline,
    dice: &mut Dice,
) -> Vec<Entry> {
    let Some(first) = life.service.spells.first() else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    for month in months(month_start(first.from), timeline.end) {
        let days = life.service.served_within(month, months_after(month, 1));
        let Some((from, last)) = days else {
            continue;
        };
        let yearly = life.yearly_yen_at(midnight(last));
        let is_high = yearly >= HIGH || life.profile.is_strategic;
        let is_new = life
            .spell_on(last)
            .is_some_and(|spell| last - spell.from < 90);
        let usual = match yearly {
            _ if is_high => dice.between(2, 4),
            MIDDLE.. => i64::from(dice.chance(5_500)),
            _ => i64::from(dice.chance(1_000)),
        };
        let further = i64::from(is_new && dice.chance(6_500));
        for _ in 0..usual + further {
            let date = busy_day(from, last, dice);
            let phase = phase(life, date, is_new, dice);
            let longest = match phase {
                "onboarding" | "renewal" => 32,
                _ => 20,
            };
            let quarters = dice.between(1, if is_high { longest } else { longest / 3 });
            rows.push(Entry {
                date,
                owner: owner_on(stretches, date),
                account: Some(life.account),
                hours: quarters * 25,
                phase: (!dice.chance(250)).then_some(phase),
            });
        }
    }
    rows
}

fn phase(life: &Life, date: i32, is_new: bool, dice: &mut Dice) -> &'static str {
    let is_ending = life.core().any(|version| {
        let end = version.ended.or(version.planned_end);
        let is_long = version.deal.terms.months() >= 12;
        let ahead = end.map(|end| end - midnight(date));
        is_long && ahead.is_some_and(|ahead| (0..60 * DAY).contains(&ahead))
    });
    match () {
        () if is_new => "onboarding",
        () if is_ending && dice.chance(7_000) => "renewal",
        () if life.gloom(date) > 30 && dice.chance(5_000) => "at_risk",
        () => dice.weighted(&[("adoption", 70), ("expansion", 18), ("support", 12)]),
    }
}

/// Who looks after the account on this day.
fn owner_on(stretches: &[Stretch], day: i32) -> u32 {
    let mut known = stretches.iter();
    let current = known.find(|stretch| stretch.to.is_none_or(|to| day < to));
    current
        .or(stretches.last())
        .map_or(0, |stretch| stretch.owner)
}

/// Training, planning and the like: until the manager leaves the company.
fn without_account(accounts: usize, timeline: &Timeline, seed: u64) -> Vec<Entry> {
    let mut rows = Vec::new();
    for (owner, departure) in (0u32..).zip(departures(accounts, timeline, seed)) {
        // Above the indexes that accounts use.
        let mut dice = Dice::new(seed, Stream::TimeEntries, (1 << 32) | u64::from(owner));
        let end = departure.map_or(timeline.end, |(day, _)| day);
        for month in months(timeline.begin, end) {
            for _ in 0..dice.between(0, 2) {
                let last = (months_after(month, 1) - 1).min(end - 1);
                rows.push(Entry {
                    date: busy_day(month, last, &mut dice),
                    owner,
                    account: None,
                    hours: dice.between(4, 32) * 25,
                    phase: dice.pick(&[Some("training"), Some("planning"), None]),
                });
            }
        }
    }
    rows
}
