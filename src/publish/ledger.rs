//! Tables about the runs: `runs` and `checks`, one file per month in which runs started.

use super::{PublishError, encode, key, restate};
use crate::config::Compression;
use crate::contract;
use crate::storage::{Condition, StorageError, Store};
use chrono::{Datelike, Months, NaiveDate};
use polars::prelude::*;

/// Tries against others who write at the same moment: a run that has lost its lock, and tells how it ended.
const TRIES: u32 = 5;

/// Puts the rows of a run into its month, in place of rows that it has there already.
pub fn record(
    store: &dyn Store,
    table: &'static str,
    run_id: &str,
    started_on: NaiveDate,
    rows: DataFrame,
) -> Result<(), PublishError> {
    let contract = contract::of(table);
    let month = started_on.with_day(1).unwrap_or(started_on);
    let key = key(table, month);
    let encode = |source| PublishError::Encode {
        table: table.to_owned(),
        period: month,
        source,
    };
    let dated = |mut rows: DataFrame| -> PolarsResult<DataFrame> {
        let bounds = [
            ("period_start", month),
            ("period_end", month + Months::new(1)),
        ];
        for (name, date) in bounds {
            rows.with_column(Column::new(name.into(), vec![date; rows.height()]))?;
        }
        restate::conformed(&rows, contract)
    };
    let rows = dated(rows).map_err(encode)?;
    let mut tries = 1;
    loop {
        let before = store.entry(&key)?.map(|entry| entry.version);
        let whole = with_those_of_others(store, &key, run_id, rows.clone(), encode)?;
        let bytes = encode::encoded(&whole, Compression::Zstd).map_err(encode)?;
        match store.put(&key, &bytes, Condition::unchanged(before.as_ref())) {
            Err(StorageError::Conflict { .. }) if tries < TRIES => tries += 1,
            written => return Ok(written.map(|_| ())?),
        }
    }
}

/// The rows of a month as they will be.
fn with_those_of_others(
    store: &dyn Store,
    key: &str,
    run_id: &str,
    rows: DataFrame,
    encode: impl Fn(PolarsError) -> PublishError,
) -> Result<DataFrame, PublishError> {
    match encode::published(store, key)? {
        None => Ok(rows),
        Some(old) => {
            let others = |old: DataFrame| -> PolarsResult<DataFrame> {
                let is_other: BooleanChunked = old
                    .column("run_id")?
                    .str()?
                    .iter()
                    .map(|id| Some(id != Some(run_id)))
                    .collect();
                let mut whole = old.filter(&is_other)?;
                whole.vstack_mut(&rows)?;
                Ok(whole)
            };
            others(old).map_err(encode)
        }
    }
}
