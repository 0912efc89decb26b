//! Sample data on disk: one CSV or Parquet file per table; usage in one file per month where it is Parquet.

use super::{Column, Company, Table};
use polars::prelude::{Column as PolarsColumn, *};
use std::fs::{File, OpenOptions, create_dir_all};
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    Csv,
    Parquet,
}

/// A written file.
pub struct Written {
    pub path: String,
    pub rows: usize,
}

/// Writes all tables of a company into a folder.
pub fn written(company: &Company, folder: &str, format: FileFormat) -> PolarsResult<Vec<Written>> {
    create_dir_all(folder)?;
    let folder = Path::new(folder);
    let mut files = Vec::new();
    for table in company.tables() {
        files.push(one_file(&table, folder, format)?);
    }
    files.push(match format {
        FileFormat::Csv => usage_csv(company, folder)?,
        FileFormat::Parquet => usage_parquet(company, folder)?,
    });
    Ok(files)
}

fn one_file(table: &Table, folder: &Path, format: FileFormat) -> PolarsResult<Written> {
    let mut frame = frame(table)?;
    let path = match format {
        FileFormat::Csv => folder.join(format!("{}.csv", table.name)),
        FileFormat::Parquet => folder.join(format!("{}.parquet", table.name)),
    };
    let file = File::create(&path)?;
    match format {
        FileFormat::Csv => csv_writer(file, true).finish(&mut frame)?,
        FileFormat::Parquet => {
            ParquetWriter::new(file).finish(&mut frame)?;
        }
    }
    Ok(Written {
        path: path.display().to_string(),
        rows: frame.height(),
    })
}

fn csv_writer(file: File, with_header: bool) -> CsvWriter<File> {
    CsvWriter::new(file)
        .include_header(with_header)
        .with_datetime_format(Some("%Y-%m-%dT%H:%M:%SZ".into()))
}

/// All months in one file.
fn usage_csv(company: &Company, folder: &Path) -> PolarsResult<Written> {
    let path = folder.join("usage_events.csv");
    File::create(&path)?;
    let mut rows = 0;
    for (index, (_, table)) in company.usage_months().enumerate() {
        let file = OpenOptions::new().append(true).open(&path)?;
        rows += table.rows();
        csv_writer(file, index == 0).finish(&mut frame(&table)?)?;
    }
    Ok(Written {
        path: path.display().to_string(),
        rows,
    })
}

/// One file per month, `usage_events/month=2024-04-01/events.parquet`.
fn usage_parquet(company: &Company, folder: &Path) -> PolarsResult<Written> {
    let root = folder.join("usage_events");
    let mut rows = 0;
    for (month, table) in company.usage_months() {
        let folder = root.join(format!("month={month}"));
        create_dir_all(&folder)?;
        rows += table.rows();
        ParquetWriter::new(File::create(folder.join("events.parquet"))?)
            .with_row_group_size(Some(1_048_576))
            .finish(&mut frame(&table)?)?;
    }
    Ok(Written {
        path: root.join("**/*.parquet").display().to_string(),
        rows,
    })
}

fn frame(table: &Table) -> PolarsResult<DataFrame> {
    let columns = table
        .columns
        .iter()
        .map(|(name, column)| series(name, column));
    DataFrame::new_infer_height(columns.collect::<PolarsResult<Vec<_>>>()?)
}

fn series(name: &str, column: &Column) -> PolarsResult<PolarsColumn> {
    let utc = DataType::Datetime(TimeUnit::Microseconds, Some(polars::prelude::TimeZone::UTC));
    let name = PlSmallStr::from_str(name);
    Ok(match column {
        Column::Text(values) => PolarsColumn::new(name, values),
        Column::Codes { codes, values } => {
            let texts = codes
                .iter()
                .map(|code| Some(values[*code as usize].as_str()));
            texts
                .collect::<StringChunked>()
                .with_name(name)
                .into_column()
        }
        Column::Int(values) => PolarsColumn::new(name, values),
        Column::Bool(values) => PolarsColumn::new(name, values),
        Column::Date(values) => PolarsColumn::new(name, values).cast(&DataType::Date)?,
        Column::Instant(values) => PolarsColumn::new(name, values).cast(&utc)?,
        Column::DenseInstant(values) => PolarsColumn::new(name, values).cast(&utc)?,
        Column::Decimal(values, scale) => {
            let unscaled: Int128Chunked = values.iter().copied().collect();
            unscaled
                .with_name(name)
                .into_decimal(38, *scale)?
                .into_column()
        }
    })
}
