//! Many periods in one go: the same as one by one, after any number of kills, and when some of them fail.

use crate::company::{AS_OF, Company, Dice};
use crate::dated::{
    APRIL_IS_OVER, Dated, Key, results_of, results_of_last, text, times, written_since,
};
use crate::support::{
    self, Ran, assert_same_files, files_below, names_in, published_table, rows_as_text, temp_folder,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

// ── 36 months ───────────────────────────────────────────────────────────────────────────────────────────────────────────

const MONTHS: u32 = 36;
/// The first of them.
const BEGIN: (&str, &str) = ("BEGIN", "2022-03-01");

fn three_years() -> Company {
    Company::of_size(
        "--accounts 200 --months 36 --events 8000 --start 2022-03",
        36,
    )
}

/// A backfill that goes on by itself.
fn begun(company: &Company, root: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_cskpi"))
        .args(["backfill", "pipeline.yaml", "--as-of", AS_OF, "--quiet"])
        .envs([BEGIN, ("OUT", root.to_str().unwrap())])
        .current_dir(company.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn manifests(root: &Path) -> BTreeSet<String> {
    names_in(&root.join("_cskpi/manifest"))
        .into_iter()
        .collect()
}

/// Kills a backfill with SIGKILL, at any instant after it has published so many periods.
#[track_caller]
fn kill_after(company: &Company, root: &Path, periods: usize, dice: &mut Dice) {
    let mut run = begun(company, root);
    let is_locked = || root.join("_cskpi/lock.json").exists();
    while manifests(root).len() < periods || !is_locked() {
        assert!(
            run.try_wait().unwrap().is_none(),
            "it ended before it was killed"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(dice.below(25) as u64));
    run.kill().unwrap();
    assert!(
        !run.wait().unwrap().success(),
        "it ended before it was killed"
    );
}

fn periods_with(results: &Value, status: &str) -> BTreeSet<String> {
    let units = results["units"].as_array().unwrap().iter();
    let of_status = units.filter(|unit| unit["status"] == status);
    of_status.map(|unit| text(&unit["period"])).collect()
}

/// One pass over 36 months, 36 passes over one, passes over five, and one that is killed again and again.
#[test]
fn three_years_at_once_are_their_months_one_by_one() {
    let company = three_years();
    let at_once = temp_folder();
    let asked = Instant::now();
    company.publish(at_once.path(), "backfill", &[BEGIN]);
    let in_one_pass = asked.elapsed();
    assert_eq!(manifests(at_once.path()).len(), MONTHS as usize);

    let one_by_one = temp_folder();
    let asked = Instant::now();
    for month in 0..MONTHS {
        let (year, month) = (2022 + (month + 2) / 12, (month + 2) % 12 + 1);
        let run = format!("run --period {year}-{month:02}");
        company.publish(one_by_one.path(), &run, &[BEGIN]);
    }
    let in_single_runs = asked.elapsed();
    assert_same_files(at_once.path(), one_by_one.path(), "at once, and one by one");
    // Past the test harness, which hides what a passing test prints.
    let _ = writeln!(
        std::io::stderr(),
        "{MONTHS} months in one pass take {:.1} s, in single runs {:.1} s: {:.3} of the time",
        in_one_pass.as_secs_f64(),
        in_single_runs.as_secs_f64(),
        in_one_pass.as_secs_f64() / in_single_runs.as_secs_f64()
    );

    let in_batches = temp_folder();
    company.publish(in_batches.path(), "backfill --batch-size 5", &[BEGIN]);
    assert_same_files(at_once.path(), in_batches.path(), "at once, and by fives");
}

/// Without KPIs and survival a run builds the rows of accounts for a few periods only; of those before it knows what accounts had
/// and were billed. Merges lie on both sides of where the rows begin, and in the period itself.
#[test]
fn a_late_period_by_itself_is_that_of_all() {
    const SELECT: &str = "--select account_period,mrr_movements,cohort_retention,rfm_scores,touch_segments,time_spent";
    for seed in [31, 32] {
        let company = Company::mutated(seed);
        // The churn of segments, and models that hold, would take the rows of nearly all periods; the company's does not.
        let pipeline = company.path().join("pipeline.yaml");
        let mut text = fs::read_to_string(&pipeline).unwrap();
        for (reaching, other) in [
            ("ltv_segment: region", "ltv_churn_periods: 12"),
            ("hold_periods: 1", "hold_periods: 0"),
        ] {
            assert!(text.contains(reaching));
            text = text.replace(reaching, other);
        }
        fs::write(&pipeline, text).unwrap();
        let mut merges = company.lines("account_merges");
        for (old, account, day) in [
            ("A000008", "A000041", "2024-02-20"),
            ("A000010", "A000008", "2024-04-03"),
            ("A000012", "A000009", "2025-02-03"),
        ] {
            let merge = [("old_account_id", old), ("account_id", account)];
            merges.add(&[merge.as_slice(), &[("merged_at", day)]].concat());
        }
        company.put("account_merges", &merges);

        let all = company.published(&format!("backfill {SELECT}"));
        for month in ["2024-12", "2025-01", "2025-02"] {
            let alone = company.published(&format!("run --period {month} {SELECT}"));
            let of_month = |root: &Path| -> Vec<_> {
                let files = support::published_files(root).into_iter();
                let folder = format!("period={month}-01/");
                files.filter(|(file, _)| file.contains(&folder)).collect()
            };
            let (expected, found) = (of_month(all.path()), of_month(alone.path()));
            assert_eq!(found.len(), 6);
            support::assert_same_bytes(&expected, &found, &format!("{month} of company {seed}"));
        }
    }
}

#[test]
fn a_backfill_that_is_killed_continues_where_it_stopped() {
    let company = three_years();
    let undisturbed = temp_folder();
    company.publish(undisturbed.path(), "backfill", &[BEGIN]);

    let killed = temp_folder();
    let root = killed.path();
    let mut dice = Dice::of(5);
    let mut published = BTreeMap::new();
    let mut finished = BTreeSet::new();
    for periods in [0, 3, 8, 14, 21] {
        kill_after(&company, root, periods, &mut dice);
        // What was finished before this run began was left alone by it.
        assert!(
            published
                .iter()
                .all(|(file, time)| times(root).get(file) == Some(time)),
            "a finished period was written again"
        );
        if periods > 0 {
            let results = results_of_last(root);
            let left_alone = periods_with(&results, "up_to_date");
            assert!(
                left_alone.is_superset(&finished),
                "{left_alone:?}\n{finished:?}"
            );
        }
        finished = manifests(root)
            .iter()
            .map(|name| name["period=".len().."period=2022-03-01".len()].to_owned())
            .collect();
        published = times(root);
        published.retain(|file, _| finished.iter().any(|day| file.contains(day)));
    }
    assert!(finished.len() > 20, "{finished:?}");

    let ran = company.publish(root, "backfill", &[BEGIN]);
    let results = results_of(root, &text(&ran.summary()["run_id"]));
    let left_alone = periods_with(&results, "up_to_date");
    assert!(left_alone.is_superset(&finished));
    assert_eq!(
        left_alone.len() + periods_with(&results, "created").len(),
        MONTHS as usize
    );
    assert!(periods_with(&results, "created").is_disjoint(&finished));
    assert!(
        published
            .iter()
            .all(|(file, time)| times(root).get(file) == Some(time))
    );
    assert_same_files(
        undisturbed.path(),
        root,
        "undisturbed, and killed five times",
    );

    // The dead are told of, each as interrupted.
    let runs = published_table(root, "runs").unwrap();
    let statuses: BTreeSet<Vec<String>> =
        rows_as_text(&runs.select(["run_id", "run_status"]).unwrap())
            .into_iter()
            .collect();
    let of = |status: &str| statuses.iter().filter(|row| row[1] == status).count();
    assert_eq!(of("success"), 1, "{statuses:?}");
    // The first may have been killed before it had begun its results.
    assert!((4..=5).contains(&of("interrupted")), "{statuses:?}");
    assert_eq!(statuses.len(), of("success") + of("interrupted"));
}

// ── a period that fails ─────────────────────────────────────────────────────────────────────────────────────────────────

/// From March on, somebody pays in euros, for which there is no rate.
fn company_without_a_rate() -> Dated {
    let company = Dated::new();
    company.pipeline(
        "policy:",
        "  fx_rates: {path: \"fx/*.csv\", file_dates: \"fx-%Y-%m.csv\"}\npolicy:",
    );
    company.put(
        "fx/fx-2024-01.csv",
        "date,currency,rate\n2024-01-01,USD,150\n",
    );
    company.put(
        "subscriptions.csv",
        "subscription_id,account_id,started_at,amount,currency\ns1,acme,2024-01-10,10000,JPY\ns2,bolt,2024-03-05,50,EUR\n",
    );
    company
}

fn add_the_rate(company: &Dated) {
    company.put(
        "fx/fx-2024-03.csv",
        "date,currency,rate\n2024-03-01,EUR,160\n",
    );
}

fn retried(company: &Dated, run_id: &str) -> Ran {
    let command = format!("retry pipeline.yaml {run_id} --quiet --output json");
    support::cskpi(company.path(), &command)
}

#[test]
fn periods_that_fail_do_not_keep_the_others_from_being_published() {
    for batches in ["", "--batch-size 1"] {
        let company = company_without_a_rate();
        let ran = company.cskpi(&format!("backfill --output json {batches}"), APRIL_IS_OVER);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        let summary = ran.summary();
        let run_id = text(&summary["run_id"]);
        assert_eq!(summary["status"], "partial");
        assert_eq!(
            (&summary["created"], &summary["failed"]),
            (&20.into(), &20.into())
        );
        assert!(text(&summary["error"]).contains("no exchange rate for EUR in 2024-03"));
        let hint = format!("`cskpi retry pipeline.yaml {run_id}` takes up the rest");
        assert!(ran.stderr.contains(&hint), "{}", ran.stderr);

        let months = names_in(&company.root().join("kpi_values"));
        assert_eq!(months, ["period=2024-01-01", "period=2024-02-01"]);
        let results = results_of(&company.root(), &run_id);
        assert_eq!(results["status"], "partial");
        let failed = results["units"].as_array().unwrap().iter();
        for unit in failed.filter(|unit| unit["status"] == "failed") {
            let reason = text(&unit["reason"]);
            assert!(reason.starts_with("no exchange rate for EUR"), "{reason}");
            assert!(text(&unit["period"]).as_str() >= "2024-03");
        }
        let runs = published_table(&company.root(), "runs").unwrap();
        let columns = ["run_status", "unit_status", "unit_period"];
        let rows = rows_as_text(&runs.select(columns).unwrap());
        let of = |status: &str, month: &str| {
            let row = ["partial", status, &format!("{month}-01")];
            rows.iter().filter(|found| **found == row).count()
        };
        for month in ["2024-01", "2024-02"] {
            assert_eq!((of("created", month), of("failed", month)), (10, 0));
        }
        for month in ["2024-03", "2024-04"] {
            assert_eq!((of("created", month), of("failed", month)), (0, 10));
        }

        let shown = company.cskpi("plan", APRIL_IS_OVER).stdout;
        let why = "no exchange rate for EUR in 2024-03, EUR in 2024-04";
        let lines = format!("failed last time\n  2024-03: {why}\n  2024-04: {why}\nto do");
        assert!(shown.contains(&lines), "{shown}");
        assert!(shown.ends_with("to do: 2 of 4 periods\n"), "{shown}");
    }
}

#[test]
fn retry_takes_up_what_failed_at_the_instant_of_then() {
    let company = company_without_a_rate();
    // April is not over.
    let then = "2024-04-15T00:00:00+09:00";
    let ran = company.cskpi("backfill --end 2024-05 --quiet --output json", then);
    let first = text(&ran.summary()["run_id"]);
    assert_eq!(ran.summary()["status"], "partial");

    // Still without the rate: it fails again, and can be taken up again.
    let ran = retried(&company, &first);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert_eq!(ran.summary()["status"], "failed");
    assert_eq!(ran.summary()["periods"], 2);

    add_the_rate(&company);
    let stamps = times(&company.root());
    let summary = retried(&company, &first).succeeded().summary();
    assert_eq!(summary["status"], "success");
    assert_eq!(
        (&summary["periods"], &summary["created"]),
        (&2.into(), &20.into())
    );
    let run_id = text(&summary["run_id"]);
    let results = results_of(&company.root(), &run_id);
    assert_eq!(results["retry_of"], first.as_str());
    assert_eq!(results["as_of"], "2024-04-14T15:00:00Z");
    let written = written_since(&company.root(), &stamps);
    assert!(
        written
            .iter()
            .all(|file| file.contains("2024-03") || file.contains("2024-04"))
    );
    let april = company
        .root()
        .join("kpi_values/period=2024-04-01/part-0.parquet");
    let april = support::read_parquet(&april);
    assert!(!april.column("is_complete").unwrap().bool().unwrap().any());
    let runs = published_table(&company.root(), "runs").unwrap();
    let rows = rows_as_text(&runs.select(["run_id", "retry_of"]).unwrap());
    assert!(rows.contains(&vec![run_id.clone(), first]));

    // Nothing is left of it.
    let ran = retried(&company, &run_id).succeeded();
    assert_eq!(ran.summary()["status"], "nothing_to_do");
    let said = support::cskpi(company.path(), &format!("retry pipeline.yaml {run_id}"));
    assert!(said.succeeded().stderr.contains("has no failed units"));
}

#[test]
fn retry_of_a_run_that_nobody_knows_is_refused() {
    let company = Dated::new();
    company.run(APRIL_IS_OVER);
    for id in ["20240101T000000Z-abcdef", "../../../etc/passwd", "."] {
        let ran = support::cskpi(company.path(), &format!("retry pipeline.yaml {id}"));
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(&format!("there is no run `{id}`")));
        assert!(
            ran.stderr
                .contains("help: the table `runs` and the folder named above")
        );
        assert_eq!(ran.stdout, "");
    }
}

/// What fails its turn keeps what it had: it was good once.
#[test]
fn a_period_that_fails_keeps_what_was_published() {
    let company = company_without_a_rate();
    company
        .cskpi("backfill --end 2024-03 --quiet", APRIL_IS_OVER)
        .succeeded();
    let stamps = times(&company.root());
    let february = "invoice_id,account_id,issued_at,amount,currency\na2,acme,2024-02-10,10,EUR\n";
    company.put("invoices/invoices-2024-02.csv", february);
    let ran = company.cskpi("backfill --end 2024-03 --output json", APRIL_IS_OVER);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.summary()["status"], "failed");
    assert!(written_since(&company.root(), &stamps).is_empty());
    assert_eq!(times(&company.root()), stamps);
}

// ── which periods ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// Months that a backfill computed.
#[track_caller]
fn computed(company: &Dated, reprocess: &str) -> Vec<String> {
    let command = format!("backfill --reprocess {reprocess} --quiet --output json");
    let dry = company.cskpi(
        &format!("backfill --reprocess {reprocess} --dry-run"),
        APRIL_IS_OVER,
    );
    let summary = company.cskpi(&command, APRIL_IS_OVER).succeeded().summary();
    let statuses = company.statuses(&text(&summary["run_id"])).into_iter();
    let computed = statuses.filter(|(_, found)| !found.contains("up_to_date"));
    let computed: Vec<String> = computed.map(|(month, _)| month).collect();
    let to_do = format!("to do: {} of 4 periods\n", computed.len());
    assert!(dry.stdout.ends_with(&to_do), "{}", dry.stdout);
    computed
}

#[test]
fn reprocess_chooses_what_its_help_says() {
    let company = company_without_a_rate();
    add_the_rate(&company);
    company.run(APRIL_IS_OVER);
    // January's file goes, April fails once, and its input is as it was again.
    let january = company
        .root()
        .join("kpi_summary/period=2024-01-01/part-0.parquet");
    let april = company.path().join("invoices/invoices-2024-04.csv");
    let (content, modified) = (
        fs::read(&april).unwrap(),
        fs::metadata(&april).unwrap().modified().unwrap(),
    );
    fs::write(
        &april,
        "invoice_id,account_id,issued_at,amount,currency\na,acme,2024-04-10,10,XAU\n",
    )
    .unwrap();
    assert_eq!(company.cskpi("run", APRIL_IS_OVER).code, 1);
    fs::write(&april, content).unwrap();
    let file = fs::File::options().append(true).open(&april).unwrap();
    file.set_modified(modified).unwrap();
    let verdict = company.plan("kpi_values", APRIL_IS_OVER).pop().unwrap();
    assert_eq!(
        (verdict.0.as_str(), verdict.1.as_str()),
        ("2024-04", "up_to_date")
    );

    fs::remove_file(&january).unwrap();
    assert_eq!(computed(&company, "none"), ["2024-01"]);
    fs::remove_file(&january).unwrap();
    assert_eq!(computed(&company, "failed"), ["2024-01", "2024-04"]);
    fs::remove_file(&january).unwrap();
    company.put_usage("usage/day=2024-03-20/part-0.csv", "2024-03-20", 3);
    assert_eq!(computed(&company, "failed"), ["2024-01"]);
    fs::remove_file(&january).unwrap();
    assert_eq!(
        computed(&company, "stale"),
        ["2024-01", "2024-03", "2024-04"]
    );
    assert_eq!(computed(&company, "stale"), [""; 0]);
    assert_eq!(
        computed(&company, "all"),
        ["2024-01", "2024-02", "2024-03", "2024-04"]
    );
}

#[test]
fn a_dry_run_writes_nothing() {
    let company = Dated::new();
    let ran = company
        .cskpi("backfill --dry-run", APRIL_IS_OVER)
        .succeeded();
    let all = "missing\n  2024-01 to 2024-04  all tables: never published\nto do: 4 of 4 periods\n";
    assert!(ran.stdout.ends_with(all), "{}", ran.stdout);
    assert!(!company.root().exists());

    company.run(APRIL_IS_OVER);
    company.put_invoices(2, 120_000);
    let files = |root: &Path| -> Vec<(String, Vec<u8>)> {
        let names = files_below(root).into_iter();
        names
            .map(|name| (name.clone(), fs::read(root.join(name)).unwrap()))
            .collect()
    };
    let before = files(&company.root());
    let ran = company
        .cskpi("backfill --dry-run", APRIL_IS_OVER)
        .succeeded();
    assert!(
        ran.stdout.ends_with("to do: 3 of 4 periods\n"),
        "{}",
        ran.stdout
    );
    assert_eq!(files(&company.root()), before);
}

#[test]
fn end_is_exclusive_and_start_inclusive() {
    let company = Dated::new();
    let ran = company.cskpi(
        "backfill --start 2024-02 --end 2024-04 --quiet",
        APRIL_IS_OVER,
    );
    ran.succeeded();
    let months = names_in(&company.root().join("kpi_values"));
    assert_eq!(months, ["period=2024-02-01", "period=2024-03-01"]);
    let months: BTreeSet<Key> = company.values().into_keys().collect();
    assert!(
        months
            .iter()
            .all(|key| key[0] == "2024-02-01" || key[0] == "2024-03-01")
    );
}
