//! The table `tickets`: what customers asked support, and how that went.

use super::accounts;
use super::calendar::{
    DAY, HOUR, Timeline, busy_day, midnight, month_start, months, months_after, office_time,
};
use super::dice::{Dice, Stream};
use super::life::Life;
use super::table::{self, Column, Table};

const MINUTE: i64 = 60;

#[derive(Debug, Clone)]
pub(super) struct Ticket {
    pub account: u32,
    opened: i64,
    answered: Option<i64>,
    pub closed: Option<i64>,
    priority: Option<&'static str>,
    is_escalated: Option<bool>,
    satisfaction: Option<i64>,
}

/// How long a ticket of this priority waits for an answer and for its end, at least and at most.
struct Pace {
    priority: &'static str,
    answer_minutes: (i64, i64),
    hours: (i64, i64),
    escalated: u64,
}

const fn pace(
    priority: &'static str,
    answer_minutes: (i64, i64),
    hours: (i64, i64),
    escalated: u64,
) -> Pace {
    Pace {
        priority,
        answer_minutes,
        hours,
        escalated,
    }
}

static PACES: [(Pace, u64); 4] = [
    (pace("low", (40, 1_900), (6, 190), 100), 30),
    (pace("normal", (15, 700), (3, 110), 250), 44),
    (pace("high", (8, 240), (2, 60), 1_000), 19),
    (pace("urgent", (2, 70), (1, 24), 2_200), 7),
];

/// All tickets, by the time at which they were opened.
pub(super) fn of_all(lives: &[Life], timeline: &Timeline, seed: u64) -> Vec<Ticket> {
    let mut all = Vec::new();
    for life in lives {
        let Some(first) = life.service.spells.first() else {
            continue;
        };
        let mut dice = Dice::new(seed, Stream::Tickets, u64::from(life.account));
        for month in months(month_start(first.from), timeline.end) {
            let days = life.service.served_within(month, months_after(month, 1));
            let Some((from, last)) = days else {
                continue;
            };
            for _ in 0..count(life, from, last, &mut dice) {
                all.extend(ticket(life, (from, last), timeline, &mut dice));
            }
        }
    }
    all.sort_by_key(|ticket| (ticket.opened, ticket.account));
    all
}

/// More of large customers, of new ones, and of those that are about to leave.
fn count(life: &Life, from: i32, last: i32, dice: &mut Dice) -> u64 {
    let users = i64::from(life.service.users_in_month(last)).min(120);
    let is_new = life
        .spell_on(last)
        .is_some_and(|spell| last - spell.from < 90);
    let novelty = if is_new { 2_500 } else { 0 };
    let expected = (1_200 + users * 90 + novelty) * (100 + 2 * life.gloom(last)) / 100;
    let days = i64::from(last - from + 1);
    let expected = (expected * days / 30) as u64;
    // Four draws of a quarter each scatter more than one.
    (0..4)
        .map(|_| expected / 40_000 + u64::from(dice.chance(expected / 4 % 10_000)))
        .sum()
}

fn ticket(
    life: &Life,
    (from, last): (i32, i32),
    timeline: &Timeline,
    dice: &mut Dice,
) -> Option<Ticket> {
    let day = busy_day(from, last, dice);
    let time = (office_time(dice) + life.office_shift()) % DAY;
    let opened = midnight(day) + time;
    let lots = [0, 1, 2, 3].map(|nth: usize| (nth, PACES[nth].1));
    let pace = &PACES[dice.weighted(&lots)].0;
    let gloom = life.gloom(day);
    // The smaller of two draws: most go fast. Unhappy customers ask what is hard to answer.
    let mut quick = |(least, most)| dice.between(least, most).min(dice.between(least, most));
    let waits = quick(pace.answer_minutes) * MINUTE * (100 + gloom / 2) / 100;
    let takes = quick(pace.hours) * HOUR * (100 + gloom) / 100;
    let seconds = dice.between(0, 59);

    // Solved by a page that was sent at once; never answered; never closed.
    let is_automatic = dice.chance(150);
    let is_answered = !dice.chance(400);
    let is_closed = !dice.chance(250);
    let (waits, takes) = if is_automatic {
        (0, 0)
    } else {
        (waits + seconds, (takes + seconds).max(waits + 5 * MINUTE))
    };
    let known = |at: i64| (at < timeline.horizon()).then_some(at);
    let answered = known(opened + waits).filter(|_| is_answered);
    let closed = known(opened + takes).filter(|_| is_closed);

    let is_escalated = dice.chance(pace.escalated + gloom as u64 * 12) && !is_automatic;
    let is_marked = is_escalated || !dice.chance(800);
    let rates = dice.chance(if closed.is_some() { 3_800 } else { 1_500 });
    let slowness = takes / DAY * 4 + if is_escalated { 15 } else { 0 };
    let content = life.mood(day) - slowness + dice.between(-25, 30);
    let satisfaction = match content {
        ..25 => 1,
        25..40 => 2,
        40..55 => 3,
        55..75 => 4,
        _ => 5,
    };
    known(opened).map(|opened| Ticket {
        account: life.account,
        opened,
        answered,
        closed,
        priority: (!dice.chance(200)).then_some(pace.priority),
        is_escalated: is_marked.then_some(is_escalated),
        satisfaction: rates.then_some(satisfaction),
    })
}

/// The table `tickets`.
pub(super) fn table(rows: &[Ticket]) -> Table {
    let ids = (1..=rows.len()).map(|nth| Some(format!("T{nth:07}")));
    Table {
        name: "tickets",
        columns: vec![
            ("ticket_id", Column::Text(ids.collect())),
            (
                "account_id",
                table::text(rows, |row| Some(accounts::id(row.account))),
            ),
            ("opened_at", table::instant(rows, |row| Some(row.opened))),
            (
                "first_response_at",
                table::instant(rows, |row| row.answered),
            ),
            ("closed_at", table::instant(rows, |row| row.closed)),
            (
                "priority",
                table::text(rows, |row| row.priority.map(str::to_owned)),
            ),
            (
                "is_escalated",
                Column::Bool(rows.iter().map(|row| row.is_escalated).collect()),
            ),
            ("satisfaction", table::int(rows, |row| row.satisfaction)),
        ],
    }
}
