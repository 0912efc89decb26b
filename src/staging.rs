//! One source → one canonical table: rename, cast, parse. No joins.
//!
//! Every staged frame keeps, beside each column, the value that it was read from, and the file and row it came from, so
//! that the contract can say what is wrong where. A value that cannot be read becomes null and so a violation; it is
//! never dropped silently.

mod instant;
mod parse;

use crate::config::{Calendar, Input, Source};
use crate::contract::{self, Contract, FILE, FILE_FROM, FILE_TO, Kind, ROW, raw_column};
use crate::sources::Scan;
use crate::sql;
use polars::prelude::*;

/// An input table in canonical columns, not yet checked.
pub struct Staged {
    /// Mapped columns in contract order, further account columns, then provenance.
    pub frame: LazyFrame,
    /// The columns that the source has.
    pub mapped: Vec<String>,
    /// Account columns beside the contract's, for dimensions and rules.
    pub extra: Vec<String>,
}

/// Why a source does not make its table.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    #[error(
        "{table} has no column `{column}`, and none of {} is mapped to it",
        list(available)
    )]
    MissingColumn {
        table: String,
        column: String,
        available: Vec<String>,
    },
    #[error("{table} needs one of the columns {}", list(columns))]
    MissingOneOf { table: String, columns: Vec<String> },
    #[error("{table} knows no column `{column}`")]
    UnknownColumn {
        table: String,
        column: String,
        nearest: Option<String>,
    },
    #[error(
        "{place} of {table} names the unknown column `{column}`; the source has {}",
        list(available)
    )]
    UnknownSourceColumn {
        table: String,
        place: String,
        column: String,
        available: Vec<String>,
    },
    #[error("{place} of {table}: {source}")]
    Expression {
        table: String,
        place: String,
        source: sql::SqlError,
    },
    #[error("the source of {table} has more than one column `{column}`")]
    DuplicateHeader { table: String, column: String },
    #[error("{table} cannot be staged")]
    Plan { table: String, source: PolarsError },
}

fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// Maps a scanned source onto its canonical table.
pub fn staged(
    contract: &Contract,
    source: &Source,
    scan: &Scan,
    calendar: &Calendar,
) -> Result<Staged, StagingError> {
    let table = contract.table.clone();
    let plan = |source| StagingError::Plan {
        table: contract.table.clone(),
        source,
    };
    let available: Vec<String> = scan
        .schema
        .iter_names()
        .map(|name| name.to_string())
        .collect();
    let expression = |text: &str, place: &str| -> Result<Expr, StagingError> {
        let place = || place.to_owned();
        let parsed = sql::parse(text).map_err(|source| StagingError::Expression {
            table: table.clone(),
            place: place(),
            source,
        })?;
        if let Some(column) = parsed
            .columns()
            .iter()
            .find(|column| !available.contains(column))
        {
            return Err(StagingError::UnknownSourceColumn {
                table: table.clone(),
                place: place(),
                column: column.clone(),
                available: available.clone(),
            });
        }
        parsed.to_polars().map_err(plan)
    };
    let once = |column: &str| match available.contains(&format!("{column}_duplicated_0")) {
        true => Err(StagingError::DuplicateHeader {
            table: table.clone(),
            column: column.to_owned(),
        }),
        false => Ok(Some(col(column))),
    };
    let mapping = |name: &str| -> Result<Option<Expr>, StagingError> {
        if let Some(constant) = source.constants.get(name) {
            let value = constant
                .as_deref()
                .map_or(lit(NULL).cast(DataType::String), lit);
            return Ok(Some(value));
        }
        match source.columns.get(name) {
            Some(text) if available.contains(text) => once(text),
            Some(text) => expression(text, &format!("columns.{name}")).map(Some),
            None if available.iter().any(|column| column == name) => once(name),
            None => Ok(None),
        }
    };

    let mut frame = scan.frame.clone();
    if let Some(filter) = &source.filter {
        frame = frame.filter(expression(filter, "filter")?);
    }
    let mut typed = Vec::new();
    for column in &contract.columns {
        match mapping(&column.name)? {
            Some(value) => typed.push((column.name.clone(), value, Some(column.clone()))),
            None if column.optional => {}
            None => {
                return Err(StagingError::MissingColumn {
                    table,
                    column: column.name.clone(),
                    available,
                });
            }
        }
    }
    let extra = extra_columns(contract, source, &available)?;
    for name in &extra {
        if let Some(value) = mapping(name)? {
            typed.push((name.clone(), value, None));
        }
    }
    let mapped: Vec<String> = typed.iter().map(|(name, _, _)| name.clone()).collect();
    let lacks_all =
        |names: &[String]| !names.is_empty() && !names.iter().any(|name| mapped.contains(name));
    if lacks_all(&contract.one_of) {
        return Err(StagingError::MissingOneOf {
            table,
            columns: contract.one_of.clone(),
        });
    }

    let mut provenance = vec![col(FILE), col(ROW)];
    if source.file_dates.is_some() {
        provenance.extend([col(FILE_FROM), col(FILE_TO)]);
    }
    let selected: Vec<Expr> = typed
        .iter()
        .map(|(name, value, _)| value.clone().alias(name))
        .collect();
    let mut frame = frame.select([selected, provenance].concat());
    let types = frame.collect_schema().map_err(plan)?;
    let raw = mapped.iter().map(|name| col(name).alias(raw_column(name)));
    let parser = parse::Parser {
        source,
        calendar,
        is_text_file: is_text(&source.input),
    };
    let mut parsed = Vec::new();
    for (name, _, column) in &typed {
        let dtype = types.get(name).cloned().unwrap_or(DataType::String);
        let (kind, scale) = match column {
            Some(column) => (column.kind, column.scale.unwrap_or(contract::AMOUNT_SCALE)),
            // Further account columns keep the type they came with.
            None if dtype == DataType::String => (Kind::Text, 0),
            None => continue,
        };
        parsed.push(parser.value(col(name), &dtype, kind, scale).alias(name));
    }
    let frame = frame
        .with_columns(raw.collect::<Vec<_>>())
        .with_columns(parsed);
    Ok(Staged {
        frame,
        mapped,
        extra,
    })
}

/// Columns of the source's mapping that the contract does not know: welcome on accounts, a mistake elsewhere.
fn extra_columns(
    contract: &Contract,
    source: &Source,
    available: &[String],
) -> Result<Vec<String>, StagingError> {
    let named = source.columns.keys().chain(source.constants.keys());
    let mut extra: Vec<String> = named
        .filter(|name| contract.column(name).is_none())
        .cloned()
        .collect();
    if contract.table != "accounts" {
        return match extra.first() {
            None => Ok(Vec::new()),
            Some(column) => {
                let names = contract.columns.iter().map(|column| column.name.as_str());
                let nearest = names.max_by(|a, b| {
                    strsim::jaro_winkler(a, column).total_cmp(&strsim::jaro_winkler(b, column))
                });
                Err(StagingError::UnknownColumn {
                    table: contract.table.clone(),
                    column: column.clone(),
                    nearest: nearest.map(str::to_owned),
                })
            }
        };
    }
    let unmapped = available.iter().filter(|name| {
        contract.column(name).is_none() && !source.columns.values().any(|text| text == *name)
    });
    extra.extend(unmapped.cloned());
    extra.sort();
    extra.dedup();
    Ok(extra)
}

fn is_text(input: &Input) -> bool {
    !matches!(
        input,
        Input::Files {
            format: crate::config::Format::Parquet,
            ..
        }
    )
}
