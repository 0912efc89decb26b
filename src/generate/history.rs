//! What changes about accounts over time: the table `accounts`, one row per stretch of time.

use super::accounts::{Profile, id, owner_id, owners};
use super::calendar::{Timeline, local_day, months_after};
use super::dice::{Dice, Stream, habit};
use super::plans::Family;
use super::subscriptions::{Status, Subscription};
use super::table::{self, Column, Table};

/// A row of the table: the account's attributes from `from` to `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stretch {
    pub account: u32,
    from: Option<i32>,
    pub to: Option<i32>,
    region: Option<&'static str>,
    pub owner: u32,
    is_strategic: bool,
    employees: Option<i64>,
    seats: Option<i64>,
}

/// What changes about an account on a day.
#[derive(Debug, Clone, Copy)]
enum Change {
    Owner(u32),
    Region(&'static str),
    Seats(i64),
    Employees,
    Strategic,
}

/// All rows of the table, by account and time.
pub(super) fn stretches(
    profiles: &[Profile],
    subscriptions: &[Subscription],
    timeline: &Timeline,
    seed: u64,
) -> Vec<Stretch> {
    let departures = departures(profiles.len(), timeline, seed);
    let mut seat_changes: Vec<Vec<(i32, Change)>> = vec![Vec::new(); profiles.len()];
    for subscription in subscriptions {
        if !subscription.is_taken_over {
            seat_changes[subscription.account as usize].extend(seats(subscription));
        }
    }
    let mut rows: Vec<Stretch> = Vec::with_capacity(profiles.len() * 2);
    for ((index, profile), seats) in (0u32..).zip(profiles).zip(seat_changes) {
        let mut dice = Dice::new(seed, Stream::History, u64::from(index));
        rows.extend(history(
            index,
            profile,
            seats,
            &departures,
            timeline,
            &mut dice,
        ));
    }
    rows
}

/// The table `accounts`.
pub(super) fn table(rows: &[Stretch], profiles: &[Profile]) -> Table {
    let profile = |row: &Stretch| &profiles[row.account as usize];
    let owned = |value: &str| value.to_owned();
    let strategic = rows.iter().map(|row| Some(row.is_strategic)).collect();
    Table {
        name: "accounts",
        columns: vec![
            ("account_id", table::text(rows, |row| Some(id(row.account)))),
            (
                "name",
                table::text(rows, |row| Some(profile(row).name.clone())),
            ),
            (
                "industry",
                table::text(rows, |row| profile(row).industry.map(owned)),
            ),
            ("employee_count", table::int(rows, |row| row.employees)),
            ("region", table::text(rows, |row| row.region.map(owned))),
            (
                "channel",
                table::text(rows, |row| profile(row).channel.map(owned)),
            ),
            (
                "owner_id",
                table::text(rows, |row| Some(owner_id(row.owner))),
            ),
            ("is_strategic", Column::Bool(strategic)),
            (
                "parent_id",
                table::text(rows, |row| profile(row).parent.map(id)),
            ),
            ("seats", table::int(rows, |row| row.seats)),
            (
                "signup_date",
                table::date(rows, |row| Some(profile(row).signup)),
            ),
            ("valid_from", table::date(rows, |row| row.from)),
            ("valid_to", table::date(rows, |row| row.to)),
        ],
    }
}

/// By owner: the day on which that customer-success manager left, and who took over. A quarter of them leave.
pub(super) fn departures(
    accounts: usize,
    timeline: &Timeline,
    seed: u64,
) -> Vec<Option<(i32, u32)>> {
    let owners = owners(accounts);
    let length = i64::from(timeline.end - timeline.begin);
    (0..owners)
        .map(|owner| {
            let leaves = habit(seed, Stream::History, owner, 1) < 2_500;
            let part = habit(seed, Stream::History, owner, 2) as i64;
            let successor = (owner + 1 + habit(seed, Stream::History, owner, 3)) % owners;
            let day = timeline.begin + (length * part / 10_000) as i32;
            (leaves && successor != owner).then_some((day, successor as u32))
        })
        .collect()
}

/// The CRM follows the seats of the core product where they changed by a fifth or more.
fn seats(subscription: &Subscription) -> Vec<(i32, Change)> {
    let mut known = 0;
    let mut changes = Vec::new();
    let core = subscription.versions.iter().filter(|version| {
        version.deal.plan.family == Family::Core && version.status != Status::Canceled
    });
    for version in core {
        let quantity = version.deal.quantity;
        let is_first = known == 0;
        let is_notable = (quantity - known).abs() * 5 >= known;
        if is_first {
            known = quantity;
        } else if is_notable {
            changes.push((local_day(version.started), Change::Seats(quantity)));
            known = quantity;
        }
    }
    changes
}

fn history(
    account: u32,
    profile: &Profile,
    mut changes: Vec<(i32, Change)>,
    departures: &[Option<(i32, u32)>],
    timeline: &Timeline,
    dice: &mut Dice,
) -> Vec<Stretch> {
    if profile.employees.is_some() && dice.chance(2_500) {
        let months = dice.days(4, 20);
        changes.push((months_after(profile.signup, months), Change::Employees));
    }
    if dice.chance(200) {
        let day = profile.signup + dice.days(60, 600);
        let region = dice.pick(&["関東", "関西", "中部"]);
        changes.push((day, Change::Region(region)));
    }
    if dice.chance(150) {
        changes.push((profile.signup + dice.days(90, 500), Change::Strategic));
    }
    if dice.chance(1_000) {
        let successor = dice.below(departures.len() as u64) as u32;
        changes.push((
            profile.signup + dice.days(30, 500),
            Change::Owner(successor),
        ));
    }
    changes.sort_by_key(|(day, _)| *day);

    let signup_opens = dice.chance(5_000);
    let mut open = Stretch {
        account,
        from: signup_opens.then_some(profile.signup),
        to: None,
        region: profile.region,
        owner: profile.owner,
        is_strategic: profile.is_strategic,
        employees: profile.employees,
        seats: (!dice.chance(600)).then_some(profile.seats),
    };
    let mut rows = Vec::new();
    let mut opened = profile.signup;
    for (day, change) in with_departures(changes, profile.owner, departures) {
        let mut next = open.clone();
        apply(&mut next, change, dice);
        let is_same_day = day == opened && day > profile.signup;
        if is_same_day {
            open = next;
        } else if day > opened && day < timeline.end && next != open {
            open.to = Some(day);
            next.from = Some(day);
            rows.push(std::mem::replace(&mut open, next));
            opened = day;
        }
    }
    rows.push(open);
    rows
}

/// Adds the days on which the account's owners left; the last one may still be there.
fn with_departures(
    mut changes: Vec<(i32, Change)>,
    first_owner: u32,
    departures: &[Option<(i32, u32)>],
) -> Vec<(i32, Change)> {
    let mut owner = first_owner;
    let mut since = i32::MIN;
    loop {
        let given = changes.iter().find_map(|&(day, change)| match change {
            Change::Owner(next) if next != owner && day > since => Some((day, next)),
            _ => None,
        });
        let left = departures[owner as usize].filter(|&(day, _)| day > since);
        let is_given_first = match (given, left) {
            (Some((day, _)), Some((gone, _))) => day <= gone,
            (given, _) => given.is_some(),
        };
        let Some((day, next)) = (if is_given_first { given } else { left }) else {
            return changes;
        };
        if !is_given_first {
            changes.push((day, Change::Owner(next)));
            changes.sort_by_key(|(day, _)| *day);
        }
        (owner, since) = (next, day);
    }
}

fn apply(row: &mut Stretch, change: Change, dice: &mut Dice) {
    match change {
        Change::Owner(owner) => row.owner = owner,
        Change::Region(region) => row.region = Some(region),
        Change::Seats(seats) => {
            row.seats = Some(seats);
            row.employees = row
                .employees
                .map(|employees| employees.max(seats + seats / 5));
        }
        Change::Employees => {
            let percent = dice.between(92, 160);
            row.employees = row
                .employees
                .map(|employees| (employees * percent / 100).max(1));
        }
        Change::Strategic => row.is_strategic = true,
    }
}
