//! The tables about customer success: they fit the others, they fit each other, and hold every edge that there is.

use std::collections::{BTreeMap, BTreeSet};

use super::super::calendar::{local_day, midnight};
use super::{Column, Table, column, company, ids, named, numbers, samples, size, text};
use crate::contract;

const MICROS: i64 = 1_000_000;

fn flags(table: &Table, name: &str) -> Vec<Option<bool>> {
    match column(table, name) {
        Column::Bool(values) => values.clone(),
        other => panic!("{name} is no flag: {other:?}"),
    }
}

/// From when to when each user of an account is a member.
fn memberships(members: &Table) -> BTreeMap<(&str, &str), (i64, i64)> {
    let joined = numbers(members, "joined_at");
    let left = numbers(members, "left_at");
    let users = text(members, "user_id").into_iter();
    let keys = text(members, "account_id").into_iter().zip(users);
    let rows = keys.zip(joined.into_iter().zip(left));
    let known: BTreeMap<_, _> = rows
        .map(|((account, user), (joined, left))| {
            let key = (account.expect("an account"), user.expect("a user"));
            (key, (joined.expect("a start"), left.unwrap_or(i64::MAX)))
        })
        .collect();
    assert_eq!(known.len(), members.rows(), "a user is a member once");
    known
}

#[test]
fn every_account_exists() {
    for company in samples() {
        let tables = company.tables();
        let accounts = named(&tables, "accounts");
        let known = ids(accounts, "account_id");
        let names_accounts = |table: &&Table| {
            let contract = contract::of(table.name);
            contract.column("account_id").is_some()
        };
        for table in tables.iter().filter(names_accounts) {
            assert!(ids(table, "account_id").is_subset(&known), "{}", table.name);
        }
        let costs = named(&tables, "costs");
        assert!(ids(costs, "channel").is_subset(&ids(accounts, "channel")));
    }
}

#[test]
fn who_uses_and_answers_is_a_member_at_that_time() {
    for company in samples() {
        let tables = company.tables();
        let members = named(&tables, "members");
        let known = memberships(members);
        let check = |table: &Table, user: &str, at: &str| {
            let users = text(table, user).into_iter();
            let rows = text(table, "account_id").into_iter().zip(users);
            for ((account, user), at) in rows.zip(numbers(table, at)) {
                let Some(user) = user else { continue };
                let key = (account.expect("an account"), user);
                let (joined, left) = known[&key];
                let at = at.expect("a time");
                assert!(joined <= at && at < left, "{} {key:?} at {at}", table.name);
            }
        };
        for (_, usage) in company.usage_months() {
            check(&usage, "user_id", "occurred_at");
        }
        check(named(&tables, "community"), "user_id", "occurred_at");
        check(named(&tables, "surveys"), "respondent_id", "answered_at");
        let onboarding = named(&tables, "onboarding");
        let users = text(onboarding, "user_id");
        for (account, user) in text(onboarding, "account_id").into_iter().zip(users) {
            let key = (account.expect("an account"), user.unwrap_or_default());
            assert!(user.is_none() || known.contains_key(&key));
        }
    }
}

#[test]
fn what_ends_has_begun_and_nothing_has_happened_yet_after_the_timeline() {
    for company in samples() {
        let tables = company.tables();
        let horizon = midnight(company.timeline.end) * MICROS;
        for (name, first, later) in [
            ("opportunities", "created_at", vec!["closed_at"]),
            ("members", "joined_at", vec!["left_at"]),
            ("onboarding", "started_at", vec!["completed_at"]),
            (
                "tickets",
                "opened_at",
                vec!["first_response_at", "closed_at"],
            ),
            ("surveys", "answered_at", vec![]),
            ("community", "occurred_at", vec![]),
        ] {
            let table = named(&tables, name);
            let begun = numbers(table, first);
            assert!(begun.iter().all(|at| *at < Some(horizon)), "{name}");
            for later in later {
                for (begun, at) in begun.iter().zip(numbers(table, later)) {
                    let is_right = at.is_none_or(|at| *begun <= Some(at) && at < horizon);
                    assert!(is_right, "{name}.{later}: {begun:?} {at:?}");
                }
            }
        }
        let days = company.timeline.begin.into()..i64::from(company.timeline.end);
        for name in ["costs", "time_entries"] {
            let dates = numbers(named(&tables, name), "date");
            assert!(
                dates.iter().flatten().all(|day| days.contains(day)),
                "{name}"
            );
        }
    }
}

/// By account, when it first paid for the core product.
fn first_paid(tables: &[Table]) -> BTreeMap<String, i64> {
    let subscriptions = named(tables, "subscriptions");
    let started = numbers(subscriptions, "started_at");
    let ended = numbers(subscriptions, "ended_at");
    let trial_end = numbers(subscriptions, "trial_end");
    let status = text(subscriptions, "status");
    let plans = text(subscriptions, "plan_id");
    let mut first = BTreeMap::new();
    for (row, account) in text(subscriptions, "account_id").into_iter().enumerate() {
        let from = started[row].max(trial_end[row]).expect("a start");
        let is_paid = matches!(status[row], Some("active" | "past_due"))
            && ended[row].is_none_or(|ended| from < ended)
            && plans[row].is_some_and(|plan| plan.starts_with("core-"));
        if is_paid {
            let account = account.expect("an account").to_owned();
            let known = first.entry(account).or_insert(from);
            *known = from.min(*known);
        }
    }
    first
}

#[test]
fn every_customer_was_won_before_it_paid() {
    for company in samples() {
        let tables = company.tables();
        let opportunities = named(&tables, "opportunities");
        let kinds = text(opportunities, "kind");
        let closed = numbers(opportunities, "closed_at");
        let won = flags(opportunities, "is_won");
        let mut won_at: BTreeMap<&str, i64> = BTreeMap::new();
        for (row, account) in text(opportunities, "account_id").into_iter().enumerate() {
            assert_eq!(won[row].is_some(), closed[row].is_some());
            if let (Some(account), Some("new"), Some(true)) = (account, kinds[row], won[row]) {
                let at = closed[row].expect("an end");
                let known = won_at.entry(account).or_insert(at);
                *known = at.min(*known);
            }
        }
        for (account, paid) in first_paid(&tables) {
            assert!(won_at[account.as_str()] <= paid, "{account}");
        }
    }
}

#[test]
fn owners_spend_time_on_their_own_accounts() {
    for company in samples() {
        let tables = company.tables();
        let accounts = named(&tables, "accounts");
        let owners = text(accounts, "owner_id");
        let from = numbers(accounts, "valid_from");
        let to = numbers(accounts, "valid_to");
        let mut stretches: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (row, account) in text(accounts, "account_id").into_iter().enumerate() {
            let of_account = stretches.entry(account.expect("an account")).or_default();
            of_account.push((from[row], to[row], owners[row]));
        }
        let entries = named(&tables, "time_entries");
        let owners = text(entries, "owner_id");
        let days = numbers(entries, "date");
        for (row, account) in text(entries, "account_id").into_iter().enumerate() {
            let Some(account) = account else { continue };
            let day = days[row].expect("a date");
            let mut known = stretches[account].iter();
            let found = known.find(|(from, to, _)| {
                from.is_none_or(|from| from <= day) && to.is_none_or(|to| day < to)
            });
            assert_eq!(
                found.map(|stretch| stretch.2),
                Some(owners[row]),
                "{account}"
            );
        }
    }
}

#[test]
fn targets_are_set_once_and_serve_targets_that_exist() {
    for company in samples() {
        let tables = company.tables();
        let targets = named(&tables, "targets");
        // Revenue's periods are written as their first day.
        let periods = text(targets, "period");
        let month = |row: usize| periods[row].map(|period| &period[..7]);
        let dimensions = text(targets, "dimension");
        let members = text(targets, "member");
        let metrics = text(targets, "metric");
        let keys: BTreeSet<_> = (0..targets.rows())
            .map(|row| (month(row), dimensions[row], members[row], metrics[row]))
            .collect();
        assert_eq!(keys.len(), targets.rows());
        for (row, serves) in text(targets, "serves").into_iter().enumerate() {
            let kgi = (month(row), dimensions[row], members[row], serves);
            assert!(serves.is_none() || keys.contains(&kgi), "{kgi:?}");
        }
    }
}

/// How many rows of a table pass.
fn count(table: &Table, passes: impl Fn(usize) -> bool) -> usize {
    (0..table.rows()).filter(|&row| passes(row)).count()
}

/// What a program may get wrong occurs in the shipped sample.
#[test]
fn every_edge_is_there() {
    let tables = company(&size(300, 24, 0, 7)).tables();
    let mut missing: Vec<&str> = Vec::new();
    let mut expect = |edge: &'static str, rows: usize| {
        if rows == 0 {
            missing.push(edge);
        }
    };

    let offers = named(&tables, "opportunities");
    let (kind, won) = (text(offers, "kind"), flags(offers, "is_won"));
    let account = text(offers, "account_id");
    let amount = numbers(offers, "amount");
    for of in ["new", "upsell", "cross_sell", "renewal"] {
        for end in [Some(true), Some(false), None] {
            let rows = count(offers, |row| kind[row] == Some(of) && won[row] == end);
            expect("an offer of each kind, won, lost and open", rows);
        }
    }
    expect(
        "a prospect without an account",
        count(offers, |row| account[row].is_none()),
    );
    let lost = |row: usize| kind[row] == Some("new") && won[row] == Some(false);
    expect(
        "a lost account",
        count(offers, |row| lost(row) && account[row].is_some()),
    );
    expect(
        "an offer without an amount",
        count(offers, |row| amount[row].is_none()),
    );
    assert_eq!(ids(offers, "currency").len(), 3);

    let members = named(&tables, "members");
    let left = numbers(members, "left_at");
    expect(
        "a member who left",
        count(members, |row| left[row].is_some()),
    );
    expect(
        "a member who stays",
        count(members, |row| left[row].is_none()),
    );

    let onboarding = named(&tables, "onboarding");
    let user = text(onboarding, "user_id");
    let (started, done) = (
        numbers(onboarding, "started_at"),
        numbers(onboarding, "completed_at"),
    );
    for is_of_member in [false, true] {
        let of_unit = |row: usize| user[row].is_some() == is_of_member;
        expect(
            "one done",
            count(onboarding, |row| of_unit(row) && done[row].is_some()),
        );
        expect(
            "one never done",
            count(onboarding, |row| of_unit(row) && done[row].is_none()),
        );
    }
    let same_day = |row: usize| {
        let day = |at: i64| local_day(at / MICROS);
        done[row].map(day) == started[row].map(day)
    };
    expect("one done on its first day", count(onboarding, same_day));

    let surveys = named(&tables, "surveys");
    let (kind, scale) = (text(surveys, "kind"), numbers(surveys, "scale"));
    let (score, item) = (numbers(surveys, "score"), text(surveys, "item"));
    let nps = |row: usize| kind[row] == Some("nps");
    for band in [0..=6, 7..=8, 9..=10] {
        let rows = count(surveys, |row| {
            nps(row) && band.contains(&score[row].unwrap_or(-1))
        });
        expect("promoters, passives, detractors", rows);
    }
    for of in [None, Some(5), Some(10)] {
        expect(
            "scales of CSAT",
            count(surveys, |row| !nps(row) && scale[row] == of),
        );
    }
    expect(
        "CSAT without item",
        count(surveys, |row| !nps(row) && item[row].is_none()),
    );
    assert_eq!(ids(surveys, "item").len(), 5);
    let respondents = text(surveys, "respondent_id");
    let answered = numbers(surveys, "answered_at");
    let mut last: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    let (mut at_once, mut soon_again) = (0, 0);
    for row in (0..surveys.rows()).filter(|&row| nps(row)) {
        let now = (answered[row].expect("a time"), score[row].expect("a score"));
        if let Some(before) = last.insert(respondents[row].expect("a respondent"), now) {
            at_once += usize::from(before.0 == now.0 && before.1 != now.1);
            soon_again += usize::from(before.0 < now.0 && now.0 - before.0 < 90 * 86_400 * MICROS);
        }
    }
    expect("two answers at one instant", at_once);
    expect("two answers within the window", soon_again);

    let tickets = named(&tables, "tickets");
    let (opened, closed) = (numbers(tickets, "opened_at"), numbers(tickets, "closed_at"));
    let answered = numbers(tickets, "first_response_at");
    let (escalated, rating) = (
        flags(tickets, "is_escalated"),
        numbers(tickets, "satisfaction"),
    );
    for of in [Some(true), Some(false), None] {
        expect(
            "escalated or not or unknown",
            count(tickets, |row| escalated[row] == of),
        );
    }
    for of in [None, Some(1), Some(2), Some(3), Some(4), Some(5)] {
        expect("each satisfaction", count(tickets, |row| rating[row] == of));
    }
    expect(
        "never answered",
        count(tickets, |row| {
            answered[row].is_none() && closed[row].is_some()
        }),
    );
    expect("open", count(tickets, |row| closed[row].is_none()));
    expect(
        "rated while open",
        count(tickets, |row| {
            closed[row].is_none() && rating[row].is_some()
        }),
    );
    expect(
        "closed at once",
        count(tickets, |row| closed[row] == opened[row]),
    );

    let costs = named(&tables, "costs");
    let (amount, currency) = (numbers(costs, "amount"), text(costs, "currency"));
    let (account, channel) = (text(costs, "account_id"), text(costs, "channel"));
    assert_eq!(
        count(costs, |row| amount[row] < Some(0)),
        1,
        "one correction"
    );
    for of in [Some("JPY"), Some("USD"), None] {
        expect(
            "currencies of costs",
            count(costs, |row| currency[row] == of),
        );
    }
    assert_eq!(ids(costs, "kind").len(), 4);
    assert_eq!(ids(costs, "channel").len(), 5);
    expect(
        "cost of an account",
        count(costs, |row| account[row].is_some()),
    );
    expect(
        "cost of all channels",
        count(costs, |row| channel[row].is_none()),
    );

    let entries = named(&tables, "time_entries");
    let (account, phase) = (text(entries, "account_id"), text(entries, "phase"));
    expect(
        "time without account",
        count(entries, |row| account[row].is_none()),
    );
    expect(
        "time without phase",
        count(entries, |row| phase[row].is_none()),
    );
    assert_eq!(ids(entries, "phase").len(), 8);

    let targets = named(&tables, "targets");
    let (value, member) = (numbers(targets, "value"), text(targets, "member"));
    expect(
        "a target without value",
        count(targets, |row| value[row].is_none()),
    );
    expect(
        "a target of nobody",
        count(targets, |row| member[row] == Some("APAC")),
    );
    let period = text(targets, "period");
    let is_day = |row: usize| period[row].is_some_and(|text| text.len() == 10);
    expect("a period by its first day", count(targets, is_day));
    expect("a period by its name", count(targets, |row| !is_day(row)));
    assert_eq!(missing, [""; 0]);
}

/// Accounts that are about to leave are less content, and ask more.
#[test]
fn moods_foretell_fates() {
    let tables = company(&size(1_500, 24, 0, 11)).tables();
    let subscriptions = named(&tables, "subscriptions");
    let reasons = text(subscriptions, "end_reason");
    let ended = numbers(subscriptions, "ended_at");
    let plans = text(subscriptions, "plan_id");
    let mut leaves: BTreeMap<&str, i64> = BTreeMap::new();
    for (row, account) in text(subscriptions, "account_id").into_iter().enumerate() {
        let is_core = plans[row].is_some_and(|plan| plan.starts_with("core-"));
        let is_lost = is_core && reasons[row].is_some_and(|reason| reason != "migrated");
        if let (true, Some(account), Some(ended)) = (is_lost, account, ended[row]) {
            leaves.insert(account, ended);
        }
    }
    let is_near_the_end = |account: &str, at: i64| {
        let end = leaves.get(account);
        end.is_some_and(|end| (0..90 * 86_400 * MICROS).contains(&(end - at)))
    };

    let surveys = named(&tables, "surveys");
    let score = numbers(surveys, "score");
    let kind = text(surveys, "kind");
    let at = numbers(surveys, "answered_at");
    let mut sums = [(0, 0); 2];
    for (row, account) in text(surveys, "account_id").into_iter().enumerate() {
        if let (Some("nps"), Some(account), Some(at)) = (kind[row], account, at[row]) {
            let sum = &mut sums[usize::from(is_near_the_end(account, at))];
            sum.0 += score[row].unwrap_or(0) * 100;
            sum.1 += 1;
        }
    }
    let [others, leaving] = sums.map(|(sum, count)| sum / count);
    assert!(leaving + 200 < others, "{leaving} and {others} hundredths");

    let tickets = named(&tables, "tickets");
    let opened = numbers(tickets, "opened_at");
    let accounts = text(tickets, "account_id");
    let near = count(tickets, |row| {
        is_near_the_end(
            accounts[row].expect("an account"),
            opened[row].expect("a time"),
        )
    });
    let per_leaving = near * 100 / leaves.len();
    // 90 days of some 700.
    let usual = (tickets.rows() - near) * 100 / 1_500 / 8;
    assert!(per_leaving > usual, "{per_leaving} and {usual} hundredths");
}
