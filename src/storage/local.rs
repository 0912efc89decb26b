//! A folder on the local disk.
//!
//! Conditional writes are made under an advisory lock of the operating system (`_cskpi/guard`), which a dying process
//! gives back; the new content is synced, renamed into its place, and the folder synced: a power cut loses nothing
//! that was shown.

use super::{Condition, Entry, StorageError, Store, Version, folder_of};
use chrono::{DateTime, Utc};
use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The file whose lock makes compare-and-write one step.
const GUARD: &str = "_cskpi/guard";
/// Half-written files, with the number of the process that writes; they live only while the guard is held.
const HALF: &str = "_cskpi/.half-";
/// How long another process may hold the guard: it is held for one small write.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct LocalFolder {
    root: PathBuf,
}

#[expect(clippy::disallowed_methods, reason = "this room owns the disk")]
impl LocalFolder {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// Waits for the guard and holds it until the file is dropped.
    fn guard(&self) -> Result<File, StorageError> {
        let path = self.path(GUARD);
        created_folder(folder_of(&path))?;
        let failed = |source: io::Error| failed("locking", &path, source);
        let mut options = File::options();
        let file = options
            .create(true)
            .append(true)
            .open(&path)
            .map_err(failed)?;
        let asked = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) if asked.elapsed() > PATIENCE => {
                    return Err(StorageError::Busy {
                        path: self.shown(GUARD),
                    });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn check(&self, key: &str, condition: Condition) -> Result<(), StorageError> {
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => self.entry(key)?.is_none(),
            Condition::Matches(seen) => {
                self.entry(key)?.is_some_and(|entry| entry.version == *seen)
            }
        };
        if holds {
            Ok(())
        } else {
            Err(StorageError::Conflict {
                path: self.shown(key),
            })
        }
    }

    /// Renames a synced file into its place, and syncs the folder that holds the name.
    fn placed(&self, from: &Path, key: &str) -> Result<Version, StorageError> {
        let path = self.path(key);
        created_folder(folder_of(&path))?;
        fs::rename(from, &path).map_err(|error| failed("publishing", &path, error))?;
        synced_folder(folder_of(&path))?;
        let metadata = fs::metadata(&path).map_err(|error| failed("reading", &path, error))?;
        Ok(version(&metadata))
    }

    /// Removes folders that have become empty; one that is not empty refuses.
    fn remove_empty(&self, mut folder: &Path) {
        while folder != self.root
            && folder.starts_with(&self.root)
            && fs::remove_dir(folder).is_ok()
        {
            folder = folder_of(folder);
        }
    }

    fn collect(&self, folder: &Path, found: &mut Vec<Entry>) -> Result<(), StorageError> {
        let failed = |error| failed("listing", folder, error);
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let metadata = match fs::metadata(&path) {
                // It went away while we looked.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata.map_err(failed)?,
            };
            if metadata.is_dir() {
                self.collect(&path, found)?;
            } else {
                let below = path.strip_prefix(&self.root).unwrap_or(&path);
                let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
                found.push(entry_of(parts.join("/"), &metadata));
            }
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "this room owns the disk")]
impl Store for LocalFolder {
    fn shown(&self, key: &str) -> String {
        self.path(key).display().to_string()
    }

    fn read(&self, key: &str) -> Result<Option<(Vec<u8>, Version)>, StorageError> {
        let path = self.path(key);
        let read = || -> io::Result<_> {
            let mut file = File::open(&path)?;
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut file, &mut bytes)?;
            Ok((bytes, version(&file.metadata()?)))
        };
        match read() {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(failed("reading", &path, error)),
        }
    }

    fn entry(&self, key: &str) -> Result<Option<Entry>, StorageError> {
        let path = self.path(key);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(entry_of(key.to_owned(), &metadata))),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(failed("reading", &path, error)),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<Entry>, StorageError> {
        let mut found = Vec::new();
        self.collect(&self.path(folder), &mut found)?;
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    fn put(&self, key: &str, bytes: &[u8], condition: Condition) -> Result<Version, StorageError> {
        let _guard = self.guard()?;
        self.check(key, condition)?;
        let half = self.path(&format!("{HALF}{}", std::process::id()));
        let written = written(&half, bytes, true).and_then(|()| self.placed(&half, key));
        if written.is_err() {
            // A full disk gets its room back.
            let _ = fs::remove_file(&half);
        }
        written
    }

    fn stage(&self, key: &str, bytes: &[u8]) -> Result<(), StorageError> {
        written(&self.path(key), bytes, false)
    }

    fn publish(
        &self,
        staged: &str,
        key: &str,
        condition: Condition,
    ) -> Result<Version, StorageError> {
        let staged = self.path(staged);
        // First the content, then the name.
        File::open(&staged)
            .and_then(|file| file.sync_all())
            .map_err(|error| failed("publishing", &staged, error))?;
        let _guard = self.guard()?;
        self.check(key, condition)?;
        self.placed(&staged, key)
    }

    fn remove(&self, keys: &[String]) -> Result<(), StorageError> {
        for key in keys {
            let path = self.path(key);
            match fs::remove_file(&path) {
                Err(error) if !is_absence(&error) => return Err(failed("removing", &path, error)),
                _ => {}
            }
            self.remove_empty(folder_of(&path));
        }
        Ok(())
    }

    fn remove_folder(&self, folder: &str) -> Result<(), StorageError> {
        let path = self.path(folder);
        match fs::remove_dir_all(&path) {
            Err(error) if !is_absence(&error) => return Err(failed("removing", &path, error)),
            _ => self.remove_empty(folder_of(&path)),
        }
        Ok(())
    }

    fn unfinished_uploads(&self) -> Result<Vec<(String, String)>, StorageError> {
        // Under the guard nobody else is writing: what is half there was left by a process that died.
        let _guard = self.guard()?;
        let halves = self
            .list("_cskpi")?
            .into_iter()
            .filter(|entry| entry.key.starts_with(HALF));
        Ok(halves.map(|entry| (entry.key, String::new())).collect())
    }

    fn abort_upload(&self, key: &str, _: &str) -> Result<(), StorageError> {
        let _guard = self.guard()?;
        self.remove(&[key.to_owned()])
    }

    /// The clock of a network disk may differ from ours; conditions are kept by the guard.
    fn probe(&self, key: &str) -> Result<DateTime<Utc>, StorageError> {
        self.stage(key, b"probe")?;
        let entry = self.entry(key)?;
        self.remove(&[key.to_owned()])?;
        Ok(entry.map_or(DateTime::UNIX_EPOCH, |entry| entry.modified))
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> StorageError {
    StorageError::Failed {
        action,
        path: path.display().to_string(),
        source: source.into(),
    }
}

/// A path through a file is as absent as one through nothing.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[expect(clippy::disallowed_methods, reason = "this room owns the disk")]
fn written(path: &Path, bytes: &[u8], is_durable: bool) -> Result<(), StorageError> {
    let write = || -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        if is_durable { file.sync_all() } else { Ok(()) }
    };
    // Another run may clear a folder that has become empty at the moment in which we use it.
    let mut tries = 3;
    loop {
        created_folder(folder_of(path))?;
        match write() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries > 0 => tries -= 1,
            written => return written.map_err(|error| failed("writing", path, error)),
        }
    }
}

/// Creates a folder and syncs those that hold a new name.
fn created_folder(folder: &Path) -> Result<(), StorageError> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder_of(folder);
    let has_above = above != folder && !above.as_os_str().is_empty();
    if has_above {
        created_folder(above)?;
    }
    let mut tries = 3;
    while let Err(error) = fs::create_dir(folder) {
        match error.kind() {
            io::ErrorKind::AlreadyExists => break,
            // Another run has cleared the one above, which had become empty.
            io::ErrorKind::NotFound if has_above && tries > 0 => created_folder(above)?,
            _ => return Err(failed("creating", folder, error)),
        }
        tries -= 1;
    }
    if has_above {
        synced_folder(above)
    } else {
        Ok(())
    }
}

fn synced_folder(folder: &Path) -> Result<(), StorageError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| failed("publishing", folder, error))
}

fn entry_of(key: String, metadata: &Metadata) -> Entry {
    let modified = metadata
        .modified()
        .map_or(DateTime::UNIX_EPOCH, DateTime::<Utc>::from);
    Entry {
        key,
        size: metadata.len(),
        version: version(metadata),
        modified,
    }
}

/// Renaming a file into a place always changes its inode or its time.
fn version(metadata: &Metadata) -> Version {
    let modified = metadata
        .modified()
        .map_or(DateTime::UNIX_EPOCH, DateTime::<Utc>::from);
    let nanos = modified.timestamp_nanos_opt().unwrap_or_default();
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Version(format!("{:x}-{nanos:x}-{inode:x}", metadata.len()))
}
