//! Networks and stores that fail, while a run publishes over what is already published.
//!
//! Two contents of the same inputs take turns, so that every run has something to replace. However a run ends, what
//! readers find is whole, and the run after it publishes what an undisturbed one would have.

use crate::cloud::{self, AS_OF, Cloud, RUN, SUBSCRIPTIONS};
use crate::support::{assert_refused, assert_same_bytes, cskpi, published_files, temp_folder};
use serde_json::{Value, json};
use std::fs;

type Files = Vec<(String, Vec<u8>)>;

/// How a run ends under faults.
enum Ends {
    /// As if there had been none.
    Well,
    /// With this code and these words, before anything was published.
    Before(i32, &'static [&'static str]),
    /// With exit code 1 while files were committed: each is the old one or the new one, and the next run finishes.
    Within(&'static [&'static str]),
}

struct Trial {
    cloud: Cloud,
    /// Both contents of the subscriptions, and what is published of them.
    contents: [(String, Files); 2],
    /// Which of them the last run was about.
    now: usize,
}

impl Trial {
    /// The first content is published.
    fn new() -> Self {
        let cloud = Cloud::new();
        let contents = [
            SUBSCRIPTIONS.to_owned(),
            SUBSCRIPTIONS.replace("10000", "12000"),
        ];
        let contents = contents.map(|text| {
            let files = on_disk(&text);
            (text, files)
        });
        cloud.run(RUN).succeeded();
        let trial = Self {
            cloud,
            contents,
            now: 0,
        };
        trial.is_published("at first");
        trial
    }

    /// What readers find, without the restatements, which name the run that made them.
    fn found(&self) -> Files {
        without_restatements(self.cloud.published("out/"))
    }

    #[track_caller]
    fn is_published(&self, what: &str) {
        assert_same_bytes(&self.found(), &self.contents[self.now].1, what);
    }

    /// One run over changed inputs under faults, and whatever it takes to make good.
    #[track_caller]
    fn survives(&mut self, what: &str, faults: Value, ends: Ends) {
        let before = self.now;
        self.now = 1 - before;
        let cloud = &self.cloud;
        cloud.put("in/subscriptions.csv", &self.contents[self.now].0);
        cloud.proxy.clear_log();
        cloud.proxy.faults(faults);
        let ran = cloud.run(RUN);
        cloud.proxy.faults(json!([]));
        let is_hit = |entry: &Value| !entry["faults"].as_array().unwrap().is_empty();
        assert!(
            cloud.proxy.log().iter().any(is_hit),
            "{what}: no request was hit"
        );

        match ends {
            Ends::Well => assert_eq!(ran.code, 0, "{what}: {}", ran.stderr),
            Ends::Before(code, messages) => {
                assert_refused(&ran, code, messages);
                assert_same_bytes(&self.found(), &self.contents[before].1, what);
                cloud.run(RUN).succeeded();
            }
            Ends::Within(messages) => {
                assert_refused(&ran, 1, messages);
                let (old, new) = (&self.contents[before].1, &self.contents[self.now].1);
                let found = self.found();
                assert_eq!(found.len(), new.len(), "{what}");
                for file in found {
                    let is_whole = old.contains(&file) || new.contains(&file);
                    assert!(is_whole, "{what}: {} is neither old nor new", file.0);
                }
                let next = cloud.run(RUN).succeeded();
                assert!(
                    next.stderr.contains("finishing the period"),
                    "{what}: {}",
                    next.stderr
                );
            }
        }
        self.is_published(what);
        cloud.is_tidy();
    }

    /// After all of it, records and files agree, and there is nothing left to do.
    #[track_caller]
    fn is_settled(&self) {
        self.cloud.run("verify pipeline.yaml").succeeded();
        let plan =
            format!("plan pipeline.yaml --start 2024-02 --end 2024-03 --detailed-exitcode {AS_OF}");
        self.cloud.run(&plan).succeeded();
    }
}

/// What is published from the local disk.
fn on_disk(subscriptions: &str) -> Files {
    let folder = temp_folder();
    let put = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
    put("accounts.csv", cloud::ACCOUNTS);
    put("subscriptions.csv", subscriptions);
    put("pipeline.yaml", &cloud::pipeline(".", "out", ""));
    cskpi(folder.path(), RUN).succeeded();
    without_restatements(published_files(&folder.path().join("out")))
}

fn without_restatements(files: Files) -> Files {
    let files = files.into_iter();
    files
        .filter(|(file, _)| !file.starts_with("restatements/"))
        .collect()
}

fn status(method: &str, path: &str, times: i32, status: u16, code: &str) -> Value {
    json!({
        "action": "status", "method": method, "path": path, "times": times,
        "status": status, "code": code, "message": "as the test wants it",
    })
}

fn once(action: &str, method: &str, path: &str) -> Value {
    json!({"action": action, "method": method, "path": path, "times": 1})
}

/// One published file, not its staged one.
const FILE: &str = "/out/kpi_values/";
const LOCK: &str = "/out/_cskpi/lock.json";
const MANIFEST: &str = "/out/_cskpi/manifest/";
const JOURNAL: &str = "/out/_cskpi/journal/";
const RESULTS: &str = "/out/_cskpi/runs/";

/// What passes is retried.
#[test]
fn answers_of_a_store_that_is_overloaded_are_waited_out() {
    let mut trial = Trial::new();
    let mut well = |what: &str, rule: Value| trial.survives(what, json!([rule]), Ends::Well);
    well("500 twice", status("PUT", FILE, 2, 500, "InternalError"));
    well("503 three times", status("PUT", FILE, 3, 503, "SlowDown"));
    well(
        "503 for listings",
        status("GET", "list-type", 3, 503, "SlowDown"),
    );
    well("503 for inputs", status("GET", "/in/", 3, 503, "SlowDown"));
    well("503 for the lock", status("PUT", LOCK, 3, 503, "SlowDown"));
    well(
        "412 although nobody wrote",
        status("PUT", FILE, 1, 412, "PreconditionFailed"),
    );
    well(
        "409 of a racing write",
        status("PUT", FILE, 1, 409, "ConditionalRequestConflict"),
    );
    trial.is_settled();
}

/// A write whose answer is lost may have taken effect. Its retry is refused, and then it is looked at what lies there.
#[test]
fn writes_whose_answer_is_lost_are_settled_by_looking() {
    let mut trial = Trial::new();
    for path in [
        FILE,
        LOCK,
        MANIFEST,
        JOURNAL,
        RESULTS,
        "/out/_cskpi/probe/",
        "/out/runs/",
    ] {
        trial.survives(path, json!([once("drop_after", "PUT", path)]), Ends::Well);
    }
    trial.is_settled();
}

#[test]
fn connections_that_break_are_made_again() {
    let mut trial = Trial::new();
    let mut well = |what: &str, rule: Value| trial.survives(what, json!([rule]), Ends::Well);
    well("an input is cut off", once("cut", "GET", "/in/"));
    well(
        "a staged file is cut off",
        once("cut", "GET", "staging/.*kpi_values"),
    );
    well("a manifest is cut off", once("cut", "GET", MANIFEST));
    well("a write does not arrive", once("drop_before", "PUT", FILE));
    well(
        "an input is not answered",
        once("drop_before", "GET", "/in/"),
    );
    let silent = |method: &str, path: &str| json!({"action": "hang", "method": method, "path": path, "times": 1, "seconds": 1.5});
    well("a write is not answered in time", silent("PUT", FILE));
    well("an input is not answered in time", silent("GET", "/in/"));
    trial.is_settled();
}

/// What does not pass ends the run, and says so.
#[test]
fn a_store_that_goes_on_failing_ends_the_run_and_the_next_one_makes_good() {
    let mut trial = Trial::new();
    let mut ends = |what: &str, rule: Value, ends: Ends| trial.survives(what, json!([rule]), ends);
    ends(
        "500 for ever on a commit",
        status("PUT", FILE, -1, 500, "InternalError"),
        Ends::Within(&[
            "error: the period 2024-02-01 is committed in part; the next run finishes it",
            "/out/kpi_values/period=2024-02-01/part-0.parquet failed",
            "caused by: InternalError: as the test wants it",
            "help: run again: what was begun is finished first",
        ]),
    );
    ends(
        "500 for ever on the manifest",
        status("PUT", MANIFEST, -1, 500, "InternalError"),
        Ends::Within(&[
            "is committed in part",
            "InternalError: as the test wants it",
        ]),
    );
    ends(
        "412 for ever on a commit",
        status("PUT", FILE, -1, 412, "PreconditionFailed"),
        Ends::Within(&["was changed by someone else in the meantime"]),
    );
    ends(
        "500 for ever on staging",
        status("PUT", "staging/.*kpi_values", -1, 500, "InternalError"),
        Ends::Before(
            1,
            &[
                "error: writing s3://",
                "caused by: InternalError",
                "help: check s3.endpoint",
            ],
        ),
    );
    ends(
        "500 for ever on inputs",
        status("GET", "/in/", -1, 500, "InternalError"),
        Ends::Before(
            1,
            &[
                "error: source accounts",
                "/in/accounts.csv",
                "InternalError",
                "help: check s3.endpoint",
            ],
        ),
    );
    ends(
        "500 for ever on listings",
        status("GET", "list-type", -1, 500, "InternalError"),
        Ends::Before(
            1,
            &[
                "error: listing s3://",
                "/out/_cskpi/staging failed",
                "caused by: InternalError",
            ],
        ),
    );
    ends(
        "nobody answers",
        json!({"action": "drop_before"}),
        Ends::Before(
            1,
            &[
                "error: source accounts",
                "reading s3://",
                "/in/accounts.csv failed",
                "help: check s3.endpoint",
            ],
        ),
    );
    ends(
        "a lock that seems to be somebody else's",
        json!({
            "action": "status", "method": "PUT", "path": LOCK, "after": 2, "times": 1,
            "status": 412, "code": "PreconditionFailed", "message": "no",
        }),
        Ends::Before(
            75,
            &[
                "this run has lost its lock",
                "help: nothing more was published",
            ],
        ),
    );
    trial.is_settled();
}

/// Without conditions two runs could tear a table. A store that does not keep them is found out before anything is written.
#[test]
fn a_store_that_ignores_conditions_is_refused() {
    let mut trial = Trial::new();
    trial.survives(
        "conditions are ignored",
        json!([{"action": "strip_conditions"}]),
        Ends::Before(
            2,
            &[
                "error: the store behind s3://",
                "does not keep conditional writes: it overwrote an object in spite of If-None-Match",
                "help: publish to a store that honours If-None-Match and If-Match on PUT",
            ],
        ),
    );
    trial.is_settled();
}
