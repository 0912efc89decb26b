//! What surrounds the runs: `verify`, `vacuum`, results, the tables `runs` and `checks`, the line for a scheduler.

use crate::dated::{APRIL_IS_OVER, Dated, invoices, results_of, text};
use crate::support::{
    Ran, assert_same_bytes, cskpi, files_below, names_in, published_files, published_table,
    rows_as_text, says,
};
use polars::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

// ── verify and vacuum ───────────────────────────────────────────────────────────────────────────────────────────────────

fn upkeep(company: &Dated, command: &str) -> Ran {
    let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
    cskpi(company.path(), &format!("{verb} pipeline.yaml {rest}"))
}

/// Another last byte in the same place: inode and size stay, and the time, if it is to.
fn alter(file: &Path, keeps_time: bool) {
    let modified = fs::metadata(file).unwrap().modified().unwrap();
    let inode = fs::metadata(file).unwrap().ino();
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
    let time = if keeps_time {
        modified
    } else {
        modified + Duration::from_secs(1)
    };
    File::options()
        .append(true)
        .open(file)
        .unwrap()
        .set_modified(time)
        .unwrap();
    assert_eq!(fs::metadata(file).unwrap().ino(), inode);
}

#[test]
fn verify_tells_missing_altered_and_orphan_files_apart() {
    let company = Dated::new();
    company.run(APRIL_IS_OVER);
    let ran = upkeep(&company, "verify").succeeded();
    assert_eq!(ran.stdout, "40 files are as they were published\n");
    let good = published_files(&company.root());

    let file = |table: &str, month: &str| format!("out/{table}/period={month}-01/part-0.parquet");
    let (missing, altered, rotten, orphan) = (
        file("kpi_summary", "2024-01"),
        file("mrr_movements", "2024-02"),
        file("account_period", "2024-03"),
        file("kpi_values", "2023-12"),
    );
    company.remove(&missing);
    alter(&company.path().join(&altered), false);
    alter(&company.path().join(&rotten), true);
    company.put(&orphan, "not published by anyone");

    let lines = |ran: &Ran| -> BTreeSet<String> { ran.stdout.lines().map(str::to_owned).collect() };
    let mut expected = BTreeSet::from([
        format!("missing  published, and gone: {missing}"),
        format!("altered  not the content that was published: {altered}"),
        format!("orphan   in no manifest: {orphan}"),
    ]);
    let ran = upkeep(&company, "verify");
    assert_eq!(ran.code, 1);
    assert_eq!(lines(&ran), expected);
    says(
        &ran,
        &[
            "`cskpi backfill` publishes them again",
            "`cskpi vacuum --older-than 0d --dry-run`",
        ],
    );
    expected.insert(format!(
        "altered  not the content that was published: {rotten}"
    ));
    let ran = upkeep(&company, "verify --deep");
    assert_eq!(ran.code, 1);
    assert_eq!(lines(&ran), expected);

    // What verify says can be done about it.
    company.remove(&rotten);
    company.cskpi("backfill --quiet", APRIL_IS_OVER).succeeded();
    upkeep(&company, "vacuum --older-than 0s").succeeded();
    assert_same_bytes(&good, &published_files(&company.root()), "as it was");
    upkeep(&company, "verify --deep").succeeded();
}

#[test]
fn vacuum_clears_what_is_old_and_nothing_that_is_published() {
    let company = Dated::new();
    let old_run = text(&company.run(APRIL_IS_OVER)["run_id"]);
    company.put_invoices(4, 20_000);
    let new_run = text(&company.run(APRIL_IS_OVER)["run_id"]);
    let root = company.root();
    let results = |id: &str| root.join(format!("_cskpi/runs/{id}/run_results.json"));
    let (old, young) = ("kpi_values/old.parquet", "kpi_values/young.parquet");
    let staged = "_cskpi/staging/a-dead-run/kpi_values/period=2024-01-01/part-0.parquet";
    for file in [old, young, staged] {
        company.put(&format!("out/{file}"), "some bytes");
    }
    let long_ago = SystemTime::now() - Duration::from_secs(100 * 86_400);
    let published: Vec<String> = files_below(&root)
        .into_iter()
        .filter(|file| *file != old && *file != young && !file.starts_with("_cskpi/"))
        .collect();
    // Published files are as old, and stay.
    let aged = published.iter().map(|file| root.join(file));
    for file in aged.chain([root.join(old), results(&old_run)]) {
        File::options()
            .append(true)
            .open(file)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    }
    let all = || files_below(&root);

    let before = all();
    let dry = upkeep(&company, "vacuum --dry-run").succeeded();
    assert_eq!(all(), before);
    let bytes = fs::metadata(results(&old_run)).unwrap().len();
    for line in [
        format!("out/{staged} (left by a run that died, 10 bytes)\n"),
        format!(
            "out/_cskpi/runs/{old_run}/run_results.json (results of an old run, {bytes} bytes)\n"
        ),
        format!("out/{old} (file that no manifest knows, 10 bytes)\n"),
        format!("3 files, {} bytes would be cleared\n", bytes + 20),
    ] {
        assert!(dry.stdout.contains(&line), "no `{line}`:\n{}", dry.stdout);
    }
    assert_eq!(dry.stdout.lines().count(), 4);

    // Not while somebody publishes.
    let lock = root.join("_cskpi/lock.json");
    let freed = fs::read_to_string(&lock).unwrap();
    let mut held: Value = serde_json::from_str(&freed).unwrap();
    held["is_held"] = true.into();
    held["process"] = Value::Null;
    fs::write(&lock, held.to_string()).unwrap();
    let ran = upkeep(&company, "vacuum");
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert_eq!(all(), before);
    fs::write(&lock, freed).unwrap();

    let ran = upkeep(&company, "vacuum").succeeded();
    assert_eq!(
        ran.stdout,
        format!("3 files, {} bytes cleared\n", bytes + 20)
    );
    let gone: Vec<String> = before
        .iter()
        .filter(|file| !all().contains(file))
        .cloned()
        .collect();
    assert_eq!(gone.len(), 3, "{gone:?}");
    assert!(published.iter().all(|file| root.join(file).exists()));
    assert!(results(&new_run).exists() && root.join(young).exists());
    assert_eq!(
        upkeep(&company, "vacuum").succeeded().stdout,
        "0 files, 0 bytes cleared\n"
    );
}

// ── results, `runs` and `checks` ────────────────────────────────────────────────────────────────────────────────────────

fn column(frame: &DataFrame, name: &str) -> Vec<String> {
    let rows = rows_as_text(&frame.select([name]).unwrap()).into_iter();
    rows.map(|mut row| row.remove(0)).collect()
}

/// Rows of one run.
fn of_run(root: &Path, table: &str, run_id: &str) -> DataFrame {
    let all = published_table(root, table).unwrap();
    let is_of_run = col("run_id").eq(lit(run_id));
    all.lazy().filter(is_of_run).collect().unwrap()
}

#[test]
fn runs_and_checks_tell_of_every_unit() {
    let company = Dated::new();
    let root = company.root();
    let first = text(&company.run(APRIL_IS_OVER)["run_id"]);
    company.put_invoices(4, 20_000);
    let hash = |month: &str| {
        let file = root.join(format!("kpi_values/period={month}-01/part-0.parquet"));
        blake3::hash(&fs::read(file).unwrap()).to_hex().to_string()
    };
    let before = hash("2024-04");
    let second = text(&company.run(APRIL_IS_OVER)["run_id"]);

    for (run, expected) in [(&first, 40), (&second, 40)] {
        let rows = of_run(&root, "runs", run);
        assert_eq!(rows.height(), expected);
        let results = results_of(&root, run);
        assert_eq!(results["status"], "success");
        assert_eq!(results["units"].as_array().unwrap().len(), expected);
        let by_key: BTreeMap<(String, String), &Value> = results["units"]
            .as_array()
            .unwrap()
            .iter()
            .map(|unit| ((text(&unit["table"]), text(&unit["period"])), unit))
            .collect();
        let names = [
            "unit_table",
            "unit_period",
            "unit_status",
            "reason",
            "rows_out",
            "bytes",
            "hash_before",
            "hash_after",
        ];
        let fields = [
            "status",
            "reason",
            "rows",
            "bytes",
            "hash_before",
            "content_hash",
        ];
        for row in rows_as_text(&rows.select(names).unwrap()) {
            let unit = by_key[&(row[0].clone(), row[1].clone())];
            let told = fields.map(|field| match &unit[field] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            assert_eq!(row[2..], told);
        }
        let rows_in: u64 = results["inputs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|input| input["rows"].as_u64().unwrap())
            .sum();
        assert_eq!(rows_in, 3 + 3 + 8 + 4);
        assert!(
            column(&rows, "rows_in")
                .iter()
                .all(|rows| *rows == rows_in.to_string())
        );
        assert!(
            column(&rows, "rows_rejected")
                .iter()
                .all(|rows| rows == "0")
        );
        assert!(
            column(&rows, "run_status")
                .iter()
                .all(|status| status == "success")
        );

        // Every audit of every file that was looked at.
        let checks = of_run(&root, "checks", run);
        let told: usize = by_key
            .values()
            .map(|unit| unit["checks"].as_array().unwrap().len())
            .sum();
        assert_eq!(checks.height(), told);
        assert!(
            column(&checks, "passed")
                .iter()
                .all(|passed| passed == "true")
        );
        let looked_at: BTreeSet<(String, String)> = column(&checks, "unit_table")
            .into_iter()
            .zip(column(&checks, "unit_period"))
            .collect();
        let computed = by_key
            .iter()
            .filter(|(_, unit)| unit["status"] != "up_to_date");
        assert_eq!(looked_at, computed.map(|(key, _)| key.clone()).collect());
        let names: BTreeSet<String> = column(&checks, "check_name").into_iter().collect();
        for name in [
            "opening + movements = closing",
            "rows are all there",
            "columns and types",
            "of its period",
            "one row per dimension, member, metric",
        ] {
            assert!(names.contains(name), "no check `{name}` in {names:?}");
        }
    }
    let april = of_run(&root, "runs", &second)
        .lazy()
        .filter(
            col("unit_table").eq(lit("kpi_values")).and(
                col("unit_period")
                    .cast(DataType::String)
                    .eq(lit("2024-04-01")),
            ),
        )
        .collect()
        .unwrap();
    let of_april = |name: &str| column(&april, name).remove(0);
    assert_eq!(of_april("unit_status"), "replaced");
    assert_eq!(
        of_april("reason"),
        "stale: invoices/invoices-2024-04.csv: etag changed"
    );
    assert_eq!(
        (of_april("hash_before"), of_april("hash_after")),
        (before, hash("2024-04"))
    );

    // A run with nothing to do is told of all the same.
    let third = text(&company.run(APRIL_IS_OVER)["run_id"]);
    let rows = of_run(&root, "runs", &third);
    assert!(
        column(&rows, "unit_status")
            .iter()
            .all(|status| status == "up_to_date")
    );
    assert!(
        column(&rows, "run_status")
            .iter()
            .all(|status| status == "nothing_to_do")
    );
    let runs: BTreeSet<String> = column(&published_table(&root, "runs").unwrap(), "run_id")
        .into_iter()
        .collect();
    assert_eq!(runs, BTreeSet::from([first, second, third]));
}

#[test]
fn a_run_that_died_is_told_of_by_the_next_one() {
    let company = Dated::new();
    let mut run = Command::new(env!("CARGO_BIN_EXE_cskpi"))
        .args(["run", "pipeline.yaml", "--as-of", APRIL_IS_OVER, "--quiet"])
        .current_dir(company.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let runs = company.root().join("_cskpi/runs");
    let begun = || {
        names_in(&runs)
            .pop()
            .filter(|id| runs.join(id).join("run_results.json").exists())
    };
    let died = loop {
        if let Some(run_id) = begun() {
            break run_id;
        }
        assert!(
            run.try_wait().unwrap().is_none(),
            "it ended before it was killed"
        );
        std::thread::sleep(Duration::from_millis(1));
    };
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(results_of(&company.root(), &died)["status"], "running");

    let next = text(&company.run(APRIL_IS_OVER)["run_id"]);
    let results = results_of(&company.root(), &died);
    assert_eq!(results["status"], "interrupted");
    assert_eq!(
        results["error"],
        format!("the run died; {next} cleared up after it")
    );
    let rows = of_run(&company.root(), "runs", &died);
    assert!(rows.height() > 0);
    assert!(
        column(&rows, "run_status")
            .iter()
            .all(|status| status == "interrupted")
    );
    // It is told of once.
    company.put_invoices(4, 20_000);
    company.run(APRIL_IS_OVER);
    assert_eq!(
        of_run(&company.root(), "runs", &died).height(),
        rows.height()
    );
}

/// Whatever comes of it, a scheduler finds one line of JSON at the end of standard output.
#[test]
fn a_scheduler_gets_its_line_in_every_case() {
    let company = Dated::new();
    let line = |command: &str, code: i32, status: &str| {
        let ran = cskpi(company.path(), &format!("{command} --output json"));
        assert_eq!(ran.code, code, "{command}: {}", ran.stderr);
        let summary = ran.summary();
        assert_eq!(summary["status"], status, "{command}");
        let is_failure = summary["error"]
            .as_str()
            .is_some_and(|error| !error.is_empty());
        assert_eq!(is_failure, code != 0, "{command}: {summary}");
        ran
    };
    let at = format!("--as-of {APRIL_IS_OVER}");
    let dry = line(
        &format!("backfill pipeline.yaml {at} --dry-run"),
        0,
        "dry_run",
    );
    assert_eq!(
        (&dry.summary()["periods"], &dry.summary()["to_do"]),
        (&4.into(), &4.into())
    );
    let ran = line(&format!("run pipeline.yaml {at}"), 0, "success");
    assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
    line(&format!("run pipeline.yaml {at}"), 0, "nothing_to_do");
    line(
        "run pipeline.yaml --as-of 2023-12-01T00:00:00Z",
        0,
        "nothing_to_do",
    );
    line(
        "backfill pipeline.yaml --as-of 2023-12-01T00:00:00Z",
        0,
        "nothing_to_do",
    );
    let run_id = text(&ran.summary()["run_id"]);
    line(&format!("retry pipeline.yaml {run_id}"), 0, "nothing_to_do");
    // Usage.
    line("retry pipeline.yaml nobody", 2, "failed");
    line("run nowhere.yaml", 2, "failed");
    line("run pipeline.yaml --period 2024-13", 2, "failed");
    line("run pipeline.yaml --as-of yesterday", 2, "failed");
    line("run pipeline.yaml --select kpis", 2, "failed");
    line(
        &format!("run pipeline.yaml {at} --select rfm_scores"),
        2,
        "failed",
    );
    line(
        "backfill pipeline.yaml --start 2024-03 --end 2024-02",
        2,
        "failed",
    );
    line("run pipeline.yaml --plan nowhere.json", 2, "failed");
    // The inputs.
    company.put(
        &invoices(4),
        "invoice_id,account_id,issued_at,amount\na,nobody,2024-04-01,1\n",
    );
    line(&format!("run pipeline.yaml {at}"), 1, "failed");
    company.remove("accounts.csv");
    line(&format!("run pipeline.yaml {at}"), 75, "failed");
    // Somebody else's lock.
    company.put("accounts.csv", "account_id,signup_date,region\n");
    let lock = company.root().join("_cskpi/lock.json");
    let mut held: Value = serde_json::from_str(&fs::read_to_string(&lock).unwrap()).unwrap();
    held["is_held"] = true.into();
    held["process"] = Value::Null;
    fs::write(&lock, held.to_string()).unwrap();
    line(&format!("run pipeline.yaml {at}"), 75, "failed");
}
