//! Usage that another engine has rolled up.

use super::{Nightly, PERIODS, files_read};
use crate::python;
use crate::support::{self, assert_same_files, says};
use std::fs;

#[test]
fn days_made_by_another_engine_give_the_same() {
    let nightly = Nightly::new(18, 1);
    let folder = nightly.company.path();
    nightly.map("usage_events: {path: data/usage_events.csv}");
    let rule = "onboarding_rule: {features: 3, hours: 0.2, within_days: 40}, gross_margin: 0.75";
    let with_rule = || {
        let pipeline = folder.join("pipeline.yaml");
        let text = fs::read_to_string(&pipeline).unwrap();
        fs::write(pipeline, text.replace("gross_margin: 0.75", rule)).unwrap();
    };
    with_rule();
    let of_events = nightly.company.published(PERIODS);
    let mut duckdb = python::command("oracle/usage_daily.py");
    duckdb
        .arg(folder.join("data/usage_events.csv"))
        .arg(folder)
        .args(["Asia/Tokyo", "30"]);
    assert!(duckdb.status().unwrap().success());
    nightly.map("usage_daily: {path: usage_daily.parquet}\n  usage_features: {path: usage_features.parquet}");
    with_rule();
    let of_days = nightly.company.published(PERIODS);
    assert_same_files(of_events.path(), of_days.path(), "usage_daily");
    assert_eq!(files_read(of_days.path(), "usage_daily"), (1, 1));
    assert_eq!(files_read(of_days.path(), "usage_features"), (1, 1));
}

#[test]
fn a_given_day_stands_there_once() {
    let nightly = Nightly::new(19, 1);
    nightly.map("usage_daily: {path: usage, format: csv}\n  usage_features: {path: features.csv}");
    let header = "account_id,user_id,day,events";
    let rows = |rows: &[&str]| rows.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>();
    let put =
        |file: &str, header: &str, of: &[&str]| nightly.company.put_as(file, header, &rows(of));
    put(
        "usage/a.csv",
        header,
        &["A000001,u1,2024-05-01,3", "A000001,u2,2024-05-01,1"],
    );
    put("usage/b.csv", header, &["A000001,u2,2024-05-02,1"]);
    put(
        "features.csv",
        "account_id,feature,day,events",
        &["A000001,x,2024-05-01,3"],
    );
    nightly.try_run().succeeded();
    let model = support::published_table(nightly.root.path(), "account_period").unwrap();
    assert_eq!(
        model.column("sessions").unwrap().null_count(),
        model.height()
    );
    assert_eq!(
        model.column("session_seconds").unwrap().null_count(),
        model.height()
    );
    assert_eq!(
        model
            .column("events")
            .unwrap()
            .i64()
            .unwrap()
            .iter()
            .flatten()
            .sum::<i64>(),
        5
    );

    put(
        "usage/b.csv",
        header,
        &["A000001,u2,2024-05-02,1", "A000001,u1,2024-05-01,2"],
    );
    let features = ["A000001,x,2024-05-01,3", "A000001,x,2024-05-01,1"];
    put("features.csv", "account_id,feature,day,events", &features);
    let ran = nightly.try_run();
    assert_eq!(ran.code, 1);
    says(
        &ran,
        &[
            "4 rows of the inputs break their contracts",
            "usage_daily.account_id the key (account_id, user_id, day) stands in more than one row (2 rows)",
            "usage/a.csv row 2: `A000001`",
            "usage/b.csv row 3: `A000001`",
            "usage_features.account_id the key (account_id, feature, day) stands in more than one row (2 rows)",
            "features.csv row 3: `A000001`",
        ],
    );
}
