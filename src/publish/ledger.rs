//! Tables about the runs: `runs` and `checks`, one file per month in which runs started.

use super::{PublishError, encode, key, restate};
use crate::config::Compression;
use crate::contract;
use crate::storage::{Condition, Store};
use chrono::{Datelike, Months, NaiveDate};
use polars::prelude::*;

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
    let before = store.entry(&key)?.map(|entry| entry.version);
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
    let whole = match encode::published(store, &key)? {
        None => rows,
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
            others(old).map_err(encode)?
        }
    };
    let bytes = encode::encoded(&whole, Compression::Zstd).map_err(encode)?;
    store.put(&key, &bytes, Condition::unchanged(before.as_ref()))?;
    Ok(())
}
