//! The table `targets`: what was planned, month by month. Plans lie near what came, so that some are met and some missed.

use super::calendar::{Timeline, midnight, months, months_after};
use super::dice::{Dice, Stream};
use super::invoices::Line;
use super::life::Life;
use super::table::{self, Column, Table};
use crate::period::civil;

/// Months after the last one that are planned already.
const AHEAD_MONTHS: i32 = 3;
const REGIONS: [&str; 3] = ["関東", "関西", "US"];
const CHANNELS: [&str; 2] = ["inbound", "partner"];

/// Values have four decimals.
const ONE: i64 = 10_000;
/// Sums of money are planned in full ten thousands.
const MONEY_STEP: i64 = 10_000 * ONE;

/// What is planned the same for every month: metric, value at first and its change per year.
const STEADY: [(&str, i64, i64); 7] = [
    ("nrr", 10_020, 20),
    ("nps", 28 * ONE, ONE),
    ("csat", 74 * ONE, ONE),
    ("onboarding_completion_rate", 4_200, 200),
    ("onboarding_completion_rate_matured", 6_500, 100),
    ("win_rate", 3_900, 50),
    ("first_response_hours", 6 * ONE, -ONE / 4),
];

struct Target {
    metric: &'static str,
    month: i32,
    value: Option<i64>,
    /// A dimension and its member; none is the total.
    of: Option<(&'static str, &'static str)>,
    serves: Option<&'static str>,
}

/// How the company, or a part of it, stands at a month's end.
struct Standing {
    customers: i64,
    mrr_yen: i64,
    won: i64,
    lost: i64,
}

/// The table, by month.
pub(super) fn table(lives: &[Life], lines: &[Line], timeline: &Timeline, seed: u64) -> Table {
    let mut dice = Dice::new(seed, Stream::Targets, 0);
    let usual_churn = usual_churn(lives, timeline);
    let mut rows = Vec::new();
    for month in months(timeline.start, months_after(timeline.end, AHEAD_MONTHS)) {
        // What lies ahead is planned by the last month that is known.
        let known = month.min(months_after(timeline.end, -1));
        let year = (month - timeline.start) / 365;
        let mut push = |metric, of, value, serves| {
            rows.push(Target {
                metric,
                month,
                value: Some(value),
                of,
                serves,
            });
        };
        let revenue = revenue_yen(lines, known);
        push("revenue", None, money(revenue, &mut dice), None);
        for region in [None, Some(REGIONS[0]), Some(REGIONS[1]), Some(REGIONS[2])] {
            let part = |life: &&Life| region.is_none() || life.profile.region == region;
            let part: Vec<&Life> = lives.iter().filter(part).collect();
            let standing = standing(&part, known);
            let of = region.map(|region| ("region", region));
            let customers = near(standing.customers * ONE, &mut dice) / ONE * ONE;
            let arpa = standing.mrr_yen / standing.customers.max(1);
            let arpa = near(arpa, &mut dice) / 1_000 * 1_000 * ONE;
            // The plan foots: so many customers at so much each. Together the two explain where MRR stands.
            push("mrr", of, customers / ONE * arpa, None);
            push("closing_customers", of, customers, Some("mrr"));
            push("arpa", of, arpa, Some("mrr"));
            let churn = near(usual_churn, &mut dice);
            push("churn_rate", of, churn, None);
            if region.is_none() {
                let won = (standing.won + dice.between(-1, 1)).max(1);
                push("new_customers", None, won * ONE, None);
                let lost = (standing.lost + dice.between(-1, 1)).max(1);
                push("churned_customers", None, lost * ONE, None);
            }
        }
        for channel in CHANNELS {
            let part: Vec<&Life> = lives
                .iter()
                .filter(|life| life.profile.channel == Some(channel))
                .collect();
            let won = standing(&part, known).won + dice.between(0, 1);
            push("new_customers", Some(("channel", channel)), won * ONE, None);
        }
        for (metric, first, change) in STEADY {
            let value = first + change * i64::from(year);
            push(metric, None, value, None);
        }
    }
    rows.extend(of_what_is_not_yet(timeline));
    rows.sort_by_key(|row| row.month);
    rows_of(&rows)
}

/// A target without a value, and one of a market that nobody has entered.
fn of_what_is_not_yet(timeline: &Timeline) -> [Target; 2] {
    let month = months_after(timeline.end, -1);
    let target = |metric, of, value, serves| Target {
        metric,
        month,
        value,
        of,
        serves,
    };
    [
        target("cac_payback_months", None, None, None),
        target("mrr", Some(("region", "APAC")), Some(50 * MONEY_STEP), None),
    ]
}

fn rows_of(rows: &[Target]) -> Table {
    let owned = |text: &str| text.to_owned();
    let period = |row: &Target| {
        let (year, month, _) = civil(row.month);
        // Where a period is written as its first day, it is meant as well.
        match row.metric {
            "revenue" => format!("{year:04}-{month:02}-01"),
            _ => format!("{year:04}-{month:02}"),
        }
    };
    let values = rows.iter().map(|row| row.value.map(i128::from));
    Table {
        name: "targets",
        columns: vec![
            ("metric", table::text(rows, |row| Some(owned(row.metric)))),
            ("period", table::text(rows, |row| Some(period(row)))),
            ("value", Column::Decimal(values.collect(), 4)),
            (
                "dimension",
                table::text(rows, |row| row.of.map(|(dimension, _)| owned(dimension))),
            ),
            (
                "member",
                table::text(rows, |row| row.of.map(|(_, member)| owned(member))),
            ),
            ("serves", table::text(rows, |row| row.serves.map(owned))),
        ],
    }
}

/// A plan near a value.
fn near(value: i64, dice: &mut Dice) -> i64 {
    value * dice.between(965, 1_045) / 1_000
}

fn money(yen: i64, dice: &mut Dice) -> i64 {
    near(yen, dice) * ONE / MONEY_STEP * MONEY_STEP
}

/// What is billed in a month, by the price list's rates.
fn revenue_yen(lines: &[Line], month: i32) -> i64 {
    let (from, to) = (midnight(month), midnight(months_after(month, 1)));
    let first = lines.partition_point(|line| line.issued < from);
    let issued = lines[first..].iter().take_while(|line| line.issued < to);
    issued
        .map(|line| line.currency.in_yen(line.amount))
        .sum::<i64>()
        / 100
}

/// The share of customers that is lost in a month, over all reported months.
fn usual_churn(lives: &[Life], timeline: &Timeline) -> i64 {
    let all: Vec<&Life> = lives.iter().collect();
    let known = months(timeline.start, timeline.end);
    let (lost, customers) = known
        .map(|month| standing(&all, month))
        .fold((0, 0), |sums, month| {
            (sums.0 + month.lost, sums.1 + month.customers)
        });
    (lost * ONE / customers.max(1)).max(ONE / 500)
}

fn standing(lives: &[&Life], month: i32) -> Standing {
    let opening = midnight(month) - 1;
    let closing = midnight(months_after(month, 1)) - 1;
    let mut standing = Standing {
        customers: 0,
        mrr_yen: 0,
        won: 0,
        lost: 0,
    };
    for life in lives {
        let yearly = life.yearly_yen_at(closing);
        let was_customer = life.yearly_yen_at(opening) > 0;
        let is_new = life.first_paid().is_some_and(|paid| paid > opening);
        standing.customers += i64::from(yearly > 0);
        standing.mrr_yen += yearly / 1_200;
        standing.won += i64::from(is_new && yearly > 0);
        standing.lost += i64::from(was_customer && yearly == 0);
    }
    standing
}
