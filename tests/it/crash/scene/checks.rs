//! What a root is held to after its runs.

use super::{Files, Inputs, Place, Root};
use polars::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

impl Root {
    /// It holds the same tables as another one, and nothing that a run leaves behind when it dies.
    #[track_caller]
    pub fn is_whole(&self, expected: &Files, what: &str) {
        self.is_clean(what);
        let files = self.files();
        let (found, expected) = (tables(&files), tables(expected));
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            expected.keys().collect::<Vec<_>>(),
            "{what}: other files"
        );
        for (key, content) in found {
            assert!(content == expected[&key], "{what}: other content in {key}");
        }
        let verified = self.cskpi(Inputs::After, "verify pipeline.yaml --deep");
        assert_eq!(verified.code, 0, "{what}: {}", verified.stdout);
    }

    /// The results of the one run that another root does not know.
    #[track_caller]
    pub fn new_results(&self, known: &Files) -> Value {
        let files = self.files();
        let is_results = |key: &&String| key.ends_with("run_results.json");
        let mut new = files
            .keys()
            .filter(is_results)
            .filter(|key| !known.contains_key(*key));
        let key = new.next().expect("no results were written");
        assert_eq!(new.next(), None);
        serde_json::from_slice(&files[key]).unwrap()
    }

    /// What the table `runs` says of the status of a run, once for every unit.
    pub fn statuses(&self, run_id: &str) -> Vec<String> {
        let files = self.files();
        let months = files.iter().filter(|(key, _)| key.starts_with("runs/"));
        let mut statuses = Vec::new();
        for (_, bytes) in months {
            let rows = ParquetReader::new(std::io::Cursor::new(bytes))
                .finish()
                .unwrap();
            let (ids, status) = (
                rows.column("run_id").unwrap(),
                rows.column("run_status").unwrap(),
            );
            let pairs = ids.str().unwrap().iter().zip(status.str().unwrap().iter());
            statuses.extend(
                pairs
                    .filter(|(id, _)| *id == Some(run_id))
                    .map(|(_, status)| status.unwrap().to_owned()),
            );
        }
        statuses
    }

    /// Every table is there and as it is in one of the two others.
    #[track_caller]
    pub fn is_between(&self, one: &Files, other: &Files, what: &str) {
        let files = self.files();
        let (found, one, other) = (tables(&files), tables(one), tables(other));
        let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
        assert_eq!(found.keys().collect::<BTreeSet<_>>(), keys, "{what}");
        for (key, content) in &found {
            let is_either = Some(content) == one.get(key) || Some(content) == other.get(key);
            assert!(is_either, "{what}: {key} is neither");
        }
    }

    /// The lock is free, every run has said how it ended, and nothing is staged, half written or unfinished.
    #[track_caller]
    pub fn is_clean(&self, what: &str) {
        let files = &self.files();
        let lock = self.lock();
        assert_eq!(lock["is_held"], false, "{what}: {lock}");
        assert_eq!(lock["journal"], Value::Null, "{what}: {lock}");
        assert_eq!(lock["unclosed"], serde_json::json!([]), "{what}: {lock}");
        // A probe belongs to no run that could be told dead; `vacuum` clears those.
        let own = files.keys().filter_map(|key| key.strip_prefix("_cskpi/"));
        let left: Vec<&str> = own
            .filter(|key| {
                let folder = key.split('/').next().unwrap_or_default();
                !["lock.json", "guard", "manifest", "runs", "probe"].contains(&folder)
            })
            .collect();
        assert_eq!(left, Vec::<&str>::new(), "{what}: left behind");
        for (key, text) in files {
            if key.ends_with("run_results.json") {
                let results: Value = serde_json::from_slice(text).unwrap();
                assert_ne!(results["status"], "running", "{what}: {key}");
            }
        }
        if let Place::S3 { server, bucket, .. } = &self.place {
            let uploads = server.request("GET", &format!("/{bucket}?uploads="), &[], b"");
            assert!(!uploads.text().contains("<Upload>"), "{what}");
        }
    }
}

/// What is expected, with the restatements that are there: where one run went before another, both have theirs.
pub fn with_restatements_of(found: &Files, expected: &Files) -> Files {
    let is_restatement = |key: &str| key.starts_with("restatements/");
    let values = expected.iter().filter(|(key, _)| !is_restatement(key));
    let restatements = found.iter().filter(|(key, _)| is_restatement(key));
    let all = values.chain(restatements);
    all.map(|(key, bytes)| (key.clone(), bytes.clone()))
        .collect()
}

/// What a reader finds in a file.
#[derive(PartialEq)]
enum Content<'a> {
    Bytes(&'a [u8]),
    /// Restatements, without the run that found them and when.
    Restatements(DataFrame),
}

/// All tables but those about runs.
fn tables(files: &Files) -> BTreeMap<String, Content<'_>> {
    let is_own = |key: &str| {
        let own = ["_cskpi/", "runs/", "checks/"];
        own.iter().any(|folder| key.starts_with(folder))
    };
    let tables = files.iter().filter(|(key, _)| !is_own(key));
    tables
        .map(|(key, bytes)| {
            let content = if key.starts_with("restatements/") {
                let rows = ParquetReader::new(std::io::Cursor::new(bytes)).finish();
                let columns = ["run_id", "restated_at"];
                Content::Restatements(rows.unwrap().drop_many(columns))
            } else {
                Content::Bytes(bytes)
            };
            (key.clone(), content)
        })
        .collect()
}
