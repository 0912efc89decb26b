//! Opens input tables: the only place that scans. Every frame carries the file and the row that each value came from.

use crate::config::{CsvDialect, Format, Input, Source};
use crate::contract::{FILE, ROW};
use polars::io::HiveOptions;
use polars::prelude::*;
use std::path::{Path, PathBuf};

/// A source as it lies there: its own columns, plus [`FILE`] and [`ROW`].
pub struct Scan {
    pub frame: LazyFrame,
    /// The source's own columns and their types (text for CSV and inline rows).
    pub schema: Schema,
    /// The files behind it, in order; empty for inline rows.
    pub files: Vec<PathBuf>,
}

/// Why a source cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("no file matches `{pattern}`")]
    NoFile { pattern: String },
    #[error("`{pattern}` is not a path or glob: {reason}")]
    BadPattern { pattern: String, reason: String },
    #[error("{path} cannot be read")]
    Unreadable {
        path: String,
        source: std::io::Error,
    },
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

/// Opens one source. Nothing but headers and metadata is read yet (CSV in another encoding than UTF-8 is read whole).
pub fn scan(source: &Source) -> Result<Scan, SourceError> {
    let (pattern, format) = match &source.input {
        Input::Rows { columns, rows } => return Ok(inline_rows(columns, rows)),
        Input::Files { pattern, format } => (pattern, *format),
    };
    let files = matching_files(pattern)?;
    let fixed = fixed_folders(pattern);
    match format {
        Format::Csv => scan_csv(files, fixed, &source.csv),
        Format::Parquet => scan_parquet(files, fixed),
    }
}

/// Files that a path or glob names, sorted. Hidden files and those that start with `_` (`_SUCCESS`) are no data.
fn matching_files(pattern: &str) -> Result<Vec<PathBuf>, SourceError> {
    let no_file = || SourceError::NoFile {
        pattern: pattern.to_owned(),
    };
    let path = Path::new(pattern);
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let glob_pattern = if path.is_dir() {
        format!("{}/**/*", pattern.trim_end_matches('/'))
    } else {
        pattern.to_owned()
    };
    let matches = glob::glob(&glob_pattern).map_err(|error| SourceError::BadPattern {
        pattern: pattern.to_owned(),
        reason: error.to_string(),
    })?;
    let is_data = |path: &PathBuf| {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or(".");
        path.is_file() && !name.starts_with(['.', '_'])
    };
    let mut files = Vec::new();
    for found in matches {
        let found = found.map_err(|error| SourceError::Unreadable {
            path: error.path().display().to_string(),
            source: error.into(),
        })?;
        if is_data(&found) {
            files.push(found);
        }
    }
    files.sort();
    if files.is_empty() {
        Err(no_file())
    } else {
        Ok(files)
    }
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
fn scan_csv(files: Vec<PathBuf>, fixed: usize, dialect: &CsvDialect) -> Result<Scan, SourceError> {
    let mut frames = Vec::with_capacity(files.len());
    let mut schema = Schema::default();
    for path in &files {
        let name = path.display().to_string();
        let malformed = |source| SourceError::Malformed {
            path: name.clone(),
            format: "CSV",
            source,
        };
        let size = std::fs::metadata(path)
            .map_err(|source| SourceError::Unreadable {
                path: name.clone(),
                source,
            })?
            .len();
        if size == 0 {
            return Err(SourceError::Empty { path: name });
        }
        let reader = if dialect.encoding == encoding_rs::UTF_8 {
            LazyCsvReader::new(PlRefPath::new(name.as_str()))
        } else {
            LazyCsvReader::new_with_sources(ScanSources::Buffers(
                [decoded(path, dialect)?.into()].into(),
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
        let mut frame = frame.with_columns([
            (col(ROW).cast(DataType::Int64) + lit(first_row)).alias(ROW),
            lit(name.as_str()).alias(FILE),
        ]);
        let own = frame.collect_schema().map_err(malformed)?;
        for (key, value) in hive_values(path, fixed) {
            if !own.contains(&key) {
                frame = frame.with_column(lit(value).alias(key));
            }
        }
        let columns = frame.collect_schema().map_err(malformed)?;
        for (column, _) in columns
            .iter()
            .filter(|(column, _)| *column != FILE && *column != ROW)
        {
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
fn scan_parquet(files: Vec<PathBuf>, fixed: usize) -> Result<Scan, SourceError> {
    let mut frames = Vec::with_capacity(files.len());
    for path in &files {
        let name = path.display().to_string();
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
            ..ScanArgsParquet::default()
        };
        let mut frame = LazyFrame::scan_parquet(PlRefPath::new(name.as_str()), options)
            .map_err(malformed)?
            .with_columns([
                col(ROW).cast(DataType::Int64),
                lit(name.as_str()).alias(FILE),
            ]);
        let own = frame.collect_schema().map_err(malformed)?;
        for (key, value) in hive_values(path, fixed) {
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
    let own = columns
        .iter()
        .filter(|(name, _)| *name != FILE && *name != ROW);
    let schema = own
        .map(|(name, dtype)| Field::new(name.clone(), dtype.clone()))
        .collect();
    Ok(Scan {
        frame,
        schema,
        files,
    })
}

/// Number of leading folders that a path or glob names outright. What they are called tells nothing about the rows.
fn fixed_folders(pattern: &str) -> usize {
    let path = Path::new(pattern);
    if path.is_file() {
        return path.components().count();
    }
    let is_fixed =
        |part: &std::path::Component| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    path.components().take_while(is_fixed).count()
}

/// `key=value` folders between the fixed part of a path and the file, outermost first.
fn hive_values(path: &Path, fixed: usize) -> Vec<(String, String)> {
    let folders = path.parent().into_iter().flat_map(Path::components);
    let pairs = folders
        .skip(fixed)
        .filter_map(|folder| folder.as_os_str().to_str()?.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn decoded(path: &Path, dialect: &CsvDialect) -> Result<Vec<u8>, SourceError> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|source| SourceError::Unreadable {
        path: name.clone(),
        source,
    })?;
    let (text, _, had_errors) = dialect.encoding.decode(&bytes);
    if had_errors {
        return Err(SourceError::WrongEncoding {
            path: name,
            encoding: dialect.encoding.name(),
        });
    }
    Ok(text.into_owned().into_bytes())
}

fn display_all(files: &[PathBuf]) -> String {
    match files {
        [] => String::new(),
        [one] => one.display().to_string(),
        [first, rest @ ..] => format!("{} and {} more", first.display(), rest.len()),
    }
}
