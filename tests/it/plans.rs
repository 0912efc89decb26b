//! What `plan` knows without opening anything, plans that are written down, and types that must not change.

use crate::dated::{APRIL_IS_OVER, Dated, invoices, results_of, text, times, written_since};
use crate::support::{self, Ran, cskpi, files_below, says};
use polars::prelude::*;
use std::fs;

/// `run --plan` takes its instant from the plan.
fn run_plan(company: &Dated) -> Ran {
    let command = "run pipeline.yaml --plan plan.json --quiet --output json";
    cskpi(company.path(), command)
}

#[test]
fn a_plan_that_was_written_down_is_done_as_it_says() {
    let company = Dated::new();
    company.run(APRIL_IS_OVER);
    company.put_invoices(3, 30_000);
    let plan = company.cskpi("plan --out plan.json --detailed-exitcode", APRIL_IS_OVER);
    assert_eq!(plan.code, 3, "{}", plan.stderr);
    let stamps = times(&company.root());
    let summary = run_plan(&company).succeeded().summary();
    assert_eq!(
        (&summary["status"], &summary["periods"]),
        (&"success".into(), &2.into())
    );
    let written = written_since(&company.root(), &stamps);
    assert!(!written.is_empty());
    assert!(
        written
            .iter()
            .all(|file| !file.contains("2024-01") && !file.contains("2024-02"))
    );
    let results = results_of(&company.root(), &text(&summary["run_id"]));
    assert_eq!(results["as_of"], "2024-04-30T15:00:00Z");
    assert_eq!(
        results["periods"],
        serde_json::json!(["2024-03-01", "2024-04-01"])
    );

    // Nothing to do is a plan, too.
    let plan = company.cskpi("plan --out plan.json --detailed-exitcode", APRIL_IS_OVER);
    assert_eq!(plan.code, 0, "{}", plan.stderr);
    assert_eq!(
        run_plan(&company).succeeded().summary()["status"],
        "nothing_to_do"
    );
}

#[test]
fn a_plan_is_refused_when_its_inputs_or_settings_have_moved() {
    let company = Dated::new();
    company.run(APRIL_IS_OVER);
    company.put_invoices(3, 30_000);
    let pipeline = fs::read_to_string(company.path().join("pipeline.yaml")).unwrap();
    type Change<'a> = (&'a str, &'a dyn Fn());
    let changes: [Change; 4] = [
        ("invoices/invoices-2024-02.csv: etag changed", &|| {
            company.put_invoices(2, 20_000)
        }),
        ("usage/day=2024-04-01/part-0.csv: added", &|| {
            company.put_usage("usage/day=2024-04-01/part-0.csv", "2024-04-01", 1);
        }),
        ("invoices/invoices-2024-01.csv: removed", &|| {
            company.remove(&invoices(1))
        }),
        ("policy.gross_margin: changed in the pipeline", &|| {
            company.put("pipeline.yaml", &pipeline.replace("0.8", "0.7"));
        }),
    ];
    for (moved, change) in changes {
        company
            .cskpi("plan --out plan.json", APRIL_IS_OVER)
            .succeeded();
        change();
        let stamps = times(&company.root());
        let ran = run_plan(&company);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        says(
            &ran,
            &[
                "the plan plan.json was made for other inputs",
                moved,
                "nothing was published",
            ],
        );
        assert_eq!(ran.summary()["status"], "failed");
        assert_eq!(times(&company.root()), stamps);
    }
    // What no chosen month is made of may move.
    company
        .cskpi("plan --out plan.json", APRIL_IS_OVER)
        .succeeded();
    company.put_invoices(5, 1);
    run_plan(&company).succeeded();
    company.expects(APRIL_IS_OVER, &[], "", &[]);
}

#[test]
fn planning_opens_no_input() {
    let company = Dated::new();
    let garbage = [0u8, 0xff, 0xfe, b'"', b'\n', 0x80];
    for file in files_below(company.path()) {
        if file != "pipeline.yaml" {
            fs::write(company.path().join(file), garbage).unwrap();
        }
    }
    let ran = company.cskpi("plan --detailed-exitcode", APRIL_IS_OVER);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    says(
        &ran,
        &[
            "invoice_lines        4 files             24 bytes",
            "to do: 4 of 4 periods",
        ],
    );
    assert!(!company.root().exists(), "plan has written something");
    assert_ne!(company.cskpi("run", APRIL_IS_OVER).code, 0);
}

// ── the schema guard ────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn another_currency_is_refused_while_other_periods_keep_the_old_one() {
    let company = Dated::new();
    company.run(APRIL_IS_OVER);
    let stamps = times(&company.root());
    company.pipeline("currency: JPY", "currency: USD");
    for (command, left) in [
        ("run --period 2024-02", "2024-01-01 to 2024-04-01"),
        ("backfill --start 2024-02", "2024-01-01"),
    ] {
        let ran = company.cskpi(&format!("{command} --output json"), APRIL_IS_OVER);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        let refused = format!(
            "mrr_movements.mrr would become decimal[18,2], but is decimal[18,0] in what is published ({left})"
        );
        says(
            &ran,
            &[&refused, "`cskpi backfill PIPELINE --reprocess all`"],
        );
        assert_eq!(ran.summary()["status"], "failed");
        assert!(text(&ran.summary()["error"]).contains("decimal[18,2]"));
        assert_eq!(times(&company.root()), stamps);
    }
    let shown = company.cskpi("plan", APRIL_IS_OVER).succeeded().stdout;
    assert!(
        shown.contains("column mrr: decimal[18,0] → decimal[18,2]"),
        "{shown}"
    );

    company.cskpi("backfill --quiet", APRIL_IS_OVER).succeeded();
    for file in files_below(&company.root().join("mrr_movements")) {
        let frame = support::read_parquet(&company.root().join("mrr_movements").join(file));
        assert_eq!(
            frame.column("mrr").unwrap().dtype(),
            &DataType::Decimal(18, 2)
        );
    }
    company.expects(APRIL_IS_OVER, &[], "", &[]);
}
