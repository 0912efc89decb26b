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
    let none = |rows: Result<u64, AuditError>, broken: &dyn Fn(u64) -> AuditError| match rows? {
        0 => Ok(()),
        count => Err(broken(count)),
    };
    let is_other = col(PERIOD_START)
        .neq(lit(period.start))
        .or(col(PERIOD_END).neq(lit(period.end)));
    let others = counted(&lazy, is_other);
    look(
        "of its period".to_owned(),
        none(others, &|_| AuditError::WrongPeriod),
    )?;
    for column in columns.iter().filter(|column| column.required) {
        let missing = counted(&lazy, col(&column.name).is_null());
        let broken = |count| AuditError::MissingValue {
            column: column.name.clone(),
            count,
        };
        look(
            format!("{} is never null", column.name),
            none(missing, &broken),
        )?;
    }
    for column in columns.iter().filter(|column| column.kind == Kind::Float) {
        let wild = counted(&lazy, col(&column.name).is_finite().not());
        let broken = |count| AuditError::BrokenCheck {
            message: format!("`{}` must be a finite number", column.name),
            sql: "is finite".into(),
            count,
        };
        look(format!("{} is finite", column.name), none(wild, &broken))?;
    }
    let key = contract.key.join(", ");
    let broken = |count| AuditError::DuplicateKey {
        key: key.clone(),
        count,
    };
    look(
        format!("one row per {key}"),
        none(repeated(&lazy, contract), &broken),
    )?;
    for check in &contract.checks {
        let broken = |source| AuditError::Unreadable { source };
        let parsed =
            sql::parse(&check.sql).map_err(|error| broken(polars_err!(ComputeError: "{error}")))?;
        let rows = counted(&lazy, parsed.to_polars().map_err(broken)?.not());
        let broken = |count| AuditError::BrokenCheck {
            message: check.message.clone(),
            sql: check.sql.clone(),
            count,
        };
        look(check.sql.clone(), none(rows, &broken))?;
    }
    if contract.table == "mrr_movements" {
        look("opening + movements = closing".to_owned(), footed(lazy))?;
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

/// Rows for which a condition holds.
#[expect(
    clippy::disallowed_methods,
    reason = "the audit is the reader of what it checks"
)]
fn counted(frame: &LazyFrame, condition: Expr) -> Result<u64, AuditError> {
    let count = condition.fill_null(lit(false)).sum().cast(DataType::UInt64);
    let counts = frame.clone().select([count.alias("n")]).collect();
    let first = |frame: DataFrame| Ok(frame.column("n")?.u64()?.get(0).unwrap_or(0));
    counts
        .and_then(first)
        .map_err(|source| AuditError::Unreadable { source })
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
