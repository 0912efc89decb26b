//! What the generator hands over: a table is a name and its columns.

use std::sync::Arc;

/// One input table; every column has the same number of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: &'static str,
    pub columns: Vec<(&'static str, Column)>,
}

/// The values of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    Text(Vec<Option<String>>),
    /// Text that repeats: the row's value is `values[code]`. Never null.
    Codes {
        codes: Vec<u32>,
        values: Arc<[String]>,
    },
    Int(Vec<Option<i64>>),
    Bool(Vec<Option<bool>>),
    /// Days since 1970-01-01.
    Date(Vec<Option<i32>>),
    /// Microseconds since 1970-01-01 UTC.
    Instant(Vec<Option<i64>>),
    /// The same, in a column that is never null.
    DenseInstant(Vec<i64>),
    /// Unscaled values and the number of decimals.
    Decimal(Vec<Option<i128>>, usize),
}

impl Table {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |(_, column)| column.rows())
    }
}

impl Column {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Column::Text(values) => values.len(),
            Column::Codes { codes, .. } => codes.len(),
            Column::Int(values) => values.len(),
            Column::Bool(values) => values.len(),
            Column::Date(values) => values.len(),
            Column::Instant(values) => values.len(),
            Column::DenseInstant(values) => values.len(),
            Column::Decimal(values, _) => values.len(),
        }
    }
}

/// A text column, one value per row.
pub(super) fn text<T>(rows: &[T], value: impl Fn(&T) -> Option<String>) -> Column {
    Column::Text(rows.iter().map(value).collect())
}

pub(super) fn int<T>(rows: &[T], value: impl Fn(&T) -> Option<i64>) -> Column {
    Column::Int(rows.iter().map(value).collect())
}

pub(super) fn date<T>(rows: &[T], value: impl Fn(&T) -> Option<i32>) -> Column {
    Column::Date(rows.iter().map(value).collect())
}

/// An instant column out of seconds.
pub(super) fn instant<T>(rows: &[T], seconds: impl Fn(&T) -> Option<i64>) -> Column {
    let micros = |row| seconds(row).map(|seconds| seconds * 1_000_000);
    Column::Instant(rows.iter().map(micros).collect())
}

/// A money column out of hundredths.
pub(super) fn money<T>(rows: &[T], hundredths: impl Fn(&T) -> Option<i64>) -> Column {
    Column::Decimal(
        rows.iter()
            .map(|row| hundredths(row).map(i128::from))
            .collect(),
        2,
    )
}
