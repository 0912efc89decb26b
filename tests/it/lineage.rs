//! OpenLineage events of real runs, held against the standard's own schemas (`tests/lineage/spec`).

use crate::project::{Project, RUN};
use crate::python;
use crate::s3::Script;
use crate::support::repository;
use serde_json::Value;
use std::fs;
use std::path::Path;

const POLICY: &str = "policy: {gross_margin: 0.8}";

fn with_lineage(lineage: &str) -> Project {
    Project::new().pipeline(POLICY, &format!("{POLICY}\nlineage: {lineage}"))
}

fn events(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Every event and facet is what its schema says.
#[track_caller]
fn keep_the_standard(file: &Path) {
    let spec = repository().join("tests/lineage/spec");
    let checked = python::command("lineage/check.py")
        .arg(file)
        .arg(spec)
        .output()
        .unwrap();
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stdout)
    );
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["eventType"].as_str().unwrap())
        .collect()
}

fn fields<'a>(event: &'a Value, table: &str, column: &str) -> Vec<&'a str> {
    let outputs = event["outputs"].as_array().unwrap();
    let output = outputs
        .iter()
        .find(|output| {
            output["name"]
                .as_str()
                .unwrap()
                .ends_with(&format!("/{table}"))
        })
        .unwrap();
    let lineage = &output["facets"]["columnLineage"]["fields"][column]["inputFields"];
    lineage
        .as_array()
        .unwrap()
        .iter()
        .map(|field| field["field"].as_str().unwrap())
        .collect()
}

#[test]
fn a_run_tells_what_it_made_of_what() {
    let project = with_lineage("{file: lineage.jsonl, namespace: finance}");
    project.run(RUN).succeeded();
    let file = project.folder.path().join("lineage.jsonl");
    keep_the_standard(&file);
    let events = events(&file);
    assert_eq!(kinds(&events), ["START", "COMPLETE"]);
    assert_eq!(events[0]["run"]["runId"], events[1]["run"]["runId"]);
    let job = &events[1]["job"];
    assert_eq!(
        (&job["namespace"], &job["name"]),
        (&"finance".into(), &"small".into())
    );
    let nominal = &events[1]["run"]["facets"]["nominalTime"];
    assert_eq!(nominal["nominalStartTime"], "2024-01-31T15:00:00Z");

    let inputs = events[1]["inputs"].as_array().unwrap();
    let names: Vec<&str> = inputs
        .iter()
        .map(|input| input["name"].as_str().unwrap())
        .collect();
    assert!(
        names[0].ends_with("/accounts.csv") && names[1].ends_with("/subscriptions.csv"),
        "{names:?}"
    );
    assert_eq!(
        inputs[1]["facets"]["schema"]["fields"]
            .as_array()
            .unwrap()
            .len(),
        5
    );
    assert_eq!(inputs[1]["inputFacets"]["inputStatistics"]["rowCount"], 2);

    let outputs = events[1]["outputs"].as_array().unwrap();
    assert_eq!(outputs.len(), 10);
    let kpis = outputs
        .iter()
        .find(|output| output["name"].as_str().unwrap().ends_with("/kpi_summary"))
        .unwrap();
    let statistics = &kpis["outputFacets"]["outputStatistics"];
    assert_eq!(
        (&statistics["rowCount"], &statistics["fileCount"]),
        (&1.into(), &1.into())
    );

    // MRR rests on the subscriptions' columns; a formula of other metrics rests on theirs.
    let subscription = [
        "account_id",
        "amount",
        "ended_at",
        "started_at",
        "subscription_id",
    ];
    assert_eq!(
        fields(&events[1], "account_period", "closing_mrr"),
        subscription
    );
    assert_eq!(fields(&events[1], "kpi_summary", "nrr"), subscription);
    assert_eq!(fields(&events[1], "kpi_summary", "ltv"), subscription);
    assert_eq!(
        fields(&events[1], "account_period", "cohort_signup")[..2],
        ["signup_date", "account_id"]
    );
}

#[test]
fn a_failed_run_says_why() {
    let project = with_lineage("{file: lineage.jsonl}").put(
        "subscriptions.csv",
        "subscription_id,account_id,started_at,amount\ns1,nobody,2024-01-10,1\n",
    );
    assert_eq!(project.run(RUN).code, 1);
    let file = project.folder.path().join("lineage.jsonl");
    keep_the_standard(&file);
    let events = events(&file);
    assert_eq!(kinds(&events), ["START", "FAIL"]);
    let error = events[1]["run"]["facets"]["errorMessage"]["message"]
        .as_str()
        .unwrap();
    assert!(error.contains("is not in accounts"), "{error}");
    assert_eq!(events[1]["outputs"], Value::Array(Vec::new()));
}

#[test]
fn events_go_over_http_with_the_key() {
    let folder = crate::support::temp_folder();
    let received = folder.path().join("received.jsonl");
    let receiver = Script::start("lineage/receiver.py", &[received.to_str().unwrap(), "201"]);
    let url = format!("http://127.0.0.1:{}/api/v1/lineage", receiver.port);
    let project = with_lineage(&format!("{{url: \"{url}\", api_key: s3cret-key}}"));
    let ran = project.run(RUN).succeeded();
    assert!(
        !ran.stderr.contains("s3cret-key") && !ran.stderr.contains("OpenLineage"),
        "{}",
        ran.stderr
    );
    let received = events(&received);
    let sent: Vec<Value> = received
        .iter()
        .map(|received| received["event"].clone())
        .collect();
    assert_eq!(kinds(&sent), ["START", "COMPLETE"]);
    assert_eq!(received[0]["authorization"], "Bearer s3cret-key");
}

#[test]
fn a_receiver_that_fails_fails_no_run() {
    let folder = crate::support::temp_folder();
    let file = folder.path().join("received.jsonl");
    let broken = Script::start("lineage/receiver.py", &[file.to_str().unwrap(), "500"]);
    let silent = Script::start("lineage/receiver.py", &[file.to_str().unwrap(), "0"]);
    let urls = [
        format!("http://127.0.0.1:{}/token-in-path", broken.port),
        format!("http://127.0.0.1:{}/token-in-path", silent.port),
        "http://127.0.0.1:9/token-in-path".to_owned(),
    ];
    for url in urls {
        let ran = with_lineage(&format!("{{url: \"{url}\"}}"))
            .run(RUN)
            .succeeded();
        assert!(
            ran.stderr
                .contains("the OpenLineage event \"COMPLETE\" was not received"),
            "{}",
            ran.stderr
        );
        assert!(!ran.stderr.contains("token-in-path"), "{}", ran.stderr);
    }
    with_lineage("{file: no/such/folder/lineage.jsonl}")
        .run(RUN)
        .succeeded();
}
