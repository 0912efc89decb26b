//! Runs the program in a folder and reads what it published.

use polars::prelude::*;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What became of one call of the program.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The call, which must have gone well.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self
    }

    /// What a run says of itself with `--output json`: the last line of standard output.
    #[track_caller]
    pub fn summary(&self) -> serde_json::Value {
        let line = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{error}: {line:?}\n{}", self.stderr))
    }
}

/// The command ended with this code and said all of this on standard error.
#[track_caller]
pub fn assert_refused(ran: &Ran, code: i32, messages: &[&str]) {
    assert_eq!(ran.code, code, "{}", ran.stderr);
    for message in messages {
        assert!(
            ran.stderr.contains(message),
            "standard error lacks `{message}`:\n{}",
            ran.stderr
        );
    }
}

/// A call says all of this, on whichever stream.
#[track_caller]
pub fn says(ran: &Ran, parts: &[&str]) {
    let all = format!("{}{}", ran.stdout, ran.stderr);
    for part in parts {
        assert!(all.contains(part), "no `{part}`:\n{all}");
    }
}

/// Runs `cskpi` in `folder` with a command line without quotes, and variables on top of the environment.
pub fn cskpi_with(folder: &Path, variables: &[(&str, &str)], command_line: &str) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_cskpi"))
        .args(command_line.split_whitespace())
        .envs(variables.iter().copied())
        .env_remove("RUST_LOG")
        .current_dir(folder)
        .output()
        .unwrap();
    Ran::of(output)
}

pub fn cskpi(folder: &Path, command_line: &str) -> Ran {
    cskpi_with(folder, &[], command_line)
}

pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Names of the entries of a folder, sorted; none if there is no such folder.
pub fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Every file below a folder, relative to it, sorted.
pub fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for name in names_in(folder) {
        let path = folder.join(&name);
        if path.is_dir() {
            files.extend(
                files_below(&path)
                    .into_iter()
                    .map(|file| format!("{name}/{file}")),
            );
        } else {
            files.push(name);
        }
    }
    files
}

/// Published files with their bytes: all but the program's own under `_cskpi`, and the tables about runs, which every run adds to.
pub fn published_files(root: &Path) -> Vec<(String, Vec<u8>)> {
    let is_own = |file: &String| {
        ["_cskpi/", "runs/", "checks/"]
            .iter()
            .any(|folder| file.starts_with(folder))
    };
    let files = files_below(root).into_iter().filter(|file| !is_own(file));
    files
        .map(|file| (file.clone(), fs::read(root.join(&file)).unwrap()))
        .collect()
}

/// Asserts that two roots hold the same files with the same bytes.
#[track_caller]
pub fn assert_same_files(left: &Path, right: &Path, what: &str) {
    assert_same_bytes(&published_files(left), &published_files(right), what);
}

#[track_caller]
pub fn assert_same_bytes(left: &[(String, Vec<u8>)], right: &[(String, Vec<u8>)], what: &str) {
    let names = |files: &[(String, Vec<u8>)]| {
        files
            .iter()
            .map(|(name, _)| name.clone())
            .collect::<Vec<_>>()
    };
    assert!(!left.is_empty(), "{what}: nothing was published");
    assert_eq!(names(left), names(right), "{what}: other files");
    let differs: Vec<&str> = left
        .iter()
        .zip(right)
        .filter(|(left, right)| left.1 != right.1)
        .map(|(left, _)| left.0.as_str())
        .collect();
    assert!(
        differs.is_empty(),
        "{what}: other bytes in {}",
        differs.join(", ")
    );
}

pub fn read_parquet(path: &Path) -> DataFrame {
    ParquetReader::new(File::open(path).unwrap())
        .finish()
        .unwrap()
}

/// All periods of a published table; `None` if it was not published.
pub fn published_table(root: &Path, table: &str) -> Option<DataFrame> {
    let folder = root.join(table);
    let files = files_below(&folder)
        .into_iter()
        .map(|file| read_parquet(&folder.join(file)));
    files.reduce(|all, one| all.vstack(&one).unwrap())
}

/// Rows of a frame as text, money without trailing zeros, null as an empty field.
pub fn rows_as_text(frame: &DataFrame) -> Vec<Vec<String>> {
    let texts = frame
        .clone()
        .lazy()
        .select([all().as_expr().cast(DataType::String)])
        .collect()
        .unwrap();
    let columns: Vec<&StringChunked> = texts
        .columns()
        .iter()
        .map(|column| column.str().unwrap())
        .collect();
    let is_decimal: Vec<bool> = frame
        .columns()
        .iter()
        .map(|column| column.dtype().is_decimal())
        .collect();
    let text = |row: usize, column: usize| {
        let value = columns[column].get(row).unwrap_or_default();
        if is_decimal[column] {
            plain_decimal(value)
        } else {
            value.to_owned()
        }
    };
    (0..texts.height())
        .map(|row| (0..columns.len()).map(|column| text(row, column)).collect())
        .collect()
}

/// The one way in which we write a decimal: `100.50` is `100.5`.
pub fn plain_decimal(text: &str) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text.to_owned()
    }
}

/// A folder that goes when the test ends. In memory where there is such a place: every published file is synced to its disk.
pub fn temp_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}
