//! A company whose files name their days, run night after night, and what may be asked of it after each.

use crate::support::{self, Ran, published_table, rows_as_text};
use chrono::{DateTime, Utc};
use polars::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tempfile::TempDir;

/// January to April are complete; the nightly run looks at eleven months before the last complete one.
pub const APRIL_IS_OVER: &str = "2024-05-01T00:00:00+09:00";
pub const MAY_IS_OVER: &str = "2024-06-01T00:00:00+09:00";

const PIPELINE: &str = "\
version: 1
name: nightly
currency: JPY
calendar: {time_zone: Asia/Tokyo, begin: 2024-01-01, lookback: 11}
sources:
  accounts: {path: accounts.csv}
  subscriptions: {path: subscriptions.csv}
  invoice_lines: {path: \"invoices/*.csv\", file_dates: \"invoices-%Y-%m.csv\"}
  usage_events: {path: usage, format: csv, file_dates: \"day=%Y-%m-%d\"}
policy: {gross_margin: 0.8}
dimensions: {region: region}
outputs: {root: out}
";
const ACCOUNTS: &str = "account_id,signup_date,region\nacme,2024-01-05,north\nbolt,2024-01-20,south\ncask,2024-01-06,north\n";
const SUBSCRIPTIONS: &str = "\
subscription_id,account_id,started_at,ended_at,amount
s1,acme,2024-01-10,,10000
s2,bolt,2024-01-20,,5000
s3,cask,2024-01-07,2024-04-10,7000
";

/// A company in a folder of its own; results go to `out/`.
pub struct Dated {
    folder: TempDir,
}

/// Period, dimension, member, metric.
pub type Key = [String; 4];
/// A null is no value.
pub type Values = BTreeMap<Key, Option<f64>>;

/// A row of `restatements`.
#[derive(Debug, Clone, PartialEq)]
pub struct Restatement {
    pub run_id: String,
    pub key: Key,
    pub old: Option<f64>,
    pub new: Option<f64>,
    pub was_complete: bool,
    pub was_closed: bool,
    pub cause: String,
    pub detail: String,
}

impl Dated {
    pub fn new() -> Self {
        let company = Self {
            folder: support::temp_folder(),
        };
        company.put("pipeline.yaml", PIPELINE);
        company.put("accounts.csv", ACCOUNTS);
        company.put("subscriptions.csv", SUBSCRIPTIONS);
        for month in 1..=4 {
            company.put_invoices(month, 10_000);
        }
        for day in ["2024-01-10", "2024-03-10"] {
            company.put_usage(&format!("usage/day={day}/part-0.csv"), day, 2);
        }
        company
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn root(&self) -> PathBuf {
        self.path().join("out")
    }

    pub fn put(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The pipeline with one part replaced.
    pub fn pipeline(&self, part: &str, replacement: &str) {
        assert!(PIPELINE.contains(part));
        self.put("pipeline.yaml", &PIPELINE.replace(part, replacement));
    }

    /// A month's invoices, with what acme pays.
    pub fn put_invoices(&self, month: u32, amount: u32) {
        let text = format!(
            "invoice_id,account_id,issued_at,amount\n\
             a{month},acme,2024-{month:02}-10,{amount}\n\
             b{month},bolt,2024-{month:02}-11T23:30:00,5000\n"
        );
        self.put(&invoices(month), &text);
    }

    /// So many users of acme on a day.
    pub fn put_usage(&self, file: &str, day: &str, users: usize) {
        let rows: String = (0..users)
            .map(|user| format!("acme,u{user},{day}T10:00:00\n"))
            .collect();
        self.put(file, &format!("account_id,user_id,occurred_at\n{rows}"));
    }

    pub fn remove(&self, file: &str) {
        fs::remove_file(self.path().join(file)).unwrap();
    }

    /// Another time, the same content.
    pub fn touch(&self, file: &str) {
        let file = File::options().append(true).open(self.path().join(file));
        let an_hour_ago = SystemTime::now() - std::time::Duration::from_secs(3600);
        file.unwrap().set_modified(an_hour_ago).unwrap();
    }

    /// Any command, `pipeline.yaml` after the verb.
    pub fn cskpi(&self, command: &str, as_of: &str) -> Ran {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        let command = format!("{verb} pipeline.yaml {rest} --as-of {as_of}");
        support::cskpi(self.path(), &command)
    }

    /// A nightly run, and what it says of itself.
    #[track_caller]
    pub fn run(&self, as_of: &str) -> Value {
        let ran = self.cskpi("run --quiet --output json", as_of);
        ran.succeeded().summary()
    }

    /// What `plan` says of a table: period → state and reasons, in the order of the periods.
    #[track_caller]
    pub fn plan(&self, table: &str, as_of: &str) -> Vec<(String, String, Vec<String>)> {
        let ran = self.cskpi("plan --output json", as_of).succeeded();
        let plan: Value = serde_json::from_str(&ran.stdout).unwrap();
        let verdict = |period: &Value| {
            let units = period["units"].as_array().unwrap();
            let unit = units.iter().find(|unit| unit["table"] == table).unwrap();
            let reasons = unit["reasons"].as_array().unwrap().iter().map(text);
            let month = text(&period["period_start"])[..7].to_owned();
            (month, text(&unit["state"]), reasons.collect())
        };
        plan.as_array().unwrap().iter().map(verdict).collect()
    }

    /// `plan` names exactly these months, with this state and these reasons; all others are up to date. As text and as JSON.
    #[track_caller]
    pub fn expects(&self, as_of: &str, months: &[&str], state: &str, reasons: &[&str]) {
        let plan = self.plan("kpi_values", as_of);
        let named: Vec<&str> = plan
            .iter()
            .filter(|(_, state, _)| state != "up_to_date")
            .map(|(month, ..)| month.as_str())
            .collect();
        assert_eq!(named, months, "{plan:?}");
        for (month, found, why) in plan.iter().filter(|(month, ..)| named.contains(&&**month)) {
            assert_eq!(found, &state.replace(' ', "_"), "{month}");
            assert_eq!(why, reasons, "{month}");
        }
        let ran = self.cskpi("plan --detailed-exitcode", as_of);
        assert_eq!(ran.code, if months.is_empty() { 0 } else { 3 });
        let (first, last) = match months {
            [] => return,
            [first, .., last] => (first, last),
            [one] => (one, one),
        };
        let range = if first == last {
            first.to_string()
        } else {
            format!("{first} to {last}")
        };
        let all = [vec![state.to_owned(), range], to_texts(reasons)].concat();
        for part in all {
            assert!(ran.stdout.contains(&part), "no `{part}`:\n{}", ran.stdout);
        }
        let to_do = format!("to do: {} of {} periods", months.len(), plan.len());
        assert!(
            ran.stdout.ends_with(&format!("{to_do}\n")),
            "{}",
            ran.stdout
        );
    }

    /// What the last run says of its units: statuses by month.
    pub fn statuses(&self, run_id: &str) -> BTreeMap<String, BTreeSet<String>> {
        let results = results_of(&self.root(), run_id);
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for unit in results["units"].as_array().unwrap() {
            let month = text(&unit["period"])[..7].to_owned();
            all.entry(month).or_default().insert(text(&unit["status"]));
        }
        all
    }

    pub fn values(&self) -> Values {
        values(&published_table(&self.root(), "kpi_values").unwrap())
    }

    pub fn restatements(&self) -> Vec<Restatement> {
        restatements(&published_table(&self.root(), "restatements").unwrap())
    }

    /// The restatements of one run are the differences between two states, no more and no fewer.
    #[track_caller]
    pub fn foots(&self, run_id: &str, before: &Values, after: &Values) -> Vec<Restatement> {
        let mut of_run = self.restatements();
        of_run.retain(|row| row.run_id == run_id);
        let stated: BTreeMap<&Key, (Option<f64>, Option<f64>)> = of_run
            .iter()
            .map(|row| (&row.key, (row.old, row.new)))
            .collect();
        assert_eq!(stated.len(), of_run.len(), "a value is restated twice");
        let months: BTreeSet<&String> = before.keys().map(|key| &key[0]).collect();
        let differing: BTreeMap<&Key, (Option<f64>, Option<f64>)> = after
            .keys()
            .chain(before.keys())
            // A period that was not there before restates nothing.
            .filter(|key| months.contains(&key[0]))
            .map(|key| (key, (value(before, key), value(after, key))))
            .filter(|(_, (old, new))| old != new)
            .collect();
        assert_eq!(stated, differing);
        of_run
    }
}

pub fn invoices(month: u32) -> String {
    format!("invoices/invoices-2024-{month:02}.csv")
}

/// `_cskpi/runs/<run_id>/run_results.json`.
#[track_caller]
pub fn results_of(root: &Path, run_id: &str) -> Value {
    let file = root.join(format!("_cskpi/runs/{run_id}/run_results.json"));
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// Results of the run that began last, of those that could say anything before they died. Ids do not tell which one it is:
/// they know no more than the second.
#[track_caller]
pub fn results_of_last(root: &Path) -> Value {
    let runs = root.join("_cskpi/runs");
    let said = |id: &String| runs.join(id).join("run_results.json").exists();
    let results = |id: String| results_of(root, &id);
    let begun = |results: &Value| {
        text(&results["started_at"])
            .parse::<DateTime<Utc>>()
            .unwrap()
    };
    let all = support::names_in(&runs).into_iter().filter(said);
    all.map(results).max_by_key(begun).unwrap()
}

/// When each published file was last written, by name.
pub fn times(root: &Path) -> BTreeMap<String, SystemTime> {
    let files = support::published_files(root).into_iter();
    let time = |file: &str| fs::metadata(root.join(file)).unwrap().modified().unwrap();
    files.map(|(file, _)| (file.clone(), time(&file))).collect()
}

/// Files that were written since, or are new.
pub fn written_since(root: &Path, before: &BTreeMap<String, SystemTime>) -> Vec<String> {
    let now = times(root).into_iter();
    now.filter(|(file, time)| before.get(file) != Some(time))
        .map(|(file, _)| file)
        .collect()
}

pub fn values(frame: &DataFrame) -> Values {
    let key = ["period_start", "dimension", "member", "metric"];
    let keys = rows_as_text(&frame.select(key).unwrap());
    let values = frame.column("value").unwrap().f64().unwrap().to_vec();
    let of_row = |row: Vec<String>| Key::try_from(row).unwrap();
    keys.into_iter().map(of_row).zip(values).collect()
}

/// Asserts that two states have the same values; a value that is not there is null.
#[track_caller]
pub fn assert_same_values(left: &Values, right: &Values) {
    let keys: BTreeSet<&Key> = left.keys().chain(right.keys()).collect();
    let differing = keys
        .into_iter()
        .filter(|key| value(left, key) != value(right, key))
        .map(|key| (key, value(left, key), value(right, key)));
    assert_eq!(differing.collect::<Vec<_>>(), []);
}

pub fn value(values: &Values, key: &Key) -> Option<f64> {
    values.get(key).copied().flatten()
}

fn restatements(frame: &DataFrame) -> Vec<Restatement> {
    let key = ["period_start", "dimension", "member", "metric"];
    let keys = rows_as_text(&frame.select(key).unwrap());
    let texts = rows_as_text(&frame.select(["run_id", "cause", "cause_detail"]).unwrap());
    let number = |name: &str| frame.column(name).unwrap().f64().unwrap().to_vec();
    let flag = |name: &str| -> Vec<Option<bool>> {
        frame.column(name).unwrap().bool().unwrap().iter().collect()
    };
    let (old, new) = (number("old_value"), number("new_value"));
    let (complete, closed) = (flag("was_complete"), flag("was_closed"));
    let rows = keys.into_iter().zip(texts).enumerate();
    let row = |(at, (key, mut texts)): (usize, (Vec<String>, Vec<String>))| Restatement {
        detail: texts.pop().unwrap(),
        cause: texts.pop().unwrap(),
        run_id: texts.pop().unwrap(),
        key: Key::try_from(key).unwrap(),
        old: old[at],
        new: new[at],
        was_complete: complete[at].unwrap(),
        was_closed: closed[at].unwrap(),
    };
    rows.map(row).collect()
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn to_texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}
