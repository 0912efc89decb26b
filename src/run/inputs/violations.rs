//! Rows that break contracts, counted by rule, with the first of each, and as text.

use crate::config::error::show;
use crate::contract::Contract;
use crate::run::collected;
use polars::prelude::*;

/// Offending rows shown per rule.
const EXAMPLES: usize = 5;

/// Rows of one table that break one rule.
#[derive(Debug, Clone)]
pub struct Violation {
    pub table: String,
    pub column: String,
    pub rule: String,
    pub rows: u64,
    pub examples: Vec<Example>,
}

#[derive(Debug, Clone)]
pub struct Example {
    pub file: String,
    pub row: i64,
    pub value: Option<String>,
}

/// Counts violations by rule and keeps the first rows of each.
pub(super) fn summarised(
    contract: &Contract,
    violations: LazyFrame,
) -> PolarsResult<Vec<Violation>> {
    violations_of(contract, &collected(counted(violations))?)
}

/// One row per rule and column: how many rows break it, and the first of them.
pub(super) fn counted(violations: LazyFrame) -> LazyFrame {
    let first = |name: &str| col(name).head(Some(EXAMPLES));
    violations
        .group_by([col("rule"), col("column")])
        .agg([
            len().cast(DataType::UInt64).alias("rows"),
            first("file"),
            first("row"),
            first("value"),
        ])
        .sort(["column", "rule"], SortMultipleOptions::default())
}

pub(super) fn violations_of(
    contract: &Contract,
    frame: &DataFrame,
) -> PolarsResult<Vec<Violation>> {
    let mut found = Vec::new();
    for index in 0..frame.height() {
        let text = |name: &str| {
            frame
                .column(name)
                .and_then(|c| Ok(c.str()?.get(index).unwrap_or("").to_owned()))
        };
        let list = |name: &str| {
            frame
                .column(name)
                .and_then(|c| Ok(c.list()?.get_as_series(index).unwrap_or_default()))
        };
        let (files, rows, values) = (list("file")?, list("row")?, list("value")?);
        let example = |at: usize| -> PolarsResult<Example> {
            Ok(Example {
                file: files.str()?.get(at).unwrap_or("").to_owned(),
                row: rows.i64()?.get(at).unwrap_or(0),
                value: values.str()?.get(at).map(str::to_owned),
            })
        };
        found.push(Violation {
            table: contract.table.clone(),
            column: text("column")?,
            rule: text("rule")?,
            rows: frame.column("rows")?.u64()?.get(index).unwrap_or(0),
            examples: (0..files.len()).map(example).collect::<PolarsResult<_>>()?,
        });
    }
    Ok(found)
}

/// Violations as text: table, rule and count, then rows with file, row and value.
pub(super) fn report(found: &[Violation]) -> String {
    let total: u64 = found.iter().map(|violation| violation.rows).sum();
    let mut text = match total {
        1 => "1 row of the inputs breaks its contract".to_owned(),
        _ => format!("{total} rows of the inputs break their contracts"),
    };
    for violation in found {
        let Violation {
            table,
            column,
            rule,
            rows,
            examples,
        } = violation;
        text.push_str(&format!(
            "\n  {table}.{column} {rule} ({rows} {})",
            if *rows == 1 { "row" } else { "rows" }
        ));
        for Example { file, row, value } in examples {
            let value = value
                .as_deref()
                .map_or("no value".to_owned(), |value| format!("`{}`", show(value)));
            text.push_str(&format!("\n    {file} row {row}: {value}"));
        }
        if (examples.len() as u64) < *rows {
            text.push_str("\n    …");
        }
    }
    text
}
