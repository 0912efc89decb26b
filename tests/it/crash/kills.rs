//! SIGKILL, at every step of the protocol, at random instants, and during recovery. Readers look on from before the run until
//! after the one rerun that puts all in order.

use super::readers::Readers;
use super::scene::{BACKFILL, Files, Inputs, Kind, Root, Scene};
use crate::company::Dice;
use cskpi::fault::STEPS;
use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, Instant};

/// Needs a file above 16 MiB, which is left to the tests of S3.
const ELSEWHERE: [&str; 1] = ["multipart_uploaded"];

struct Trial {
    scene: Scene,
    undisturbed: Files,
    readers: Readers,
}

impl Trial {
    fn new(kind: Kind) -> Self {
        let scene = Scene::new(kind);
        let after = scene.undisturbed(Inputs::After);
        let undisturbed = after.files();
        after.is_whole(&undisturbed, "undisturbed");
        let readers = Readers::of(&scene, &after);
        Self {
            scene,
            undisturbed,
            readers,
        }
    }

    /// What is done to a root, then one run; after it everything is as if nothing had happened.
    #[track_caller]
    fn of(&mut self, what: &str, disturbance: impl FnOnce(&Root)) {
        let root = self.scene.root();
        self.readers.watch(&root);
        disturbance(&root);
        let ran = root.cskpi(Inputs::After, BACKFILL);
        assert_eq!(ran.code, 0, "{what}: {}", ran.stderr);
        self.readers.have_seen_no_fault(what);
        root.is_whole(&self.undisturbed, what);
    }

    /// How often an undisturbed run comes to each step.
    fn steps(&self) -> Vec<(&'static str, usize)> {
        let root = self.scene.root();
        let mut run = root.faulty(Inputs::After, ":0:count");
        run.ended().succeeded();
        let reached = run.steps();
        let times = |step: &str| reached.iter().filter(|other| *other == step).count();
        let all = STEPS.iter().map(|step| (*step, times(step)));
        all.filter(|(_, times)| *times > 0).collect()
    }
}

#[track_caller]
fn killed(root: &Root, fault: &str) {
    let ran = root.faulty(Inputs::After, &format!("{fault}:kill")).ended();
    assert_eq!(ran.code, -9, "{fault}: {}", ran.stderr);
}

fn killed_at_every_step(kind: Kind) {
    let mut trial = Trial::new(kind);
    let steps = trial.steps();
    let covered: BTreeSet<&str> = steps.iter().map(|(step, _)| *step).collect();
    let known = STEPS.into_iter().filter(|step| !ELSEWHERE.contains(step));
    assert_eq!(covered, known.collect(), "a step that no kill covers");
    for (step, times) in steps {
        // The first time, the last, and where a trial is quick one in the middle.
        let middle = match kind {
            Kind::Disk => times.div_ceil(2),
            Kind::S3 => 1,
        };
        for time in BTreeSet::from([1, middle, times]) {
            let fault = format!("{step}:{time}");
            trial.of(&fault, |root| killed(root, &fault));
        }
    }
}

#[test]
fn killed_at_every_step_on_disk() {
    killed_at_every_step(Kind::Disk);
}

#[test]
fn killed_at_every_step_on_s3() {
    killed_at_every_step(Kind::S3);
}

/// The run that finishes what a dead one began is killed, too, and the one after it.
fn killed_while_it_recovers(kind: Kind) {
    let mut trial = Trial::new(kind);
    let first = [
        "lock_committing:2",
        "unit_committed:3",
        "period_committed:3",
        "manifest_written:1",
    ];
    let second = [
        "unit_committed:1",
        "manifest_written:1",
        "recovered:1",
        "lock_taken:1",
        "period_committed:1",
        "unit_committed:4",
        "results_written:1",
        "ledger_written:1",
        "lock_committing:1",
    ];
    let count = match kind {
        Kind::Disk => second.len(),
        Kind::S3 => 5,
    };
    for (at, fault) in first.iter().cycle().zip(second).take(count) {
        let what = format!("{at}, then {fault}");
        trial.of(&what, |root| {
            killed(root, at);
            killed(root, fault);
        });
    }
    trial.of("what it had staged is gone", |root| {
        killed(root, "lock_committing:2");
        root.remove_folder("_cskpi/staging");
    });
    trial.of("three times", |root| {
        killed(root, "unit_committed:2");
        killed(root, "unit_committed:2");
        killed(root, "manifest_written:1");
    });
}

#[test]
fn killed_while_it_recovers_on_disk() {
    killed_while_it_recovers(Kind::Disk);
}

#[test]
fn killed_while_it_recovers_on_s3() {
    killed_while_it_recovers(Kind::S3);
}

/// `CSKPI_CRASHES` is how many, `SEED` makes them others.
fn killed_at_random_instants(kind: Kind, count: usize) {
    let count = std::env::var("CSKPI_CRASHES").map_or(count, |text| text.parse().unwrap());
    let mut trial = Trial::new(kind);
    let mut times: Vec<Duration> = (0..3)
        .map(|_| {
            let mut time = Duration::ZERO;
            trial.of("undisturbed", |root| {
                let began = Instant::now();
                root.cskpi(Inputs::After, BACKFILL).succeeded();
                time = began.elapsed();
            });
            time
        })
        .collect();
    times.sort();
    let duration = times[1];
    let untouched = trial.scene.before().lock();
    let mut dice = Dice::of(3);
    let (mut before, mut working, mut committing, mut done) = (0, 0, 0, 0);
    for number in 0..count {
        let micros = usize::try_from(duration.as_micros()).unwrap();
        let mut instant = || Duration::from_micros(dice.below(micros) as u64);
        let (first, second) = (instant(), instant());
        // Every fourth time the run that recovers is killed as well.
        let instants = if number % 4 == 3 {
            vec![first, second]
        } else {
            vec![first]
        };
        trial.of(&format!("{number}: {instants:?}"), |root| {
            for instant in &instants {
                let mut run = root.start(Inputs::After, BACKFILL);
                std::thread::sleep(*instant);
                run.kill();
                run.ended();
            }
            let lock = root.lock();
            match (
                lock["is_held"].as_bool().unwrap(),
                lock["journal"].is_null(),
            ) {
                (true, true) => working += 1,
                (true, false) => committing += 1,
                // The lock of the run that published the state before: no other has been taken.
                (false, _) if lock == untouched => before += 1,
                (false, _) => done += 1,
            }
        });
    }
    let said = format!(
        "{kind:?}: {count} random instants within {duration:.2?}, seed {}: {before} died before the lock, {working} while at work, \
         {committing} while committing, {done} after; {} polls, {} reads that a change overtook",
        std::env::var("SEED").unwrap_or_default(),
        trial.readers.polls,
        trial.readers.overtaken,
    );
    // Past the test harness, which hides what a passing test prints.
    let _ = writeln!(std::io::stderr(), "{said}");
}

#[test]
fn killed_at_random_instants_on_disk() {
    killed_at_random_instants(Kind::Disk, 40);
}

#[test]
fn killed_at_random_instants_on_s3() {
    killed_at_random_instants(Kind::S3, 16);
}
