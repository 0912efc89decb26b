//! What the tables promise to whoever reads them, checked on the tables themselves.

mod success;

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;

use super::calendar::{day_of, months_after};
use super::dice::{Dice, Stream, habit};
use super::{Column, Company, Size, Table, company, date};
use crate::period::civil;

fn size(accounts: usize, months: usize, events: usize, seed: u64) -> Size {
    let start = NaiveDate::from_ymd_opt(2024, 4, 1).expect("a date");
    Size {
        accounts,
        months,
        events,
        start,
        seed,
    }
}

/// Companies that differ in size and seed.
fn samples() -> Vec<Company> {
    [
        (300, 24, 7),
        (120, 12, 1),
        (150, 1, 2),
        (700, 36, 3),
        (40, 6, 4),
    ]
    .map(|(accounts, months, seed)| company(&size(accounts, months, 20_000, seed)))
    .to_vec()
}

fn table(company: &Company, name: &str) -> Table {
    named(&company.tables(), name).clone()
}

fn named<'a>(tables: &'a [Table], name: &str) -> &'a Table {
    let found = tables.iter().find(|table| table.name == name);
    found.unwrap_or_else(|| panic!("no table {name}"))
}

fn column<'a>(table: &'a Table, name: &str) -> &'a Column {
    let found = table.columns.iter().find(|(column, _)| *column == name);
    &found
        .unwrap_or_else(|| panic!("no column {name} in {}", table.name))
        .1
}

fn text<'a>(table: &'a Table, name: &str) -> Vec<Option<&'a str>> {
    match column(table, name) {
        Column::Text(values) => values.iter().map(Option::as_deref).collect(),
        Column::Codes { codes, values } => codes
            .iter()
            .map(|&code| Some(values[code as usize].as_str()))
            .collect(),
        other => panic!("{name} is not text: {other:?}"),
    }
}

/// The values of any column of numbers, days or instants.
fn numbers(table: &Table, name: &str) -> Vec<Option<i64>> {
    match column(table, name) {
        Column::Int(values) | Column::Instant(values) => values.clone(),
        Column::DenseInstant(values) => values.iter().copied().map(Some).collect(),
        Column::Date(values) => values.iter().map(|value| value.map(i64::from)).collect(),
        Column::Decimal(values, _) => values.iter().map(|value| value.map(|v| v as i64)).collect(),
        other => panic!("{name} is not a number: {other:?}"),
    }
}

fn ids<'a>(table: &'a Table, name: &str) -> BTreeSet<&'a str> {
    text(table, name).into_iter().flatten().collect()
}

#[test]
fn same_seed_gives_the_same_data() {
    let usage = |company: &Company| company.usage_months().collect::<Vec<_>>();
    let (one, same, other) = (
        company(&size(200, 12, 5_000, 7)),
        company(&size(200, 12, 5_000, 7)),
        company(&size(200, 12, 5_000, 8)),
    );
    assert_eq!(one.tables(), same.tables());
    assert_eq!(usage(&one), usage(&same));
    assert_ne!(one.tables(), other.tables());
    assert_ne!(usage(&one), usage(&other));
}

/// If this fails after an update of `rand_chacha`, every sample company has changed.
#[test]
fn draws_are_pinned() {
    let mut dice = Dice::new(7, Stream::Fate, 3);
    assert_eq!(dice.bits(), 14_416_524_292_568_167_336);
    assert_eq!(habit(7, Stream::UsageHabit, 3, 1), 6_384);
}

#[test]
fn columns_of_a_table_have_one_length() {
    for company in samples() {
        for table in company.tables() {
            let rows = table.rows();
            assert!(
                table
                    .columns
                    .iter()
                    .all(|(_, column)| column.rows() == rows),
                "{}",
                table.name
            );
        }
    }
}

#[test]
fn versions_of_a_subscription_abut_and_have_distinct_starts() {
    for company in samples() {
        let subscriptions = table(&company, "subscriptions");
        let ids = text(&subscriptions, "subscription_id");
        let accounts = text(&subscriptions, "account_id");
        let started = numbers(&subscriptions, "started_at");
        let ended = numbers(&subscriptions, "ended_at");
        for row in 0..ids.len() {
            assert!(
                ended[row].is_none_or(|end| Some(end) >= started[row]),
                "{:?}",
                ids[row]
            );
            let follows = row > 0 && ids[row] == ids[row - 1];
            if follows {
                assert_eq!(ended[row - 1], started[row], "{:?}", ids[row]);
                assert!(started[row - 1] < started[row], "{:?}", ids[row]);
                assert_eq!(accounts[row - 1], accounts[row], "{:?}", ids[row]);
            }
        }
        let keys: BTreeSet<_> = ids.iter().zip(&started).collect();
        assert_eq!(keys.len(), ids.len());
    }
}

#[test]
fn discounts_never_exceed_the_line() {
    for company in samples() {
        let subscriptions = table(&company, "subscriptions");
        let amount = numbers(&subscriptions, "amount");
        let quantity = numbers(&subscriptions, "quantity");
        let discount = numbers(&subscriptions, "discount");
        let kind = text(&subscriptions, "discount_kind");
        for row in 0..amount.len() {
            let line = amount[row].unwrap_or(0) * quantity[row].unwrap_or(0);
            assert!(line > 0);
            let most = match kind[row] {
                Some("recurring_percent" | "one_off_percent") => 10_000,
                Some("recurring" | "one_off") => line,
                _ => 0,
            };
            assert!(
                (0..=most).contains(&discount[row].unwrap_or(0)),
                "row {row}"
            );
        }
    }
}

#[test]
fn every_reference_exists() {
    for company in samples() {
        let accounts = table(&company, "accounts");
        let known = ids(&accounts, "account_id");
        assert!(ids(&accounts, "parent_id").is_subset(&known));
        let subscriptions = table(&company, "subscriptions");
        assert!(ids(&subscriptions, "account_id").is_subset(&known));
        let plans = table(&company, "plans");
        assert!(ids(&subscriptions, "plan_id").is_subset(&ids(&plans, "plan_id")));
        let invoices = table(&company, "invoice_lines");
        assert!(ids(&invoices, "account_id").is_subset(&known));
        assert_eq!(ids(&invoices, "line_id").len(), invoices.rows());
        let merges = table(&company, "account_merges");
        assert!(ids(&merges, "account_id").is_subset(&known));
        assert!(ids(&merges, "old_account_id").is_subset(&known));
        for (_, usage) in company.usage_months() {
            let users = text(&usage, "user_id");
            for (account, user) in text(&usage, "account_id").into_iter().zip(users) {
                let account = account.expect("an account");
                assert!(known.contains(account));
                assert!(user.is_some_and(|user| user.starts_with(account)));
            }
        }
    }
}

#[test]
fn invoice_amounts_have_the_sign_of_their_kind_and_yen_no_decimals() {
    for company in samples() {
        let invoices = table(&company, "invoice_lines");
        let amounts = numbers(&invoices, "amount");
        let currencies = text(&invoices, "currency");
        for ((kind, amount), currency) in
            text(&invoices, "kind").iter().zip(amounts).zip(currencies)
        {
            let amount = amount.expect("an amount");
            let is_given_back = matches!(kind, Some("credit" | "refund"));
            assert!(
                if is_given_back {
                    amount <= 0
                } else {
                    amount >= 0
                },
                "{kind:?} {amount}"
            );
            assert!(currency != Some("JPY") || amount % 100 == 0);
        }
    }
}

#[test]
fn stretches_of_an_account_abut() {
    for company in samples() {
        let accounts = table(&company, "accounts");
        let ids = text(&accounts, "account_id");
        let signup = numbers(&accounts, "signup_date");
        let from = numbers(&accounts, "valid_from");
        let to = numbers(&accounts, "valid_to");
        for row in 0..ids.len() {
            let is_first = row == 0 || ids[row - 1] != ids[row];
            let is_last = row + 1 == ids.len() || ids[row + 1] != ids[row];
            if is_first {
                assert!(from[row].is_none() || from[row] == signup[row]);
            } else {
                assert_eq!(from[row], to[row - 1]);
                assert_eq!(signup[row], signup[row - 1]);
            }
            assert_eq!(is_last, to[row].is_none());
            let opens = from[row].or(signup[row]);
            assert!(is_last || opens < to[row], "{:?}", ids[row]);
        }
        let names: BTreeSet<_> = ids.iter().zip(text(&accounts, "name")).collect();
        let distinct: BTreeSet<_> = names.iter().map(|(_, name)| name).collect();
        assert_eq!(
            names.len(),
            distinct.len(),
            "each account has one name, of its own"
        );
    }
}

#[test]
fn merges_never_cycle_and_one_chain_exists() {
    for company in samples() {
        let merges = table(&company, "account_merges");
        let survivors = text(&merges, "account_id");
        let at = numbers(&merges, "merged_at");
        let into: BTreeMap<_, _> = text(&merges, "old_account_id")
            .into_iter()
            .zip(survivors.iter().zip(&at))
            .collect();
        assert_eq!(into.len(), merges.rows(), "an account is merged away once");
        for (survivor, at) in into.values() {
            // Time rises along a chain, so no chain comes back to where it began.
            assert!(into.get(*survivor).is_none_or(|(_, later)| later > at));
        }
        let has_chain = into
            .values()
            .any(|(survivor, _)| into.contains_key(*survivor));
        assert!(
            has_chain || company.size.accounts < 100,
            "seed {}",
            company.size.seed
        );
    }
}

#[test]
fn events_are_as_many_as_asked_for_and_in_order_of_time() {
    for company in samples() {
        let mut rows = 0;
        for (month, usage) in company.usage_months() {
            let at = numbers(&usage, "occurred_at");
            assert!(at.is_sorted());
            let first = super::first_of_month(month);
            let micros = |day| super::calendar::midnight(day) * 1_000_000;
            let bounds = micros(first)..micros(months_after(first, 1));
            assert!(at.iter().flatten().all(|at| bounds.contains(at)));
            rows += usage.rows();
        }
        assert_eq!(rows, company.size.events);
    }
}

#[test]
fn events_lie_within_service() {
    for company in samples() {
        let subscriptions = table(&company, "subscriptions");
        let mut served: BTreeMap<&str, Vec<(i64, i64)>> = BTreeMap::new();
        let started = numbers(&subscriptions, "started_at");
        let ended = numbers(&subscriptions, "ended_at");
        let accounts = text(&subscriptions, "account_id");
        for (row, status) in text(&subscriptions, "status").into_iter().enumerate() {
            if let (Some("active" | "past_due" | "trialing"), Some(account)) =
                (status, accounts[row])
            {
                let from = started[row].unwrap_or(i64::MAX);
                served
                    .entry(account)
                    .or_default()
                    .push((from, ended[row].unwrap_or(i64::MAX)));
            }
        }
        for (_, usage) in company.usage_months() {
            let at = numbers(&usage, "occurred_at");
            for (account, at) in text(&usage, "account_id")
                .into_iter()
                .flatten()
                .zip(at.into_iter().flatten())
            {
                let is_served = served[account]
                    .iter()
                    .any(|&(from, to)| from <= at && at < to);
                assert!(is_served, "{account} at {at}");
            }
        }
    }
}

#[test]
fn nothing_has_happened_outside_the_timeline() {
    for company in samples() {
        let micros = |day| super::calendar::midnight(day) * 1_000_000;
        let covered = micros(company.timeline.begin)..micros(company.timeline.end);
        let happened = [
            ("subscriptions", "started_at"),
            ("subscriptions", "ended_at"),
            ("subscriptions", "cancel_requested_at"),
            ("invoice_lines", "issued_at"),
            ("invoice_lines", "paid_at"),
            ("account_merges", "merged_at"),
        ];
        for (name, column) in happened {
            let table = table(&company, name);
            let values = numbers(&table, column);
            assert!(
                values.iter().flatten().all(|at| covered.contains(at)),
                "{name}.{column}"
            );
        }
        let rates = table(&company, "fx_rates");
        let first = numbers(&rates, "date").into_iter().flatten().min();
        assert!(first < Some(i64::from(company.timeline.begin) - 28));
    }
}

/// A large company has every kind of fate, and loses customers at a usual rate.
#[test]
fn fates_are_believable() {
    let company = company(&size(3_000, 24, 0, 11));
    let subscriptions = table(&company, "subscriptions");
    let statuses: BTreeSet<_> = ids(&subscriptions, "status");
    assert_eq!(
        statuses,
        BTreeSet::from([
            "active", "canceled", "past_due", "paused", "trialing", "unpaid"
        ])
    );
    assert_eq!(
        ids(&subscriptions, "interval"),
        BTreeSet::from(["day", "month", "quarter", "week", "year"])
    );
    assert_eq!(ids(&subscriptions, "discount_kind").len(), 4);
    assert!(ids(&subscriptions, "end_reason").contains("payment_failed"));

    let accounts = text(&subscriptions, "account_id");
    let status = text(&subscriptions, "status");
    let started = numbers(&subscriptions, "started_at");
    let ended = numbers(&subscriptions, "ended_at");
    let customers_at = |at: i64| -> BTreeSet<&str> {
        let is_paid = |row: &usize| {
            matches!(status[*row], Some("active" | "past_due"))
                && started[*row] < Some(at)
                && ended[*row].is_none_or(|end| end >= at)
        };
        (0..accounts.len())
            .filter(is_paid)
            .filter_map(|row| accounts[row])
            .collect()
    };
    let ends: Vec<_> = (0..=24)
        .map(|month| months_after(company.timeline.start, month))
        .map(|day| customers_at(super::calendar::midnight(day) * 1_000_000))
        .collect();
    let opening: usize = ends[..24].iter().map(BTreeSet::len).sum();
    let lost: usize = ends
        .windows(2)
        .map(|pair| pair[0].difference(&pair[1]).count())
        .sum();
    let per_10_000 = lost * 10_000 / opening;
    assert!(
        (100..250).contains(&per_10_000),
        "churn of {per_10_000} in 10,000"
    );
    assert!(ends[0].len() > 1_000 && ends[24].len() > ends[0].len());
}

#[test]
fn any_size_is_possible() {
    let far = [
        NaiveDate::MIN,
        NaiveDate::MAX,
        NaiveDate::from_ymd_opt(2024, 2, 29).expect("a date"),
    ];
    for start in far {
        for (accounts, months, events) in [
            (0, 0, 0),
            (0, 3, 10),
            (1, 1, 5),
            (3, 0, 9),
            (6, 2, 0),
            (200, 1, 1),
        ] {
            let company = company(&Size {
                accounts,
                months,
                events,
                start,
                seed: 5,
            });
            assert_eq!(company.tables().len(), 15);
            let rows: usize = company.usage_months().map(|(_, usage)| usage.rows()).sum();
            assert!(rows == events || rows == 0);
        }
    }
}

#[test]
fn days_agree_with_chrono() {
    for day in (-800_000..800_000).step_by(173) {
        let expected = date(day);
        let (year, month, day_of_month) = civil(day);
        assert_eq!(
            NaiveDate::from_ymd_opt(year, month, day_of_month),
            Some(expected)
        );
        assert_eq!(day_of(year, month, day_of_month), day);
    }
    let january_31 = day_of(2024, 1, 31);
    assert_eq!(civil(months_after(january_31, 1)), (2024, 2, 29));
    assert_eq!(civil(months_after(january_31, -2)), (2023, 11, 30));
}
