//! `deploy/airflow/cskpi_nightly.py` under a real Airflow, with SQLite and no server: `airflow dags test`.
//!
//! Airflow is installed into `target/airflow-venv` by the first test that needs it: `tests/airflow/requirements.txt`, about
//! 290 MB.

use crate::python::{Work, environment, on_its_own, told};
use crate::support::repository;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// An Airflow of its own, with the DAG and the quickstart's data.
struct Airflow {
    work: Work,
    python: PathBuf,
}

/// How a task ended, and what it left in XCom.
#[derive(Debug, PartialEq)]
struct Task {
    state: String,
    tries: i64,
    xcom: Option<Value>,
}

impl Airflow {
    /// Every night's instant comes from the DAG run; only the pause between two tries is shorter than in the shipped file.
    fn new(name: &str) -> Self {
        let python = environment("airflow-venv", "tests/airflow/requirements.txt");
        let work = Work::new(name).with_project_folders();
        let dag = repository().join("deploy/airflow/cskpi_nightly.py");
        let dag = fs::read_to_string(dag).unwrap();
        let pause = "timedelta(minutes=10)";
        assert!(dag.contains(pause));
        let dag = dag.replace(pause, "timedelta(seconds=1)");
        fs::create_dir(work.folder.join("dags")).unwrap();
        fs::write(work.folder.join("dags/cskpi_nightly.py"), dag).unwrap();
        let airflow = Self {
            python: python.unwrap_or_else(|reason| panic!("{reason}")),
            work,
        };
        told(airflow.command("airflow").args(["db", "migrate"])).unwrap();
        airflow
    }

    /// A program of Airflow's environment.
    fn command(&self, program: &str) -> Command {
        let folder = &self.work.folder;
        let mut command = Command::new(self.python.with_file_name(program));
        on_its_own(&mut command)
            .env("AIRFLOW_HOME", folder.join("airflow"))
            .env("AIRFLOW__CORE__DAGS_FOLDER", folder.join("dags"))
            .env("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
            .env("CSKPI", env!("CARGO_BIN_EXE_cskpi"))
            .env("CSKPI_FOLDER", folder)
            .env("CSKPI_PIPELINE", "pipeline.yaml")
            .env_remove("RUST_LOG");
        command
    }

    /// Runs the DAG as of 6:30 of a day. `seen` is shown each line that Airflow logs. Gives the tasks `run` and `verify`.
    #[track_caller]
    fn night(&self, day: &str, conf: &str, mut seen: impl FnMut(&str)) -> (Task, Task) {
        let logical_date = format!("{day}T06:30:00+09:00");
        let mut child = self
            .command("airflow")
            .args(["dags", "test", "cskpi_nightly", &logical_date, "-c", conf])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut log = String::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            seen(&line);
            log.push_str(&line);
            log.push('\n');
        }
        child.wait().unwrap();
        let task = |name| {
            self.task(name)
                .unwrap_or_else(|| panic!("no task {name}:\n{log}"))
        };
        (task("run"), task("verify"))
    }

    /// A task of the last DAG run, as Airflow's database has it.
    fn task(&self, name: &str) -> Option<Task> {
        let query = "import json, sqlite3, sys\n\
            rows = sqlite3.connect(sys.argv[1]).execute('''\n\
            select t.state, t.try_number, x.value from task_instance t\n\
            left join xcom x on x.run_id = t.run_id and x.task_id = t.task_id and x.key = 'return_value'\n\
            where t.task_id = ? and t.run_id = (select run_id from dag_run order by id desc limit 1)''', [sys.argv[2]])\n\
            print(json.dumps([[s, n, v and json.loads(v)] for s, n, v in rows]))";
        let database = self.work.folder.join("airflow/airflow.db");
        let mut command = self.command("python");
        let rows = told(command.args(["-c", query]).arg(database).arg(name));
        let rows: Value = serde_json::from_str(&rows.unwrap()).unwrap();
        let row = rows.get(0)?;
        Some(Task {
            state: row[0].as_str().unwrap_or_default().to_owned(),
            tries: row[1].as_i64().unwrap(),
            xcom: Some(row[2].clone()).filter(|value| !value.is_null()),
        })
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.work.folder.join(file), text).unwrap();
    }
}

/// Four nights: the export comes late, nothing is new, past months are asked for, someone breaks the pipeline file.
#[test]
fn the_dag_waits_for_inputs_publishes_verifies_and_gives_up_on_mistakes() {
    let airflow = Airflow::new("airflow");
    let folder = &airflow.work.folder;
    let late = folder.join("plans.csv");
    let pipeline = fs::read_to_string(repository().join("pipelines/quickstart.yaml")).unwrap();
    let pipeline = pipeline
        .replace("data/quickstart/plans.csv", "plans.csv")
        .replace("lookback: 23", "lookback: 1");
    airflow.write("pipeline.yaml", &pipeline);

    // 75: the export is not there. Airflow tries again, and by then it is.
    let mut codes = Vec::new();
    let (run, verify) = airflow.night("2026-03-08", "{}", |line| {
        if line.contains("cskpi run ended with 75: to be tried again") {
            codes.push(75);
            fs::copy(repository().join("data/quickstart/plans.csv"), &late).unwrap();
        }
    });
    assert!(!codes.is_empty());
    assert_eq!((run.state.as_str(), run.tries), ("success", 2), "{run:?}");
    let summary = run.xcom.unwrap();
    assert_eq!(
        (&summary["status"], &summary["periods"], &summary["created"]),
        (&"success".into(), &2.into(), &30.into())
    );
    assert_eq!(verify.state, "success");
    let said = "30 files are as they were published";
    assert_eq!(verify.xcom, Some(said.into()));

    // The same night again: its own instant counts, not today's.
    let (run, verify) = airflow.night("2026-03-08", "{}", |_| {});
    assert_eq!((run.state.as_str(), run.tries), ("success", 1), "{run:?}");
    let summary = run.xcom.unwrap();
    assert_eq!(
        (&summary["status"], &summary["up_to_date"]),
        (&"nothing_to_do".into(), &30.into())
    );
    assert_eq!(verify.state, "success");

    // The next month's night, asked for a quarter of the past.
    let conf = r#"{"backfill_start": "2025-04", "backfill_end": "2025-07"}"#;
    let (run, verify) = airflow.night("2026-04-08", conf, |_| {});
    let summary = run.xcom.unwrap();
    assert_eq!(
        (&summary["status"], &summary["periods"], &summary["created"]),
        (&"success".into(), &3.into(), &45.into())
    );
    let said = "75 files are as they were published";
    assert_eq!(verify.xcom, Some(said.into()));

    // 2: trying again would not help.
    airflow.write(
        "pipeline.yaml",
        &pipeline.replace("currency: JPY", "currency: YEN"),
    );
    let (run, verify) = airflow.night("2026-04-09", "{}", |_| {});
    assert_eq!((run.state.as_str(), run.tries), ("failed", 1), "{run:?}");
    assert_eq!((run.xcom, verify.state.as_str()), (None, "upstream_failed"));
}
