//! What must hold for any company: on generated ones, and on the same with random changes.

use crate::support::{self, assert_same_bytes, assert_same_files, published_files, published_table, temp_folder};
use polars::prelude::*;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const TABLES: [&str; 7] =
    ["accounts", "account_merges", "plans", "subscriptions", "invoice_lines", "fx_rates", "usage_events"];
const BEGIN: &str = "2024-01";
const AS_OF: &str = "2025-03-01T00:00:00+09:00";

/// A company in a folder of its own: `data/`, and a pipeline whose results go to `${OUT}`.
struct Company {
    folder: TempDir,
}

/// The lines of a CSV file.
struct Lines {
    header: String,
    rows: Vec<String>,
}

impl Lines {
    /// Rows whose field under `name` passes.
    fn keep(&mut self, name: &str, passes: impl Fn(&str) -> bool) {
        let at = self.position(name);
        self.rows.retain(|row| passes(&fields(row)[at]));
    }

    fn position(&self, name: &str) -> usize {
        fields(&self.header).iter().position(|column| column == name).unwrap()
    }

    /// Adds a row of the named fields; the others are empty.
    fn add(&mut self, values: &[(&str, &str)]) {
        let value = |column: &String| values.iter().find(|(name, _)| name == column).map_or("", |(_, value)| value);
        assert!(values.iter().all(|(name, _)| fields(&self.header).iter().any(|column| column == name)));
        let row: Vec<&str> = fields(&self.header).iter().map(value).collect();
        self.rows.push(row.join(","));
    }

    fn change(&mut self, row: usize, name: &str, value: &str) {
        let at = self.position(name);
        let mut values = fields(&self.rows[row]);
        values[at] = value.to_owned();
        self.rows[row] = values.join(",");
    }
}

/// Fields of a CSV line as they stand there, quotes included.
fn fields(line: &str) -> Vec<String> {
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
    fn generated(seed: u64) -> Self {
        let company = Self { folder: temp_folder() };
        let size = "--accounts 80 --months 14 --events 4000 --start 2024-01 --format both";
        support::cskpi(company.path(), &format!("generate --out data {size} --seed {seed}")).succeeded();
        company.map_sources(|table| format!("data/{table}.csv"));
        company
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the pipeline, with the inputs at these paths.
    fn map_sources(&self, path: impl Fn(&str) -> String) {
        let sources: String = TABLES.iter().map(|table| format!("  {table}: {{path: \"{}\"}}\n", path(table))).collect();
        fs::write(self.path().join("pipeline.yaml"), PIPELINE.replace("$SOURCES\n", &sources)).unwrap();
    }

    fn lines(&self, table: &str) -> Lines {
        let text = fs::read_to_string(self.path().join(format!("data/{table}.csv"))).unwrap();
        let mut lines = text.lines().map(str::to_owned);
        Lines { header: lines.next().unwrap(), rows: lines.collect() }
    }

    fn put(&self, table: &str, lines: &Lines) {
        self.put_as(&format!("data/{table}.csv"), &lines.header, &lines.rows);
    }

    fn put_as(&self, file: &str, header: &str, rows: &[String]) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{header}\n{}\n", rows.join("\n")).replace("\n\n", "\n")).unwrap();
    }

    /// What a command publishes into a root of its own.
    fn published(&self, command: &str) -> TempDir {
        let root = temp_folder();
        self.publish(root.path(), command, &[]);
        root
    }

    fn publish(&self, root: &Path, command: &str, variables: &[(&str, &str)]) -> support::Ran {
        let variables = [variables, &[("OUT", root.to_str().unwrap())]].concat();
        let (verb, rest) = command.split_once(' ').unwrap();
        let command = format!("{verb} pipeline.yaml {rest} --as-of {AS_OF} --quiet --output json");
        support::cskpi_with(self.path(), &variables, &command).succeeded()
    }

    /// Random changes, all of them allowed by the contracts.
    fn mutate(&self, seed: u64) {
        let dice = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut subscriptions = self.lines("subscriptions");
        for row in 0..subscriptions.rows.len() {
            if dice.random_bool(0.4) {
                mutate_subscription(&mut subscriptions, row, dice);
            }
        }
        self.put("subscriptions", &subscriptions);

        let mut accounts = self.lines("accounts");
        for row in 0..accounts.rows.len() {
            if dice.random_bool(0.3) {
                accounts.change(row, "industry", pick(dice, &["", "media", "retail"]));
                accounts.change(row, "region", pick(dice, &["", "north", "south"]));
            }
        }
        self.put("accounts", &accounts);

        // Towards smaller ids only, so never in a circle.
        let mut merges = self.lines("account_merges");
        merges.rows.clear();
        for old in (40..=80).step_by(7) {
            let account = format!("A{:06}", dice.random_range(1..old));
            let day = format!("2024-{:02}-{:02}", dice.random_range(1..=12), dice.random_range(1..=28));
            merges.add(&[("old_account_id", &format!("A{old:06}")), ("account_id", &account), ("merged_at", &day)]);
        }
        self.put("account_merges", &merges);
    }
}

fn pick<'a>(dice: &mut impl Rng, choices: &[&'a str]) -> &'a str {
    choices[dice.random_range(0..choices.len())]
}

fn mutate_subscription(subscriptions: &mut Lines, row: usize, dice: &mut impl Rng) {
    let number = dice.random_range(1..=40).to_string();
    match dice.random_range(0..8) {
        0 => subscriptions.change(row, "quantity", &number),
        1 => {
            let states = ["active", "past_due", "trialing", "paused", "unpaid", "canceled", ""];
            subscriptions.change(row, "status", pick(dice, &states));
        }
        2 => subscriptions.change(row, "interval", pick(dice, &["day", "week", "month", "quarter", "year"])),
        3 => {
            subscriptions.change(row, "discount", &number);
            subscriptions.change(row, "discount_kind", pick(dice, &["recurring_percent", "one_off_percent"]));
        }
        4 => {
            let plans = ["core-starter", "core-business", "analytics-pro", "support-standard", ""];
            subscriptions.change(row, "plan_id", pick(dice, &plans));
        }
        5 => subscriptions.change(row, "currency", pick(dice, &["JPY", "USD", "EUR", ""])),
        6 => subscriptions.change(row, "end_reason", pick(dice, &["payment_failed", "competitor", ""])),
        _ => subscriptions.change(row, "trial_end", pick(dice, &["2024-05-15", "2024-09-01", "2025-01-31"])),
    }
}

const PIPELINE: &str = "\
version: 1
name: properties
currency: JPY
calendar: {time_zone: Asia/Tokyo, begin: 2024-01-01}
sources:
$SOURCES
policy: {gross_margin: 0.75, ltv_segment: region, past_due_grace_days: 20, cohort_max_age: 9}
dimensions: {industry: industry, region: region, plan: plan_family, rfm: rfm_segment, touch: touch_model}
cohorts: {industry_region: {by: [industry, region]}}
rfm: {method: ntile, window_days: 120}
touch_model:
  hold_periods: 1
  rules:
    - {name: top, model: high, when: is_strategic OR ltv_percentile >= 0.7, capacity: 3}
    - {name: big, model: low, when: mrr >= 50000}
    - {name: rest, model: tech, when: \"TRUE\"}
outputs: {root: \"${OUT}\"}
";

/// Money by key: the columns of the key, then `value`, of the rows for which `condition` holds.
fn sums(frame: &DataFrame, condition: &str, key: &[&str], value: &str) -> BTreeMap<Vec<String>, i128> {
    let selected = frame.clone().lazy().filter(polars::sql::sql_expr(condition).unwrap());
    let columns: Vec<Expr> = key.iter().chain([&value]).map(|name| col(*name)).collect();
    let mut sums = BTreeMap::new();
    for mut row in support::rows_as_text(&selected.select(columns).collect().unwrap()) {
        let value: i128 = row.pop().unwrap().parse().unwrap();
        *sums.entry(row).or_default() += value;
    }
    sums.retain(|_, value| *value != 0);
    sums
}

/// In the order of their start.
fn periods(frame: &DataFrame) -> Vec<String> {
    let mut starts: Vec<String> =
        support::rows_as_text(&frame.select(["period_start"]).unwrap()).into_iter().map(|mut row| row.remove(0)).collect();
    starts.sort();
    starts.dedup();
    starts
}

fn assert_foots(root: &Path, what: &str) {
    let movements = published_table(root, "mrr_movements").unwrap();
    let group = ["period_start", "dimension", "member", "product"];
    let moved = sums(&movements, "movement <> 'closing'", &group, "mrr");
    let closing = sums(&movements, "movement = 'closing'", &group, "mrr");
    assert!(!closing.is_empty(), "{what}: no one has MRR");
    assert_eq!(moved, closing, "{what}: opening + movements = closing");

    let opening = sums(&movements, "movement = 'opening'", &group, "mrr");
    let months = periods(&movements);
    for pair in months.windows(2) {
        let of = |rows: &BTreeMap<Vec<String>, i128>, month: &str| -> BTreeMap<Vec<String>, i128> {
            let of_month = rows.iter().filter(|(key, _)| key[0] == month);
            of_month.map(|(key, value)| (key[1..].to_vec(), *value)).collect()
        };
        assert_eq!(of(&opening, &pair[1]), of(&closing, &pair[0]), "{what}: {} opens as {} closed", pair[1], pair[0]);
    }

    // The three tables that tell of closing MRR agree.
    let closing = sums(&movements, "movement = 'closing' AND dimension = 'region'", &["period_start", "member"], "mrr");
    let accounts = published_table(root, "account_period").unwrap();
    assert_eq!(closing, sums(&accounts, "TRUE", &["period_start", "region"], "closing_mrr"), "{what}");
}

#[test]
fn every_member_and_product_foots_and_opens_as_it_closed() {
    for seed in [1, 2] {
        assert_foots(Company::generated(seed).published("backfill").path(), &format!("seed {seed}"));
    }
}

#[test]
fn mutated_companies_foot_too() {
    for seed in [11, 12, 13] {
        let company = Company::generated(seed);
        company.mutate(seed);
        assert_foots(company.published("backfill").path(), &format!("mutated seed {seed}"));
    }
}

#[test]
fn members_sum_to_the_total() {
    let company = Company::generated(3);
    company.mutate(3);
    let root = company.published("backfill");
    let values = published_table(root.path(), "kpi_values").unwrap();
    let text = fs::read_to_string(company.path().join("pipeline.yaml")).unwrap();
    let out = |_: &str| Some("out".to_owned());
    let policy = cskpi::config::load::load("pipeline.yaml", &text, &out).pipeline.unwrap().policy;
    let catalogue = cskpi::metrics::catalogue::default_catalogue(&policy);
    let is_sum = |metric: &&cskpi::metrics::catalogue::Metric| metric.numerator.has_aggregate() && metric.trailing.is_none();
    let metrics: Vec<String> = catalogue.published().filter(is_sum).map(|metric| metric.id.clone()).collect();
    assert!(metrics.len() > 30, "{metrics:?}");

    let additive = col("metric").is_in(lit(Series::new("ids".into(), metrics)).implode(false), false);
    let summed = values.lazy().filter(additive).group_by([col("period_start"), col("metric"), col("dimension")]);
    let summed = summed.agg([col("numerator").sum()]).sort(["period_start", "metric"], Default::default()).collect().unwrap();
    let mut totals = BTreeMap::new();
    let mut others = Vec::new();
    for row in support::rows_as_text(&summed.select(["period_start", "metric", "dimension", "numerator"]).unwrap()) {
        let value: f64 = row[3].parse().unwrap();
        match row[2].as_str() {
            "total" => drop(totals.insert((row[0].clone(), row[1].clone()), value)),
            // Accounts without a cohort are left out there.
            cohort if cohort.starts_with("cohort_") => {}
            _ => others.push((row, value)),
        }
    }
    assert!(others.len() > 5 * 30 * 14);
    for (row, value) in others {
        let total = totals[&(row[0].clone(), row[1].clone())];
        assert!((value - total).abs() <= 1e-9 * total.abs(), "{row:?}: members sum to {value}, the total is {total}");
    }
}

#[test]
fn a_range_at_once_is_its_periods_one_by_one() {
    let company = Company::generated(4);
    company.mutate(4);
    let at_once = company.published(&format!("backfill --start {BEGIN} --end 2024-07"));
    let one_by_one = temp_folder();
    // Not in their order either.
    for month in ["2024-05", "2024-01", "2024-06", "2024-02", "2024-04", "2024-03"] {
        company.publish(one_by_one.path(), &format!("run --period {month}"), &[]);
    }
    assert_same_files(at_once.path(), one_by_one.path(), "a range at once and its periods one by one");
}

#[test]
fn running_again_changes_nothing() {
    let company = Company::generated(5);
    let root = company.published("backfill --start 2024-11");
    let times = || -> Vec<_> {
        let names = published_files(root.path()).into_iter().map(|(name, _)| name);
        names.map(|name| (name.clone(), fs::metadata(root.path().join(name)).unwrap().modified().unwrap())).collect()
    };
    let before = times();
    let summary = company.publish(root.path(), "backfill --start 2024-11", &[]).summary();
    assert_eq!(before, times());
    assert_eq!(summary["reused"], before.len());
    assert_eq!((&summary["created"], &summary["replaced"]), (&0.into(), &0.into()));
}

#[test]
fn the_order_of_rows_and_the_number_of_threads_change_nothing() {
    let company = Company::generated(6);
    company.mutate(6);
    let range = "backfill --start 2024-09";
    let before = company.published(range);
    let dice = &mut ChaCha8Rng::seed_from_u64(6);
    for table in TABLES {
        let mut lines = company.lines(table);
        lines.rows.shuffle(dice);
        company.put(table, &lines);
    }
    for threads in ["1", "5"] {
        let root = temp_folder();
        company.publish(root.path(), range, &[("POLARS_MAX_THREADS", threads)]);
        assert_same_files(before.path(), root.path(), &format!("shuffled rows and {threads} threads"));
    }
}

#[test]
fn splitting_inputs_over_files_changes_nothing() {
    let company = Company::generated(7);
    let range = "backfill --start 2024-12";
    let before = company.published(range);
    for table in TABLES {
        let lines = company.lines(table);
        for part in 0..3 {
            let rows: Vec<String> = lines.rows.iter().skip(part).step_by(3).cloned().collect();
            company.put_as(&format!("parts/{table}/year={}/{part}.csv", 2020 + part), &lines.header, &rows);
        }
    }
    company.map_sources(|table| format!("parts/{table}"));
    assert_same_files(before.path(), company.published(range).path(), "a folder of files");
    company.map_sources(|table| format!("parts/{table}/*/*.csv"));
    assert_same_files(before.path(), company.published(range).path(), "a glob");
}

#[test]
fn parquet_inputs_give_the_same_bytes() {
    let company = Company::generated(8);
    let range = "backfill --start 2024-10";
    let before = company.published(range);
    company.map_sources(|table| match table {
        "usage_events" => "data/usage_events/**/*.parquet".to_owned(),
        table => format!("data/{table}.parquet"),
    });
    assert_same_files(before.path(), company.published(range).path(), "Parquet in place of CSV");
}

/// The end of June in Tokyo; what is dated from then on is not to be seen in June.
const END: &str = "2024-06-30T15:00:00Z";
const UNTIL_JUNE: &str = "backfill --start 2024-01 --end 2024-07";

#[test]
fn rows_dated_later_change_nothing() {
    let company = Company::generated(9);
    company.mutate(9);
    let before = published_files(company.published(UNTIL_JUNE).path());

    let changed = |table: &str, change: &dyn Fn(&mut Lines)| {
        let lines = company.lines(table);
        let mut with_change = company.lines(table);
        change(&mut with_change);
        company.put(table, &with_change);
        let after = published_files(company.published(UNTIL_JUNE).path());
        assert_same_bytes(&before, &after, &format!("later rows of {table}"));
        // Left in place where nothing refers to what is new; the next table sees it as well.
        if table == "accounts" {
            company.put(table, &lines);
        }
    };
    changed("subscriptions", &|subscriptions| {
        for row in 0..subscriptions.rows.len() {
            let (end, ask) = (subscriptions.position("ended_at"), subscriptions.position("cancel_requested_at"));
            let values = fields(&subscriptions.rows[row]);
            if values[end].is_empty() {
                subscriptions.change(row, "ended_at", "2031-01-01");
            }
            if values[ask].is_empty() {
                subscriptions.change(row, "cancel_requested_at", END);
            }
        }
        for (number, account) in ["A000005", "A000006", "A000079"].iter().enumerate() {
            subscriptions.add(&[
                ("subscription_id", &format!("LATE{number}")),
                ("account_id", account),
                ("plan_id", "core-enterprise"),
                ("started_at", END),
                ("quantity", "100"),
                ("amount", "9999"),
            ]);
        }
    });
    changed("invoice_lines", &|lines| {
        let line = [("invoice_id", "LATE"), ("account_id", "A000005"), ("issued_at", END), ("amount", "1000000")];
        lines.add(&line);
    });
    changed("fx_rates", &|rates| {
        for currency in ["USD", "EUR"] {
            rates.add(&[("date", "2024-07-01"), ("currency", currency), ("rate", "1000")]);
        }
    });
    changed("usage_events", &|events| {
        for user in ["A000005-u01", "new"] {
            events.add(&[("account_id", "A000005"), ("user_id", user), ("occurred_at", END)]);
        }
    });
    changed("account_merges", &|merges| {
        merges.add(&[("old_account_id", "A000006"), ("account_id", "A000005"), ("merged_at", END)]);
    });
    changed("accounts", &|accounts| {
        accounts.add(&[("account_id", "LATE"), ("signup_date", "2024-07-01"), ("industry", "late")]);
        let [id, since, until] = ["account_id", "valid_from", "valid_to"].map(|name| accounts.position(name));
        for row in 0..accounts.rows.len() {
            let values = fields(&accounts.rows[row]);
            let is_current = values[until].is_empty() && values[since].as_str() < "2024-07-01";
            if is_current && values[id].ends_with('5') {
                accounts.change(row, "valid_to", "2024-07-01");
                let new = [("account_id", values[id].as_str()), ("valid_from", "2024-07-01"), ("industry", "late")];
                accounts.add(&new);
            }
        }
    });
}

#[test]
fn a_period_knows_nothing_of_what_comes_later() {
    let company = Company::generated(10);
    company.mutate(10);
    let before = published_files(company.published(UNTIL_JUNE).path());
    let dated = [
        ("subscriptions", "started_at"),
        ("invoice_lines", "issued_at"),
        ("fx_rates", "date"),
        ("usage_events", "occurred_at"),
        ("account_merges", "merged_at"),
        ("accounts", "valid_from"),
        ("accounts", "signup_date"),
    ];
    for (table, column) in dated {
        let mut lines = company.lines(table);
        let count = lines.rows.len();
        // Instants are written in UTC, dates are days in Tokyo.
        lines.keep(column, |value| value < if value.len() > 10 { END } else { "2024-07-01" });
        assert!(lines.rows.len() < count, "{table} has nothing from July on");
        company.put(table, &lines);
    }
    let after = published_files(company.published(UNTIL_JUNE).path());
    assert_same_bytes(&before, &after, "inputs that end with June");
}

/// A company that no one has bought from yet: every table is there, with its columns.
#[test]
fn empty_tables_are_files_without_rows() {
    let company = Company::generated(1);
    let full = company.published("run --period 2024-03");
    for table in TABLES.into_iter().filter(|table| *table != "plans") {
        company.put(table, &Lines { header: company.lines(table).header, rows: Vec::new() });
    }
    let root = company.published("run --period 2024-03");
    let names = |root: &Path| published_files(root).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(full.path()), names(root.path()));
    for table in support::names_in(root.path()).into_iter().filter(|name| name != "_cskpi") {
        let (rows, before) = (published_table(root.path(), &table).unwrap(), published_table(full.path(), &table).unwrap());
        assert_eq!(rows.schema(), before.schema(), "{table}");
        assert!(before.height() > 0, "{table}");
        if table != "metric_dictionary" {
            assert_eq!(rows.height(), 0, "{table}");
        }
    }
}
