//! `pipelines/nightly.yaml` as it is shipped, on an S3 server: the quickstart's data in its layout, night after night.

use crate::s3::Server;
use crate::support::{Ran, cskpi_with, files_below, read_parquet, repository, temp_folder};
use chrono::{DateTime, FixedOffset, Utc};
use polars::prelude::*;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use tempfile::TempDir;

/// Tables of a month: the quickstart's, `restatements` and `kpi_as_reported`.
const TABLES: u64 = 16;

struct Nightly {
    server: &'static Server,
    bucket: String,
    exports: TempDir,
}

impl Nightly {
    fn new() -> Self {
        let server = Server::shared();
        let nightly = Self {
            bucket: server.new_bucket(),
            exports: temp_folder(),
            server,
        };
        lay_out(nightly.exports.path());
        server.upload_tree(nightly.exports.path(), &nightly.bucket, "exports/");
        nightly
    }

    fn cskpi(&self, command: &str) -> Ran {
        let exports = format!("s3://{}/exports", self.bucket);
        let out = format!("s3://{}/kpi", self.bucket);
        let endpoint = self.server.url();
        let variables = [
            ("EXPORTS", exports.as_str()),
            ("OUT", out.as_str()),
            ("S3_ENDPOINT", endpoint.as_str()),
            ("S3_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "any"),
            ("AWS_SECRET_ACCESS_KEY", "any"),
        ];
        cskpi_with(&repository(), &variables, command)
    }

    /// What a run at 6:30 of a day says of itself.
    #[track_caller]
    fn night(&self, day: &str) -> serde_json::Value {
        let as_of = format!("{day}T06:30:00+09:00");
        let command = format!("run pipelines/nightly.yaml --as-of {as_of} --output json");
        self.cskpi(&command).succeeded().summary()
    }

    #[track_caller]
    fn plan(&self, day: &str) -> String {
        let command = format!("plan pipelines/nightly.yaml --as-of {day}T06:30:00+09:00");
        self.cskpi(&command).succeeded().stdout
    }

    /// A credit note turns up in the invoices of March.
    fn credit(&self, number: u32) {
        let file = "billing/invoices/invoices-2026-03.csv";
        let path = self.exports.path().join(file);
        let line =
            format!("L{number},L{number}-1,A000005,2026-03-30T03:00:00Z,-1000,credit,JPY,,,\n");
        let text = fs::read_to_string(&path).unwrap() + &line;
        fs::write(&path, &text).unwrap();
        let key = format!("exports/{file}");
        self.server.put(&self.bucket, &key, text.as_bytes());
    }

    #[track_caller]
    fn bytes(&self, table: &str, month: &str) -> Vec<u8> {
        let key = format!("kpi/{table}/period={month}-01/part-0.parquet");
        self.server.get(&self.bucket, &key).unwrap()
    }

    #[track_caller]
    fn table(&self, table: &str, month: &str) -> DataFrame {
        let folder = temp_folder();
        let file = folder.path().join("part-0.parquet");
        fs::write(&file, self.bytes(table, month)).unwrap();
        read_parquet(&file)
    }

    /// The company's revenue of March, and a column beside it.
    #[track_caller]
    fn revenue(&self, table: &str, columns: &[&str]) -> Vec<String> {
        let is = |column: &str, value: &str| col(column).eq(lit(value));
        let of_march = self.table(table, "2026-03").lazy();
        let row = of_march
            .filter(is("dimension", "total").and(is("metric", "revenue")))
            .select(
                columns
                    .iter()
                    .map(|name| col(*name).cast(DataType::String))
                    .collect::<Vec<_>>(),
            )
            .collect()
            .unwrap();
        let last = row.height().checked_sub(1).expect("a row");
        let text = |column: &Column| column.str().unwrap().get(last).unwrap().to_owned();
        row.columns().iter().map(text).collect()
    }
}

/// The quickstart's files as `pipelines/nightly.yaml` expects them.
fn lay_out(folder: &Path) {
    let data = repository().join("data/quickstart");
    let read = |table: &str| fs::read_to_string(data.join(format!("{table}.csv"))).unwrap();
    let write = |file: String, text: &str| {
        let file = folder.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    for (place, table) in [
        ("crm", "accounts"),
        ("crm", "account_merges"),
        ("crm", "opportunities"),
        ("crm", "members"),
        ("success", "onboarding"),
        ("success", "targets"),
        ("billing", "plans"),
        ("billing", "subscriptions"),
    ] {
        write(format!("{place}/{table}.csv"), &read(table));
    }
    let tokyo = FixedOffset::east_opt(9 * 3600).unwrap();
    let month = |text: &str| match text.len() {
        10 => text[..7].to_owned(),
        _ => instant(text)
            .with_timezone(&tokyo)
            .format("%Y-%m")
            .to_string(),
    };
    for (table, dated_by, files) in [
        ("invoice_lines", 3, "billing/invoices/invoices"),
        ("surveys", 5, "surveys/surveys"),
        ("tickets", 2, "support/tickets"),
        ("community", 2, "community/community"),
        ("costs", 0, "finance/costs"),
        ("time_entries", 0, "success/time"),
    ] {
        for (month, lines) in split(&read(table), |fields| month(fields[dated_by])) {
            write(format!("{files}-{month}.csv"), &lines);
        }
    }
    for (year, lines) in split(&read("fx_rates"), |fields| fields[0][..4].to_owned()) {
        write(format!("billing/rates/fx-{year}.csv"), &lines);
    }
    for (month, lines) in split(&read("usage_events"), |fields| fields[2][..7].to_owned()) {
        let file = folder.join(format!("usage/month={month}/events.parquet"));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        write_events(&file, &lines);
    }
}

fn instant(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().to_utc()
}

/// A CSV file's lines by what their fields say, each with the header.
fn split(text: &str, key: impl Fn(&[&str]) -> String) -> BTreeMap<String, String> {
    let (header, lines) = text.split_once('\n').unwrap();
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for line in lines.lines() {
        let fields: Vec<&str> = line.split(',').collect();
        let file = files
            .entry(key(&fields))
            .or_insert_with(|| format!("{header}\n"));
        file.push_str(line);
        file.push('\n');
    }
    files
}

/// Usage as the product writes it: times in UTC that do not say so.
fn write_events(file: &Path, lines: &str) {
    let rows: Vec<Vec<&str>> = lines
        .lines()
        .skip(1)
        .map(|line| line.split(',').collect())
        .collect();
    let texts = |at: usize| rows.iter().map(|row| row[at]).collect::<Vec<_>>();
    let times: Vec<_> = rows.iter().map(|row| instant(row[2]).naive_utc()).collect();
    let mut events = df!(
        "account_id" => texts(0),
        "user_id" => texts(1),
        "occurred_at" => times,
        "feature" => texts(3),
    )
    .unwrap();
    ParquetWriter::new(File::create(file).unwrap())
        .finish(&mut events)
        .unwrap();
}

/// March 2026 closes on April 8: its fifth business day after the end is the 7th.
#[test]
fn a_month_is_published_corrected_closed_and_restated() {
    let nightly = Nightly::new();
    nightly.cskpi("validate pipelines/nightly.yaml").succeeded();

    let first = nightly.night("2026-04-01");
    assert_eq!(
        (&first["status"], &first["periods"], &first["created"]),
        (&"success".into(), &3.into(), &(3 * TABLES).into())
    );
    // The same data, laid out otherwise, on the local disk: the same bytes.
    let local = temp_folder();
    let out = local.path().to_str().unwrap();
    let command =
        "--quiet run pipelines/quickstart.yaml --period 2026-03 --as-of 2026-04-01T06:30:00+09:00";
    cskpi_with(&repository(), &[("OUT", out)], command).succeeded();
    let tables = files_below(local.path());
    let tables: Vec<&str> = tables
        .iter()
        .filter_map(|file| file.strip_suffix("/period=2026-03-01/part-0.parquet"))
        .collect();
    assert_eq!(tables.len() as u64, TABLES - 1);
    for table in tables {
        let file = local
            .path()
            .join(table)
            .join("period=2026-03-01/part-0.parquet");
        assert!(
            fs::read(file).unwrap() == nightly.bytes(table, "2026-03"),
            "{table} differs"
        );
    }

    let second = nightly.night("2026-04-02");
    assert_eq!(
        (&second["status"], &second["up_to_date"]),
        (&"nothing_to_do".into(), &(3 * TABLES).into())
    );

    // Late, but in time: what is reported follows.
    let reported = nightly.revenue("kpi_as_reported", &["value", "closes_on"]);
    nightly.credit(1);
    let plan = nightly.plan("2026-04-07");
    let reason = "2026-03  kpi_values, ";
    assert!(plan.contains(&format!("stale\n  {reason}")), "{plan}");
    assert!(
        plan.contains("invoices-2026-03.csv: size changed"),
        "{plan}"
    );
    assert!(plan.contains("to do: 1 of 3 periods"), "{plan}");
    let third = nightly.night("2026-04-07");
    assert_eq!(third["up_to_date"], 2 * TABLES);
    let corrected = nightly.revenue("kpi_as_reported", &["value", "closes_on"]);
    assert_ne!(corrected[0], reported[0]);
    assert_eq!(
        (corrected[1].as_str(), reported[1].as_str()),
        ("2026-04-08", "2026-04-08")
    );
    assert_eq!(
        nightly.revenue("kpi_values", &["value", "is_restated"]),
        [corrected[0].as_str(), "false"]
    );
    let columns = [
        "old_value",
        "new_value",
        "was_complete",
        "was_closed",
        "cause",
    ];
    assert_eq!(
        nightly.revenue("restatements", &columns),
        [
            reported[0].as_str(),
            corrected[0].as_str(),
            "true",
            "false",
            "input"
        ]
    );

    // Too late: the report stays, the value is marked.
    let as_reported = nightly.bytes("kpi_as_reported", "2026-03");
    nightly.credit(2);
    let plan = nightly.plan("2026-04-09");
    assert!(plan.contains(&format!("restated\n  {reason}")), "{plan}");
    nightly.night("2026-04-09");
    assert!(nightly.bytes("kpi_as_reported", "2026-03") == as_reported);
    let [now, is_restated] = &nightly.revenue("kpi_values", &["value", "is_restated"])[..] else {
        panic!("two columns")
    };
    assert_ne!(*now, corrected[0]);
    assert_eq!(is_restated, "true");
    assert_eq!(
        nightly.revenue("restatements", &columns),
        [corrected[0].as_str(), now.as_str(), "true", "true", "input"]
    );
    let detail = &nightly.revenue("restatements", &["cause_detail"])[0];
    assert!(
        detail.contains("exports/billing/invoices/invoices-2026-03.csv: size changed"),
        "{detail}"
    );

    // April's first files leave March as it is.
    let march = nightly
        .exports
        .path()
        .join("billing/invoices/invoices-2026-03.csv");
    let header = fs::read_to_string(march).unwrap();
    let header = header.lines().next().unwrap();
    let key = "exports/billing/invoices/invoices-2026-04.csv";
    nightly
        .server
        .put(&nightly.bucket, key, format!("{header}\n").as_bytes());
    assert_eq!(nightly.night("2026-04-10")["status"], "nothing_to_do");
    let verified = nightly
        .cskpi("verify pipelines/nightly.yaml --deep")
        .succeeded();
    assert_eq!(
        verified.stdout,
        format!("{} files are as they were published\n", 3 * TABLES)
    );
}
