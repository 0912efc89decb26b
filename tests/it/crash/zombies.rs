//! A run that stops for longer than its lock lasts, as on a machine that sleeps, is taken for dead. When it wakes it must not
//! touch what its successor publishes, be that done or just being done.

use super::faulty::Running;
use super::scene::{BACKFILL, BOTH, Inputs, Kind, Root, Scene, with_restatements_of};
use rustix::process::Signal;
use std::sync::Mutex;

/// Long enough to be refused in, however busy the machine is.
const EXPIRY: [(&str, &str); 1] = [("EXPIRY", "12")];

/// A run with the inputs after that is stopped at a step, and whose successor is refused as long as its lock lasts.
fn stopped(root: &Root, step: &str) -> Running {
    // One after the other, for the same reason.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock();
    let mut zombie = root.faulty_with(Inputs::After, &format!("{step}:hold"), &EXPIRY);
    assert!(zombie.holds(), "{step}: {}", zombie.ended().stderr);
    zombie.stop(root);
    let refused = root.cskpi(Inputs::Later, BACKFILL);
    assert_eq!(refused.code, 75, "{step}: {}", refused.stderr);
    let lock = root.lock();
    let (holder, host) = (
        lock["run_id"].as_str().unwrap(),
        lock["host"].as_str().unwrap(),
    );
    for said in [
        format!(
            "error: run {holder} on {host} holds the lock of {}",
            root.url
        ),
        "if that run is dead, wait ".to_owned(),
        format!(" s or run `cskpi unlock PIPELINE {holder}`"),
    ] {
        assert!(
            refused.stderr.contains(&said),
            "{step}: {said}: {}",
            refused.stderr
        );
    }
    assert_eq!(refused.summary()["status"], "failed");
    zombie
}

/// It wakes, finds that it has lost its lock, and says so.
#[track_caller]
fn woken(mut zombie: Running, step: &str) {
    zombie.release();
    zombie.signal(Signal::CONT);
    let ran = zombie.ended();
    assert_eq!(ran.code, 75, "{step}: {}", ran.stderr);
    let said = "this run has lost its lock";
    assert!(ran.stderr.contains(said), "{step}: {}", ran.stderr);
}

/// Everything is as the successor alone would have left it. Where the zombie, or a successor for it, had committed a period,
/// that has restatements of its own.
#[track_caller]
fn is_as_published_later(scene: &Scene, root: &Root, step: &str) {
    let mut expected = scene.undisturbed(Inputs::Later).files();
    let uncommitted = [
        "lock_taken:1",
        "recovered:1",
        "unit_staged:3",
        "period_audited:1",
        "journal_written:1",
    ];
    if !uncommitted.contains(&step) {
        expected = with_restatements_of(&root.files(), &expected);
    }
    root.is_whole(&expected, step);
}

fn all_at_once(steps: &[&str], trial: impl Fn(&str) + Sync) {
    std::thread::scope(|scope| {
        for step in steps {
            scope.spawn(|| trial(step));
        }
    });
}

/// It sleeps until its successor is done.
fn wakes_after_its_successor(kind: Kind) {
    let scene = Scene::new(kind);
    let steps = [
        "lock_taken:1",
        "period_audited:1",
        "period_audited:2",
        "journal_written:1",
        "lock_committing:1",
        "unit_committed:1",
    ];
    all_at_once(&steps, |step| {
        let root = scene.root();
        let zombie = stopped(&root, step);
        root.cskpi_after_expiry(Inputs::Later);
        let published = root.files();
        woken(zombie, step);
        let still = |(key, bytes): (&String, &Vec<u8>)| {
            let is_own = key.starts_with("_cskpi/")
                || key.starts_with("runs/")
                || key.starts_with("checks/");
            is_own || root.get(key).as_ref() == Some(bytes)
        };
        assert!(published.iter().all(still), "{step}: overwritten");
        is_as_published_later(&scene, &root, step);
    });
}

#[test]
fn a_zombie_that_wakes_after_its_successor_on_disk() {
    wakes_after_its_successor(Kind::Disk);
}

#[test]
fn a_zombie_that_wakes_after_its_successor_on_s3() {
    wakes_after_its_successor(Kind::S3);
}

/// It sleeps while it finishes what another one had begun.
#[test]
fn a_zombie_that_was_recovering() {
    for kind in BOTH {
        let scene = Scene::new(kind);
        let root = scene.root();
        let mut killed = root.faulty(Inputs::After, "unit_committed:2:kill");
        assert_eq!(killed.ended().code, -9);
        let zombie = stopped(&root, "unit_committed:1");
        root.cskpi_after_expiry(Inputs::Later);
        woken(zombie, "recovery");
        let later = scene.undisturbed(Inputs::Later).files();
        root.is_whole(&with_restatements_of(&root.files(), &later), "recovery");
    }
}

/// Its successor puts back the very content that the zombie saw: to a version that is made of the content, as an ETag is,
/// nothing has happened. But what was staged is gone.
#[test]
fn a_zombie_is_not_misled_by_content_that_has_come_back() {
    for kind in BOTH {
        let scene = Scene::new(kind);
        let root = scene.root();
        let zombie = stopped(&root, "lock_committing:1");
        root.cskpi_after_expiry(Inputs::Before);
        woken(zombie, "lock_committing:1");
        let before = scene.before().files();
        root.is_whole(&with_restatements_of(&root.files(), &before), "came back");
    }
}

/// It wakes in the middle of what its successor does, and tidies up nothing that is not its own.
fn wakes_beside_its_successor(kind: Kind) {
    let scene = Scene::new(kind);
    let steps = [
        "lock_taken:1",
        "recovered:1",
        "unit_staged:3",
        "lock_committing:2",
        "period_committed:1",
        "manifest_written:3",
        "lock_working:3",
        "results_written:5",
        "ledger_written:1",
    ];
    all_at_once(&steps, |step| {
        let root = scene.root();
        let zombie = stopped(&root, step);
        let mut successor = loop {
            let mut run = root.faulty(Inputs::Later, "lock_committing:2:hold");
            if run.holds() {
                break run;
            }
            let ran = run.ended();
            assert_eq!(ran.code, 75, "{step}: {}", ran.stderr);
            std::thread::sleep(std::time::Duration::from_millis(500));
        };
        woken(zombie, step);
        successor.release();
        let ran = successor.ended();
        assert_eq!(ran.code, 0, "{step}: {}", ran.stderr);
        is_as_published_later(&scene, &root, step);
    });
}

#[test]
fn a_zombie_that_wakes_beside_its_successor_on_disk() {
    wakes_beside_its_successor(Kind::Disk);
}

#[test]
fn a_zombie_that_wakes_beside_its_successor_on_s3() {
    wakes_beside_its_successor(Kind::S3);
}
