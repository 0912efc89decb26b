//! Where results lie. The local disk today; an object store takes this place next, with the same few verbs.
//!
//! The only room that writes, renames and removes files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A folder on the local disk under which tables are published.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// A failed access, with the path that it was about.
#[derive(Debug, thiserror::Error)]
#[error("{action} {} failed", path.display())]
pub struct StorageError {
    pub action: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

#[expect(clippy::disallowed_methods, reason = "this room owns the disk")]
impl Store {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The full path of a key such as `kpi_values/period=2026-10-01/part-0.parquet`.
    pub fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// What a key holds; `None` if there is nothing.
    pub fn read(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let path = self.path(key);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StorageError {
                action: "reading",
                path,
                source,
            }),
        }
    }

    pub fn exists(&self, key: &str) -> bool {
        self.path(key).is_file()
    }

    /// Writes a file of our own: staged, or about a run. Readers of tables do not look there.
    pub fn write(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        let path = self.path(key);
        create_parent(&path)?;
        let failed = |source| StorageError {
            action: "writing",
            path: path.clone(),
            source,
        };
        let mut file = File::create(&path).map_err(failed)?;
        file.write_all(bytes).map_err(failed)
    }

    /// Puts a staged file in its place in one step: readers see the old content or the new, never none and never half.
    pub fn commit(&self, staged: &str, key: &str) -> Result<(), StorageError> {
        let path = self.path(key);
        create_parent(&path)?;
        let failed = |source| StorageError {
            action: "publishing",
            path: path.clone(),
            source,
        };
        let staged = self.path(staged);
        // First the content, then the name, then the folder that holds the name: a power cut loses nothing that was shown.
        File::open(&staged)
            .and_then(|file| file.sync_all())
            .map_err(failed)?;
        fs::rename(&staged, &path).map_err(failed)?;
        let folder = path.parent().unwrap_or(&self.root);
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed)
    }

    /// Removes a folder and all that is in it, if it is there.
    pub fn remove_folder(&self, key: &str) -> Result<(), StorageError> {
        let path = self.path(key);
        match fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StorageError {
                action: "removing",
                path,
                source,
            }),
            _ => Ok(()),
        }
    }
}

fn create_parent(path: &Path) -> Result<(), StorageError> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|source| StorageError {
        action: "creating",
        path: folder.to_owned(),
        source,
    })
}
