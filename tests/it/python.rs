//! The published tables against an independent computation of them, and under readers other than our own.
//!
//! `tests/oracle/oracle.py` computes every table from the same inputs by plain SQL in DuckDB, `compare.py` compares row by row
//! and value by value, `tests/readers/read_all.py` reads with DuckDB, pyarrow and polars. Python runs in a virtual
//! environment that the first test makes in `target/venv`.

use crate::support::{Ran, cskpi_with, repository};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The quickstart's periods are all complete by then.
const QUICKSTART_AS_OF: &str = "2026-04-02T00:00:00+09:00";

// ── Python ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The interpreter with the packages of `tests/requirements.txt`.
fn python() -> &'static Path {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = PYTHON.get_or_init(|| environment("venv", "tests/requirements.txt"));
    made.as_ref().unwrap_or_else(|reason| panic!("{reason}"))
}

/// The interpreter of a virtual environment in `target`, made once and kept until its requirements change.
pub fn environment(name: &str, requirements: &str) -> Result<PathBuf, String> {
    let wanted = blake3::hash(&fs::read(repository().join(requirements)).unwrap())
        .to_hex()
        .to_string();
    let folder = target().join(name);
    let (python, stamp) = (folder.join("bin/python"), folder.join(".requirements"));
    // Another `cargo test` may be making it right now.
    let lock = File::create(target().join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    if python.exists() && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(python);
    }
    told(Command::new("python3").args(["-m", "venv"]).arg(&folder)).map_err(|reason| {
        format!(
            "these tests need Python 3.11 or later with its venv module, as `python3` on the PATH \
             (Debian and Ubuntu: apt install python3 python3-venv):\n{reason}"
        )
    })?;
    let mut install = Command::new(&python);
    install
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(repository().join(requirements));
    told(&mut install).map_err(|reason| {
        format!("the packages of {requirements} could not be installed; is the package index reachable?\n{reason}")
    })?;
    fs::write(&stamp, wanted).unwrap();
    Ok(python)
}

/// What cargo builds into.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// One of our scripts under `tests`, to be given its arguments.
pub fn command(script: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(repository().join("tests").join(script));
    on_its_own(&mut command);
    command
}

/// Nothing of the caller's own Python setup, and no __pycache__ beside the scripts.
pub fn on_its_own(command: &mut Command) -> &mut Command {
    command
        .env_remove("PYTHONPATH")
        .env_remove("PYTHONHOME")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUTF8", "1")
}

/// Standard output of a command, or all that is to be said about its failure.
pub fn told(command: &mut Command) -> Result<String, String> {
    let output = on_its_own(command)
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(stdout)
    } else {
        Err(format!("{command:?}: {}\n{stdout}{stderr}", output.status))
    }
}

/// Runs one of our scripts in a folder; panics with what it printed if it finds fault.
#[track_caller]
fn script(folder: &Path, script: &str, arguments: &[&str]) -> String {
    match told(command(script).args(arguments).current_dir(folder)) {
        Ok(stdout) => {
            print!("{stdout}");
            stdout
        }
        Err(reason) => panic!("{reason}\n(its files are kept in {})", folder.display()),
    }
}

// ── a folder to work in ─────────────────────────────────────────────────────────────────────────────────────────────────

/// A folder under `target` that is removed when its test passes, and kept when it fails.
pub struct Work {
    pub folder: PathBuf,
    /// Held, so that the same test of another `cargo test` waits.
    _lock: File,
}

impl Work {
    pub fn new(name: &str) -> Self {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
        fs::create_dir_all(&all).unwrap();
        let lock = File::create(all.join(format!("{name}.lock"))).unwrap();
        lock.lock().unwrap();
        let folder = all.join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self {
            folder,
            _lock: lock,
        }
    }

    /// What the files of the project itself are reached by, so that paths in a pipeline hold here too.
    pub fn with_project_folders(self) -> Self {
        for folder in ["data", "pipelines"] {
            std::os::unix::fs::symlink(repository().join(folder), self.folder.join(folder))
                .unwrap();
        }
        self
    }

    #[track_caller]
    fn cskpi(&self, variables: &[(&str, &str)], command_line: &str) -> Ran {
        cskpi_with(&self.folder, variables, command_line).succeeded()
    }

    #[track_caller]
    fn script(&self, name: &str, arguments: &[&str]) -> String {
        script(&self.folder, name, arguments)
    }

    fn params(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.folder.join("params.json")).unwrap()).unwrap()
    }

    /// Runs the program on `pipeline.yaml` for the months of `params.json`.
    #[track_caller]
    fn publish(&self) {
        let params = self.params();
        let text = |name: &str| params[name].as_str().unwrap().to_owned();
        let (start, end, as_of) = (text("start"), text("end"), text("as_of"));
        self.cskpi(
            &[("ROOT", "root")],
            &format!("--quiet backfill pipeline.yaml --start {start} --end {end} --as-of {as_of}"),
        );
    }

    /// Computes the tables from `data` a second time and compares them with those in `root`.
    #[track_caller]
    fn compare_with_oracle(&self, data: &str) {
        self.script(
            "oracle/oracle.py",
            &[
                "--quiet",
                "--data",
                data,
                "--params",
                "params.json",
                "--out",
                "expected",
            ],
        );
        let mut arguments = vec!["--expected", "expected", "--actual", "root"];
        let params = self.params();
        if let Some(tables) = params["tables"].as_str() {
            arguments.extend(["--tables", tables]);
        }
        let report = self.script("oracle/compare.py", &arguments);
        assert!(report.ends_with("all equal\n"), "{report}");
    }

    /// Reads `root` with three other readers.
    #[track_caller]
    fn read_with_others(&self, minor_digits: &str) {
        let schemas = repository().join("schemas/output");
        // `close:` is in no pipeline here; targets and time are not in all of them.
        let optional = ["kpi_attainment", "time_spent"].into_iter();
        let missing = optional.filter(|table| !self.folder.join("root").join(table).is_dir());
        let without = ["kpi_as_reported"].into_iter().chain(missing);
        let without: Vec<&str> = without.collect();
        self.script(
            "readers/read_all.py",
            &[
                "root",
                "--schemas",
                schemas.to_str().unwrap(),
                "--digits",
                minor_digits,
                "--without",
                &without.join(","),
            ],
        );
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

// ── the tests ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The program and the oracle on one variant of `tests/oracle/variant.py`, which writes the pipeline file of the one and the
/// parameters of the other: over the hand-made stories, and over random accounts of the variant's own.
#[track_caller]
fn agree(variant: &str) {
    for data in ["stories", "random"] {
        let work = Work::new(&format!("{variant}-{data}"));
        work.script(
            "oracle/variant.py",
            &[variant, "--data", data, "--out", "."],
        );
        work.publish();
        work.compare_with_oracle("data");
    }
}

/// One test per variant.
macro_rules! variants {
    ($($name:ident)*) => {
        const VARIANTS: &[&str] = &[$(stringify!($name)),*];

        mod oracle_agrees {
            $(
                #[test]
                fn $name() {
                    super::agree(stringify!($name));
                }
            )*
        }
    };
}

variants! {
    as_they_stand
    churn_at_cancel_request_and_all_discounts
    no_discounts
    past_due_without_end_of_grace
    past_due_for_no_day_and_own_involuntary_reasons
    amount_is_the_total
    nrr_with_reactivation
    ltv_churn_of_three_periods
    mau_of_the_calendar_month
    sessions_end_after_ten_minutes
    cohorts_up_to_age_four
    rfm_by_ntile
    rfm_by_thresholds_and_own_segments
    rfm_of_payments
    rfm_of_mrr
    touch_by_own_rules_capacity_and_hold
    touch_rules_that_leave_some_out
    reporting_in_dollars
    reporting_in_dinars
    days_of_new_york
    a_later_begin
    a_later_start
    other_dimensions_and_cohorts
    seats_in_a_dimension
    sessions_by_id_and_seconds
    usage_as_sessions
    ready_mrr
    only_the_two_tables_it_needs
    no_usage
    no_invoices
    cost_of_retention_by_mrr
    offered_accounts
    onboarding_of_members
    onboarding_told_by_usage
    short_windows_and_small_samples
    without_draws_far_projection
    without_discounting_or_projection
    values_of_then
    own_metrics
    nothing_of_success
    little_of_success
}

#[test]
fn every_variant_has_its_test() {
    let work = Work::new("variants");
    let listed = work.script("oracle/variant.py", &["--list"]);
    // The company has a test of its own.
    let listed: Vec<&str> = listed.lines().filter(|name| *name != "company").collect();
    assert_eq!(listed, VARIANTS);
}

/// The shipped pipeline as it is.
#[test]
fn quickstart_equals_the_oracle_and_reads_the_same_everywhere() {
    let work = Work::new("quickstart").with_project_folders();
    work.cskpi(
        &[("OUT", "root")],
        &format!("--quiet run pipelines/quickstart.yaml --as-of {QUICKSTART_AS_OF}"),
    );
    work.script(
        "oracle/variant.py",
        &[
            "--of",
            "pipelines/quickstart.yaml",
            "--as-of",
            QUICKSTART_AS_OF,
            "--out",
            ".",
        ],
    );
    work.compare_with_oracle("data/quickstart");
    work.read_with_others("0");
}

/// Parquet for the program, CSV for the oracle.
#[test]
fn company_of_2000_accounts_and_2_million_events_equals_the_oracle() {
    let work = Work::new("company");
    work.cskpi(
        &[],
        "generate --accounts 2000 --months 36 --events 2000000 --seed 11 --start 2022-04 --format both --out data",
    );
    work.script(
        "oracle/variant.py",
        &["company", "--company", "data", "--out", "."],
    );
    work.publish();
    work.compare_with_oracle("data");
    work.read_with_others("0");
}

#[test]
fn money_with_cents_reads_the_same_everywhere() {
    for (variant, minor_digits) in [("reporting_in_dollars", "2"), ("reporting_in_dinars", "3")] {
        let work = Work::new(&format!("read-{variant}"));
        work.script("oracle/variant.py", &[variant, "--out", "."]);
        work.publish();
        work.read_with_others(minor_digits);
    }
}

/// Public data that is no part of this repository: `RAVENSTACK` or `../shared/data/ravenstack` names its folder.
#[test]
fn ravenstack_equals_a_plain_python_program() {
    let given = std::env::var_os("RAVENSTACK").map(PathBuf::from);
    let folder = given.unwrap_or_else(|| repository().join("../shared/data/ravenstack"));
    if !folder.join("ravenstack_subscriptions.csv").is_file() {
        // Past the test harness, which hides what a passing test prints.
        let _ = writeln!(
            std::io::stderr(),
            "RavenStack is not compared: there is no {} (RAVENSTACK may name another folder)",
            folder.display()
        );
        return;
    }
    let folder = folder.canonicalize().unwrap();
    let folder = folder.to_str().unwrap();
    let work = Work::new("ravenstack").with_project_folders();
    let command = "--quiet backfill pipelines/ravenstack.yaml --start 2023-01 --end 2025-01 --as-of 2025-01-02T00:00:00Z";
    work.cskpi(&[("RAVENSTACK", folder), ("OUT", "root")], command);
    work.script(
        "oracle/compare_ravenstack.py",
        &["--data", folder, "--actual", "root"],
    );
    work.read_with_others("2");
}
