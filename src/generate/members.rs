//! The table `members`: the users that usage knows, and some who were invited and never came.

use super::accounts::{self, Profile};
use super::activity::AccountUse;
use super::calendar::{
    DAY, Timeline, local_day, midnight, month_start, months, months_after, office_time,
};
use super::dice::Dice;
use super::life::Life;
use super::table::{self, Table};

#[derive(Debug, Clone)]
pub(super) struct Member {
    /// Users of an account are numbered from 1, as in usage.
    pub user: u32,
    pub joined: i64,
    pub left: Option<i64>,
    /// Does usage know this user?
    pub is_active: bool,
}

impl Member {
    pub fn is_there_at(&self, at: i64) -> bool {
        self.joined <= at && self.left.is_none_or(|left| at < left)
    }
}

/// The members of an account: usage draws its users from the first ones, as many as there are in each month.
pub(super) fn of_account(
    service: &AccountUse,
    profile: &Profile,
    timeline: &Timeline,
    dice: &mut Dice,
) -> Vec<Member> {
    let mut members: Vec<Member> = use_of_users(service, timeline)
        .into_iter()
        .zip(1u32..)
        .map(|((from, to), user)| {
            // Invited some days before the first day of use, as soon as the account is known.
            let invited = midnight(from - 1 - dice.days(0, 9)) + office_time(dice);
            let joined = invited.max(midnight(profile.signup)).min(midnight(from));
            let goes = to < timeline.end && !dice.chance(1_500);
            let left = midnight(to + dice.days(0, 20)) + office_time(dice);
            Member {
                user,
                joined,
                left: (goes && left < timeline.horizon()).then_some(left),
                is_active: true,
            }
        })
        .collect();
    let served_to = service.spells.last().map_or(timeline.end, |spell| spell.to);
    let last_day = served_to.min(timeline.end) - 1;
    members.extend(invited_in_vain(&members, last_day, timeline, dice));
    members
}

/// By user, the first day on which usage may know him and the day after the last.
fn use_of_users(service: &AccountUse, timeline: &Timeline) -> Vec<(i32, i32)> {
    let Some(first) = service.spells.first() else {
        return Vec::new();
    };
    let mut days: Vec<(i32, i32)> = Vec::new();
    for month in months(month_start(first.from), timeline.end) {
        let Some((from, last)) = service.served_within(month, months_after(month, 1)) else {
            continue;
        };
        let users = service.users_in_month(last) as usize;
        for (_, to) in days.iter_mut().take(users) {
            *to = last + 1;
        }
        if days.len() < users {
            days.resize(users, (from, last + 1));
        }
    }
    days
}

fn invited_in_vain(
    known: &[Member],
    last_day: i32,
    timeline: &Timeline,
    dice: &mut Dice,
) -> Vec<Member> {
    let Some(first) = known.first() else {
        return Vec::new();
    };
    let share = dice.between(0, 20);
    let count = (known.len() as i64 * share / 100) as u32;
    (1..=count)
        .map(|nth| {
            let day = dice.days(local_day(first.joined) + 1, last_day);
            let joined = midnight(day) + office_time(dice);
            let left = joined + dice.between(20, 400) * DAY;
            let goes = dice.chance(4_000) && left < timeline.horizon();
            Member {
                user: known.len() as u32 + nth,
                joined,
                left: goes.then_some(left),
                is_active: false,
            }
        })
        .filter(|member| member.joined < timeline.horizon())
        .collect()
}

/// The table, by account and user.
pub(super) fn table(lives: &[Life]) -> Table {
    let rows: Vec<(u32, &Member)> = lives
        .iter()
        .flat_map(|life| life.members.iter().map(|member| (life.account, member)))
        .collect();
    let rows = rows.as_slice();
    Table {
        name: "members",
        columns: vec![
            (
                "user_id",
                table::text(rows, |row| Some(accounts::user_id(row.0, row.1.user))),
            ),
            (
                "account_id",
                table::text(rows, |row| Some(accounts::id(row.0))),
            ),
            ("joined_at", table::instant(rows, |row| Some(row.1.joined))),
            ("left_at", table::instant(rows, |row| row.1.left)),
        ],
    }
}
