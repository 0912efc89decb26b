//! The table `community`: some members of some accounts meet there.

use super::accounts;
use super::calendar::{
    DAY, Timeline, busy_day, midnight, month_start, months, months_after, office_time,
};
use super::dice::{Dice, Stream};
use super::life::Life;
use super::table::{self, Table};

#[derive(Debug, Clone)]
struct Activity {
    account: u32,
    user: u32,
    at: i64,
}

/// The table, by time.
pub(super) fn table(lives: &[Life], timeline: &Timeline, seed: u64) -> Table {
    let mut rows = Vec::new();
    for life in lives {
        let mut dice = Dice::new(seed, Stream::Community, u64::from(life.account));
        rows.extend(of_account(life, timeline, &mut dice));
    }
    rows.sort_by_key(|row| (row.at, row.account, row.user));
    let rows = rows.as_slice();
    Table {
        name: "community",
        columns: vec![
            (
                "account_id",
                table::text(rows, |row| Some(accounts::id(row.account))),
            ),
            (
                "user_id",
                table::text(rows, |row| Some(accounts::user_id(row.account, row.user))),
            ),
            ("occurred_at", table::instant(rows, |row| Some(row.at))),
        ],
    }
}

/// Few accounts take part, and fewer of those that will leave. They come in some months and stay away in others.
fn of_account(life: &Life, timeline: &Timeline, dice: &mut Dice) -> Vec<Activity> {
    let Some(first) = life.service.spells.first() else {
        return Vec::new();
    };
    let leaves = life.service.spells.iter().any(|spell| spell.fades);
    let takes_part = dice.chance(if leaves { 1_200 } else { 2_600 });
    if !takes_part {
        return Vec::new();
    }
    let regulars = dice.between(1, 3);
    let liveliness = dice.between(1, 6);
    let mut all = Vec::new();
    for month in months(month_start(first.from), timeline.end) {
        let served = life.service.served_within(month, months_after(month, 1));
        let comes = dice.chance(5_500);
        let Some((from, last)) = served.filter(|_| comes) else {
            continue;
        };
        for _ in 0..dice.between(1, liveliness) {
            let day = busy_day(from, last, dice);
            let at = midnight(day) + (office_time(dice) + life.office_shift()) % DAY;
            let nth = dice.between(1, regulars) as usize - 1;
            let present = life
                .members
                .get(nth)
                .filter(|member| member.is_there_at(at));
            let someone = life.member_at(at, dice);
            let member = if dice.chance(8_000) { present } else { someone };
            all.extend(member.map(|member| Activity {
                account: life.account,
                user: member.user,
                at,
            }));
        }
    }
    all
}
