//! The command line: what goes to standard output and standard error, what is written, and the verbs beside `run`.

use crate::project::{Project, RUN, SUBSCRIPTIONS};
use crate::support::{
    self, assert_same_bytes, files_below, names_in, published_files, temp_folder,
};
use serde_json::Value;
use std::fs;

// ── Standard output and standard error ──────────────────────────────────────────────────────────────────────────────────

#[test]
fn standard_output_is_data_only() {
    let project = Project::new();
    let ran = project.run(RUN).succeeded();
    assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
    assert!(
        ran.stdout
            .starts_with("1 periods: 10 files created, 0 replaced, 0 unchanged"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stderr.contains("looking at 1 periods"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        project.run(&format!("{RUN} --quiet")).succeeded().stderr,
        ""
    );
}

#[test]
fn json_output_is_one_line() {
    let project = Project::new();
    let ran = project.run(&format!("{RUN} --output json")).succeeded();
    assert_eq!(ran.stdout.lines().count(), 1);
    let summary = ran.summary();
    assert_eq!(
        (&summary["status"], &summary["periods"], &summary["created"]),
        (&"success".into(), &1.into(), &10.into())
    );
    let results = project.root().join(format!(
        "_cskpi/runs/{}/run_results.json",
        summary["run_id"].as_str().unwrap()
    ));
    let results: Value = serde_json::from_str(&fs::read_to_string(results).unwrap()).unwrap();
    assert_eq!(results["units"].as_array().unwrap().len(), 10);

    let failed = Project::new()
        .without("accounts.csv")
        .run(&format!("{RUN} --output json"));
    assert_eq!(
        (failed.code, &failed.summary()["status"]),
        (75, &"failed".into())
    );
}

#[test]
fn nothing_to_do_is_no_error() {
    let too_early = "run pipeline.yaml --as-of 2024-01-31T14:59:59Z";
    let project = Project::new();
    let ran = project.run(too_early).succeeded();
    assert!(
        ran.stderr
            .contains("nothing to do: no month since 2024-01-01 is complete yet"),
        "{}",
        ran.stderr
    );
    project.has_published_nothing();
    // A second later there is.
    assert!(
        project
            .run("run pipeline.yaml --as-of 2024-01-31T15:00:00Z")
            .succeeded()
            .stdout
            .starts_with("1 periods")
    );
    // A scheduler that asked for a line gets one.
    let summary = Project::new()
        .run(&format!("{too_early} --output json"))
        .succeeded()
        .summary();
    assert_eq!(summary["periods"], 0);
}

#[test]
fn json_logs_are_json() {
    let ready = Project::new();
    let late = Project::new().without("subscriptions.csv");
    let wrong = Project::new().pipeline("currency: JPY", "currency: YEN");
    for (project, code) in [(ready, 0), (late, 75), (wrong, 2)] {
        let ran = project.run(&format!("{RUN} --log-format json"));
        assert_eq!(ran.code, code);
        assert!(!ran.stderr.is_empty());
        for line in ran.stderr.lines() {
            let parsed: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(
                parsed["level"].is_string() && parsed["message"].is_string(),
                "{line}"
            );
        }
        assert_eq!(ran.stderr.contains("\"level\":\"ERROR\""), code != 0);
    }
}

#[test]
fn an_incomplete_period_is_computed_when_asked_for() {
    let project = Project::new();
    let ran = project
        .run("run pipeline.yaml --period 2024-03 --as-of 2024-03-20T00:00:00+09:00")
        .succeeded();
    assert!(
        ran.stderr
            .contains("not complete yet, published with is_complete = false: 2024-03"),
        "{}",
        ran.stderr
    );
    let summary = support::published_table(&project.root(), "kpi_summary").unwrap();
    assert_eq!(
        support::rows_as_text(&summary.select(["is_complete"]).unwrap()),
        [["false"]]
    );
}

// ── What is written ─────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn only_data_lies_under_a_table() {
    let project = Project::new();
    project
        .run("backfill pipeline.yaml --as-of 2024-04-01T00:00:00+09:00")
        .succeeded();
    let tables = [
        "account_period",
        "cohort_retention",
        "kpi_breakdown",
        "kpi_drivers",
        "kpi_summary",
        "kpi_values",
        "metric_dictionary",
        "mrr_movements",
        "restatements",
        "survival",
    ];
    let mut all = [["_cskpi", "checks", "runs"].as_slice(), &tables].concat();
    all.sort_unstable();
    assert_eq!(names_in(&project.root()), all);
    for table in tables {
        let months =
            ["01", "02", "03"].map(|month| format!("period=2024-{month}-01/part-0.parquet"));
        assert_eq!(files_below(&project.root().join(table)), months, "{table}");
    }
    assert!(!project.root().join("_cskpi/staging").exists());
}

#[test]
fn a_run_takes_the_last_complete_period_and_looks_back() {
    let project = Project::new().pipeline(
        "begin: 2024-01-01}",
        "begin: 2024-01-01, lookback: 1, ready_after: 6h}",
    );
    project
        .run("run pipeline.yaml --select kpi_summary --as-of 2024-04-01T05:59:59+09:00")
        .succeeded();
    assert_eq!(
        names_in(&project.root().join("kpi_summary")),
        ["period=2024-01-01", "period=2024-02-01"]
    );
    project
        .run("run pipeline.yaml --exclude kpi_values --as-of 2024-04-01T06:00:00+09:00")
        .succeeded();
    assert_eq!(
        names_in(&project.root().join("mrr_movements")),
        ["period=2024-02-01", "period=2024-03-01"]
    );
    assert_eq!(names_in(&project.root().join("kpi_summary")).len(), 3);
    assert!(!project.root().join("kpi_values").exists());
}

/// `calendar.end` is for companies whose data ends there.
#[test]
fn nothing_is_computed_after_the_calendars_end() {
    let as_of = "--as-of 2024-06-01T00:00:00+09:00 --select kpi_summary";
    let project =
        Project::new().pipeline("begin: 2024-01-01}", "begin: 2024-01-01, end: 2024-03-01}");
    project
        .run(&format!("backfill pipeline.yaml {as_of}"))
        .succeeded();
    project
        .run(&format!("run pipeline.yaml {as_of}"))
        .succeeded();
    assert_eq!(
        names_in(&project.root().join("kpi_summary")),
        ["period=2024-01-01", "period=2024-02-01"]
    );
    for asked in [
        "run pipeline.yaml --period 2024-03",
        "backfill pipeline.yaml --end 2024-04",
    ] {
        let ran = project.run(&format!("{asked} {as_of}"));
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(
            ran.stderr.contains("lies after calendar.end (2024-03-01)"),
            "{}",
            ran.stderr
        );
    }
}

#[test]
fn a_failing_run_leaves_what_was_published() {
    let project = Project::new();
    project.run(RUN).succeeded();
    let before = published_files(&project.root());
    let project = project.put(
        "subscriptions.csv",
        &format!("{SUBSCRIPTIONS}s3,nobody,2024-02-01,,1\n"),
    );
    assert_eq!(project.run(RUN).code, 1);
    assert_same_bytes(&before, &published_files(&project.root()), "a failing run");
    assert!(!project.root().join("_cskpi/staging").exists());
}

#[test]
fn a_plan_writes_nothing() {
    let project = Project::new();
    let before = files_below(project.folder.path());
    let ran = project
        .run("plan pipeline.yaml --as-of 2024-04-01T00:00:00+09:00")
        .succeeded();
    assert_eq!(files_below(project.folder.path()), before);
    assert!(
        ran.stdout
            .contains("missing\n  2024-02 to 2024-03  all tables: never published"),
        "{}",
        ran.stdout
    );
    project.run(RUN).succeeded();
    let ran = project
        .run("plan pipeline.yaml --start 2024-02 --end 2024-03 --as-of 2024-04-01T00:00:00+09:00")
        .succeeded();
    assert!(
        ran.stdout
            .contains("up to date\n  2024-02  all tables\nto do: 0 of 1 periods"),
        "{}",
        ran.stdout
    );
}

// ── The other verbs ─────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn init_writes_a_file_that_is_valid() {
    let folder = temp_folder();
    let run = |command: &str| support::cskpi(folder.path(), command);
    assert!(
        run("init")
            .succeeded()
            .stdout
            .contains("wrote pipeline.yaml")
    );
    assert!(
        run("validate pipeline.yaml --offline")
            .succeeded()
            .stdout
            .starts_with("pipeline.yaml: ok (2 sources")
    );
    let again = run("init");
    assert_eq!(again.code, 2);
    assert!(
        again.stderr.contains("pipeline.yaml is already there") && again.stderr.contains("--force")
    );
    run("init --force").succeeded();
    assert_eq!(
        run("validate pipeline.yaml").code,
        75,
        "its inputs are not there"
    );
}

#[test]
fn generating_twice_gives_the_same_bytes() {
    let folder = temp_folder();
    for out in ["one", "two"] {
        let size = "--accounts 30 --months 3 --events 500 --seed 5 --format both";
        support::cskpi(folder.path(), &format!("generate --out {out} {size}")).succeeded();
    }
    let [one, two] = ["one", "two"].map(|out| published_files(&folder.path().join(out)));
    assert!(one.len() > 32);
    assert_same_bytes(&one, &two, "the same seed");
}

#[test]
fn schema_prints_contracts() {
    let folder = temp_folder();
    let subscriptions = support::cskpi(folder.path(), "schema subscriptions")
        .succeeded()
        .stdout;
    for column in [
        "started_at",
        "interval_count",
        "[active, past_due, trialing, paused, unpaid, canceled]",
        "key: ",
    ] {
        assert!(subscriptions.contains(column), "{subscriptions}");
    }
    let values = support::cskpi(folder.path(), "schema kpi_values")
        .succeeded()
        .stdout;
    assert!(
        values.contains("key: dimension, member, metric"),
        "{values}"
    );
}

#[test]
fn docs_print_what_is_computed() {
    let project = Project::new();
    let docs = project.run("docs pipeline.yaml").succeeded().stdout;
    assert!(
        docs.contains("## churn_rate\n\n**Customer churn rate** (解約率)"),
        "{docs}"
    );
    assert!(
        docs.contains("(SUM(churned_customers))\n/ (SUM(opening_customers))"),
        "{docs}"
    );
    assert!(!docs.contains("## monthly_churn_rate"), "hidden");
    assert!(
        project
            .run("docs pipeline.yaml --all")
            .succeeded()
            .stdout
            .contains("## monthly_churn_rate")
    );
    // The dictionary that is published has the same metrics.
    project.run(RUN).succeeded();
    let dictionary = support::published_table(&project.root(), "metric_dictionary").unwrap();
    for row in support::rows_as_text(&dictionary.select(["metric"]).unwrap()) {
        assert!(docs.contains(&format!("\n## {}\n", row[0])), "{row:?}");
    }
}

/// `UPDATE=1 cargo test` writes it anew.
#[test]
fn the_schema_of_pipeline_files_is_up_to_date() {
    let file = support::repository().join("schemas/pipeline.schema.json");
    let schema = support::cskpi(&support::repository(), "schema")
        .succeeded()
        .stdout;
    serde_json::from_str::<Value>(&schema).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &schema).unwrap();
    }
    let is_same = fs::read_to_string(&file).unwrap() == schema;
    assert!(
        is_same,
        "schemas/pipeline.schema.json is not what `cskpi schema` prints; UPDATE=1 cargo test writes it"
    );
}

#[test]
fn shipped_pipelines_are_valid() {
    let files = files_below(&support::repository().join("pipelines"));
    let pipelines: Vec<&String> = files
        .iter()
        .filter(|file| file.ends_with(".yaml"))
        .collect();
    assert!(!pipelines.is_empty());
    for file in pipelines {
        let text = fs::read_to_string(support::repository().join("pipelines").join(file)).unwrap();
        let schema = "# yaml-language-server: $schema=../schemas/pipeline.schema.json\n";
        assert!(
            text.starts_with(schema),
            "pipelines/{file} must begin with {schema}"
        );
        support::cskpi(
            &support::repository(),
            &format!("validate --offline pipelines/{file}"),
        )
        .succeeded();
    }
}
