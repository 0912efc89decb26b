//! What a run tells of itself: stages with rows, bytes and time, what it cost, and the trace of `--profile`.

use crate::project::{Project, RUN};
use crate::support::{Ran, cskpi_with, repository, says, temp_folder};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

/// An event of a trace: `[from, until)` in microseconds on a line of the viewer.
#[derive(Debug)]
struct Event {
    name: String,
    category: String,
    track: u64,
    from: u64,
    until: u64,
    args: Value,
}

/// The events of a trace that a viewer can open. Each lies within the one it begins in.
#[track_caller]
fn events(file: &Path) -> Vec<Event> {
    let trace: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let all = trace["traceEvents"].as_array().unwrap();
    let (names, complete): (Vec<&Value>, Vec<&Value>) =
        all.iter().partition(|event| event["ph"] == "M");
    let named = |what: &str| {
        let of = names.iter().filter(|event| event["name"] == what);
        of.map(|event| (number(event, "tid"), event["args"]["name"].clone()))
            .collect::<BTreeMap<u64, Value>>()
    };
    let process = named("process_name");
    assert_eq!(process.into_values().collect::<Vec<_>>(), ["cskpi"]);
    let threads = named("thread_name");
    let events: Vec<Event> = complete.into_iter().map(event).collect();
    let mut open: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut last = 0;
    for event in &events {
        // To viewers, thread 0 is nobody's.
        assert!(event.track > 0 && threads.contains_key(&event.track));
        assert!(event.from >= last, "{event:?} comes late");
        last = event.from;
        let open = open.entry(event.track).or_default();
        open.retain(|until| *until > event.from || *until >= event.until);
        let ends = open.last().copied().unwrap_or(u64::MAX);
        assert!(event.until <= ends, "{event:?} outlives its parent");
        open.push(event.until);
    }
    events
}

fn event(event: &Value) -> Event {
    assert_eq!(event["ph"], "X");
    assert!(event["pid"].is_u64() && event["args"].is_object());
    let from = number(event, "ts");
    Event {
        name: event["name"].as_str().unwrap().to_owned(),
        category: event["cat"].as_str().unwrap().to_owned(),
        track: number(event, "tid"),
        from,
        until: from + number(event, "dur"),
        args: event["args"].clone(),
    }
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap()
}

fn results(root: &Path, run_id: &Value) -> Value {
    let run_id = run_id.as_str().unwrap();
    let file = root.join(format!("_cskpi/runs/{run_id}/run_results.json"));
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// Rows and bytes by stage.
fn counts(stages: &Value) -> Vec<(String, u64, u64)> {
    let stages = stages.as_array().unwrap().iter();
    let name = |stage: &Value| stage["stage"].as_str().unwrap().to_owned();
    stages
        .map(|stage| (name(stage), number(stage, "rows"), number(stage, "bytes")))
        .collect()
}

fn quickstart(root: &Path, options: &str) -> Ran {
    let variables = [("OUT", root.to_str().unwrap())];
    let command = format!("run pipelines/quickstart.yaml --period 2026-03 {options}");
    cskpi_with(&repository(), &variables, &command)
}

#[test]
fn stages_are_told_in_results_summary_and_trace() {
    let folder = temp_folder();
    let (root, trace) = (folder.path().join("out"), folder.path().join("trace.json"));
    let options = format!("--output json --profile {}", trace.display());
    let summary = quickstart(&root, &options).succeeded().summary();
    let results = results(&root, &summary["run_id"]);

    // What was read is what the inputs have, what was published is what the units have.
    let stages = counts(&results["stages"]);
    let of_stage = |name: &str| stages.iter().find(|(stage, ..)| stage == name);
    let inputs = results["inputs"].as_array().unwrap();
    assert!(inputs.len() > 10);
    for input in inputs {
        let table = input["table"].as_str().unwrap();
        let (_, rows, bytes) = of_stage(&format!("reading {table}")).unwrap();
        // Usage is rolled up: rows of events were read, those of the rollup were used.
        if table != "usage_events" {
            let of_input = (number(input, "rows"), number(input, "bytes"));
            assert_eq!((*rows, *bytes), of_input, "{table}");
        }
    }
    let (_, rows, bytes) = of_stage("publishing").unwrap();
    let expected = (number(&summary, "rows"), number(&summary, "bytes"));
    assert_eq!((*rows, *bytes), expected);
    let (_, built, _) = of_stage("building tables").unwrap();
    assert!(built > &0 && built <= rows);

    // The summary says the same.
    assert_eq!(counts(&summary["stages"]), stages);
    for cost in [&results["cost"], &summary["cost"]] {
        assert!(
            cost["peak_memory_bytes"].as_u64() > Some(10 << 20),
            "{cost}"
        );
        assert!(cost["cpu_seconds"].as_f64() > Some(0.1), "{cost}");
    }

    // So does the trace, whose stages follow each other from the run's first moment to its last.
    let events = events(&trace);
    let is_stage = |event: &&Event| event.category == "stage";
    let traced: Vec<&Event> = events.iter().filter(is_stage).collect();
    // Those of one kind are one in the results.
    let mut summed: Vec<(String, u64, u64)> = Vec::new();
    for event in &traced {
        let kind = match event.name.split_once(' ') {
            Some(("publishing", "2026-03")) => "publishing",
            _ => event.name.as_str(),
        };
        let (rows, bytes) = (number(&event.args, "rows"), number(&event.args, "bytes"));
        match summed.iter_mut().find(|(stage, ..)| stage == kind) {
            Some((_, all_rows, all_bytes)) => {
                *all_rows += rows;
                *all_bytes += bytes;
            }
            None => summed.push((kind.to_owned(), rows, bytes)),
        }
    }
    assert_eq!(summed, stages);
    let run = traced[0].from..traced[traced.len() - 1].until;
    let covered: u64 = traced.iter().map(|event| event.until - event.from).sum();
    assert!(covered * 100 >= (run.end - run.start) * 99);
    let is_within = |event: &Event| run.start <= event.from && event.until <= run.end;
    assert!(events.iter().all(is_within));

    // Within them are the tables, and the files, which other threads write.
    let names = |category: &str| {
        let of_category = events.iter().filter(|event| event.category == category);
        of_category.map(|event| event.name.clone()).collect()
    };
    let tables: Vec<String> = names("table");
    for table in results["tables"].as_array().unwrap() {
        assert!(tables.iter().any(|built| table == built), "{table}");
    }
    let files: Vec<String> = names("file");
    for table in tables {
        for what in ["encoding", "auditing", "committing"] {
            assert!(files.contains(&format!("{what} {table}")), "{what} {table}");
        }
    }
    let parts: Vec<String> = names("part");
    assert!(parts.contains(&"kpis".to_owned()) && parts.contains(&"committing".to_owned()));
    let workers = events.iter().filter(|event| event.category == "file");
    assert!(workers.into_iter().any(|event| event.track > 1));
}

#[test]
fn a_log_ends_with_what_the_stages_took() {
    let ran = Project::new().run(RUN).succeeded();
    let lines = || ran.stderr.lines();
    let table = lines().find(|line| line.ends_with("  rows/s"));
    let table = table.unwrap_or_else(|| panic!("{}", ran.stderr));
    let accounts = lines().rfind(|line| line.contains("reading accounts"));
    let accounts = accounts.unwrap();
    // Aligned, and with units.
    let column = |line: &str, text: &str| line.rfind(text).map(|at| at + text.len());
    assert_eq!(
        column(table, "bytes"),
        column(accounts, "55 B"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        column(table, "rows  "),
        column(accounts, "2  "),
        "{}",
        ran.stderr
    );
    says(&ran, &["of memory at most, ", " of CPU time"]);

    // As fields for programs.
    let ran = Project::new().run(&format!("{RUN} --log-format json"));
    let lines = ran.stderr.lines();
    let lines: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let accounts = |line: &&Value| line["stage"] == "reading accounts";
    let accounts = lines.iter().find(accounts).unwrap();
    assert_eq!(
        (&accounts["rows"], &accounts["bytes"]),
        (&2.into(), &55.into())
    );
    assert!(lines.iter().any(|line| line["peak_memory_bytes"].is_u64()));
    assert!(!ran.stderr.contains("rows/s"));
}

#[test]
fn a_failed_run_has_a_trace() {
    let project = Project::new().put("accounts.csv", "account_id,signup_date\nacme,soon\n");
    let ran = project.run(&format!("{RUN} --profile trace.json --output json"));
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let events = events(&project.folder.path().join("trace.json"));
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    let from = names.iter().position(|name| *name == "reading accounts");
    let expected = [
        "reading accounts",
        "reading subscriptions",
        "writing results",
    ];
    assert_eq!(names[from.unwrap()..], expected);
    // And its results have stages.
    let results = results(&project.root(), &ran.summary()["run_id"]);
    assert!(
        counts(&results["stages"])
            .iter()
            .any(|(stage, ..)| stage == "reading accounts")
    );

    // So has one that came to nothing.
    let ran = project.run("run nothing.yaml --profile trace.json");
    assert_eq!(ran.code, 2);
    let trace = fs::read_to_string(project.folder.path().join("trace.json")).unwrap();
    assert!(trace.starts_with('{') && trace.ends_with('}'));
}

#[test]
fn an_interrupted_run_has_a_trace() {
    let folder = temp_folder();
    let (root, trace) = (folder.path().join("out"), folder.path().join("trace.json"));
    let mut run = Command::new(env!("CARGO_BIN_EXE_cskpi"))
        .args(["backfill", "pipelines/quickstart.yaml", "--profile"])
        .arg(&trace)
        .env("OUT", &root)
        .current_dir(repository())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(run.stderr.take().unwrap());
    let mut line = String::new();
    while !line.ends_with("building tables\n") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0);
    }
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    stderr.read_to_string(&mut line).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(143), "{line}");
    let events = events(&trace);
    let unfinished = events
        .iter()
        .filter(|event| event.args["unfinished"] == true);
    let first = unfinished.into_iter().next().unwrap();
    assert_eq!(first.name, "building tables");
    let runs = crate::support::names_in(&root.join("_cskpi/runs"));
    let results = results(&root, &runs[0].as_str().into());
    let last = counts(&results["stages"]).pop().unwrap();
    assert_eq!(
        (last.0.as_str(), &results["status"]),
        ("building tables", &"interrupted".into())
    );
}

#[test]
fn a_trace_that_cannot_be_written_is_refused_at_once() {
    let refused = |path: &str, why: &[&str]| {
        let options = format!("{RUN} --profile {path}");
        Project::new().refuses(&options, 2, &[&["error: the profile ", path], why].concat());
    };
    refused("nowhere/trace.json", &["No such file or directory"]);
    refused(".", &["Is a directory"]);
    refused(
        "s3://bucket/trace.json",
        &["--profile takes a file on the local disk"],
    );
    // A scheduler gets its line.
    let ran = Project::new().run(&format!("{RUN} --profile . --output json"));
    assert_eq!((ran.code, &ran.summary()["status"]), (2, &"failed".into()));
    // A disk that is full at the end does not undo what was published.
    let ran = Project::new()
        .run(&format!("{RUN} --profile /dev/full"))
        .succeeded();
    says(
        &ran,
        &["the profile /dev/full cannot be written: No space left"],
    );
}

#[test]
fn results_of_an_earlier_program_are_understood() {
    let project = Project::new();
    let ran = project.run(&format!("{RUN} --output json")).succeeded();
    let run_id = ran.summary()["run_id"].as_str().unwrap().to_owned();
    let file = project
        .root()
        .join(format!("_cskpi/runs/{run_id}/run_results.json"));
    let mut results: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    results["stages"] = serde_json::json!([["reading accounts", 0.01], ["publishing", 0.2]]);
    results.as_object_mut().unwrap().remove("cost");
    fs::write(&file, results.to_string()).unwrap();
    let ran = project.run(&format!(
        "retry pipeline.yaml {run_id} --profile trace.json"
    ));
    says(&ran.succeeded(), &["nothing to do", "has no failed units"]);
}
