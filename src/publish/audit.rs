//! The audit of a staged file: it is read back as a reader would, and held against its contract.

use crate::columns::{PERIOD_END, PERIOD_START};
use crate::contract::{Contract, Kind};
use crate::marts::Shape;
use crate::period::Period;
use crate::sql;
use polars::prelude::*;

/// What a staged file does not keep.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("the file cannot be read back")]
    Unreadable { source: PolarsError },
    #[error("column {position} is `{found}`, where the contract has `{expected}`")]
    WrongColumn {
        position: usize,
        expected: String,
        found: String,
    },
    #[error("the file has {found} rows, {expected} were computed")]
    WrongRows { expected: usize, found: usize },
    #[error("{count} rows have no `{column}`")]
    MissingValue { column: String, count: u64 },
    #[error("{count} rows share their key ({key}) with another row")]
    DuplicateKey { key: String, count: u64 },
    #[error("{count} rows break the rule: {message} ({sql})")]
    BrokenCheck {
        message: String,
        sql: String,
        count: u64,
    },
    #[error("{count} members and products do not foot: their rows do not sum to the closing MRR")]
    DoesNotFoot { count: u64 },
    #[error(
        "{count} dimensions of metrics do not foot: the effects of their members do not sum to the change"
    )]
    UnexplainedChange { count: u64 },
    #[error("a row belongs to another period")]
    WrongPeriod,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Check {
    pub name: String,
    pub passed: bool,
    /// What was found, where it did not pass.
    pub detail: Option<String>,
}

/// Reads a staged file back and checks all that its contract promises. The last check is the one that failed, if any did.
pub fn audited(
    bytes: &[u8],
    contract: &Contract,
    period: &Period,
    rows: usize,
    shape: Shape,
) -> (Vec<Check>, Result<(), AuditError>) {
    let mut checks = Vec::new();
    let mut look = |name: String, result: Result<(), AuditError>| {
        let detail = result.as_ref().err().map(ToString::to_string);
        let passed = detail.is_none();
        checks.push(Check {
            name,
            passed,
            detail,
        });
        result
    };
    let result = audit(bytes, contract, period, rows, shape, &mut look);
    (checks, result)
}

fn audit(
    bytes: &[u8],
    contract: &Contract,
    period: &Period,
    rows: usize,
    shape: Shape,
    look: &mut dyn FnMut(String, Result<(), AuditError>) -> Result<(), AuditError>,
) -> Result<(), AuditError> {
    let unreadable = |source| AuditError::Unreadable { source };
    let read = ParquetReader::new(std::io::Cursor::new(bytes)).finish();
    let frame = match read {
        Ok(frame) => frame,
        Err(source) => return look("readable".to_owned(), Err(unreadable(source))),
    };
    let found = frame.height();
    let has_rows = if found == rows {
        Ok(())
    } else {
        Err(AuditError::WrongRows {
            expected: rows,
            found,
        })
    };
    look("rows are all there".to_owned(), has_rows)?;
    let columns = contract.expanded(shape.dimensions, shape.metrics);
    look(
        "columns and types".to_owned(),
        same_columns(&frame, &columns, shape),
    )?;
    let lazy = frame.lazy();
    let rules = rules(contract, &columns, period)?;
    let broken = counted(&lazy, &rules)?;
    for (rule, count) in rules.into_iter().zip(broken) {
        let result = if count == 0 {
            Ok(())
        } else {
            Err((rule.error)(count))
        };
        look(rule.name, result)?;
    }
    let key = contract.key.join(", ");
    let unique = match repeated(&lazy, contract)? {
        0 => Ok(()),
        count => Err(AuditError::DuplicateKey {
            key: key.clone(),
            count,
        }),
    };
    look(format!("one row per {key}"), unique)?;
    if contract.table == "mrr_movements" {
        look("opening + movements = closing".to_owned(), footed(lazy))?;
    } else if contract.table == "kpi_drivers" {
        look("effects sum to the change".to_owned(), explained(lazy))?;
    }
    Ok(())
}

fn same_columns(
    frame: &DataFrame,
    columns: &[crate::contract::Column],
    shape: Shape,
) -> Result<(), AuditError> {
    for (position, column) in columns.iter().enumerate() {
        let expected = format!("{} {}", column.name, column.dtype(shape.currency));
        let found = frame.columns().get(position);
        let found = found.map_or("nothing".to_owned(), |c| {
            format!("{} {}", c.name(), c.dtype())
        });
        if found != expected {
            return Err(AuditError::WrongColumn {
                position,
                expected,
                found,
            });
        }
    }
    Ok(())
}

/// A condition that no row may fulfil.
struct Rule<'a> {
    name: String,
    broken: Expr,
    error: Box<dyn Fn(u64) -> AuditError + 'a>,
}

/// What a contract says of single rows.
fn rules<'a>(
    contract: &'a Contract,
    columns: &[crate::contract::Column],
    period: &Period,
) -> Result<Vec<Rule<'a>>, AuditError> {
    let is_other = col(PERIOD_START)
        .neq(lit(period.start))
        .or(col(PERIOD_END).neq(lit(period.end)));
    let mut rules = vec![Rule {
        name: "of its period".to_owned(),
        broken: is_other,
        error: Box::new(|_| AuditError::WrongPeriod),
    }];
    for column in columns.iter().filter(|column| column.required) {
        let name = column.name.clone();
        rules.push(Rule {
            name: format!("{name} is never null"),
            broken: col(&column.name).is_null(),
            error: Box::new(move |count| AuditError::MissingValue {
                column: name.clone(),
                count,
            }),
        });
    }
    for column in columns.iter().filter(|column| column.kind == Kind::Float) {
        let message = format!("`{}` must be a finite number", column.name);
        rules.push(Rule {
            name: format!("{} is finite", column.name),
            broken: col(&column.name).is_finite().not(),
            error: Box::new(move |count| AuditError::BrokenCheck {
                message: message.clone(),
                sql: "is finite".into(),
                count,
            }),
        });
    }
    for check in &contract.checks {
        let unreadable = |source| AuditError::Unreadable { source };
        let parsed = sql::parse(&check.sql)
            .map_err(|error| unreadable(polars_err!(ComputeError: "{error}")))?;
        rules.push(Rule {
            name: check.sql.clone(),
            broken: parsed.to_polars().map_err(unreadable)?.not(),
            error: Box::new(move |count| AuditError::BrokenCheck {
                message: check.message.clone(),
                sql: check.sql.clone(),
                count,
            }),
        });
    }
    Ok(rules)
}

/// How many rows break each rule, in one pass.
#[expect(
    clippy::disallowed_methods,
    reason = "the audit is the reader of what it checks"
)]
fn counted(frame: &LazyFrame, rules: &[Rule]) -> Result<Vec<u64>, AuditError> {
    let counts = rules.iter().enumerate().map(|(number, rule)| {
        let broken = rule.broken.clone().fill_null(lit(false));
        broken
            .sum()
            .cast(DataType::UInt64)
            .alias(number.to_string())
    });
    let count = || -> PolarsResult<Vec<u64>> {
        let counts = frame.clone().select(counts.collect::<Vec<_>>()).collect()?;
        let columns = counts.columns().iter();
        columns
            .map(|count| Ok(count.u64()?.get(0).unwrap_or(0)))
            .collect()
    };
    count().map_err(|source| AuditError::Unreadable { source })
}

/// Keys that more than one row has.
#[expect(
    clippy::disallowed_methods,
    reason = "the audit is the reader of what it checks"
)]
fn repeated(frame: &LazyFrame, contract: &Contract) -> Result<u64, AuditError> {
    let key: Vec<Expr> = contract.key.iter().map(col).collect();
    let repeated = frame
        .clone()
        .group_by(key)
        .agg([len().alias("n")])
        .filter(col("n").gt(lit(1)));
    let repeated = repeated
        .collect()
        .map_err(|source| AuditError::Unreadable { source })?;
    Ok(repeated.height() as u64)
}

/// Opening + movements = closing, for every member and product.
#[expect(
    clippy::disallowed_methods,
    reason = "the audit is the reader of what it checks"
)]
fn footed(movements: LazyFrame) -> Result<(), AuditError> {
    let is_closing = || col("movement").eq(lit("closing"));
    let signed = when(is_closing())
        .then(lit(0i64) - col("mrr"))
        .otherwise(col("mrr"));
    let off = movements
        .group_by([col("dimension"), col("member"), col("product")])
        .agg([signed.sum().alias("off")])
        .filter(col("off").neq(lit(0i64)))
        .collect()
        .map_err(|source| AuditError::Unreadable { source })?;
    if off.height() > 0 {
        Err(AuditError::DoesNotFoot {
            count: off.height() as u64,
        })
    } else {
        Ok(())
    }
}

/// The effects of a dimension's members sum to the change of the total, but for what rounding takes from the terms that
/// they are made of: these may be large where they cancel out.
#[expect(
    clippy::disallowed_methods,
    reason = "the audit is the reader of what it checks"
)]
fn explained(drivers: LazyFrame) -> Result<(), AuditError> {
    let term = |value: &str, weight: &str| (col(value) * col(weight)).abs().fill_null(lit(0.0));
    let terms =
        col("effect").abs() + term("value_before", "weight_before") + term("value", "weight");
    let size = col("change").abs() + col("total").abs() + col("total_before").abs();
    let off = (col("effect").sum() - col("change").first()).abs();
    let unexplained = drivers
        .group_by([col("dimension"), col("metric"), col("comparison")])
        .agg([off.alias("off"), (size.first() + terms.sum()).alias("size")])
        .filter(col("off").gt(col("size") * lit(1e-9)))
        .collect()
        .map_err(|source| AuditError::Unreadable { source })?;
    match unexplained.height() {
        0 => Ok(()),
        count => Err(AuditError::UnexplainedChange {
            count: count as u64,
        }),
    }
}
