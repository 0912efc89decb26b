//! Finds and opens input tables: the only place that scans. Every frame carries the file and the row that each value came from.

use crate::config::{CsvDialect, FileDates, Format, Input, Source};
use crate::contract::{Contract, FILE, FILE_FROM, FILE_TO, Kind, ROW};
use crate::period::{Period, first_instant, utc_micros};
use crate::storage::{FindError, Found, Place, Storage, StorageError, Version};
use chrono::{DateTime, Utc};
use polars::io::HiveOptions;
use polars::prelude::cloud::CloudOptions;
use polars::prelude::*;

/// A source as it lies there: its own columns, plus [`FILE`] and [`ROW`].
pub struct Scan {
    pub frame: LazyFrame,
    /// The source's own columns and their types (text for CSV and inline rows).
    pub schema: Schema,
    /// The files behind it, in order; empty for inline rows.
    pub files: Vec<SourceFile>,
}

/// A file of a source, as a listing tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Path or URL.
    pub path: String,
    /// The part of the path that the source's pattern does not name outright.
    pub below: String,
    pub size: u64,
    pub etag: Version,
    /// With `file_dates`: the instants between which its rows lie, the end excluded.
    pub between: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// Why a source cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Find(#[from] FindError),
    #[error("{path} names no days, as file_dates `{pattern}` says it does")]
    Undated { path: String, pattern: String },
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("{path} is empty: it has no header line")]
    Empty { path: String },
    #[error("{path} is not {encoding} text")]
    WrongEncoding {
        path: String,
        encoding: &'static str,
    },
    #[error("{path} cannot be opened as {format}")]
    Malformed {
        path: String,
        format: &'static str,
        source: PolarsError,
    },
}

impl SourceFile {
    /// Whether a row of the file can make a difference to the period: not if all of them come after its end.
    pub fn is_needed_for(&self, period: &Period, contract: &Contract) -> bool {
        let end = if is_dated_by_day(contract) {
            first_instant(period.end, chrono_tz::UTC)
        } else {
            period.end_at
        };
        self.between.is_none_or(|(from, _)| from < end)
    }

    fn new(
        found: Found,
        dates: Option<&FileDates>,
        zone: chrono_tz::Tz,
    ) -> Result<Self, SourceError> {
        let between = match dates {
            None => None,
            Some(dates) => {
                let (from, to) = dates
                    .days(&found.path)
                    .ok_or_else(|| SourceError::Undated {
                        path: found.path.clone(),
                        pattern: dates.to_string(),
                    })?;
                Some((first_instant(from, zone), first_instant(to, zone)))
            }
        };
        Ok(Self {
            path: found.path,
            below: found.below,
            size: found.entry.size,
            etag: found.entry.version,
            between,
        })
    }
}

/// Days, unlike instants, are the same everywhere.
fn is_dated_by_day(contract: &Contract) -> bool {
    let column = contract
        .dated_by
        .as_ref()
        .and_then(|name| contract.column(name));
    column.is_some_and(|column| column.kind == Kind::Date)
}

/// The files of a source: a listing, nothing is opened.
pub fn listed(
    contract: &Contract,
    source: &Source,
    storage: &Storage,
) -> Result<Vec<SourceFile>, SourceError> {
    let Input::Files { pattern, .. } = &source.input else {
        return Ok(Vec::new());
    };
    let zone = if is_dated_by_day(contract) {
        chrono_tz::UTC
    } else {
        source.time_zone
    };
    let found = storage.find(pattern)?.into_iter();
    found
        .map(|found| SourceFile::new(found, source.file_dates.as_ref(), zone))
        .collect()
}

/// Opens files of a source. Nothing but headers and metadata is read yet (CSV in another encoding than UTF-8 is read whole).
pub fn scan(
    source: &Source,
    files: Vec<SourceFile>,
    storage: &Storage,
) -> Result<Scan, SourceError> {
    match &source.input {
        Input::Rows { columns, rows } => Ok(inline_rows(columns, rows)),
        Input::Files { format, .. } => match format {
            Format::Csv => scan_csv(files, &source.csv, storage),
            Format::Parquet => scan_parquet(files, storage),
        },
    }
}

/// How polars reaches a file; `None` on the local disk.
fn cloud_options(path: &str, storage: &Storage) -> Result<Option<CloudOptions>, SourceError> {
    match Place::parse(path) {
        Place::Local(_) => Ok(None),
        Place::S3 { bucket, .. } => Ok(Some(storage.cloud_options(&bucket)?)),
    }
}

/// Adds the file's path, and the days that its name gives.
fn with_provenance(frame: LazyFrame, file: &SourceFile) -> LazyFrame {
    let frame = frame.with_column(lit(file.path.as_str()).alias(FILE));
    match file.between {
        None => frame,
        Some((from, to)) => {
            let at = |instant: DateTime<Utc>| lit(instant.timestamp_micros()).cast(utc_micros());
            frame.with_columns([at(from).alias(FILE_FROM), at(to).alias(FILE_TO)])
        }
    }
}

fn is_own(name: &str) -> bool {
    ![FILE, ROW, FILE_FROM, FILE_TO].contains(&name)
}

fn inline_rows(columns: &[String], rows: &[Vec<Option<String>>]) -> Scan {
    let values = |index: usize| {
        rows.iter()
            .map(|row| row[index].as_deref())
            .collect::<StringChunked>()
    };
    let mut series: Vec<Column> = columns
        .iter()
        .enumerate()
        .map(|(index, name)| values(index).with_name(name.as_str().into()).into_column())
        .collect();
    let schema = columns
        .iter()
        .map(|name| Field::new(name.as_str().into(), DataType::String))
        .collect();
    series.push(Column::new_scalar(
        FILE.into(),
        Scalar::from(PlSmallStr::from_static("rows of the pipeline file")),
        rows.len(),
    ));
    series.push(Column::new(
        ROW.into(),
        (1..=rows.len() as i64).collect::<Vec<_>>(),
    ));
    let frame = DataFrame::new_infer_height(series)
        .unwrap_or_default()
        .lazy();
    Scan {
        frame,
        schema,
        files: Vec::new(),
    }
}

/// CSV is read as text, file by file: columns may stand in another order in each.
fn scan_csv(
    files: Vec<SourceFile>,
    dialect: &CsvDialect,
    storage: &Storage,
) -> Result<Scan, SourceError> {
    let mut frames = Vec::with_capacity(files.len());
    let mut schema = Schema::default();
    for file in &files {
        let name = file.path.clone();
        let malformed = |source| SourceError::Malformed {
            path: name.clone(),
            format: "CSV",
            source,
        };
        if file.size == 0 {
            return Err(SourceError::Empty { path: name });
        }
        let reader = if dialect.encoding == encoding_rs::UTF_8 {
            LazyCsvReader::new(PlRefPath::new(name.as_str()))
                .with_cloud_options(cloud_options(&name, storage)?)
        } else {
            LazyCsvReader::new_with_sources(ScanSources::Buffers(
                [decoded(&name, dialect, storage)?.into()].into(),
            ))
        };
        let null_words = dialect
            .null_words
            .iter()
            .map(|word| word.as_str().into())
            .collect();
        let frame = reader
            .with_glob(false)
            .with_has_header(dialect.has_header)
            .with_separator(dialect.delimiter)
            .with_quote_char(dialect.quote)
            .with_null_values(Some(NullValues::AllColumns(null_words)))
            .with_infer_schema_length(Some(0))
            .with_row_index(Some(RowIndex {
                name: ROW.into(),
                offset: 0,
            }))
            .finish()
            .map_err(malformed)?;
        // A spreadsheet counts the header as row 1.
        let first_row = if dialect.has_header { 2i64 } else { 1i64 };
        let frame = frame.with_column((col(ROW).cast(DataType::Int64) + lit(first_row)).alias(ROW));
        let mut frame = with_provenance(frame, file);
        let own = frame.collect_schema().map_err(malformed)?;
        for (key, value) in hive_values(&file.below) {
            if !own.contains(&key) {
                frame = frame.with_column(lit(value).alias(key));
            }
        }
        let columns = frame.collect_schema().map_err(malformed)?;
        for (column, _) in columns.iter().filter(|(column, _)| is_own(column)) {
            schema.with_column(column.clone(), DataType::String);
        }
        frames.push(frame);
    }
    let options = UnionArgs {
        diagonal: true,
        ..UnionArgs::default()
    };
    let frame = concat(frames, options).map_err(|source| SourceError::Malformed {
        path: display_all(&files),
        format: "CSV",
        source,
    })?;
    Ok(Scan {
        frame,
        schema,
        files,
    })
}

/// Parquet is opened file by file as well: later files may have more columns, or wider types.
fn scan_parquet(files: Vec<SourceFile>, storage: &Storage) -> Result<Scan, SourceError> {
    let mut frames = Vec::with_capacity(files.len());
    for file in &files {
        let name = file.path.clone();
        let malformed = |source| SourceError::Malformed {
            path: name.clone(),
            format: "Parquet",
            source,
        };
        let options = ScanArgsParquet {
            glob: false,
            row_index: Some(RowIndex {
                name: ROW.into(),
                offset: 1,
            }),
            hive_options: HiveOptions::new_disabled(),
            cloud_options: cloud_options(&name, storage)?,
            ..ScanArgsParquet::default()
        };
        let frame =
            LazyFrame::scan_parquet(PlRefPath::new(name.as_str()), options).map_err(malformed)?;
        let mut frame = with_provenance(frame.with_column(col(ROW).cast(DataType::Int64)), file);
        let own = frame.collect_schema().map_err(malformed)?;
        for (key, value) in hive_values(&file.below) {
            if !own.contains(&key) {
                frame = frame.with_column(lit(value).alias(key));
            }
        }
        frames.push(frame);
    }
    let malformed = |source| SourceError::Malformed {
        path: display_all(&files),
        format: "Parquet",
        source,
    };
    let options = UnionArgs {
        diagonal: true,
        to_supertypes: true,
        ..UnionArgs::default()
    };
    let mut frame = concat(frames, options).map_err(malformed)?;
    let columns = frame.collect_schema().map_err(malformed)?;
    let own = columns.iter().filter(|(name, _)| is_own(name));
    let schema = own
        .map(|(name, dtype)| Field::new(name.clone(), dtype.clone()))
        .collect();
    Ok(Scan {
        frame,
        schema,
        files,
    })
}

/// `key=value` folders between the fixed part of a path and the file, outermost first.
fn hive_values(below: &str) -> Vec<(String, String)> {
    let (folders, _) = below.rsplit_once('/').unwrap_or(("", below));
    let pairs = folders
        .split('/')
        .filter_map(|folder| folder.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn decoded(path: &str, dialect: &CsvDialect, storage: &Storage) -> Result<Vec<u8>, SourceError> {
    let bytes = storage.read_file(path)?;
    let (text, _, had_errors) = dialect.encoding.decode(&bytes);
    if had_errors {
        return Err(SourceError::WrongEncoding {
            path: path.to_owned(),
            encoding: dialect.encoding.name(),
        });
    }
    Ok(text.into_owned().into_bytes())
}

fn display_all(files: &[SourceFile]) -> String {
    match files {
        [] => String::new(),
        [one] => one.path.clone(),
        [first, rest @ ..] => format!("{} and {} more", first.path, rest.len()),
    }
}
