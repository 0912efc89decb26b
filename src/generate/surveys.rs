//! The table `surveys`: NPS some three times a year, CSAT when something happened. What members say follows how their
//! account feels.

use super::accounts;
use super::calendar::{DAY, HOUR, Timeline, busy_day, local_day, midnight, office_time};
use super::dice::{Dice, Stream};
use super::life::Life;
use super::members::Member;
use super::onboarding::Onboarding;
use super::table::{self, Table};
use super::tickets::Ticket;

#[derive(Debug, Clone)]
struct Answer {
    account: u32,
    user: u32,
    is_nps: bool,
    score: i64,
    scale: Option<i64>,
    answered: i64,
    item: Option<&'static str>,
}

/// The table, by time.
pub(super) fn table(
    lives: &[Life],
    onboardings: &[Onboarding],
    tickets: &[Ticket],
    timeline: &Timeline,
    seed: u64,
) -> Table {
    let mut occasions: Vec<Vec<(i64, &'static str)>> = vec![Vec::new(); lives.len()];
    for onboarding in onboardings.iter().filter(|row| row.user.is_none()) {
        let done = onboarding.completed.map(|at| (at, "onboarding"));
        occasions[onboarding.account as usize].extend(done);
    }
    for ticket in tickets {
        let closed = ticket.closed.map(|at| (at, "support"));
        occasions[ticket.account as usize].extend(closed);
    }
    let mut all = Vec::new();
    for (life, occasions) in lives.iter().zip(occasions) {
        let mut dice = Dice::new(seed, Stream::Surveys, u64::from(life.account));
        for (at, item) in occasions {
            all.extend(afterwards(life, at, item, &mut dice));
        }
        for member in &life.members {
            nps(life, member, timeline, &mut dice, &mut all);
            all.extend(about_the_product(life, member, timeline, &mut dice));
        }
    }
    all.retain(|answer| answer.answered < timeline.horizon());
    all.sort_by_key(|answer| (answer.answered, answer.account, answer.user));
    rows_of(&all)
}

fn rows_of(rows: &[Answer]) -> Table {
    let kind = |row: &Answer| if row.is_nps { "nps" } else { "csat" };
    Table {
        name: "surveys",
        columns: vec![
            (
                "account_id",
                table::text(rows, |row| Some(accounts::id(row.account))),
            ),
            (
                "respondent_id",
                table::text(rows, |row| Some(accounts::user_id(row.account, row.user))),
            ),
            ("kind", table::text(rows, |row| Some(kind(row).to_owned()))),
            ("score", table::int(rows, |row| Some(row.score))),
            ("scale", table::int(rows, |row| row.scale)),
            (
                "answered_at",
                table::instant(rows, |row| Some(row.answered)),
            ),
            ("item", table::text(rows, |row| row.item.map(str::to_owned))),
        ],
    }
}

/// A third of the active members answers NPS surveys, each most of the time.
fn nps(
    life: &Life,
    member: &Member,
    timeline: &Timeline,
    dice: &mut Dice,
    answers: &mut Vec<Answer>,
) {
    let answers_at_all = member.is_active && dice.chance(3_200);
    let bias = dice.between(-14, 12);
    if !answers_at_all {
        return;
    }
    let mut day = local_day(member.joined) + dice.days(20, 110);
    while day < timeline.end {
        let asked = busy_day(day, day + 5, dice);
        let at = midnight(asked) + (office_time(dice) + life.office_shift()) % DAY;
        let is_asked = member.is_there_at(at) && life.spell_on(asked).is_some();
        if is_asked && dice.chance(6_000) {
            let score = nps_score(life, asked, bias, dice);
            let answer = Answer {
                account: life.account,
                user: member.user,
                is_nps: true,
                score,
                scale: dice.chance(500).then_some(10),
                answered: at,
                item: None,
            };
            // Sent twice with another score; or asked once more after some weeks.
            let is_sent_twice = dice.chance(80);
            let is_asked_again = dice.chance(400);
            if is_sent_twice || is_asked_again {
                let later = dice.between(9, 45) * DAY;
                let again = Answer {
                    score: (score + dice.pick(&[-2, -1, 1])).clamp(0, 10),
                    answered: if is_sent_twice { at } else { at + later },
                    ..answer.clone()
                };
                let is_still_there = member.is_there_at(again.answered);
                answers.extend(Some(again).filter(|_| is_still_there));
            }
            answers.push(answer);
        }
        day += 91 + dice.days(-6, 20);
    }
}

fn nps_score(life: &Life, day: i32, bias: i64, dice: &mut Dice) -> i64 {
    let content = life.mood(day) + bias + dice.between(-12, 12);
    (content * 12 / 100).clamp(0, 10)
}

/// Asked after an event: a ticket that was closed, an onboarding that is done.
fn afterwards(life: &Life, at: i64, item: &'static str, dice: &mut Dice) -> Option<Answer> {
    let answers = dice.chance(if item == "support" { 2_200 } else { 6_000 });
    let answered = at + dice.between(1, 60) * HOUR + dice.between(0, 3_000);
    let member = life.member_at(answered, dice)?;
    answers.then(|| csat(life, member, answered, Some(item), dice))
}

/// Now and then the product asks how one likes it, or a part of it.
fn about_the_product(
    life: &Life,
    member: &Member,
    timeline: &Timeline,
    dice: &mut Dice,
) -> Option<Answer> {
    let is_asked = member.is_active && dice.chance(4_500);
    let day = local_day(member.joined) + dice.days(10, 500);
    let at = midnight(day.min(timeline.end)) + office_time(dice);
    let item = dice.weighted(&[
        (Some("product"), 60),
        (Some("documentation"), 18),
        (Some("training"), 16),
        (None, 6),
    ]);
    let is_there = member.is_there_at(at) && life.spell_on(day).is_some();
    (is_asked && is_there).then(|| csat(life, member, at, item, dice))
}

/// Customers abroad are asked on a scale of 10.
fn csat(
    life: &Life,
    member: &Member,
    answered: i64,
    item: Option<&'static str>,
    dice: &mut Dice,
) -> Answer {
    let is_of_ten = matches!(life.profile.region, Some("US" | "EU"));
    let says_scale = is_of_ten || !dice.chance(1_000);
    let content = life.mood(local_day(answered)) + dice.between(-18, 30);
    let of_ten = (content * 12 / 100).clamp(1, 10);
    Answer {
        account: life.account,
        user: member.user,
        is_nps: false,
        score: if is_of_ten {
            of_ten
        } else {
            (of_ten / 2).max(1)
        },
        scale: says_scale.then_some(if is_of_ten { 10 } else { 5 }),
        answered,
        item,
    }
}
