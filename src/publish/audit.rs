//! The audit of a staged file: it is read back as a reader would, and held against its contract.

use crate::columns::{PERIOD_END, PERIOD_START};
use crate::contract::{Contract, Kind};
use crate::marts::Shape;
use crate::period::Period;
use crate::sql;
use polars::prelude::*;
use std::path::Path;

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

/// Reads a staged file back and checks all that its contract promises.
#[expect(
    clippy::disallowed_methods,
    reason = "the audit is the reader of what it checks"
)]
pub fn audited(
    path: &Path,
    contract: &Contract,
    period: &Period,
    rows: usize,
    shape: Shape,
) -> Result<(), AuditError> {
    let unreadable = |source| AuditError::Unreadable { source };
    let file = std::fs::File::open(path).map_err(|error| unreadable(PolarsError::from(error)))?;
    let frame = ParquetReader::new(file).finish().map_err(unreadable)?;
    let columns = contract.expanded(shape.dimensions, shape.metrics);
    if frame.height() != rows {
        return Err(AuditError::WrongRows {
            expected: rows,
            found: frame.height(),
        });
    }
    for (position, column) in columns.iter().enumerate() {
        let expected = format!("{} {}", column.name, column.dtype(shape.currency));
        let found = frame
            .columns()
            .get(position)
            .map(|found| format!("{} {}", found.name(), found.dtype()));
        let found = found.unwrap_or_else(|| "nothing".into());
        if found != expected {
            return Err(AuditError::WrongColumn {
                position,
                expected,
                found,
            });
        }
    }
    let lazy = frame.lazy();
    let counted = |condition: Expr| -> Result<u64, AuditError> {
        let counts = lazy.clone().select([condition
            .fill_null(lit(false))
            .sum()
            .cast(DataType::UInt64)
            .alias("n")]);
        let counts = counts.collect().map_err(unreadable)?;
        let first = |n: &Column| Ok(n.u64()?.get(0).unwrap_or(0));
        counts.column("n").and_then(first).map_err(unreadable)
    };
    let is_other = col(PERIOD_START)
        .neq(lit(period.start))
        .or(col(PERIOD_END).neq(lit(period.end)));
    if counted(is_other)? > 0 {
        return Err(AuditError::WrongPeriod);
    }
    for column in columns.iter().filter(|column| column.required) {
        let count = counted(col(&column.name).is_null())?;
        if count > 0 {
            return Err(AuditError::MissingValue {
                column: column.name.clone(),
                count,
            });
        }
    }
    for column in columns.iter().filter(|column| column.kind == Kind::Float) {
        let count = counted(col(&column.name).is_finite().not())?;
        if count > 0 {
            let message = format!("`{}` must be a finite number", column.name);
            return Err(AuditError::BrokenCheck {
                message,
                sql: "is finite".into(),
                count,
            });
        }
    }
    let key: Vec<Expr> = contract.key.iter().map(col).collect();
    let repeated = lazy
        .clone()
        .group_by(key)
        .agg([len().alias("n")])
        .filter(col("n").gt(lit(1)));
    let repeated = repeated.collect().map_err(unreadable)?.height() as u64;
    if repeated > 0 {
        return Err(AuditError::DuplicateKey {
            key: contract.key.join(", "),
            count: repeated,
        });
    }
    for check in &contract.checks {
        let broken = |source| AuditError::Unreadable { source };
        let parsed =
            sql::parse(&check.sql).map_err(|error| broken(polars_err!(ComputeError: "{error}")))?;
        let count = counted(parsed.to_polars().map_err(broken)?.not())?;
        if count > 0 {
            return Err(AuditError::BrokenCheck {
                message: check.message.clone(),
                sql: check.sql.clone(),
                count,
            });
        }
    }
    if contract.table == "mrr_movements" {
        footed(lazy.clone())?;
    }
    Ok(())
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
