//! The table `onboarding`: of accounts as a whole, and of each of their members.

use super::accounts::{self, Scale};
use super::activity::Spell;
use super::calendar::{DAY, HOUR, Timeline, local_day, midnight, months_after, office_time};
use super::dice::{Dice, Stream};
use super::life::Life;
use super::members::Member;
use super::table::{self, Table};

/// Members' onboarding is written down since some months before the reported ones.
const LEAD_MONTHS: i32 = 3;

#[derive(Debug, Clone)]
pub(super) struct Onboarding {
    pub account: u32,
    /// Null where it is the account's.
    pub user: Option<u32>,
    pub started: i64,
    pub completed: Option<i64>,
}

/// All onboardings, by start.
pub(super) fn of_all(lives: &[Life], timeline: &Timeline, seed: u64) -> Vec<Onboarding> {
    let mut all = Vec::new();
    for life in lives {
        let mut dice = Dice::new(seed, Stream::Onboarding, u64::from(life.account));
        for (nth, spell) in life.service.spells.iter().enumerate() {
            // Who comes back seldom begins all over.
            if nth == 0 || dice.chance(3_500) {
                all.extend(of_account(life, spell, timeline, &mut dice));
            }
        }
        let members = life.members.iter();
        all.extend(members.filter_map(|member| of_member(life, member, timeline, &mut dice)));
    }
    all.sort_by_key(|row| (row.started, row.account, row.user));
    all
}

/// Large customers take longer, and who is about to leave often never gets to the end.
fn of_account(
    life: &Life,
    spell: &Spell,
    timeline: &Timeline,
    dice: &mut Dice,
) -> Option<Onboarding> {
    let (shortest, longest, fails) = match life.profile.scale {
        Scale::Small => (4, 40, 1_400),
        Scale::Middle => (10, 60, 900),
        Scale::Large => (20, 100, 700),
        Scale::Giant => (40, 150, 600),
    };
    let started = midnight(spell.from + dice.days(0, 3)) + office_time(dice);
    let ends_soon = spell.fades && spell.to - spell.from < 240;
    let fails = dice.chance(if ends_soon { 5_000 } else { fails });
    // The smaller of two draws: most are quick.
    let days = dice
        .between(shortest, longest)
        .min(dice.between(shortest, longest));
    let is_done_at_once = dice.chance(150);
    let takes = if is_done_at_once {
        2 * HOUR
    } else {
        days * DAY + dice.between(-2, 2) * HOUR
    };
    let completed = started + takes;
    let is_served = local_day(completed) < spell.to;
    let is_done = !fails && is_served && completed < timeline.horizon();
    (started < timeline.horizon()).then_some(Onboarding {
        account: life.account,
        user: None,
        started,
        completed: is_done.then_some(completed),
    })
}

fn of_member(
    life: &Life,
    member: &Member,
    timeline: &Timeline,
    dice: &mut Dice,
) -> Option<Onboarding> {
    let first = months_after(timeline.start, -LEAD_MONTHS);
    let started = member.joined + dice.between(0, 3) * DAY;
    let finishes = dice.chance(if member.is_active { 8_200 } else { 1_200 });
    let longest = match life.profile.scale {
        Scale::Small | Scale::Middle => 25,
        Scale::Large | Scale::Giant => 45,
    };
    let completed = started + dice.between(0, longest).min(dice.between(1, longest)) * DAY + HOUR;
    let is_there = member.left.is_none_or(|left| completed < left);
    let is_done = finishes && is_there && completed < timeline.horizon();
    let is_written = started >= midnight(first) && started < timeline.horizon();
    is_written.then_some(Onboarding {
        account: life.account,
        user: Some(member.user),
        started,
        completed: is_done.then_some(completed),
    })
}

/// The table `onboarding`.
pub(super) fn table(rows: &[Onboarding]) -> Table {
    Table {
        name: "onboarding",
        columns: vec![
            (
                "account_id",
                table::text(rows, |row| Some(accounts::id(row.account))),
            ),
            (
                "user_id",
                table::text(rows, |row| {
                    row.user.map(|user| accounts::user_id(row.account, user))
                }),
            ),
            ("started_at", table::instant(rows, |row| Some(row.started))),
            ("completed_at", table::instant(rows, |row| row.completed)),
        ],
    }
}
