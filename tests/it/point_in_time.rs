//! Point in time: what is dated after a period's end does not show in it, whichever table tells of it.

use crate::company::{Company, Lines, fields};
use crate::support::{assert_same_bytes, published_files};
use std::collections::BTreeSet;

/// The end of June in Tokyo; what is dated from then on is not to be seen in June.
const END: &str = "2024-06-30T15:00:00Z";
pub const UNTIL_JUNE: &str = "backfill --start 2024-01 --end 2024-07";

#[test]
fn rows_dated_later_change_nothing() {
    let company = Company::mutated(9);
    let before = published_files(company.published(UNTIL_JUNE).path());

    let changed = |table: &str, change: &dyn Fn(&mut Lines)| {
        let lines = company.lines(table);
        let mut with_change = company.lines(table);
        change(&mut with_change);
        company.put(table, &with_change);
        let after = published_files(company.published(UNTIL_JUNE).path());
        assert_same_bytes(&before, &after, &format!("later rows of {table}"));
        // Left in place where nothing refers to what is new; the next table sees it as well.
        if table == "accounts" {
            company.put(table, &lines);
        }
    };
    changed("subscriptions", &|subscriptions| {
        for row in 0..subscriptions.rows.len() {
            let (end, ask) = (
                subscriptions.position("ended_at"),
                subscriptions.position("cancel_requested_at"),
            );
            let values = fields(&subscriptions.rows[row]);
            if values[end].is_empty() {
                subscriptions.change(row, "ended_at", "2031-01-01");
            }
            if values[ask].is_empty() {
                subscriptions.change(row, "cancel_requested_at", END);
            }
        }
        for (number, account) in ["A000005", "A000006", "A000079"].iter().enumerate() {
            subscriptions.add(&[
                ("subscription_id", &format!("LATE{number}")),
                ("account_id", account),
                ("plan_id", "core-enterprise"),
                ("started_at", END),
                ("quantity", "100"),
                ("amount", "9999"),
            ]);
        }
    });
    changed("invoice_lines", &|lines| {
        let line = [
            ("invoice_id", "LATE"),
            ("account_id", "A000005"),
            ("issued_at", END),
            ("amount", "1000000"),
        ];
        lines.add(&line);
    });
    changed("fx_rates", &|rates| {
        for currency in ["USD", "EUR"] {
            rates.add(&[
                ("date", "2024-07-01"),
                ("currency", currency),
                ("rate", "1000"),
            ]);
        }
    });
    changed("usage_events", &|events| {
        for user in ["A000005-u01", "new"] {
            events.add(&[
                ("account_id", "A000005"),
                ("user_id", user),
                ("occurred_at", END),
            ]);
        }
    });
    // Rows of later, and later ends of rows that were open.
    let late: [(&str, &[(&str, &str)]); 8] = [
        (
            "opportunities",
            &[
                ("opportunity_id", "LATE"),
                ("kind", "new"),
                ("created_at", END),
                ("closed_at", END),
                ("is_won", "true"),
                ("amount", "9000000"),
            ],
        ),
        (
            "members",
            &[
                ("account_id", "A000005"),
                ("user_id", "late"),
                ("joined_at", END),
            ],
        ),
        (
            "onboarding",
            &[
                ("account_id", "A000005"),
                ("started_at", END),
                ("completed_at", END),
            ],
        ),
        (
            "surveys",
            &[
                ("account_id", "A000005"),
                ("respondent_id", "late"),
                ("kind", "nps"),
                ("score", "0"),
                ("answered_at", END),
            ],
        ),
        (
            "tickets",
            &[
                ("ticket_id", "LATE"),
                ("account_id", "A000005"),
                ("opened_at", END),
                ("satisfaction", "1"),
            ],
        ),
        (
            "community",
            &[
                ("account_id", "A000005"),
                ("user_id", "late"),
                ("occurred_at", END),
            ],
        ),
        (
            "costs",
            &[
                ("date", "2024-07-01"),
                ("kind", "sales"),
                ("amount", "9000000"),
            ],
        ),
        (
            "time_entries",
            &[
                ("date", "2024-07-01"),
                ("owner_id", "late"),
                ("hours", "500"),
            ],
        ),
    ];
    for (table, row) in late {
        changed(table, &|lines| lines.add(row));
    }
    type End<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);
    let ends: [End; 4] = [
        (
            "opportunities",
            "closed_at",
            &[("closed_at", END), ("is_won", "true")],
        ),
        ("members", "left_at", &[("left_at", "2031-01-01")]),
        (
            "onboarding",
            "completed_at",
            &[("completed_at", "2031-01-01")],
        ),
        ("tickets", "closed_at", &[("closed_at", "2031-01-01")]),
    ];
    for (table, end, changes) in ends {
        changed(table, &|lines| {
            let at = lines.position(end);
            let open: Vec<usize> = (0..lines.rows.len())
                .filter(|row| fields(&lines.rows[*row])[at].is_empty())
                .collect();
            assert!(!open.is_empty(), "{table} has nothing open");
            let rating = lines
                .header
                .contains("satisfaction")
                .then(|| lines.position("satisfaction"));
            let began = lines
                .header
                .contains("created_at")
                .then(|| lines.position("created_at"));
            for row in open {
                let values = fields(&lines.rows[row]);
                // Nothing ends before it began; the rating of a ticket is of the day on which it was closed.
                let is_late = began.is_some_and(|began| values[began].as_str() >= END);
                let is_rated = rating.is_some_and(|rating| !values[rating].is_empty());
                if is_late || is_rated {
                    continue;
                }
                for (name, value) in changes {
                    lines.change(row, name, value);
                }
            }
        });
    }
    changed("account_merges", &|merges| {
        merges.add(&[
            ("old_account_id", "A000006"),
            ("account_id", "A000005"),
            ("merged_at", END),
        ]);
    });
    changed("accounts", &|accounts| {
        accounts.add(&[
            ("account_id", "LATE"),
            ("signup_date", "2024-07-01"),
            ("industry", "late"),
        ]);
        let [id, since, until] =
            ["account_id", "valid_from", "valid_to"].map(|name| accounts.position(name));
        for row in 0..accounts.rows.len() {
            let values = fields(&accounts.rows[row]);
            let is_current = values[until].is_empty() && values[since].as_str() < "2024-07-01";
            if is_current && values[id].ends_with('5') {
                accounts.change(row, "valid_to", "2024-07-01");
                let new = [
                    ("account_id", values[id].as_str()),
                    ("valid_from", "2024-07-01"),
                    ("industry", "late"),
                ];
                accounts.add(&new);
            }
        }
    });
}

#[test]
fn a_period_knows_nothing_of_what_comes_later() {
    let company = Company::mutated(10);
    let before = published_files(company.published(UNTIL_JUNE).path());
    let dated = [
        ("subscriptions", "started_at"),
        ("invoice_lines", "issued_at"),
        ("fx_rates", "date"),
        ("usage_events", "occurred_at"),
        ("account_merges", "merged_at"),
        ("opportunities", "created_at"),
        ("members", "joined_at"),
        ("onboarding", "started_at"),
        ("surveys", "answered_at"),
        ("tickets", "opened_at"),
        ("community", "occurred_at"),
        ("costs", "date"),
        ("time_entries", "date"),
        ("accounts", "valid_from"),
        ("accounts", "signup_date"),
    ];
    // What happened to a row later, and what is known of it only then.
    let ends: [(&str, &str, &[&str]); 5] = [
        ("opportunities", "closed_at", &["is_won"]),
        ("members", "left_at", &[]),
        ("onboarding", "completed_at", &[]),
        ("tickets", "first_response_at", &[]),
        ("tickets", "closed_at", &["satisfaction"]),
    ];
    for (table, column, known_then) in ends {
        let mut lines = company.lines(table);
        let at = lines.position(column);
        let is_later = |row: &String| {
            let value = &fields(row)[at];
            value.as_str() >= if value.len() > 10 { END } else { "2024-07-01" }
        };
        let later: Vec<usize> = (0..lines.rows.len())
            .filter(|row| is_later(&lines.rows[*row]))
            .collect();
        assert!(!later.is_empty(), "nothing ends later in {table}.{column}");
        for row in later {
            for name in known_then.iter().chain([&column]) {
                lines.change(row, name, "");
            }
        }
        company.put(table, &lines);
    }
    for (table, column) in dated {
        let mut lines = company.lines(table);
        let count = lines.rows.len();
        // Instants are written in UTC, dates are days in Tokyo.
        let is_early = |value: &str| value < if value.len() > 10 { END } else { "2024-07-01" };
        if table == "accounts" {
            // A deal with them is known before they sign up: they stay, with what tells of them later.
            let deals = company.lines("opportunities");
            let known = deals.position("account_id");
            let of_deals = deals.rows.iter().map(|row| fields(row)[known].clone());
            let of_deals: BTreeSet<String> = of_deals.collect();
            let (id, dated) = (lines.position("account_id"), lines.position(column));
            let early = lines.rows.iter().map(|row| fields(row));
            let early = early.filter(|row| is_early(&row[dated]));
            let early: BTreeSet<String> = early.map(|row| row[id].clone()).collect();
            lines.rows.retain(|row| {
                let row = fields(row);
                let stays = of_deals.contains(&row[id]) && !early.contains(&row[id]);
                is_early(&row[dated]) || stays
            });
        } else {
            lines.keep(column, is_early);
        }
        assert!(lines.rows.len() < count, "{table} has nothing from July on");
        company.put(table, &lines);
    }
    let after = published_files(company.published(UNTIL_JUNE).path());
    assert_same_bytes(&before, &after, "inputs that end with June");
}
