//! The table `costs`: what it takes to win customers and to keep them.

use super::accounts::{self, CHANNELS};
use super::calendar::{Timeline, busy_day, midnight, months, months_after};
use super::dice::{Dice, Stream};
use super::life::Life;
use super::plans::Currency;
use super::table::{self, Table};

#[derive(Debug, Clone)]
struct Entry {
    date: i32,
    kind: &'static str,
    amount: i64,
    /// Finance books its corrections in its own currency without saying so.
    currency: Option<Currency>,
    channel: Option<&'static str>,
    account: Option<u32>,
}

/// Yen that are spent on marketing for every account that is expected to sign up.
const MARKETING_PER_SIGNUP: i64 = 330_000;
const SALES_PER_SIGNUP: i64 = 420_000;
/// Hundredths of MRR that go into looking after customers.
const PEOPLE_PERCENT: i64 = 8;
const TOOLS_PERMILLE: i64 = 14;
/// Thousand yen: budgets are round numbers.
const ROUND: i64 = 1_000;

/// The table, by date.
pub(super) fn table(lives: &[Life], timeline: &Timeline, seed: u64) -> Table {
    let mut dice = Dice::new(seed, Stream::Costs, 0);
    let first_days: Vec<i32> = months(timeline.begin, timeline.end).collect();
    let plan = Plan {
        accounts: lives.len() as i64,
        months: first_days.len() as i64,
    };
    let mut rows = Vec::new();
    for &month in &first_days {
        let last = months_after(month, 1) - 1;
        plan.acquisition(month, last, &mut dice, &mut rows);
        retention(lives, month, last, &mut dice, &mut rows);
        rows.extend(on_accounts(lives, month, last, &mut dice));
    }
    rows.extend(correction(&rows, timeline, &mut dice));
    rows.retain(|row| row.amount != 0);
    rows.sort_by_key(|row| row.date);
    rows_of(&rows)
}

fn rows_of(rows: &[Entry]) -> Table {
    let owned = |text: &str| text.to_owned();
    Table {
        name: "costs",
        columns: vec![
            ("date", table::date(rows, |row| Some(row.date))),
            ("kind", table::text(rows, |row| Some(owned(row.kind)))),
            ("amount", table::money(rows, |row| Some(row.amount))),
            (
                "currency",
                table::text(rows, |row| {
                    row.currency.map(|currency| owned(currency.code()))
                }),
            ),
            ("channel", table::text(rows, |row| row.channel.map(owned))),
            (
                "account_id",
                table::text(rows, |row| row.account.map(accounts::id)),
            ),
        ],
    }
}

/// An entry of so many yen, paid in this currency.
fn entry(date: i32, kind: &'static str, yen: i64, currency: Currency) -> Entry {
    let yen = if currency == Currency::Jpy {
        yen / ROUND * ROUND
    } else {
        yen
    };
    Entry {
        date,
        kind,
        amount: currency.of_yen(yen),
        currency: Some(currency),
        channel: None,
        account: None,
    }
}

fn about(yen: i64, dice: &mut Dice) -> i64 {
    yen * dice.between(82, 120) / 100
}

/// The company's size as its budget knows it.
struct Plan {
    accounts: i64,
    months: i64,
}

impl Plan {
    /// What winning customers costs does not follow how many are won.
    fn acquisition(&self, month: i32, last: i32, dice: &mut Dice, rows: &mut Vec<Entry>) {
        let yen = |per_signup: i64| self.accounts * per_signup / self.months.max(1);
        for (channel, weight) in CHANNELS {
            let day = month + dice.days(0, 24).min(last - month);
            let part = yen(MARKETING_PER_SIGNUP) * weight as i64 / 115;
            let is_ads = channel == "inbound";
            let currency = if is_ads && dice.chance(2_500) {
                Currency::Usd
            } else {
                Currency::Jpy
            };
            // There is not an event every month.
            let is_quiet = channel == "event" && dice.chance(3_500);
            if !is_quiet {
                rows.push(Entry {
                    channel: Some(channel),
                    ..entry(day, "marketing", about(part, dice), currency)
                });
            }
        }
        let brand = yen(MARKETING_PER_SIGNUP) * 15 / 115;
        rows.push(entry(last, "marketing", about(brand, dice), Currency::Jpy));
        let salaries = yen(SALES_PER_SIGNUP) * 80 / 100;
        rows.push(entry(last, "sales", about(salaries, dice), Currency::Jpy));
        let commission = yen(SALES_PER_SIGNUP) * 20 / 100;
        rows.push(Entry {
            channel: Some("partner"),
            ..entry(last, "sales", about(commission, dice), Currency::Jpy)
        });
    }
}

/// People and tools of customer success grow with what there is to keep. Half of the tools are paid in dollars.
fn retention(lives: &[Life], month: i32, last: i32, dice: &mut Dice, rows: &mut Vec<Entry>) {
    let at = midnight(month);
    let yearly: i64 = lives.iter().map(|life| life.yearly_yen_at(at)).sum();
    let monthly_yen = yearly / 12 / 100;
    let people = monthly_yen * PEOPLE_PERCENT / 100;
    let tools = monthly_yen * TOOLS_PERMILLE / 1_000 / 2;
    rows.push(entry(last, "cs_people", about(people, dice), Currency::Jpy));
    rows.push(entry(month, "cs_tools", about(tools, dice), Currency::Jpy));
    rows.push(entry(
        month + 4,
        "cs_tools",
        about(tools, dice),
        Currency::Usd,
    ));
}

/// Now and then money is spent on one account: a visit, a training on its premises, a dinner.
fn on_accounts(lives: &[Life], month: i32, last: i32, dice: &mut Dice) -> Vec<Entry> {
    let most = lives.len() as i64 / 100 + 1;
    (0..dice.between(0, most))
        .filter_map(|_| {
            let account = dice.below(lives.len() as u64) as u32;
            let day = busy_day(month, last, dice);
            let (kind, yen) = dice.pick(&[
                ("cs_people", 120_000),
                ("cs_people", 60_000),
                ("sales", 45_000),
                ("cs_tools", 30_000),
                ("marketing", 80_000),
            ]);
            let is_served = lives.get(account as usize)?.spell_on(day).is_some();
            is_served.then(|| Entry {
                account: Some(account),
                ..entry(day, kind, about(yen, dice), Currency::Jpy)
            })
        })
        .collect()
}

/// One invoice of an agency was too high: half of it comes back two months later.
fn correction(rows: &[Entry], timeline: &Timeline, dice: &mut Dice) -> Option<Entry> {
    let marketing = |row: &&Entry| {
        let is_yen = row.currency == Some(Currency::Jpy);
        row.channel == Some("outbound") && is_yen && row.date >= timeline.start
    };
    let wrong: Vec<&Entry> = rows.iter().filter(marketing).collect();
    let wrong = *wrong.get(dice.below(wrong.len() as u64) as usize)?;
    Some(Entry {
        date: months_after(wrong.date, 2).min(timeline.end - 1),
        amount: -(wrong.amount / 200 * 100),
        currency: None,
        ..wrong.clone()
    })
}
