//! The schema guard: files of one table have one set of types, in whatever period they were written.

use super::manifest::Manifests;
use crate::contract::Contract;
use crate::marts::Shape;
use chrono::NaiveDate;
use polars::prelude::DataFrame;
use std::collections::BTreeSet;

#[derive(Debug, thiserror::Error)]
#[error(
    "{table}.{column} would become {computed}, but is {published} in what is published ({periods})"
)]
pub struct SchemaError {
    pub table: String,
    pub column: String,
    pub published: String,
    pub computed: String,
    /// Periods with the other type that this run does not write.
    pub periods: String,
}

/// Names and types of a frame, in order.
pub fn columns_of(frame: &DataFrame) -> Vec<(String, String)> {
    let columns = frame.columns().iter();
    columns
        .map(|column| (column.name().to_string(), column.dtype().to_string()))
        .collect()
}

/// Names and types that a contract promises for a shape.
pub fn promised(contract: &Contract, shape: Shape) -> Vec<(String, String)> {
    let columns = contract.expanded(shape.dimensions, shape.metrics);
    columns
        .into_iter()
        .map(|column| {
            (
                column.name.clone(),
                column.dtype(shape.currency).to_string(),
            )
        })
        .collect()
}

/// Refuses a type that differs from the one in a period that stays as it is. A column that comes or goes is no conflict.
pub fn check(
    manifests: &Manifests,
    contract: &Contract,
    shape: Shape,
    written: &BTreeSet<NaiveDate>,
) -> Result<(), Box<SchemaError>> {
    for (name, computed) in promised(contract, shape) {
        let differing = manifests.iter().filter_map(|(period, (manifest, _))| {
            let unit = manifest.units.get(&contract.table)?;
            let (_, published) = unit.columns.iter().find(|(column, _)| *column == name)?;
            (*published != computed && !written.contains(period))
                .then(|| (*period, published.clone()))
        });
        let differing: Vec<(NaiveDate, String)> = differing.collect();
        if let (Some((first, published)), Some((last, _))) = (differing.first(), differing.last()) {
            let periods = if first == last {
                first.to_string()
            } else {
                format!("{first} to {last}")
            };
            return Err(Box::new(SchemaError {
                table: contract.table.clone(),
                column: name,
                published: published.clone(),
                computed,
                periods,
            }));
        }
    }
    Ok(())
}
