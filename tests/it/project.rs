//! A small company, ready to run, with one thing or another wrong.

use crate::support::{self, Ran, assert_refused, names_in, temp_folder};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// A company in a folder of its own; results go to `out/`.
pub struct Project {
    pub folder: TempDir,
}

const PIPELINE: &str = "\
version: 1
name: small
currency: JPY
calendar: {time_zone: Asia/Tokyo, begin: 2024-01-01}
sources:
  accounts: {path: accounts.csv}
  subscriptions: {path: subscriptions.csv}
policy: {gross_margin: 0.8}
outputs: {root: out}
";
pub const ACCOUNTS: &str = "account_id,signup_date\nacme,2024-01-05\nbolt,2024-01-20\n";
pub const SUBSCRIPTIONS: &str = "\
subscription_id,account_id,started_at,ended_at,amount
s1,acme,2024-01-10,,10000
s2,bolt,2024-02-01,2024-03-10,5000
";
/// January to March are complete.
pub const RUN: &str = "run pipeline.yaml --period 2024-02 --as-of 2024-04-01T00:00:00+09:00";

impl Project {
    pub fn new() -> Self {
        let project = Self {
            folder: temp_folder(),
        };
        project
            .put("pipeline.yaml", PIPELINE)
            .put("accounts.csv", ACCOUNTS)
            .put("subscriptions.csv", SUBSCRIPTIONS)
    }

    pub fn put(self, file: &str, text: &str) -> Self {
        fs::write(self.folder.path().join(file), text).unwrap();
        self
    }

    pub fn without(self, file: &str) -> Self {
        fs::remove_file(self.folder.path().join(file)).unwrap();
        self
    }

    /// The pipeline with one part replaced.
    pub fn pipeline(self, part: &str, replacement: &str) -> Self {
        assert!(PIPELINE.contains(part));
        self.put("pipeline.yaml", &PIPELINE.replace(part, replacement))
    }

    pub fn run(&self, command: &str) -> Ran {
        support::cskpi(self.folder.path(), command)
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// The command ends with this code and says all of this on standard error; nothing is published, nothing stays behind.
    #[track_caller]
    pub fn refuses(self, command: &str, code: i32, messages: &[&str]) {
        let ran = self.run(command);
        assert_refused(&ran, code, messages);
        assert_eq!(ran.stdout, "", "standard output is for data");
        self.has_published_nothing();
    }

    #[track_caller]
    pub fn has_published_nothing(&self) {
        let files = support::published_files(&self.root());
        assert!(
            files.is_empty(),
            "{:?}",
            files.iter().map(|(name, _)| name).collect::<Vec<_>>()
        );
        let own = names_in(&self.root().join("_cskpi"));
        let left = own
            .iter()
            .filter(|name| ["staging", "journal", "probe", "half"].contains(&name.as_str()));
        assert_eq!(
            left.collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "stays behind"
        );
    }
}
