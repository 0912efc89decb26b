//! What is missing or stale, and why: manifests and listings → a verdict for every table and period. Pure.

use crate::contract::{self, Contract};
use crate::marts::Shape;
use crate::period::Period;
use crate::publish::manifest::{Basis, InputFile, Manifests, Unit};
use crate::publish::{self, Closing, schema};
use crate::storage::Entry;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How things stand with one table and period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// There is no file.
    Missing,
    /// What it was made of has changed.
    Stale,
    /// The same, and the period is closed: publishing it restates values that were reported.
    Restated,
    /// Its columns are not those that would be written now.
    SchemaChange,
    UpToDate,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Stale => "stale",
            Self::Restated => "restated",
            Self::SchemaChange => "schema change",
            Self::UpToDate => "up to date",
        }
    }
}

/// One table and period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitPlan {
    pub table: String,
    pub state: State,
    /// Down to the file or key; empty when up to date.
    pub reasons: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeriodPlan {
    pub index: i32,
    pub period_start: NaiveDate,
    pub units: Vec<UnitPlan>,
    /// Why the last run that tried could not publish it.
    pub failure: Option<String>,
}

/// Which periods a run takes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Reprocess {
    /// Only periods with a table that is missing.
    None,
    /// Those, and periods whose last run failed.
    Failed,
    /// Those, and periods whose inputs, settings, program or columns have changed.
    #[default]
    Stale,
    /// Every period.
    All,
}

/// What is published.
pub struct Published<'a> {
    pub manifests: &'a Manifests,
    /// Data files by key.
    pub listing: &'a BTreeMap<String, Entry>,
}

/// What would be published now.
pub struct Wanted<'a> {
    pub tables: &'a [&'static str],
    pub shape: Shape<'a>,
    pub basis: &'a dyn Fn(&Period, &str) -> Basis,
    pub closing: &'a dyn Fn(&Period) -> Option<Closing>,
}

impl PeriodPlan {
    pub fn is_chosen(&self, reprocess: Reprocess) -> bool {
        let any = |is_meant: fn(State) -> bool| self.units.iter().any(|unit| is_meant(unit.state));
        let is_missing = any(|state| state == State::Missing);
        match reprocess {
            Reprocess::None => is_missing,
            Reprocess::Failed => is_missing || self.failure.is_some(),
            Reprocess::Stale => self.failure.is_some() || any(|state| state != State::UpToDate),
            Reprocess::All => true,
        }
    }
}

/// The verdict for every wanted table of every period.
pub fn plan(periods: &[Period], wanted: &Wanted, published: &Published) -> Vec<PeriodPlan> {
    let of_period = |period: &Period| {
        let manifest = published
            .manifests
            .get(&period.start)
            .map(|(manifest, _)| manifest);
        let units = tables_of(wanted, period).map(|table| {
            let key = publish::key(table, period.start);
            let unit = manifest.and_then(|manifest| manifest.units.get(table));
            let old = manifest.and_then(|manifest| manifest.basis_of(table));
            let (state, reasons) = verdict(
                unit,
                old,
                published.listing.get(&key),
                table,
                period,
                wanted,
            );
            UnitPlan {
                table: table.to_owned(),
                state,
                reasons,
            }
        });
        PeriodPlan {
            index: period.index,
            period_start: period.start,
            units: units.collect(),
            failure: manifest
                .and_then(|manifest| manifest.failure.as_ref())
                .map(|failure| failure.reason.clone()),
        }
    };
    periods.iter().map(of_period).collect()
}

/// The wanted tables, and those that publishing `kpi_values` makes beside it.
fn tables_of<'a>(wanted: &'a Wanted, period: &Period) -> impl Iterator<Item = &'static str> + 'a {
    let is_closing = (wanted.closing)(period).is_some();
    let has_kpis = wanted.tables.contains(&"kpi_values");
    let beside = contract::PUBLISHED_BESIDE.into_iter();
    let beside = beside.filter(move |table| has_kpis && (*table == "restatements" || is_closing));
    wanted.tables.iter().copied().chain(beside)
}

fn verdict(
    unit: Option<&Unit>,
    old: Option<&Basis>,
    file: Option<&Entry>,
    table: &str,
    period: &Period,
    wanted: &Wanted,
) -> (State, Vec<String>) {
    let (unit, file) = match (unit, file) {
        (None, None) => return (State::Missing, vec!["never published".to_owned()]),
        (Some(_), None) => return (State::Missing, vec!["its file is gone".to_owned()]),
        (None, Some(_)) => {
            return (
                State::Stale,
                vec!["its file is in no manifest: it is not known what it was made of".to_owned()],
            );
        }
        (Some(unit), Some(file)) => (unit, file),
    };
    if file.version != unit.version {
        return (
            State::Stale,
            vec!["its file is not the one that was published".to_owned()],
        );
    }
    let columns = column_changes(unit, contract::of(table), wanted.shape);
    if !columns.is_empty() {
        return (State::SchemaChange, columns);
    }
    let new = (wanted.basis)(period, table);
    // What lies beside kpi_values is made of it: the same files, and its own history.
    let reasons = match old {
        None => vec!["it is not known what it was made of".to_owned()],
        Some(old) if *old == new => return (State::UpToDate, Vec::new()),
        Some(old) => changes(old, &new),
    };
    let is_closed = (wanted.closing)(period).is_some_and(|closing| closing.is_closed);
    (
        if is_closed {
            State::Restated
        } else {
            State::Stale
        },
        reasons,
    )
}

/// What differs between two bases, in words.
pub fn changes(old: &Basis, new: &Basis) -> Vec<String> {
    let mut reasons = publish::input_changes(old, new);
    reasons.extend(
        new.settings
            .changed(&old.settings)
            .into_iter()
            .map(|key| format!("{key}: changed in the pipeline")),
    );
    if old.program != new.program {
        reasons.push(format!("cskpi {} → {}", old.program, new.program));
    }
    if old.is_complete != new.is_complete {
        reasons.push("the period was not complete".to_owned());
    }
    reasons
}

fn column_changes(unit: &Unit, contract: &Contract, shape: Shape) -> Vec<String> {
    let promised = schema::promised(contract, shape);
    let find = |all: &[(String, String)], name: &str| {
        all.iter()
            .find(|(column, _)| column == name)
            .map(|(_, dtype)| dtype.clone())
    };
    let mut changes: Vec<String> = promised
        .iter()
        .filter_map(|(name, dtype)| match find(&unit.columns, name) {
            None => Some(format!("column {name} added")),
            Some(old) if old != *dtype => Some(format!("column {name}: {old} → {dtype}")),
            Some(_) => None,
        })
        .collect();
    let gone = unit
        .columns
        .iter()
        .filter(|(name, _)| find(&promised, name).is_none());
    changes.extend(gone.map(|(name, _)| format!("column {name} removed")));
    changes
}

/// A listing as a basis holds it.
pub fn input_files<'a>(
    files: impl Iterator<Item = &'a crate::sources::SourceFile>,
) -> Vec<InputFile> {
    let mut files: Vec<InputFile> = files
        .map(|file| InputFile {
            path: file.path.clone(),
            size: file.size,
            etag: file.etag.clone(),
        })
        .collect();
    files.sort();
    files
}
