//! Files that a path, a folder or a glob names, local or on S3: a listing, nothing is opened.

use super::{Entry, Place, Storage, StorageError, Store, local};
use glob::{MatchOptions, Pattern};
use std::path::Path;

const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// A file that a pattern names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Path or URL of the file.
    pub path: String,
    /// The part of it that the pattern does not name outright, `/` between folders.
    pub below: String,
    pub entry: Entry,
}

#[derive(Debug, thiserror::Error)]
pub enum FindError {
    #[error("no file matches `{pattern}`")]
    NoFile { pattern: String },
    #[error("`{pattern}` is not a path or glob: {reason}")]
    BadPattern { pattern: String, reason: String },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Storage {
    /// Files that `pattern` names, by path. Names that start with `.` or `_` (`_SUCCESS`, `_delta_log`) are no data.
    pub fn find(&self, pattern: &str) -> Result<Vec<Found>, FindError> {
        let (fixed, rest) = split(pattern);
        let glob = if rest.is_empty() { "**/*" } else { rest };
        let mut found = Vec::new();
        if rest.is_empty() {
            found.extend(self.single(fixed)?);
        }
        if found.is_empty() {
            found = match Place::parse(fixed) {
                Place::Local(_) => self.walked(fixed, glob, pattern)?,
                Place::S3 { .. } => self.listed(fixed, glob, pattern)?,
            };
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        if found.is_empty() {
            return Err(FindError::NoFile {
                pattern: pattern.to_owned(),
            });
        }
        Ok(found)
    }

    /// Local: only folders that the pattern leads to are looked into.
    fn walked(&self, fixed: &str, glob: &str, pattern: &str) -> Result<Vec<Found>, FindError> {
        let whole = joined(&Pattern::escape(fixed), glob);
        let mut found = Vec::new();
        for path in glob::glob_with(&whole, OPTIONS).map_err(|error| bad(pattern, &error))? {
            let path = path.map_err(|error| StorageError::Failed {
                action: "listing",
                path: error.path().display().to_string(),
                source: error.into(),
            })?;
            let below = path
                .strip_prefix(fixed)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            if !path.is_file() || !is_data(&below) {
                continue;
            }
            let path = path.to_string_lossy().into_owned();
            let (store, key) = self.file(&path)?;
            if let Some(entry) = store.entry(&key)? {
                found.push(Found { path, below, entry });
            }
        }
        Ok(found)
    }

    /// S3: everything below the fixed prefix is listed, and held against the pattern.
    fn listed(&self, fixed: &str, glob: &str, pattern: &str) -> Result<Vec<Found>, FindError> {
        let glob = Pattern::new(glob).map_err(|error| bad(pattern, &error))?;
        let entries = self.store(fixed)?.list("")?.into_iter();
        let matching =
            entries.filter(|entry| glob.matches_with(&entry.key, OPTIONS) && is_data(&entry.key));
        Ok(matching
            .map(|entry| Found {
                path: joined(fixed, &entry.key),
                below: entry.key.clone(),
                entry,
            })
            .collect())
    }

    /// The whole content of one file.
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>, StorageError> {
        let (store, key) = self.file(path)?;
        let found = store.read(&key)?.map(|(bytes, _)| bytes);
        found.ok_or_else(|| StorageError::Failed {
            action: "reading",
            path: path.to_owned(),
            source: "it is not there any more".into(),
        })
    }

    /// A path that names one file.
    fn single(&self, path: &str) -> Result<Option<Found>, StorageError> {
        if Path::new(path).is_dir() || path.ends_with('/') {
            return Ok(None);
        }
        let (store, key) = self.file(path)?;
        if key.is_empty() {
            return Ok(None);
        }
        Ok(store.entry(&key)?.map(|entry| Found {
            path: path.to_owned(),
            below: String::new(),
            entry,
        }))
    }

    /// The store and key of a single file.
    fn file(&self, path: &str) -> Result<(std::sync::Arc<dyn Store>, String), StorageError> {
        match Place::parse(path) {
            Place::S3 { bucket, prefix } => Ok((self.store(&format!("s3://{bucket}"))?, prefix)),
            Place::Local(path) => {
                let name = path
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned());
                let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
                Ok((
                    std::sync::Arc::new(local::LocalFolder::new(folder)),
                    name.unwrap_or_default(),
                ))
            }
        }
    }
}

/// A pattern as the folders that it names outright, and the rest, which begins with the first wildcard's folder.
fn split(pattern: &str) -> (&str, &str) {
    // A file may have a name that looks like a pattern.
    if Path::new(pattern).exists() {
        return (pattern, "");
    }
    match pattern.find(['*', '?', '[']) {
        None => (pattern, ""),
        Some(wild) => match pattern[..wild].rfind('/') {
            None => ("", pattern),
            Some(0) => ("/", &pattern[1..]),
            Some(slash) => (&pattern[..slash], &pattern[slash + 1..]),
        },
    }
}

fn joined(fixed: &str, key: &str) -> String {
    match fixed {
        "" => key.to_owned(),
        fixed => format!("{}/{key}", fixed.trim_end_matches('/')),
    }
}

fn bad(pattern: &str, error: &glob::PatternError) -> FindError {
    FindError::BadPattern {
        pattern: pattern.to_owned(),
        reason: error.to_string(),
    }
}

fn is_data(key: &str) -> bool {
    !key.split('/').any(|part| part.starts_with(['.', '_']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_split_before_its_first_wildcard() {
        assert_eq!(
            split("s3://b/usage/day=*/x.parquet"),
            ("s3://b/usage", "day=*/x.parquet")
        );
        assert_eq!(split("*.csv"), ("", "*.csv"));
        assert_eq!(split("/data*/x.csv"), ("/", "data*/x.csv"));
        assert_eq!(
            split("s3://b/usage/x.parquet"),
            ("s3://b/usage/x.parquet", "")
        );
    }

    #[test]
    fn work_files_of_other_engines_are_no_data() {
        assert!(is_data("day=2026-07-01/part-0.parquet"));
        assert!(!is_data("_delta_log/0.checkpoint.parquet"));
        assert!(!is_data("day=2026-07-01/.part-0.crc"));
        assert!(!is_data("_SUCCESS"));
    }
}
