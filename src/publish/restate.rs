//! What changed in values that had been published, and why.

use super::manifest::Basis;
use crate::contract;
use crate::period::{Period, utc_micros};
use chrono::{DateTime, NaiveDate, Utc};
use polars::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Files and keys that a cause names before it says how many more there are.
const NAMED: usize = 5;

/// Why a value was computed again with another result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `input`, `config`, `version`, `completeness`, joined with `+`; `unknown` if nothing that we know of changed.
    pub kind: String,
    pub detail: String,
}

/// What all restatements of a period and run share.
pub struct About<'a> {
    pub period: &'a Period,
    pub run_id: &'a str,
    pub restated_at: DateTime<Utc>,
    pub was_closed: bool,
    pub cause: &'a Cause,
}

/// Dimension, member, metric.
type Key = (String, String, String);

/// Values of a `kpi_values` frame and whether each was of a complete period.
type Values = BTreeMap<Key, (Option<f64>, bool)>;

/// What differs between two bases.
pub fn cause(old: Option<&Basis>, new: &Basis) -> Cause {
    let unknown = |detail: &str| Cause {
        kind: "unknown".to_owned(),
        detail: detail.to_owned(),
    };
    let Some(old) = old else {
        return unknown("nothing is known of how the old value was made");
    };
    let mut kinds = Vec::new();
    let mut details = Vec::new();
    let inputs = input_changes(old, new);
    if !inputs.is_empty() {
        kinds.push("input");
        details.push(listed(&inputs));
    }
    let keys = new.settings.changed(&old.settings);
    if !keys.is_empty() {
        kinds.push("config");
        details.push(listed(&keys));
    }
    if old.program != new.program {
        kinds.push("version");
        details.push(format!("{} → {}", old.program, new.program));
    }
    if old.is_complete != new.is_complete {
        kinds.push("completeness");
        details.push("the period was not complete".to_owned());
    }
    if kinds.is_empty() {
        return unknown("neither inputs, nor settings, nor the program have changed");
    }
    Cause {
        kind: kinds.join("+"),
        detail: details.join("; "),
    }
}

/// Input files that were added, removed or changed, each in words: `invoices-2026-07.csv: etag changed`.
pub fn input_changes(old: &Basis, new: &Basis) -> Vec<String> {
    let files = |basis: &Basis| -> BTreeMap<String, (u64, String)> {
        let all = basis.inputs.values().flatten();
        all.map(|file| (file.path.clone(), (file.size, file.etag.0.clone())))
            .collect()
    };
    let (old, new) = (files(old), files(new));
    let mut changes = Vec::new();
    for (path, (size, etag)) in &new {
        match old.get(path) {
            None => changes.push(format!("{path}: added")),
            Some((old_size, _)) if old_size != size => {
                changes.push(format!("{path}: size changed ({old_size} → {size} bytes)"))
            }
            Some((_, old_etag)) if old_etag != etag => {
                changes.push(format!("{path}: etag changed"))
            }
            Some(_) => {}
        }
    }
    changes.extend(
        old.keys()
            .filter(|path| !new.contains_key(*path))
            .map(|path| format!("{path}: removed")),
    );
    changes.sort();
    changes
}

fn listed(all: &[String]) -> String {
    let named = all
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Key, value and completeness of every row of a `kpi_values` frame.
fn rows(frame: &DataFrame) -> PolarsResult<impl Iterator<Item = (Key, Option<f64>, bool)>> {
    let text = |name: &str| frame.column(name)?.str();
    let (dimension, member, metric) = (text("dimension")?, text("member")?, text("metric")?);
    let value = frame.column("value")?.f64()?;
    let complete = frame.column("is_complete")?.bool()?;
    let owned = |column: &StringChunked, row| column.get(row).unwrap_or_default().to_owned();
    Ok((0..frame.height()).map(move |row| {
        let key = (
            owned(dimension, row),
            owned(member, row),
            owned(metric, row),
        );
        (key, value.get(row), complete.get(row).unwrap_or(false))
    }))
}

fn values(frame: &DataFrame) -> PolarsResult<Values> {
    let all = rows(frame)?.map(|(key, value, is_complete)| (key, (value, is_complete)));
    Ok(all.collect())
}

/// Dimension and metric of all values.
fn groups(values: &Values) -> BTreeSet<(String, String)> {
    let groups = values
        .keys()
        .map(|(dimension, _, metric)| (dimension.clone(), metric.clone()));
    groups.collect()
}

/// `kpi_values` with `is_restated` where a value is not the one that was reported. A metric or dimension that had not been
/// reported at all restates nothing.
pub fn marked(mut kpis: DataFrame, reported: &DataFrame) -> PolarsResult<DataFrame> {
    let reported = values(reported)?;
    let had = groups(&reported);
    let marks: BooleanChunked = rows(&kpis)?
        .map(|(key, value, _)| {
            Some(match reported.get(&key) {
                Some((old, _)) => *old != value,
                None => value.is_some() && had.contains(&(key.0, key.2)),
            })
        })
        .collect();
    kpis.with_column(marks.with_name("is_restated".into()).into_column())?;
    Ok(kpis)
}

/// The values of a period as they are reported now.
pub fn as_reported(kpis: &DataFrame, closes_on: NaiveDate) -> PolarsResult<DataFrame> {
    let mut reported = kpis.clone();
    let closes = Column::new("closes_on".into(), vec![closes_on; reported.height()]);
    reported.with_column(closes)?;
    let columns = &contract::of("kpi_as_reported").columns;
    reported.select(columns.iter().map(|column| column.name.as_str()))
}

/// One row per value that had been published and is now another one. A metric or dimension that is new to the period, or
/// that is published no longer, restates nothing.
pub fn restatements(old: &DataFrame, new: &DataFrame, about: &About) -> PolarsResult<DataFrame> {
    let (old, new) = (values(old)?, values(new)?);
    let (had, has) = (groups(&old), groups(&new));
    let mut rows: Vec<(&Key, Option<f64>, Option<f64>, bool)> = Vec::new();
    for (key, (value, is_complete)) in &new {
        let group = (key.0.clone(), key.2.clone());
        match old.get(key) {
            Some((before, _)) if before == value => {}
            Some((before, was_complete)) => rows.push((key, *before, *value, *was_complete)),
            None if had.contains(&group) && value.is_some() => {
                rows.push((key, None, *value, *is_complete))
            }
            None => {}
        }
    }
    for (key, (before, was_complete)) in &old {
        let group = (key.0.clone(), key.2.clone());
        if !new.contains_key(key) && has.contains(&group) && before.is_some() {
            rows.push((key, *before, None, *was_complete));
        }
    }
    rows.sort_by_key(|(key, ..)| *key);
    let of = |part: fn(&Key) -> &String| {
        rows.iter()
            .map(|(key, ..)| part(key).as_str())
            .collect::<Vec<_>>()
    };
    let mut frame = df!(
        "run_id" => vec![about.run_id; rows.len()],
        "restated_at" => vec![about.restated_at.naive_utc(); rows.len()],
        "dimension" => of(|key| &key.0),
        "member" => of(|key| &key.1),
        "metric" => of(|key| &key.2),
        "old_value" => rows.iter().map(|row| row.1).collect::<Vec<_>>(),
        "new_value" => rows.iter().map(|row| row.2).collect::<Vec<_>>(),
        "was_complete" => rows.iter().map(|row| row.3).collect::<Vec<_>>(),
        "was_closed" => vec![about.was_closed; rows.len()],
        "cause" => vec![about.cause.kind.as_str(); rows.len()],
        "cause_detail" => vec![about.cause.detail.as_str(); rows.len()],
    )?;
    let dates = [
        ("period_start", about.period.start),
        ("period_end", about.period.end),
    ];
    for (name, date) in dates {
        frame.with_column(Column::new(name.into(), vec![date; rows.len()]))?;
    }
    Ok(frame)
}

/// Restatements in their contract's order and types, those of earlier runs first.
pub fn ledger(all: impl Iterator<Item = DataFrame>, period: &Period) -> PolarsResult<DataFrame> {
    let contract = contract::of("restatements");
    let none = restatements_of_nothing(period)?;
    let mut whole = conformed(&none, contract)?;
    for frame in all {
        whole.vstack_mut(&conformed(&frame, contract)?)?;
    }
    Ok(whole)
}

fn restatements_of_nothing(period: &Period) -> PolarsResult<DataFrame> {
    let empty = df!(
        "dimension" => Vec::<String>::new(), "member" => Vec::<String>::new(), "metric" => Vec::<String>::new(),
        "value" => Vec::<f64>::new(), "is_complete" => Vec::<bool>::new(),
    )?;
    let cause = Cause {
        kind: String::new(),
        detail: String::new(),
    };
    let about = About {
        period,
        run_id: "",
        restated_at: DateTime::UNIX_EPOCH,
        was_closed: false,
        cause: &cause,
    };
    restatements(&empty, &empty, &about)
}

/// Columns of a contract without money or columns per dimension, cast to its types.
pub fn conformed(frame: &DataFrame, contract: &contract::Contract) -> PolarsResult<DataFrame> {
    let columns = contract.columns.iter().map(|column| {
        let dtype = match column.kind {
            contract::Kind::Text => DataType::String,
            contract::Kind::Integer => DataType::Int64,
            contract::Kind::Float => DataType::Float64,
            contract::Kind::Boolean => DataType::Boolean,
            contract::Kind::Date => DataType::Date,
            contract::Kind::Instant => utc_micros(),
            contract::Kind::Decimal | contract::Kind::Money => {
                polars_bail!(ComputeError: "{} has amounts", contract.table)
            }
        };
        let found = frame.column(&column.name)?;
        match (&dtype, found.dtype()) {
            // A naive instant is in UTC.
            (DataType::Datetime(_, Some(zone)), DataType::Datetime(unit, None)) => {
                let zoned = found
                    .cast(&DataType::Int64)?
                    .cast(&DataType::Datetime(*unit, Some(zone.clone())))?;
                zoned.cast(&dtype)
            }
            _ => found.cast(&dtype),
        }
    });
    let columns = columns.collect::<PolarsResult<Vec<_>>>()?;
    DataFrame::new_infer_height(columns)
}
