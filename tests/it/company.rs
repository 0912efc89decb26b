//! Generated companies whose inputs a test may change: shuffled, split, mutated, cut off.

use crate::support::{self, temp_folder};
use cskpi::contract::INPUT_TABLES;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// What `generate` writes: usage as events only.
pub fn sample_tables() -> impl Iterator<Item = &'static str> {
    let is_written = |table: &&str| !table.starts_with("usage_") || *table == "usage_events";
    INPUT_TABLES.into_iter().filter(is_written)
}

/// All of them but `targets`, which are of months.
pub fn tables() -> impl Iterator<Item = &'static str> {
    sample_tables().filter(|table| *table != "targets")
}

pub const AS_OF: &str = "2025-03-01T00:00:00+09:00";

/// A company in a folder of its own: `data/`, and a pipeline whose results go to `${OUT}`.
pub struct Company {
    folder: TempDir,
}

/// The lines of a CSV file.
pub struct Lines {
    pub header: String,
    pub rows: Vec<String>,
}

impl Lines {
    /// Rows whose field under `name` passes.
    pub fn keep(&mut self, name: &str, passes: impl Fn(&str) -> bool) {
        let at = self.position(name);
        self.rows.retain(|row| passes(&fields(row)[at]));
    }

    pub fn position(&self, name: &str) -> usize {
        fields(&self.header)
            .iter()
            .position(|column| column == name)
            .unwrap()
    }

    /// Adds a row of the named fields; the others are empty.
    pub fn add(&mut self, values: &[(&str, &str)]) {
        let value = |column: &String| {
            values
                .iter()
                .find(|(name, _)| name == column)
                .map_or("", |(_, value)| value)
        };
        assert!(
            values
                .iter()
                .all(|(name, _)| fields(&self.header).iter().any(|column| column == name))
        );
        let row: Vec<&str> = fields(&self.header).iter().map(value).collect();
        self.rows.push(row.join(","));
    }

    pub fn change(&mut self, row: usize, name: &str, value: &str) {
        let at = self.position(name);
        let mut values = fields(&self.rows[row]);
        values[at] = value.to_owned();
        self.rows[row] = values.join(",");
    }
}

/// Fields of a CSV line as they stand there, quotes included.
pub fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut is_quoted = false;
    for letter in line.chars() {
        is_quoted ^= letter == '"';
        if letter == ',' && !is_quoted {
            fields.push(String::new());
        } else {
            fields.last_mut().unwrap().push(letter);
        }
    }
    fields
}

impl Company {
    /// `SEED=1000 cargo test properties` tries other companies.
    pub fn generated(seed: u64) -> Self {
        Self::of_size(
            "--accounts 80 --months 14 --events 4000 --start 2024-01",
            seed,
        )
    }

    pub fn of_size(size: &str, seed: u64) -> Self {
        let seed = seed + other_seeds();
        let company = Self {
            folder: temp_folder(),
        };
        support::cskpi(
            company.path(),
            &format!("generate --out data {size} --format both --seed {seed}"),
        )
        .succeeded();
        company.map_sources(|table| format!("data/{table}.csv"));
        company
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the pipeline, with the inputs at these paths.
    pub fn map_sources(&self, path: impl Fn(&str) -> String) {
        let sources: String = tables()
            .map(|table| format!("  {table}: {{path: {}}}\n", path(table)))
            .collect();
        fs::write(
            self.path().join("pipeline.yaml"),
            PIPELINE.replace("$SOURCES\n", &sources),
        )
        .unwrap();
    }

    pub fn lines(&self, table: &str) -> Lines {
        let text = fs::read_to_string(self.path().join(format!("data/{table}.csv"))).unwrap();
        let mut lines = text.lines().map(str::to_owned);
        Lines {
            header: lines.next().unwrap(),
            rows: lines.collect(),
        }
    }

    pub fn put(&self, table: &str, lines: &Lines) {
        self.put_as(&format!("data/{table}.csv"), &lines.header, &lines.rows);
    }

    pub fn put_as(&self, file: &str, header: &str, rows: &[String]) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(
            path,
            format!("{header}\n{}\n", rows.join("\n")).replace("\n\n", "\n"),
        )
        .unwrap();
    }

    /// What a command publishes into a root of its own.
    pub fn published(&self, command: &str) -> TempDir {
        let root = temp_folder();
        self.publish(root.path(), command, &[]);
        root
    }

    pub fn publish(&self, root: &Path, command: &str, variables: &[(&str, &str)]) -> support::Ran {
        let variables = [variables, &[("OUT", root.to_str().unwrap())]].concat();
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        let command = format!("{verb} pipeline.yaml {rest} --as-of {AS_OF} --quiet --output json");
        support::cskpi_with(self.path(), &variables, &command).succeeded()
    }

    /// With random changes, all of them allowed by the contracts.
    pub fn mutated(seed: u64) -> Self {
        let company = Self::generated(seed);
        company.mutate(&mut Dice::of(seed));
        company
    }

    fn mutate(&self, dice: &mut Dice) {
        let mut subscriptions = self.lines("subscriptions");
        for row in 0..subscriptions.rows.len() {
            if dice.below(10) < 4 {
                mutate_subscription(&mut subscriptions, row, dice);
            }
        }
        self.put("subscriptions", &subscriptions);

        let mut accounts = self.lines("accounts");
        for row in 0..accounts.rows.len() {
            if dice.below(10) < 3 {
                accounts.change(row, "industry", dice.pick(&["", "media", "retail"]));
                accounts.change(row, "region", dice.pick(&["", "north", "south"]));
            }
        }
        self.put("accounts", &accounts);

        // Into the oldest accounts only, so never in a circle.
        let mut merges = self.lines("account_merges");
        merges.rows.clear();
        for old in (40..=80usize).step_by(7) {
            let account = format!("A{:06}", 1 + dice.below(30));
            let day = format!("2024-{:02}-{:02}", 1 + dice.below(12), 1 + dice.below(28));
            merges.add(&[
                ("old_account_id", &format!("A{old:06}")),
                ("account_id", &account),
                ("merged_at", &day),
            ]);
        }
        self.put("account_merges", &merges);
    }
}

fn other_seeds() -> u64 {
    std::env::var("SEED").map_or(0, |text| text.parse().expect("SEED is a whole number"))
}

/// Chance that comes out the same every time.
pub struct Dice(ChaCha8Rng);

impl Dice {
    pub fn of(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed + other_seeds()))
    }

    /// A number from 0 to `count` − 1.
    pub fn below(&mut self, count: usize) -> usize {
        (self.0.next_u64() % count as u64) as usize
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

fn mutate_subscription(subscriptions: &mut Lines, row: usize, dice: &mut Dice) {
    let number = (1 + dice.below(40)).to_string();
    match dice.below(8) {
        0 => subscriptions.change(row, "quantity", &number),
        1 => {
            let states = [
                "active", "past_due", "trialing", "paused", "unpaid", "canceled", "",
            ];
            subscriptions.change(row, "status", dice.pick(&states));
        }
        2 => subscriptions.change(
            row,
            "interval",
            dice.pick(&["day", "week", "month", "quarter", "year"]),
        ),
        3 => {
            subscriptions.change(row, "discount", &number);
            subscriptions.change(
                row,
                "discount_kind",
                dice.pick(&["recurring_percent", "one_off_percent"]),
            );
        }
        4 => {
            let plans = [
                "core-starter",
                "core-business",
                "analytics-pro",
                "support-standard",
                "",
            ];
            subscriptions.change(row, "plan_id", dice.pick(&plans));
        }
        5 => subscriptions.change(row, "currency", dice.pick(&["JPY", "USD", "EUR", ""])),
        6 => subscriptions.change(
            row,
            "end_reason",
            dice.pick(&["payment_failed", "competitor", ""]),
        ),
        _ => subscriptions.change(
            row,
            "trial_end",
            dice.pick(&["2024-05-15", "2024-09-01", "2025-01-31"]),
        ),
    }
}

const PIPELINE: &str = "\
version: 1
name: properties
currency: JPY
calendar: {grain: \"${GRAIN:-month}\", time_zone: Asia/Tokyo, begin: \"${BEGIN:-2024-01-01}\"}
sources:
$SOURCES
policy:
  {gross_margin: 0.75, ltv_segment: region, past_due_grace_days: 20, cohort_max_age: 9, upsell_base: offered, crc_allocation: mrr,
   onboarding_unit: \"${UNIT:-account}\", bootstrap_samples: 40, survival_horizon: 3}
dimensions: {industry: industry, region: region, plan: plan_family, rfm: rfm_segment, touch: touch_model, owner: owner_id}
cohorts: {industry_region: {by: [industry, region]}}
rfm: {method: ntile, window_days: 120}
touch_model:
  hold_periods: 1
  rules:
    - {name: top, model: high, when: is_strategic OR ltv_percentile >= 0.7, capacity: 3}
    - {name: big, model: low, when: mrr >= 50000 AND previous(mrr) > 0}
    - {name: social, model: community, when: community_active}
    - {name: rest, model: tech, when: \"TRUE\"}
outputs: {root: \"${OUT}\"}
";
