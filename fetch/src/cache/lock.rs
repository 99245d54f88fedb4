//! Locks on files of a cache: they end with their process, however it ends.

use std::fs;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

/// How often a taken lock is tried again: nothing in flock waits and can be cancelled.
const TRY_EVERY: Duration = Duration::from_millis(200);

/// Opens a lock file, which is made if it is not there.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    match File::options().read(true).write(true).create_new(true).open(path) {
        Ok(file) => {
            // Readable, so that users under other user IDs can lock it as well.
            let mode = fs::Permissions::from_mode(super::FILE_MODE);
            super::unless_fixed(file.set_permissions(mode))?;
            return Ok(file);
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        // Some file systems look at rights first, and at what is there afterwards.
        Err(error) if is_read_only(&error) => return File::open(path).map_err(|_| error),
        Err(error) => return Err(error),
    }
    // NFS gives an exclusive lock only on a file that is open for writing.
    match File::options().read(true).write(true).open(path) {
        Err(error) if is_read_only(&error) => File::open(path),
        other => other,
    }
}

/// Whether an error says that this process cannot write there, and may be able to read.
pub(crate) fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Takes a lock that is shared for this process alone, unless others have it for longer than `most`;
/// then the lock may be lost (flock(2) gives it up first).
pub(crate) async fn make_exclusive(file: &File, most: Duration) -> io::Result<bool> {
    let until = Instant::now() + most;
    while !taken(file.try_lock())? {
        if Instant::now() >= until {
            return Ok(false);
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
    Ok(true)
}

/// Takes the lock for this process alone, if nobody has it.
pub(crate) fn try_exclusive(path: &Path) -> io::Result<Option<File>> {
    let file = open(path)?;
    taken(file.try_lock()).map(|taken| taken.then_some(file))
}

/// Takes the lock together with others, unless somebody has it alone.
pub(crate) fn try_shared(path: &Path) -> io::Result<Option<File>> {
    let file = open(path)?;
    taken(file.try_lock_shared()).map(|taken| taken.then_some(file))
}

/// Waits for the lock, shared with others or alone; `waits` is called once if it is taken.
pub(crate) async fn wait(path: &Path, shared: bool, waits: impl FnOnce()) -> io::Result<File> {
    let file = open(path)?;
    take(&file, shared, waits).await?;
    Ok(file)
}

/// The same of a lock file that is open.
pub(crate) async fn take(file: &File, shared: bool, waits: impl FnOnce()) -> io::Result<()> {
    let mut waits = Some(waits);
    loop {
        let tried = if shared { file.try_lock_shared() } else { file.try_lock() };
        if taken(tried)? {
            return Ok(());
        }
        if let Some(waits) = waits.take() {
            waits();
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
}

fn taken(tried: Result<(), TryLockError>) -> io::Result<bool> {
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
