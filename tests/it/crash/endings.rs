//! Runs that are asked to end, and runs that cannot write.

use super::scene::{BACKFILL, Files, Inputs, Kind, Root, Scene};
use crate::company::Dice;
use crate::support::temp_folder;
use rustix::process::Signal;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

// ── signals ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The run has ended in good order: it says so, what it published is whole, and the next one continues.
#[track_caller]
fn ended_in_order(root: &Root, before: &Files, after: &Files, what: &str) {
    root.is_clean(what);
    root.is_between(before, after, what);
    let results = root.new_results(before);
    assert_eq!(results["status"], "interrupted", "{what}");
    assert!(results["finished_at"].is_string(), "{what}");
    let statuses = root.statuses(results["run_id"].as_str().unwrap());
    let is_said = !statuses.is_empty() && statuses.iter().all(|status| status == "interrupted");
    assert!(is_said, "{what}: {statuses:?}");
}

fn interrupted(kind: Kind) {
    let scene = Scene::new(kind);
    let (before, after) = (
        scene.before().files(),
        scene.undisturbed(Inputs::After).files(),
    );
    let steps = [
        "lock_taken:1",
        "recovered:1",
        "unit_staged:7",
        "results_begun:1",
        "lock_committing:2",
        "period_audited:2",
        "unit_committed:1",
        "unit_staged:1",
        "unit_committed:9",
        "journal_written:1",
        "manifest_written:2",
        "period_committed:2",
        "results_written:3",
        "lock_working:1",
    ];
    // On S3, where a run takes longer, every second one.
    let (every, count) = match kind {
        Kind::Disk => (1, 10),
        Kind::S3 => (2, 5),
    };
    for (number, step) in steps.iter().step_by(every).enumerate() {
        let (signal, name, code) = match number % 2 {
            0 => (Signal::TERM, "SIGTERM", 143),
            _ => (Signal::INT, "SIGINT", 130),
        };
        let what = format!("{name} at {step}");
        let root = scene.root();
        let mut run = root.faulty(Inputs::After, &format!("{step}:hold"));
        assert!(run.holds(), "{what}: {}", run.ended().stderr);
        run.signal(signal);
        assert!(run.says(name), "{what}: {}", run.ended().stderr);
        run.release();
        let ran = run.ended();
        assert_eq!(ran.code, code, "{what}: {}", ran.stderr);
        ended_in_order(&root, &before, &after, &what);
        root.cskpi(Inputs::After, BACKFILL).succeeded();
        root.is_whole(&after, &what);
    }

    // And at any instant, the first ones before it listens.
    let root = scene.root();
    let began = Instant::now();
    root.cskpi(Inputs::After, BACKFILL).succeeded();
    let duration = usize::try_from(began.elapsed().as_micros()).unwrap();
    let mut dice = Dice::of(4);
    for _ in 0..count {
        let instant = Duration::from_micros(dice.below(duration) as u64);
        let what = format!("SIGTERM after {instant:?}");
        let root = scene.root();
        let mut run = root.start(Inputs::After, BACKFILL);
        std::thread::sleep(instant);
        run.signal(Signal::TERM);
        let ran = run.ended();
        let has_begun = root.lock() != scene.before().lock();
        match ran.code {
            143 if has_begun && !ran.stderr.contains("results in ") => {
                let results = root.new_results(&before);
                // It was done when the signal came.
                if results["status"] == "interrupted" {
                    ended_in_order(&root, &before, &after, &what);
                }
            }
            0 | 143 => {}
            // The system's own answer, before there is another.
            -15 => assert!(!has_begun, "{what}"),
            code => panic!("{what}: {code} {}", ran.stderr),
        }
        root.is_clean(&what);
        root.cskpi(Inputs::After, BACKFILL).succeeded();
        root.is_whole(&after, &what);
    }
}

#[test]
fn signals_end_a_run_in_good_order_on_disk() {
    interrupted(Kind::Disk);
}

#[test]
fn signals_end_a_run_in_good_order_on_s3() {
    interrupted(Kind::S3);
}

// ── disks ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A file system that is there as long as this is.
struct Mount(PathBuf);

impl Mount {
    /// `None` where one may not mount; that is said.
    fn new(folder: &Path, arguments: &[&str]) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let mounted = Command::new("mount").args(arguments).arg(folder).output();
        if mounted
            .as_ref()
            .is_ok_and(|mounted| mounted.status.success())
        {
            return Some(Self(folder.to_owned()));
        }
        // Past the test harness, which hides what a passing test prints.
        let _ = writeln!(
            std::io::stderr(),
            "not tested, mounting is not permitted here: mount {arguments:?}"
        );
        None
    }

    #[track_caller]
    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let status = Command::new("mount")
            .args(["-o", &options])
            .arg(&self.0)
            .status()
            .unwrap();
        assert!(status.success(), "{options}");
    }

    /// KiB in use.
    fn used(&self) -> u64 {
        let output = Command::new("df")
            .args(["--output=used", "--block-size=1K"])
            .arg(&self.0)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().nth(1).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// The disk is full at one point of the run after another, until there is just enough room.
#[test]
fn a_full_disk_tears_nothing() {
    let folder = temp_folder();
    let disk = folder.path().join("disk");
    let Some(mount) = Mount::new(&disk, &["-t", "tmpfs", "-o", "size=64m", "tmpfs"]) else {
        return;
    };
    let scene = Scene::new(Kind::Disk);
    let after = scene.undisturbed(Inputs::After).files();
    let first = scene.root_at(&disk.join("before"));
    let before = first.files();
    let mut places = Vec::new();
    for room in (0..).step_by(16) {
        let what = format!("{room} KiB left");
        let root = scene.root_beside(&disk.join(format!("root-{room}")), &first);
        mount.remount(&format!("size={}k", mount.used() + room));
        let ran = root.cskpi(Inputs::After, BACKFILL);
        root.is_between(&before, &after, &what);
        mount.remount("size=64m");
        if ran.code == 0 {
            root.is_whole(&after, &what);
            break;
        }
        assert_eq!(ran.code, 1, "{what}: {}", ran.stderr);
        for said in ["No space left on device", "that the disk has room"] {
            assert!(ran.stderr.contains(said), "{what}: {}", ran.stderr);
        }
        places.push(
            ran.stderr
                .lines()
                .find(|line| line.starts_with("error"))
                .unwrap_or_default()
                .to_owned(),
        );
        root.cskpi(Inputs::After, BACKFILL).succeeded();
        root.is_whole(&after, &what);
        fs::remove_dir_all(&root.url).unwrap();
    }
    // Not always at the same point.
    places.dedup();
    assert!(places.len() >= 3, "{places:#?}");
}

#[test]
fn a_folder_that_cannot_be_written_stays_as_it_is() {
    let scene = Scene::new(Kind::Disk);
    let after = scene.undisturbed(Inputs::After).files();
    let root = scene.root();
    let before = root.files();
    let Some(mount) = Mount::new(Path::new(&root.url), &["--bind", &root.url]) else {
        return;
    };
    mount.remount("ro,bind");
    let ran = root.cskpi(Inputs::After, BACKFILL);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    for said in [
        root.url.as_str(),
        "Read-only file system",
        "check that the folder can be read and written",
    ] {
        assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
    }
    assert!(root.files() == before, "something has changed");
    drop(mount);
    root.cskpi(Inputs::After, BACKFILL).succeeded();
    root.is_whole(&after, "writable again");
}
