//! Table contracts: what a table's columns are, what must hold in every row, and which rows break it.
//!
//! Input contracts lie in `schemas/input`, output contracts in `schemas/output`; both are compiled into the program.
//! [`Contract::violations`] is pure: it turns a frame into the frame of its offending rows. In this version any violation
//! stops the run; quarantine will take the accepted rest instead.

mod violations;

use crate::currency::Currency;
use crate::period::utc_micros;
use polars::prelude::*;
use serde::Deserialize;
use std::sync::OnceLock;

pub use violations::{FILE, FILE_FROM, FILE_TO, ROW, VIOLATION_COLUMNS, raw_column};

/// The promise of one table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    pub table: String,
    /// What one row is.
    pub grain: String,
    #[serde(default)]
    pub description: String,
    /// Input tables: the kind of system it comes from.
    #[serde(default)]
    pub source: String,
    pub columns: Vec<Column>,
    /// Output tables: what the columns are made of. For a column the first entry that fits counts.
    #[serde(default)]
    pub lineage: Vec<Lineage>,
    /// Columns that together name a row, once (output tables: within a period).
    #[serde(default)]
    pub key: Vec<String>,
    /// At least one of these columns must be mapped, and have a value in every row.
    #[serde(default)]
    pub one_of: Vec<String>,
    /// Input tables: the column that tells when a row happened. Such a row changes nothing before that.
    #[serde(default)]
    pub dated_by: Option<String>,
    /// Half-open intervals that must not overlap.
    pub intervals: Option<Intervals>,
    #[serde(default)]
    pub references: Vec<Reference>,
    #[serde(default)]
    pub checks: Vec<Check>,
}

/// What some columns of an output table are made of.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lineage {
    /// Names, `*` for any letters; `<dimensions>` for the pipeline's dimensions.
    pub columns: Vec<String>,
    /// An input table, `table.column` of one, or `account_period.column`.
    pub of: Vec<String>,
    /// Keys of `policy` in the pipeline file that decide what they hold.
    #[serde(default)]
    pub policy: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Never null.
    #[serde(default)]
    pub required: bool,
    /// May be missing from the source altogether.
    #[serde(default)]
    pub optional: bool,
    #[serde(default)]
    pub allowed: Vec<String>,
    pub min: Option<i64>,
    pub max: Option<i64>,
    /// Decimals of a `decimal` column; 6 when not said.
    pub scale: Option<usize>,
    /// Output tables: this entry stands for one column per dimension or per metric.
    pub each: Option<Each>,
    pub description: String,
}

/// Types that every reader takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Text,
    Integer,
    Float,
    Decimal,
    Boolean,
    Date,
    Instant,
    /// Decimal in the reporting currency's minor unit.
    Money,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Each {
    Dimensions,
    Metrics,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intervals {
    pub per: Vec<String>,
    pub from: String,
    pub to: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    pub column: String,
    pub table: String,
}

/// A SQL condition over a row; only a row for which it is false breaks it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Column whose value a report shows.
    pub column: String,
    pub sql: String,
    pub message: String,
}

/// No amount reaches this: what is made of it must fit the exact decimals it is computed in.
pub const AMOUNT_LIMIT: i64 = 1_000_000_000_000;
/// Decimals that staged amounts keep; more than any currency's minor unit has.
pub const AMOUNT_SCALE: usize = 6;

impl Column {
    /// The polars type of the column.
    pub fn dtype(&self, currency: &Currency) -> DataType {
        match self.kind {
            Kind::Text => DataType::String,
            Kind::Integer => DataType::Int64,
            Kind::Float => DataType::Float64,
            Kind::Decimal => DataType::Decimal(38, self.scale.unwrap_or(AMOUNT_SCALE)),
            Kind::Boolean => DataType::Boolean,
            Kind::Date => DataType::Date,
            Kind::Instant => utc_micros(),
            Kind::Money => DataType::Decimal(18, currency.minor_digits as usize),
        }
    }
}

impl Contract {
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// What a column is made of.
    pub fn lineage_of(&self, column: &str) -> Option<&Lineage> {
        let fits = |pattern: &String| {
            glob::Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(column))
        };
        self.lineage
            .iter()
            .find(|entry| entry.columns.iter().any(fits))
    }

    /// The columns with `each` entries spelled out.
    pub fn expanded(&self, dimensions: &[String], metrics: &[String]) -> Vec<Column> {
        let spell_out = |column: &Column| match column.each {
            None => vec![column.clone()],
            Some(each) => {
                let names = match each {
                    Each::Dimensions => dimensions,
                    Each::Metrics => metrics,
                };
                names
                    .iter()
                    .map(|name| Column {
                        name: name.clone(),
                        each: None,
                        ..column.clone()
                    })
                    .collect()
            }
        };
        self.columns.iter().flat_map(spell_out).collect()
    }
}

/// The input tables in the order in which they are staged: references point up the list.
pub const INPUT_TABLES: [&str; 19] = [
    "accounts",
    "account_merges",
    "plans",
    "subscriptions",
    "invoice_lines",
    "fx_rates",
    "opportunities",
    "members",
    "onboarding",
    "surveys",
    "tickets",
    "community",
    "costs",
    "time_entries",
    "targets",
    "usage_events",
    "usage_sessions",
    "usage_daily",
    "usage_features",
];

/// The published tables.
pub const OUTPUT_TABLES: [&str; 14] = [
    "kpi_values",
    "kpi_summary",
    "kpi_breakdown",
    "kpi_attainment",
    "kpi_drivers",
    "mrr_movements",
    "cohort_retention",
    "survival",
    "account_period",
    "rfm_scores",
    "rfm_boundaries",
    "touch_segments",
    "time_spent",
    "metric_dictionary",
];

/// Tables that publishing itself makes beside `kpi_values`.
pub const PUBLISHED_BESIDE: [&str; 2] = ["kpi_as_reported", "restatements"];

/// Tables about the runs, by the month in which a run started.
pub const LEDGER_TABLES: [&str; 2] = ["runs", "checks"];

const TEXTS: [&str; 37] = [
    include_str!("../schemas/input/accounts.yaml"),
    include_str!("../schemas/input/account_merges.yaml"),
    include_str!("../schemas/input/plans.yaml"),
    include_str!("../schemas/input/subscriptions.yaml"),
    include_str!("../schemas/input/invoice_lines.yaml"),
    include_str!("../schemas/input/fx_rates.yaml"),
    include_str!("../schemas/input/opportunities.yaml"),
    include_str!("../schemas/input/members.yaml"),
    include_str!("../schemas/input/onboarding.yaml"),
    include_str!("../schemas/input/surveys.yaml"),
    include_str!("../schemas/input/tickets.yaml"),
    include_str!("../schemas/input/community.yaml"),
    include_str!("../schemas/input/costs.yaml"),
    include_str!("../schemas/input/time_entries.yaml"),
    include_str!("../schemas/input/targets.yaml"),
    include_str!("../schemas/input/usage_events.yaml"),
    include_str!("../schemas/input/usage_sessions.yaml"),
    include_str!("../schemas/input/usage_daily.yaml"),
    include_str!("../schemas/input/usage_features.yaml"),
    include_str!("../schemas/output/kpi_values.yaml"),
    include_str!("../schemas/output/kpi_summary.yaml"),
    include_str!("../schemas/output/kpi_breakdown.yaml"),
    include_str!("../schemas/output/time_spent.yaml"),
    include_str!("../schemas/output/kpi_attainment.yaml"),
    include_str!("../schemas/output/kpi_drivers.yaml"),
    include_str!("../schemas/output/mrr_movements.yaml"),
    include_str!("../schemas/output/cohort_retention.yaml"),
    include_str!("../schemas/output/survival.yaml"),
    include_str!("../schemas/output/account_period.yaml"),
    include_str!("../schemas/output/rfm_scores.yaml"),
    include_str!("../schemas/output/rfm_boundaries.yaml"),
    include_str!("../schemas/output/touch_segments.yaml"),
    include_str!("../schemas/output/metric_dictionary.yaml"),
    include_str!("../schemas/output/kpi_as_reported.yaml"),
    include_str!("../schemas/output/restatements.yaml"),
    include_str!("../schemas/output/runs.yaml"),
    include_str!("../schemas/output/checks.yaml"),
];

/// The contract of a table that `cskpi` knows.
///
/// # Panics
/// For a name outside [`INPUT_TABLES`] and [`OUTPUT_TABLES`], which is a mistake in the program; a test reads them all.
pub fn of(table: &str) -> &'static Contract {
    static ALL: OnceLock<Vec<Contract>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let read =
            |text: &&str| serde_yaml::from_str(text).expect("a shipped contract is valid YAML");
        TEXTS.iter().map(read).collect()
    });
    all.iter()
        .find(|contract| contract.table == table)
        .expect("a contract is shipped for every known table")
}
