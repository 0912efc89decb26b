//! Publishes tables: every file is staged, audited as it lies there, and only then put in its place.
//!
//! All files of a run are staged and audited before the first one is committed, so a run that fails an audit changes
//! nothing. A file whose bytes are those already published is left alone.

mod audit;

use crate::columns::PERIOD;
use crate::config::Compression;
use crate::contract::Contract;
use crate::marts::Shape;
use crate::period::Period;
use crate::storage::{StorageError, Store};
use polars::prelude::*;
use serde::Serialize;

pub use audit::AuditError;

/// Rows per row group: what readers split their work by.
const ROW_GROUP_ROWS: usize = 122_880;

/// A table of a run: the rows of all its periods, in the order of its key.
pub struct Table {
    pub contract: &'static Contract,
    pub rows: DataFrame,
}

/// What became of one table and period.
#[derive(Debug, Clone, Serialize)]
pub struct PublishedUnit {
    pub table: String,
    pub period: chrono::NaiveDate,
    pub status: UnitStatus,
    pub rows: usize,
    pub bytes: usize,
    /// BLAKE3 of the file's bytes.
    pub content_hash: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitStatus {
    /// There was nothing before.
    Created,
    /// The content differs from what was there.
    Replaced,
    /// The bytes are those that were there; nothing was written.
    Reused,
}

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("the staged table {table} of {period} does not keep its contract")]
    Audit {
        table: String,
        period: chrono::NaiveDate,
        source: AuditError,
    },
    #[error("the table {table} of {period} cannot be written as Parquet")]
    Encode {
        table: String,
        period: chrono::NaiveDate,
        source: PolarsError,
    },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Where a table's rows of a period stand.
pub fn key(table: &str, period: &Period) -> String {
    format!("{table}/period={}/part-0.parquet", period.start)
}

/// Stages, audits and commits `tables` for `periods`. `run_id` names the staging folder.
pub fn published(
    store: &Store,
    run_id: &str,
    tables: &[Table],
    periods: &[Period],
    shape: Shape,
    compression: Compression,
) -> Result<Vec<PublishedUnit>, PublishError> {
    let staging = format!("_cskpi/staging/{run_id}");
    let result = staged(store, &staging, tables, periods, shape, compression)
        .and_then(|units| committed(store, &staging, units));
    let cleared = store.remove_folder(&staging);
    let units = result?;
    cleared?;
    Ok(units)
}

/// Writes every unit to the staging folder and audits it there.
fn staged(
    store: &Store,
    staging: &str,
    tables: &[Table],
    periods: &[Period],
    shape: Shape,
    compression: Compression,
) -> Result<Vec<PublishedUnit>, PublishError> {
    let mut units = Vec::new();
    for table in tables {
        let name = &table.contract.table;
        for period in periods {
            let encode_error = |source| PublishError::Encode {
                table: name.clone(),
                period: period.start,
                source,
            };
            let (rows, bytes) = encoded(&table.rows, period, compression).map_err(encode_error)?;
            let key = key(name, period);
            store.write(&format!("{staging}/{key}"), &bytes)?;
            let path = store.path(&format!("{staging}/{key}"));
            audit::audited(&path, table.contract, period, rows, shape).map_err(|source| {
                PublishError::Audit {
                    table: name.clone(),
                    period: period.start,
                    source,
                }
            })?;
            let status = match store.read(&key)? {
                None => UnitStatus::Created,
                Some(before) if before == bytes => UnitStatus::Reused,
                Some(_) => UnitStatus::Replaced,
            };
            units.push(PublishedUnit {
                table: name.clone(),
                period: period.start,
                status,
                rows,
                bytes: bytes.len(),
                content_hash: blake3::hash(&bytes).to_hex().to_string(),
            });
        }
    }
    Ok(units)
}

fn committed(
    store: &Store,
    staging: &str,
    units: Vec<PublishedUnit>,
) -> Result<Vec<PublishedUnit>, PublishError> {
    for unit in units
        .iter()
        .filter(|unit| unit.status != UnitStatus::Reused)
    {
        let key = format!("{}/period={}/part-0.parquet", unit.table, unit.period);
        store.commit(&format!("{staging}/{key}"), &key)?;
    }
    Ok(units)
}

/// The rows of one period as the bytes of a Parquet file. The same rows give the same bytes.
fn encoded(
    rows: &DataFrame,
    period: &Period,
    compression: Compression,
) -> PolarsResult<(usize, Vec<u8>)> {
    let of_period = rows.column(PERIOD)?.i32()?.equal(period.index);
    let mut frame = rows.filter(&of_period)?.drop(PERIOD)?;
    frame.rechunk_mut();
    let mut bytes = Vec::new();
    let compression = match compression {
        Compression::Zstd => ParquetCompression::Zstd(None),
        Compression::Snappy => ParquetCompression::Snappy,
        Compression::Uncompressed => ParquetCompression::Uncompressed,
    };
    ParquetWriter::new(&mut bytes)
        .with_compression(compression)
        .with_row_group_size(Some(ROW_GROUP_ROWS))
        .with_statistics(StatisticsOptions::default())
        .finish(&mut frame)?;
    Ok((frame.height(), bytes))
}
