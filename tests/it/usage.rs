//! Usage kept between runs: what is read again, what is not, and that it makes no difference to the numbers.

mod given;

use crate::company::{Company, Dice, Lines};
use crate::dated::results_of_last;
use crate::support::{Ran, assert_same_files, cskpi_with, files_below, says, temp_folder};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PERIODS: &str = "backfill --start 2024-03 --end 2025-02 --reprocess all \
                       --select account_period,rfm_scores,kpi_breakdown";

/// A company whose usage lies in `usage/`, and a root that is published to again and again.
struct Nightly {
    company: Company,
    root: TempDir,
    /// Usage events, dealt out to files by chance.
    files: Vec<Lines>,
    extension: &'static str,
}

impl Nightly {
    fn new(seed: u64, count: usize) -> Self {
        let company = Company::mutated(seed);
        let mut dice = Dice::of(seed);
        let events = company.lines("usage_events");
        let empty = || Lines {
            header: events.header.clone(),
            rows: Vec::new(),
        };
        let mut files: Vec<Lines> = (0..count).map(|_| empty()).collect();
        for row in &events.rows {
            files[dice.below(count)].rows.push(row.clone());
        }
        let nightly = Self {
            company,
            root: temp_folder(),
            files,
            extension: "csv",
        };
        nightly.map("usage_events: {path: usage, format: csv}");
        nightly
    }

    /// Has usage mapped in this way.
    fn map(&self, source: &str) {
        self.company
            .map_sources(|table| format!("data/{table}.csv"));
        let pipeline = self.company.path().join("pipeline.yaml");
        let text = fs::read_to_string(&pipeline).unwrap();
        let whole = "usage_events: {path: data/usage_events.csv}";
        assert!(text.contains(whole));
        fs::write(pipeline, text.replace(whole, source)).unwrap();
    }

    fn put(&self, file: usize) {
        self.put_without(file, 0);
    }

    /// The file without its last rows.
    fn put_without(&self, file: usize, last: usize) {
        let Lines { header, rows } = &self.files[file];
        let name = format!("usage/part-{file}.{}", self.extension);
        self.company
            .put_as(&name, header, &rows[..rows.len() - last]);
    }

    fn put_all(&self) {
        (0..self.files.len()).for_each(|file| self.put(file));
    }

    /// Publishes, and gives how many files were read of how many.
    #[track_caller]
    fn read(&self) -> (u64, u64) {
        self.company.publish(self.root.path(), PERIODS, &[]);
        files_read(self.root.path(), "usage_events")
    }

    /// What is published is what a run without a past publishes.
    #[track_caller]
    fn is_as_new(&self, what: &str) {
        let fresh = self.company.published(PERIODS);
        assert_same_files(fresh.path(), self.root.path(), what);
    }

    fn try_run(&self) -> Ran {
        let root = self.root.path().to_str().unwrap();
        cskpi_with(self.company.path(), &[("OUT", root)], &command_line())
    }

    /// A run that is killed after that time; whether it had not ended by then.
    fn killed_after(&self, time: Duration) -> bool {
        let mut run = Command::new(env!("CARGO_BIN_EXE_cskpi"))
            .args(command_line().split(' '))
            .current_dir(self.company.path())
            .env("OUT", self.root.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(time);
        run.kill().unwrap();
        run.wait().unwrap().code().is_none()
    }

    fn cache(&self) -> PathBuf {
        self.root.path().join("_cskpi/cache/usage")
    }
}

fn command_line() -> String {
    let command = PERIODS.replacen(' ', " pipeline.yaml ", 1);
    let as_of = crate::company::AS_OF;
    format!("{command} --as-of {as_of} --output json")
}

/// What the latest run says it read of a table.
fn files_read(root: &Path, table: &str) -> (u64, u64) {
    let results = results_of_last(root);
    let inputs = results["inputs"].as_array().unwrap();
    let input = inputs.iter().find(|input| input["table"] == table).unwrap();
    let number = |key: &str| input[key].as_u64().unwrap();
    (number("files_read"), number("files"))
}

#[test]
fn only_what_is_new_is_read() {
    let mut nightly = Nightly::new(11, 5);
    (0..3).for_each(|file| nightly.put(file));
    assert_eq!(nightly.read(), (3, 3));
    assert_eq!(nightly.read(), (0, 3), "nothing has changed");
    // Rows of any day arrive in a new file, and late ones in a file that was there.
    nightly.put(3);
    assert_eq!(nightly.read(), (1, 4));
    let half = nightly.files[4].rows.len() / 2;
    let late = nightly.files[4].rows.split_off(half);
    nightly.files[0].rows.extend(late);
    nightly.put(0);
    assert_eq!(nightly.read(), (1, 4), "a file that has grown");
    nightly.put(4);
    assert_eq!(nightly.read(), (1, 5));
    nightly.is_as_new("increments");
    // All of it in one file, as it was before it was dealt out.
    nightly.map("usage_events: {path: data/usage_events.csv}");
    assert_eq!(nightly.read(), (1, 1));
    nightly.is_as_new("one file");
    nightly.map("usage_events: {path: usage, format: csv}");
    assert_eq!(
        nightly.read(),
        (5, 5),
        "another pattern may give other columns"
    );
    fs::remove_file(nightly.company.path().join("usage/part-2.csv")).unwrap();
    assert_eq!(nightly.read(), (0, 4), "a file that is gone");
    nightly.is_as_new("a file less");
}

#[test]
fn settings_that_shape_usage_make_it_anew() {
    let nightly = Nightly::new(12, 3);
    nightly.put_all();
    assert_eq!(nightly.read(), (3, 3));
    let pipeline = nightly.company.path().join("pipeline.yaml");
    let text = fs::read_to_string(&pipeline).unwrap();
    for (policy, read) in [
        ("gross_margin: 0.75, session_gap_minutes: 5", 3),
        (
            "gross_margin: 0.75, session_gap_minutes: 5, mau_window: calendar",
            0,
        ),
        (
            "gross_margin: 0.75, session_gap_minutes: 5, mau_window: calendar, onboarding_rule: {features: 2, hours: 0.1, within_days: 50}",
            0,
        ),
        ("gross_margin: 0.75", 3),
    ] {
        fs::write(&pipeline, text.replace("gross_margin: 0.75", policy)).unwrap();
        assert_eq!(nightly.read(), (read, 3), "{policy}");
        nightly.is_as_new(policy);
    }
}

#[test]
fn what_other_tables_say_is_always_of_today() {
    let nightly = Nightly::new(13, 3);
    nightly.put_all();
    nightly.read();
    // Accounts merge, and no file of usage has changed.
    let mut merges = nightly.company.lines("account_merges");
    for (old, new) in [("A000012", "A000003"), ("A000025", "A000003")] {
        let values = [
            ("old_account_id", old),
            ("account_id", new),
            ("merged_at", "2024-08-09"),
        ];
        merges.add(&values);
    }
    nightly.company.put("account_merges", &merges);
    assert_eq!(nightly.read(), (0, 3));
    nightly.is_as_new("new merges");
    merges.rows.truncate(1);
    nightly.company.put("account_merges", &merges);
    assert_eq!(nightly.read(), (0, 3));
    nightly.is_as_new("fewer merges");
    // An account that is in use is gone from the CRM.
    let mut accounts = nightly.company.lines("accounts");
    let used = nightly.files[0].rows[0]
        .split(',')
        .next()
        .unwrap()
        .to_owned();
    accounts.rows.retain(|row| !row.starts_with(&used));
    nightly.company.put("accounts", &accounts);
    let ran = nightly.try_run();
    assert_eq!(ran.code, 1);
    let message = "usage_events.account_id is not in accounts";
    says(&ran, &[message, "usage/part-", &format!("`{used}`")]);
}

#[test]
fn subscriptions_may_move_to_other_accounts() {
    let nightly = Nightly::new(14, 1);
    let subscriptions = nightly.company.lines("subscriptions");
    let id = subscriptions.position("subscription_id");
    let ids: Vec<String> = subscriptions
        .rows
        .iter()
        .map(|row| row.split(',').nth(id).unwrap().to_owned())
        .collect();
    let users = (0..900).map(|at: usize| {
        let (subscription, day) = (&ids[at * 7 % ids.len()], 1 + at % 28);
        format!(
            "{subscription},u{},2024-{:02}-{day:02}T{:02}:00:00",
            at % 5,
            1 + at % 12,
            at % 24
        )
    });
    let rows: Vec<String> = users.collect();
    nightly.company.put_as(
        "usage/part-0.csv",
        "subscription_id,user_id,occurred_at",
        &rows,
    );
    assert_eq!(nightly.read(), (1, 1));
    let mut moved = subscriptions;
    let account = moved.position("account_id");
    for row in (0..moved.rows.len()).step_by(5) {
        let mut values: Vec<String> = crate::company::fields(&moved.rows[row]);
        values[account] = "A000001".to_owned();
        moved.rows[row] = values.join(",");
    }
    nightly.company.put("subscriptions", &moved);
    assert_eq!(nightly.read(), (0, 1));
    nightly.is_as_new("subscriptions of other accounts");
}

#[test]
fn what_is_kept_is_not_trusted() {
    let nightly = Nightly::new(15, 3);
    nightly.put_all();
    nightly.read();
    type Damage = (&'static str, fn(&Path));
    let damage: [Damage; 5] = [
        ("a bit flipped", |file| {
            let mut bytes = fs::read(file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(file, bytes).unwrap();
        }),
        ("truncated", |file| {
            let bytes = fs::read(file).unwrap();
            fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("empty", |file| fs::write(file, "").unwrap()),
        ("gone", |file| fs::remove_file(file).unwrap()),
        ("something else", |file| {
            fs::write(file, "{\"format\": 0}").unwrap()
        }),
    ];
    let mut dice = Dice::of(15);
    for (what, damage) in damage {
        let index = nightly.cache().join("index.json");
        damage(&index);
        assert_eq!(nightly.read(), (3, 3), "index {what}");
        nightly.is_as_new(what);
        // Any of parts and buckets, several times.
        for _ in 0..3 {
            let objects = files_below(&nightly.cache())
                .into_iter()
                .filter(|file| file != "index.json");
            let objects: Vec<String> = objects.collect();
            damage(&nightly.cache().join(&objects[dice.below(objects.len())]));
        }
        nightly.read();
        nightly.is_as_new(what);
        // Every part and bucket.
        for object in files_below(&nightly.cache())
            .iter()
            .filter(|file| *file != "index.json")
        {
            damage(&nightly.cache().join(object));
        }
        assert_eq!(nightly.read(), (3, 3), "all {what}");
        nightly.is_as_new(what);
        assert_eq!(nightly.read(), (0, 3), "made again: {what}");
    }
    fs::remove_dir_all(nightly.cache()).unwrap();
    assert_eq!(nightly.read(), (3, 3), "no cache");
}

#[test]
fn files_that_break_the_contract_are_not_kept_and_the_others_are() {
    let mut nightly = Nightly::new(16, 4);
    let good = nightly.files[2].rows[3].clone();
    nightly.files[2].rows[3] = good
        .replace("2024-", "Smarch ")
        .replace("2025-", "Smarch ")
        .replace("2023-", "Smarch ");
    nightly.put_all();
    for _ in 0..2 {
        let ran = nightly.try_run();
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        says(
            &ran,
            &[
                "1 row of the inputs breaks its contract",
                "usage/part-2.csv row 5: `Smarch ",
            ],
        );
    }
    nightly.files[2].rows[3] = good;
    nightly.put(2);
    assert_eq!(nightly.read(), (1, 4), "goes on where it stopped");
    nightly.is_as_new("a file put right");
}

#[test]
fn nothing_is_left_over_and_nothing_trips_over_it() {
    let nightly = Nightly::new(17, 3);
    nightly.put_all();
    nightly.read();
    let kept = files_below(&nightly.cache());
    fs::write(nightly.cache().join("half"), "left by a run that died").unwrap();
    nightly.read();
    // A run that has nothing to enter does not look for what is left over.
    nightly.put(0);
    nightly.read();
    let now = files_below(&nightly.cache());
    assert!(!now.contains(&"half".to_owned()));
    assert_eq!(now.len(), kept.len());
    let root = nightly.root.path().to_str().unwrap();
    let cskpi =
        |command: &str| cskpi_with(nightly.company.path(), &[("OUT", root)], command).succeeded();
    cskpi("verify pipeline.yaml --deep");
    cskpi("vacuum pipeline.yaml");
    assert_eq!(files_below(&nightly.cache()), now, "vacuum leaves it alone");
    let plan = format!("plan pipeline.yaml --as-of {}", crate::company::AS_OF);
    cskpi(&plan);
    cskpi("validate pipeline.yaml");
    cskpi("vacuum pipeline.yaml --cache");
    assert!(!nightly.cache().exists());
    assert_eq!(nightly.read(), (3, 3));
}

#[test]
fn killed_at_any_moment_nothing_that_is_kept_is_wrong() {
    const TRIALS: u32 = 6;
    let mut nightly = Nightly::new(23, 6);
    nightly.put_all();
    let began = Instant::now();
    nightly.read();
    let whole = began.elapsed();
    let kept = files_below(&nightly.cache());
    let fresh = nightly.company.published(PERIODS);
    let mut deaths = 0;
    for trial in 0..TRIALS {
        nightly.root = temp_folder();
        // The second run finds what the first has kept, and dies as well.
        for part in [trial + 1, TRIALS - trial] {
            deaths += u32::from(nightly.killed_after(whole * part / (TRIALS + 1)));
        }
        let what = format!("killed twice, trial {trial} of {TRIALS} within {whole:.2?}");
        let (_, files) = nightly.read();
        assert_same_files(fresh.path(), nightly.root.path(), &what);
        assert_eq!(nightly.read(), (0, files), "{what}: all is kept");
        // What a dead run left half goes with the next entry.
        nightly.put_without(0, 1);
        nightly.read();
        nightly.put(0);
        assert_eq!(files_below(&nightly.cache()).len(), kept.len(), "{what}");
    }
    assert!(deaths >= TRIALS, "{deaths} of {} runs died", 2 * TRIALS);
}

/// The index that lies there may still name what this run would take for left over.
#[test]
fn where_the_index_cannot_be_written_nothing_is_removed() {
    let nightly = Nightly::new(22, 2);
    nightly.put_all();
    nightly.read();
    let index = nightly.cache().join("index.json");
    fs::remove_file(&index).unwrap();
    fs::create_dir(&index).unwrap();
    fs::write(nightly.cache().join("half"), "of another run").unwrap();
    assert_eq!(nightly.read(), (2, 2));
    nightly.is_as_new("without an index");
    assert!(nightly.cache().join("half").exists());
    fs::remove_dir(&index).unwrap();
    assert_eq!(nightly.read(), (2, 2));
    assert!(!nightly.cache().join("half").exists());
    assert_eq!(nightly.read(), (0, 2));
}

#[test]
fn a_large_file_is_taken_in_slices() {
    let size = "--accounts 80 --months 14 --events 45000 --start 2024-01";
    let company = Company::of_size(size, 21);
    let whole = company.published(PERIODS);
    let sliced = company.published(&format!("{PERIODS} --memory-limit 64MiB"));
    assert_same_files(whole.path(), sliced.path(), "slices");
    let parts = |root: &Path| {
        let index = fs::read(root.join("_cskpi/cache/usage/index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let files = index["index"]["files"].as_object().unwrap();
        let file = files.values().next().unwrap();
        file["parts"].as_array().unwrap().len()
    };
    assert_eq!(parts(whole.path()), 17, "one for each month");
    assert!(parts(sliced.path()) > 17);
}

#[test]
fn what_a_run_read_is_said() {
    let nightly = Nightly::new(20, 3);
    nightly.put_all();
    nightly.read();
    nightly.put(1);
    let ran = nightly.try_run().succeeded();
    says(&ran, &["usage_events: 1 of 3 files read"]);
    let summary: Value = ran.summary();
    assert_eq!(summary["status"], "success");
}
