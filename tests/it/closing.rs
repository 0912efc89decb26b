//! `close:` freezes what was reported of a period: later changes are restatements, and are told apart.

use crate::dated::{Dated, Key, Values, assert_same_values, text, value, values};
use crate::python;
use crate::support::{
    self, assert_same_bytes, published_files, published_table, read_parquet, rows_as_text,
};
use polars::prelude::*;
use std::collections::BTreeSet;
use std::fs;

/// February ends on a Thursday. Its business days after that are 1, 4, 6, 7 and 8 March.
const CLOSE: &str = "close: {business_days: 5, holidays: [2024-03-05]}\noutputs: {root: out}";
const STILL_OPEN: &str = "2024-03-08T23:59:59+09:00";
const JUST_CLOSED: &str = "2024-03-09T00:00:00+09:00";
/// April is closed, and May is not over.
const ALL_CLOSED: &str = "2024-05-20T00:00:00+09:00";

fn closing_company() -> Dated {
    let company = Dated::new();
    company.pipeline("outputs: {root: out}", CLOSE);
    company
}

fn table(company: &Dated, table: &str) -> DataFrame {
    published_table(&company.root(), table).unwrap()
}

fn february(company: &Dated, table: &str) -> DataFrame {
    let file = format!("{table}/period=2024-02-01/part-0.parquet");
    read_parquet(&company.root().join(file))
}

fn reported(company: &Dated) -> Values {
    values(&table(company, "kpi_as_reported"))
}

/// Keys of the values that `kpi_values` marks.
fn marked(company: &Dated) -> BTreeSet<Key> {
    let frame = table(company, "kpi_values");
    let flags = frame.column("is_restated").unwrap().bool().unwrap().clone();
    values(&frame.filter(&flags).unwrap()).into_keys().collect()
}

fn differing(company: &Dated) -> BTreeSet<Key> {
    let (now, then) = (company.values(), reported(company));
    let keys = now
        .keys()
        .filter(|key| value(&now, key) != value(&then, key));
    keys.cloned().collect()
}

#[test]
fn what_is_reported_follows_until_the_close_and_stays_after_it() {
    let company = closing_company();
    company.run(STILL_OPEN);
    assert_same_values(&reported(&company), &company.values());
    let closes_on = rows_as_text(
        &february(&company, "kpi_as_reported")
            .select(["closes_on"])
            .unwrap(),
    );
    assert!(closes_on.iter().all(|day| day == &["2024-03-09"]));

    // Open for one more second. January is closed since 8 February (its 5th business day is the 7th).
    company.put_invoices(2, 120_000);
    let reason = "invoices/invoices-2024-02.csv: size changed (97 → 98 bytes)";
    company.expects(STILL_OPEN, &["2024-02"], "stale", &[reason]);
    let before = company.values();
    let run_id = text(&company.run(STILL_OPEN)["run_id"]);
    let rows = company.foots(&run_id, &before, &company.values());
    assert!(!rows.is_empty() && rows.iter().all(|row| !row.was_closed));
    assert_same_values(&reported(&company), &company.values());
    assert!(marked(&company).is_empty());

    // Closed, and nothing has changed: nothing is written.
    company.expects(JUST_CLOSED, &[], "", &[]);
    assert_eq!(company.run(JUST_CLOSED)["status"], "nothing_to_do");

    let closed = reported(&company);
    company.put_invoices(2, 50_000);
    let reason = "invoices/invoices-2024-02.csv: size changed (98 → 97 bytes)";
    company.expects(JUST_CLOSED, &["2024-02"], "restated", &[reason]);
    let before = company.values();
    let run_id = text(&company.run(JUST_CLOSED)["run_id"]);
    let rows = company.foots(&run_id, &before, &company.values());
    assert!(!rows.is_empty() && rows.iter().all(|row| row.was_closed));
    assert_same_values(&reported(&company), &closed);
    let restated: BTreeSet<Key> = rows.into_iter().map(|row| row.key).collect();
    assert_eq!(marked(&company), restated);
    assert_eq!(marked(&company), differing(&company));

    // A second correction is held against what was reported, not against the first.
    company.put_usage("usage/day=2024-02-20/part-0.csv", "2024-02-20", 3);
    company.run(JUST_CLOSED);
    assert_same_values(&reported(&company), &closed);
    assert!(marked(&company).len() > restated.len());
    assert_eq!(marked(&company), differing(&company));

    // Back to what was reported: the restatements tell of it, the marks are gone.
    company.put_invoices(2, 120_000);
    company.remove("usage/day=2024-02-20/part-0.csv");
    company.run(JUST_CLOSED);
    assert_same_values(&company.values(), &closed);
    assert!(marked(&company).is_empty());

    // And again, nothing changes.
    let files = published_files(&company.root());
    let again = company.cskpi("backfill --reprocess all --quiet", JUST_CLOSED);
    again.succeeded();
    assert_same_bytes(&files, &published_files(&company.root()), "once more");
}

#[test]
fn what_is_published_first_after_the_close_is_as_reported() {
    let company = closing_company();
    company.run(ALL_CLOSED);
    assert_same_values(&reported(&company), &company.values());
    assert!(marked(&company).is_empty() && company.restatements().is_empty());
    let files = published_files(&company.root());
    let again = company.cskpi("backfill --reprocess all --quiet", ALL_CLOSED);
    again.succeeded();
    assert_same_bytes(&files, &published_files(&company.root()), "once more");
}

#[test]
fn a_close_that_comes_later_takes_what_is_there() {
    let company = Dated::new();
    company.run(ALL_CLOSED);
    assert!(published_table(&company.root(), "kpi_as_reported").is_none());
    company.pipeline("outputs: {root: out}", CLOSE);
    for (month, state, reasons) in company.plan("kpi_as_reported", ALL_CLOSED) {
        assert_eq!(
            (state.as_str(), reasons),
            ("missing", vec!["never published".to_owned()]),
            "{month}"
        );
    }
    company.run(ALL_CLOSED);
    assert_same_values(&reported(&company), &company.values());
}

/// A retry takes its run's instant, which may lie before the close.
#[test]
fn a_closed_period_is_not_opened_again_by_an_earlier_instant() {
    let company = closing_company();
    company.run(JUST_CLOSED);
    let closed = reported(&company);
    company.put_invoices(2, 120_000);
    let reason = "invoices/invoices-2024-02.csv: size changed (97 → 98 bytes)";
    company.expects(STILL_OPEN, &["2024-02"], "restated", &[reason]);
    company.run(STILL_OPEN);
    assert_same_values(&reported(&company), &closed);
    assert!(!marked(&company).is_empty());
    assert_eq!(marked(&company), differing(&company));
    assert!(company.restatements().iter().all(|row| row.was_closed));
}

/// A metric or member that nobody had reported: the one restates nothing, the other does.
#[test]
fn what_was_never_reported_is_not_restated() {
    let company = closing_company();
    company.run(ALL_CLOSED);
    let closed = reported(&company);
    company.pipeline(
        "outputs: {root: out}",
        &format!("metrics: {{define: {{twice: {{label: {{en: A, ja: B}}, unit: currency, numerator: revenue + revenue}}}}}}\n{CLOSE}"),
    );
    company.run(ALL_CLOSED);
    assert!(company.values().len() > closed.len());
    assert_same_values(&reported(&company), &closed);
    assert!(company.restatements().is_empty());
    assert!(marked(&company).is_empty());

    let accounts = fs::read_to_string(company.path().join("accounts.csv")).unwrap();
    company.put("accounts.csv", &format!("{accounts}dune,2024-02-01,west\n"));
    company.run(ALL_CLOSED);
    let restated = company.restatements().into_iter().map(|row| row.key);
    // The new metric has been readable since, and is still not among what was reported.
    let (new, reported): (BTreeSet<Key>, BTreeSet<Key>) =
        restated.partition(|key| key[3] == "twice");
    assert!(new.iter().any(|key| key[2] == "west"));
    assert!(reported.iter().any(|key| key[2] == "west"));
    assert_eq!(marked(&company), reported);
}

#[test]
fn months_at_once_are_the_months_one_by_one_with_a_close_too() {
    let company = Dated::new();
    let pipeline = fs::read_to_string(company.path().join("pipeline.yaml")).unwrap();
    let a_year = pipeline.replace("begin: 2024-01-01", "begin: 2023-05-01");
    company.put(
        "pipeline.yaml",
        &a_year.replace("outputs: {root: out}", CLOSE),
    );
    // All but the last one are closed.
    let as_of = "2024-05-03T00:00:00+09:00";
    company.cskpi("backfill --quiet", as_of).succeeded();
    let at_once = published_files(&company.root());
    fs::remove_dir_all(company.root()).unwrap();
    for month in (1..=12).rev() {
        let year = if month > 4 { 2023 } else { 2024 };
        let run = format!("run --period {year}-{month:02} --quiet");
        company.cskpi(&run, as_of).succeeded();
    }
    let one_by_one = published_files(&company.root());
    assert_same_bytes(&at_once, &one_by_one, "at once and one by one");
}

/// Tables that are there only with `close:`, or have rows only after a change, under readers other than our own.
#[test]
fn restated_tables_read_the_same_everywhere() {
    let company = closing_company();
    company.run(ALL_CLOSED);
    company.put_invoices(2, 120_000);
    company.run(ALL_CLOSED);
    assert!(!marked(&company).is_empty());
    let read = python::command("readers/read_all.py")
        .arg(company.root())
        .arg("--schemas")
        .arg(support::repository().join("schemas/output"))
        .args([
            "--digits",
            "0",
            "--without",
            "rfm_scores,rfm_boundaries,touch_segments,kpi_attainment,time_spent",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&read.stdout);
    assert!(read.status.success(), "{said}");
}
