//! The cache: one folder, on one file system, for all models.
//!
//! Of a model with the key `K` it has `K/`, its files, which appear by one rename of `.K.partial/`;
//! `K.json`, the record of them, whose time of change is their last use; `K.lock`, locked by the
//! process that fetches them; `K.used`, on which each user holds a shared lock; `K.progress`, how
//! far a fetch is; and, while one lasts, `.K.journal`, `.K.archive` and `.K.claim`, the bytes that it
//! counts for. Lock files stay when a model goes: a lock on a file that another process has removed
//! would hold nobody off.

pub(crate) mod journal;
pub(crate) mod lock;
pub(crate) mod record;
pub(crate) mod removal;
pub(crate) mod room;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::error::FetchError;

/// Files and folders are for any user: the model server rarely runs as the one that fetched.
pub(crate) const FILE_MODE: u32 = 0o644;
pub(crate) const FOLDER_MODE: u32 = 0o755;

/// The paths of one model in a cache.
#[derive(Clone, Debug)]
pub(crate) struct CachePlace {
    pub(crate) cache: PathBuf,
    pub(crate) key: String,
}

// === impl CachePlace ===

impl CachePlace {
    pub(crate) fn new(cache: &Path, key: &str) -> Self {
        Self { cache: cache.to_owned(), key: key.to_owned() }
    }

    /// The finished files.
    pub(crate) fn folder(&self) -> PathBuf {
        self.cache.join(&self.key)
    }

    /// The files while they are fetched.
    pub(crate) fn partial(&self) -> PathBuf {
        self.cache.join(format!(".{}.partial", self.key))
    }

    /// The archive that is unpacked into [`Self::partial`].
    pub(crate) fn archive(&self) -> PathBuf {
        self.cache.join(format!(".{}.archive", self.key))
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.cache.join(format!(".{}.journal", self.key))
    }

    /// Bytes that the fetch has made room for.
    pub(crate) fn claim(&self) -> PathBuf {
        self.cache.join(format!(".{}.claim", self.key))
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.cache.join(format!("{}.json", self.key))
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.cache.join(format!("{}.lock", self.key))
    }

    pub(crate) fn used(&self) -> PathBuf {
        self.cache.join(format!("{}.used", self.key))
    }

    pub(crate) fn progress(&self) -> PathBuf {
        self.cache.join(format!("{}.progress", self.key))
    }
}

/// Makes a folder that any user can read, and those above it.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    // What lies above a relative name of one part is the folder that the process is in.
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        make_folder(above)?;
    }
    match fs::create_dir(path) {
        // Another file of the same folder was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            return Ok(());
        }
        made => made?,
    }
    // The umask of an image may take rights away.
    unless_fixed(fs::set_permissions(path, fs::Permissions::from_mode(FOLDER_MODE)))
}

/// What became of a change of rights: on file systems whose rights are fixed by their mount (SMB, FUSE,
/// some NFS) they stay as they are, and that is no error.
pub(crate) fn unless_fixed(changed: io::Result<()>) -> io::Result<()> {
    use io::ErrorKind::{PermissionDenied, Unsupported};
    changed.or_else(|error| match error.kind() {
        PermissionDenied | Unsupported => Ok(()),
        _ => Err(error),
    })
}

/// Replaces a small file at once: a reader sees the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    // Hidden, so that nobody takes it for a record. The holder of the model's lock alone writes.
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    let new = path.with_file_name(hidden);
    let mut file = fs::File::create(&new)?;
    unless_fixed(file.set_permissions(fs::Permissions::from_mode(FILE_MODE)))?;
    file.write_all(bytes)?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&new, path)
}

/// Removes a file or a folder with what is in it; one that is not there is removed already.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Waits until the names of a folder are on the disk.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// The same for a folder and those within it; files are on the disk when they are finished.
pub(crate) fn sync_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    sync_folder(path)
}

/// The sentence for what went wrong with a file.
pub(crate) fn disk_error(path: &Path, error: &io::Error) -> FetchError {
    let place = path.display();
    FetchError::Failed(match error.kind() {
        io::ErrorKind::StorageFull => {
            format!(
                "the disk is full at {place}: make room on it, or give the model a larger volume"
            )
        }
        io::ErrorKind::QuotaExceeded => {
            format!("the quota for {place} is used up: raise it, or give the model a larger volume")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => format!(
            "{place} cannot be written ({error}): let user {} write there (fsGroup of the pod)",
            rustix::process::getuid().as_raw()
        ),
        _ => format!("{place} cannot be read or written: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_that_a_mount_fixes_are_no_error_and_a_broken_disk_is() {
        use rustix::io::Errno;
        let changed = |errno: Errno| unless_fixed(Err(errno.into()));
        for fixed in [Errno::PERM, Errno::ACCESS, Errno::NOTSUP, Errno::NOSYS] {
            assert!(changed(fixed).is_ok(), "{fixed}");
        }
        for broken in [Errno::IO, Errno::ROFS, Errno::NOENT] {
            assert!(changed(broken).is_err(), "{broken}");
        }
    }
}
