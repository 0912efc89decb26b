//! Two runs that want the same root, and who may have it.

use super::scene::{BACKFILL, BOTH, Inputs, Kind, Root, Scene, with_restatements_of};
use crate::s3::Proxy;
use serde_json::{Value, json};
use std::process::Command;

/// However close they begin: one publishes, the other waits for another time, and nothing is of both.
#[test]
fn of_two_runs_at_once_one_publishes() {
    for kind in BOTH {
        let scene = Scene::new(kind);
        let all = [Inputs::After, Inputs::Later].map(|inputs| scene.undisturbed(inputs).files());
        for round in 0..5 {
            let root = scene.root();
            let mut runs =
                [Inputs::After, Inputs::Later].map(|inputs| root.start(inputs, BACKFILL));
            let ran = [0, 1].map(|at| runs[at].ended());
            let codes = [ran[0].code, ran[1].code];
            let what = format!("{kind:?} round {round}: {codes:?}");
            for ran in ran.iter().filter(|ran| ran.code != 0) {
                assert_eq!(ran.code, 75, "{what}: {}", ran.stderr);
                assert!(
                    ran.stderr.contains(" holds the lock of "),
                    "{what}: {}",
                    ran.stderr
                );
            }
            match codes {
                [0, 75] => root.is_whole(&all[0], &what),
                [75, 0] => root.is_whole(&all[1], &what),
                // One was done before the other began.
                [0, 0] => {
                    let found = root.files();
                    let kpis = "kpi_values/period=2024-03-01/part-0.parquet";
                    let last = all.iter().find(|files| files[kpis] == found[kpis]);
                    root.is_whole(&with_restatements_of(&found, last.unwrap()), &what);
                }
                _ => panic!("{what}"),
            }
        }
        // And for certain: one is in the middle of its commits when the other comes.
        let root = scene.root();
        let mut first = root.faulty(Inputs::After, "unit_committed:3:hold");
        assert!(first.holds());
        for _ in 0..2 {
            assert_eq!(root.cskpi(Inputs::Later, BACKFILL).code, 75);
        }
        first.release();
        assert_eq!(first.ended().code, 0);
        root.is_whole(&all[0], "held");
    }
}

/// A lock as a run on another machine would have written it at an hour of its own.
fn foreign_lock(root: &Root, hours: i64, expiry_seconds: u64) {
    let since = chrono::Utc::now() + chrono::Duration::hours(hours);
    let record = json!({
        "run_id": "20240101T000000Z-abcdef", "is_held": true, "journal": null, "unclosed": [], "host": "elsewhere",
        "process": "another-boot/pid:[4026531836]/77", "since": since, "expiry_seconds": expiry_seconds, "beats": 3,
    });
    root.put("_cskpi/lock.json", record.to_string().as_bytes());
}

#[track_caller]
fn is_refused(root: &Root, what: &str) {
    let ran = root.cskpi(Inputs::After, BACKFILL);
    assert_eq!(ran.code, 75, "{what}: {}", ran.stderr);
    assert!(
        ran.stderr
            .contains("run 20240101T000000Z-abcdef on elsewhere holds the lock"),
        "{what}: {}",
        ran.stderr
    );
}

/// What the holder's clock said does not count: its lock was renewed just now by the clock of the store.
#[test]
fn a_clock_an_hour_off_frees_no_lock_and_keeps_none() {
    let scene = Scene::new(Kind::Disk);
    let after = scene.undisturbed(Inputs::After).files();
    for hours in [-1, 0, 1] {
        let root = scene.root();
        foreign_lock(&root, hours, 60);
        is_refused(&root, &format!("{hours}"));
        let lock = format!("{}/_cskpi/lock.json", root.url);
        let touched = Command::new("touch")
            .args(["-d", "1 hour ago", &lock])
            .status()
            .unwrap();
        assert!(touched.success());
        root.cskpi(Inputs::After, BACKFILL).succeeded();
        root.is_whole(&after, &format!("{hours}"));
    }

    // A store whose clock is off: what it says of the lock and what it says of now are off alike.
    let scene = Scene::new(Kind::S3);
    let after = scene.undisturbed(Inputs::After).files();
    std::thread::scope(|scope| {
        for hours in [-1, 1] {
            let (scene, after) = (&scene, &after);
            scope.spawn(move || {
                let proxy = Proxy::start(scene.server().unwrap());
                proxy.fault(json!({"action": "clock", "seconds": 3600 * hours}));
                let root = scene.root().through(proxy.url());
                foreign_lock(&root, -hours, 60);
                is_refused(&root, &format!("{hours}"));
                foreign_lock(&root, -hours, 5);
                root.cskpi_after_expiry(Inputs::After);
                root.is_whole(after, &format!("{hours}"));
            });
        }
    });
}

#[test]
fn unlock_frees_the_lock_of_the_run_that_it_names() {
    for kind in BOTH {
        let scene = Scene::new(kind);
        let after = scene.undisturbed(Inputs::After).files();
        let root = scene.root();
        let killed = root.faulty(Inputs::After, "unit_committed:3:kill").ended();
        assert_eq!(killed.code, -9, "{}", killed.stderr);
        // As if it had died on another machine.
        let mut lock = root.lock();
        lock["process"] = Value::from("another-boot/pid:[4026531836]/77");
        root.put("_cskpi/lock.json", lock.to_string().as_bytes());
        let holder = lock["run_id"].as_str().unwrap();
        assert!(lock["journal"].is_string());
        let refused = root.cskpi(Inputs::After, BACKFILL);
        assert_eq!(refused.code, 75, "{}", refused.stderr);

        let wrong = root.cskpi(
            Inputs::After,
            "unlock pipeline.yaml 20240101T000000Z-abcdef",
        );
        assert_eq!((wrong.code, wrong.stdout.as_str()), (2, ""));
        assert!(
            wrong
                .stderr
                .contains(&format!("does not hold the lock of {}", root.url)),
            "{}",
            wrong.stderr
        );
        assert!(
            wrong.stderr.contains(&format!("; {holder} does")),
            "{}",
            wrong.stderr
        );
        assert_eq!(root.lock()["is_held"], true);

        let freed = root
            .cskpi(Inputs::After, &format!("unlock pipeline.yaml {holder}"))
            .succeeded();
        assert!(
            freed
                .stdout
                .contains(&format!("the lock of run {holder} on ")),
            "{}",
            freed.stdout
        );
        assert!(
            freed.stdout.contains("the next run finishes that first"),
            "{}",
            freed.stdout
        );
        assert_eq!(root.lock()["is_held"], false);
        let again = root.cskpi(Inputs::After, &format!("unlock pipeline.yaml {holder}"));
        assert_eq!(again.code, 2);
        assert!(again.stderr.contains(": nobody does"), "{}", again.stderr);

        let next = root.cskpi(Inputs::After, BACKFILL).succeeded();
        assert!(
            next.stderr.contains("finishing the period 2024-01-01"),
            "{}",
            next.stderr
        );
        root.is_whole(&after, &format!("{kind:?}"));
        assert!(
            root.statuses(holder)
                .iter()
                .all(|status| status == "interrupted")
        );
    }
}
