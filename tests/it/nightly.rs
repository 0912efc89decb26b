//! Night after night: inputs and settings change between runs; exactly what they touch is computed again, and what that changes
//! is told in `restatements`.

use crate::dated::{
    APRIL_IS_OVER, Dated, Key, MAY_IS_OVER, Restatement, Values, assert_same_values, invoices,
    text, times, value, written_since,
};
use crate::support::{assert_same_bytes, published_files};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// A night in which something is changed before the run.
struct Night<'a> {
    company: &'a Dated,
    as_of: &'a str,
}

impl Night<'_> {
    /// `plan` names these months for this reason; the run publishes these and leaves the others alone; its restatements foot.
    #[track_caller]
    fn touches(&self, months: &[&str], reason: &str) -> Vec<Restatement> {
        let company = self.company;
        company.expects(self.as_of, months, "stale", &[reason]);
        let (before, stamps) = (company.values(), times(&company.root()));
        let summary = company.run(self.as_of);
        assert_eq!(summary["status"], "success");
        let run_id = text(&summary["run_id"]);
        let statuses = company.statuses(&run_id);
        for (month, found) in &statuses {
            let is_touched = months.contains(&month.as_str());
            assert_eq!(!found.contains("up_to_date"), is_touched, "{statuses:?}");
        }
        for file in written_since(&company.root(), &stamps) {
            assert!(
                months.iter().any(|month| file.contains(month)),
                "{file} was written"
            );
        }
        company.expects(self.as_of, &[], "", &[]);
        let rows = company.foots(&run_id, &before, &company.values());
        for row in &rows {
            assert_eq!((row.cause.as_str(), row.detail.as_str()), ("input", reason));
            assert!(row.was_complete && !row.was_closed);
        }
        rows
    }
}

fn revenue(month: &str) -> Key {
    let parts = [&format!("{month}-01"), "total", "total", "revenue"];
    parts.map(str::to_owned)
}

/// Every value's restatements lead from its first state to its last.
#[track_caller]
fn assert_chains_lead(chain: &[Restatement], first: &Values, last: &Values) {
    let mut by_key: BTreeMap<&Key, Vec<&Restatement>> = BTreeMap::new();
    for row in chain {
        by_key.entry(&row.key).or_default().push(row);
    }
    assert!(by_key.values().any(|rows| rows.len() > 2));
    for (key, rows) in &by_key {
        assert_eq!(rows[0].old, value(first, key), "{key:?}");
        for pair in rows.windows(2) {
            assert_eq!(pair[0].new, pair[1].old, "{key:?}");
        }
        assert_eq!(rows[rows.len() - 1].new, value(last, key), "{key:?}");
        let steps = rows.iter().map(|row| Some(row.new? - row.old?));
        if let Some(sum) = steps.sum::<Option<f64>>() {
            let difference = value(last, key).unwrap() - value(first, key).unwrap();
            assert!((sum - difference).abs() <= 1e-6, "{key:?}");
        }
    }
    for (key, value) in first {
        assert!(by_key.contains_key(key) || last.get(key) == Some(value));
    }
}

#[test]
fn late_data_touches_the_periods_from_its_own_on() {
    let company = Dated::new();
    company.run(APRIL_IS_OVER);
    company.expects(APRIL_IS_OVER, &[], "", &[]);
    let first = company.values();
    assert!(company.restatements().is_empty());
    let night = Night {
        company: &company,
        as_of: APRIL_IS_OVER,
    };

    // A row is corrected.
    company.put_invoices(2, 120_000);
    let reason = "invoices/invoices-2024-02.csv: size changed (97 → 98 bytes)";
    let rows = night.touches(&["2024-02", "2024-03", "2024-04"], reason);
    let row = rows.iter().find(|row| row.key == revenue("2024-02"));
    let (old, new) = row.map(|row| (row.old, row.new)).unwrap();
    assert_eq!((old, new), (Some(15_000.0), Some(125_000.0)));
    // Later periods count what came before.
    assert!(rows.iter().any(|row| row.key[0] == "2024-04-01"));

    // Another amount of as many digits.
    company.put_invoices(3, 20_000);
    let reason = "invoices/invoices-2024-03.csv: etag changed";
    let rows = night.touches(&["2024-03", "2024-04"], reason);
    assert!(rows.iter().any(|row| row.key == revenue("2024-03")));

    // A file comes late.
    company.put_usage("usage/day=2024-01-20/part-1.csv", "2024-01-20", 4);
    let reason = "usage/day=2024-01-20/part-1.csv: added";
    let all = ["2024-01", "2024-02", "2024-03", "2024-04"];
    let rows = night.touches(&all, reason);
    let mau = ["2024-01-01", "region", "north", "mau"].map(str::to_owned);
    assert!(rows.iter().any(|row| row.key == mau));

    // A file is withdrawn.
    company.remove(&invoices(2));
    let rows = night.touches(&all[1..], "invoices/invoices-2024-02.csv: removed");
    let row = rows.iter().find(|row| row.key == revenue("2024-02"));
    assert_eq!(row.unwrap().new, Some(0.0));

    // Written again, with what was in it: every file is as it was, and stays.
    company.touch("usage/day=2024-03-10/part-0.csv");
    let stamps = times(&company.root());
    let rows = night.touches(&all[2..], "usage/day=2024-03-10/part-0.csv: etag changed");
    assert!(rows.is_empty());
    assert_eq!(
        written_since(&company.root(), &stamps),
        Vec::<String>::new()
    );

    assert_chains_lead(&company.restatements(), &first, &company.values());
    // What night after night has led to is what one run makes of the inputs as they are now.
    let nights = company.path().join("nights");
    fs::rename(company.root(), &nights).unwrap();
    company.run(APRIL_IS_OVER);
    let mut nights = published_files(&nights);
    let mut at_once = published_files(&company.root());
    for files in [&mut nights, &mut at_once] {
        files.retain(|(name, _)| !name.starts_with("restatements/"));
    }
    assert_same_bytes(&nights, &at_once, "night after night and at once");
}

#[test]
fn a_touched_file_leaves_its_tables_reused() {
    let company = Dated::new();
    company.run(APRIL_IS_OVER);
    company.touch(&invoices(4));
    let summary = company.run(APRIL_IS_OVER);
    let statuses = company.statuses(&text(&summary["run_id"]));
    let only = |status: &str| BTreeSet::from([status.to_owned()]);
    assert_eq!(statuses["2024-04"], only("reused"));
    assert_eq!(statuses["2024-03"], only("up_to_date"));
    assert_eq!(summary["replaced"], 0);
    // And it is known from now on.
    assert_eq!(company.run(APRIL_IS_OVER)["status"], "nothing_to_do");
}

#[test]
fn a_new_month_touches_no_earlier_one() {
    let company = Dated::new();
    company.run(APRIL_IS_OVER);
    company.put_invoices(5, 10_000);
    company.put_usage("usage/day=2024-05-02/part-0.csv", "2024-05-02", 1);
    // May is not over: it is nobody's input.
    company.expects(APRIL_IS_OVER, &[], "", &[]);
    let stamps = times(&company.root());
    assert_eq!(company.run(APRIL_IS_OVER)["status"], "nothing_to_do");

    company.expects(MAY_IS_OVER, &["2024-05"], "missing", &["never published"]);
    let summary = company.run(MAY_IS_OVER);
    assert_eq!(
        (&summary["created"], &summary["replaced"]),
        (&10.into(), &0.into())
    );
    let written = written_since(&company.root(), &stamps);
    assert!(
        written.iter().all(|file| file.contains("2024-05")),
        "{written:?}"
    );
    assert!(company.restatements().is_empty());
}

#[test]
fn a_run_for_an_old_period_does_not_read_later_files() {
    let company = Dated::new();
    let all = company.cskpi("backfill --quiet", APRIL_IS_OVER);
    all.succeeded();
    let of_february = |company: &Dated| {
        let mut files = published_files(&company.root());
        files.retain(|(name, _)| name.contains("2024-02"));
        files
    };
    let with_all_files = of_february(&company);
    fs::remove_dir_all(company.root()).unwrap();
    // Neither can be read; one is not even text.
    company.put(&invoices(3), "a,\"b\nc");
    fs::write(company.path().join(invoices(4)), [0xff, 0xfe, 0, 0x80]).unwrap();
    company.put("usage/day=2024-03-10/part-0.csv", "");
    let ran = company.cskpi("run --period 2024-02 --quiet", APRIL_IS_OVER);
    ran.succeeded();
    assert_same_bytes(&with_all_files, &of_february(&company), "February");
    let ran = company.cskpi("run --period 2024-03 --quiet", APRIL_IS_OVER);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
}

#[test]
fn a_row_outside_the_days_of_its_file_is_refused() {
    let company = Dated::new();
    let header = "invoice_id,account_id,issued_at,amount";
    // The last second of January in Tokyo, and the one after it.
    let last = "a1,acme,2024-01-31T14:59:59Z,100";
    company.put(&invoices(1), &format!("{header}\n{last}\n"));
    let day = "account_id,user_id,occurred_at\nacme,u1,2024-01-10T23:59:59\n";
    company.put("usage/day=2024-01-10/part-0.csv", day);
    let run = "run --period 2024-02 --quiet";
    company.cskpi(run, APRIL_IS_OVER).succeeded();
    let stamps = times(&company.root());

    let next = "a2,acme,2024-01-31T15:00:00Z,100";
    company.put(&invoices(1), &format!("{header}\n{last}\n{next}\n"));
    let next_day = "acme,u2,2024-01-11T00:00:00\n";
    company.put(
        "usage/day=2024-01-10/part-0.csv",
        &format!("{day}{next_day}"),
    );
    let ran = company.cskpi(run, APRIL_IS_OVER);
    assert_eq!(ran.code, 1);
    for part in [
        "2 rows of the inputs break their contracts",
        "invoice_lines.issued_at lies outside of the days in its file's name (file_dates) (1 row)",
        "invoices/invoices-2024-01.csv row 3: `2024-01-31T15:00:00Z`",
        "usage_events.occurred_at lies outside of the days",
        "usage/day=2024-01-10/part-0.csv row 3: `2024-01-11T00:00:00`",
    ] {
        assert!(ran.stderr.contains(part), "no `{part}`:\n{}", ran.stderr);
    }
    assert!(written_since(&company.root(), &stamps).is_empty());
}

// ── causes ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Runs, and gives the causes of what was restated.
#[track_caller]
fn causes(company: &Dated) -> BTreeSet<(String, String)> {
    let before = company.values();
    let run_id = text(&company.run(APRIL_IS_OVER)["run_id"]);
    let rows = company.foots(&run_id, &before, &company.values());
    let causes = rows.into_iter().map(|row| (row.cause, row.detail));
    causes.collect()
}

fn cause(kind: &str, detail: &str) -> BTreeSet<(String, String)> {
    BTreeSet::from([(kind.to_owned(), detail.to_owned())])
}

#[test]
fn a_restatement_names_the_setting_that_caused_it() {
    let company = Dated::new();
    company.run(APRIL_IS_OVER);
    company.pipeline("gross_margin: 0.8", "gross_margin: 0.7");
    let all = ["2024-01", "2024-02", "2024-03", "2024-04"];
    let reason = "policy.gross_margin: changed in the pipeline";
    company.expects(APRIL_IS_OVER, &all, "stale", &[reason]);
    assert_eq!(causes(&company), cause("config", "policy.gross_margin"));
}

#[test]
fn a_restatement_names_all_that_may_have_caused_it() {
    let company = Dated::new();
    company.run(APRIL_IS_OVER);
    company.pipeline("gross_margin: 0.8", "gross_margin: 0.7");
    company.put_invoices(1, 30_000);
    company.remove(&invoices(3));
    let reasons = [
        "invoices/invoices-2024-01.csv: etag changed",
        "policy.gross_margin: changed in the pipeline",
    ];
    let plan = company.plan("kpi_values", APRIL_IS_OVER);
    assert_eq!(plan[0].2, reasons);
    let found = causes(&company);
    let january = "invoices/invoices-2024-01.csv: etag changed";
    let both = format!("{january}, invoices/invoices-2024-03.csv: removed");
    let expected = [january, &both].map(|files| {
        let detail = format!("{files}; policy.gross_margin");
        ("input+config".to_owned(), detail)
    });
    assert_eq!(found, BTreeSet::from(expected));
}

/// The manifest of a month, changed by hand.
fn change_manifest(company: &Dated, month: &str, change: impl FnOnce(&mut Value)) {
    let file = company
        .root()
        .join(format!("_cskpi/manifest/period={month}-01.json"));
    let mut manifest = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(file, manifest.to_string()).unwrap();
}

#[test]
fn a_restatement_names_the_version_that_caused_it() {
    let company = Dated::new();
    company.run(APRIL_IS_OVER);
    // What an earlier version made of the inputs as they are now, by some other rule.
    company.put_invoices(4, 90_000);
    let before = company.path().join("before");
    fs::rename(company.root(), &before).unwrap();
    company.run(APRIL_IS_OVER);
    let manifest = company
        .root()
        .join("_cskpi/manifest/period=2024-04-01.json");
    let current: Value = serde_json::from_str(&fs::read_to_string(manifest).unwrap()).unwrap();
    let name = text(&current["units"]["kpi_values"]["basis"]);
    let inputs = current["bases"][&name]["inputs"].clone();
    fs::remove_dir_all(company.root()).unwrap();
    fs::rename(&before, company.root()).unwrap();
    let program = text(&current["bases"][&name]["program"]);
    change_manifest(&company, "2024-04", |manifest| {
        let name = text(&manifest["units"]["kpi_values"]["basis"]);
        manifest["bases"][&name]["inputs"] = inputs;
        manifest["bases"][&name]["program"] = "0.0.9 (old)".into();
    });

    let reason = format!("cskpi 0.0.9 (old) → {program}");
    company.expects(APRIL_IS_OVER, &["2024-04"], "stale", &[&reason]);
    let detail = format!("0.0.9 (old) → {program}");
    assert_eq!(causes(&company), cause("version", &detail));
}

#[test]
fn a_restatement_without_a_known_cause_says_so() {
    let company = Dated::new();
    company.run(APRIL_IS_OVER);
    company.put_invoices(4, 90_000);
    change_manifest(&company, "2024-04", |manifest| {
        manifest["bases"] = serde_json::json!({});
    });
    let reason = "it is not known what it was made of";
    company.expects(APRIL_IS_OVER, &["2024-04"], "stale", &[reason]);
    let detail = "nothing is known of how the old value was made";
    assert_eq!(causes(&company), cause("unknown", detail));
}

/// A value of a month that had not ended is provisional.
#[test]
fn what_was_provisional_is_restated_as_that() {
    let company = Dated::new();
    let early = "2024-04-15T00:00:00+09:00";
    let run = "run --period 2024-04 --quiet";
    company.cskpi(run, early).succeeded();
    company.put_invoices(4, 90_000);
    let before = company.values();
    let summary = company.run(APRIL_IS_OVER);
    let rows = company.foots(&text(&summary["run_id"]), &before, &company.values());
    assert!(!rows.is_empty());
    for row in rows {
        assert_eq!(row.cause, "input+completeness");
        assert!(!row.was_complete);
        assert!(row.detail.ends_with("the period was not complete"));
    }
}

// ── what did not exist before ───────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn new_metrics_and_dimensions_change_the_wide_tables_and_restate_nothing() {
    let company = Dated::new();
    company.run(APRIL_IS_OVER);
    let before = company.values();
    company.pipeline(
        "dimensions: {region: region}\n",
        "dimensions: {region: region, signup_region: \"CONCAT(region, '!')\"}\n\
         metrics:\n  define:\n    revenue_per_customer: {label: {en: A, ja: B}, unit: currency, numerator: revenue, denominator: closing_customers}\n",
    );
    for (table, change) in [
        ("kpi_summary", "column revenue_per_customer added"),
        ("account_period", "column signup_region added"),
    ] {
        for (month, state, reasons) in company.plan(table, APRIL_IS_OVER) {
            assert_eq!(state, "schema_change", "{table} of {month}");
            assert_eq!(reasons, [change]);
        }
    }
    let shown = company.cskpi("plan", APRIL_IS_OVER).succeeded().stdout;
    for part in [
        "schema change\n",
        "2024-01 to 2024-04  kpi_summary: column revenue_per_customer added",
        "2024-01 to 2024-04  account_period: column signup_region added",
        "to do: 4 of 4 periods",
    ] {
        assert!(shown.contains(part), "no `{part}`:\n{shown}");
    }
    assert_eq!(company.run(APRIL_IS_OVER)["status"], "success");
    let after = company.values();
    assert!(after.len() > before.len());
    let same: Values = before
        .keys()
        .map(|key| (key.clone(), value(&after, key)))
        .collect();
    assert_same_values(&same, &before);
    assert!(company.restatements().is_empty());

    // Taken away again: that is no restatement either.
    company.pipeline("name: nightly", "name: nightly");
    let (_, state, reasons) = company.plan("kpi_summary", APRIL_IS_OVER).remove(0);
    assert_eq!(state, "schema_change");
    assert_eq!(reasons, ["column revenue_per_customer removed"]);
    company.run(APRIL_IS_OVER);
    assert_same_values(&company.values(), &before);
    assert!(company.restatements().is_empty());
}

/// A member of a dimension, unlike a dimension, is restated when it comes or goes.
#[test]
fn a_member_that_comes_late_is_restated() {
    let company = Dated::new();
    company.run(APRIL_IS_OVER);
    let before = company.values();
    let accounts = fs::read_to_string(company.path().join("accounts.csv")).unwrap();
    company.put("accounts.csv", &format!("{accounts}dune,2024-02-01,west\n"));
    let run_id = text(&company.run(APRIL_IS_OVER)["run_id"]);
    let rows = company.foots(&run_id, &before, &company.values());
    let west: Vec<_> = rows.iter().filter(|row| row.key[2] == "west").collect();
    assert!(!west.is_empty());
    assert!(
        west.iter()
            .all(|row| row.old.is_none() && row.key[0] != "2024-01-01")
    );
}
