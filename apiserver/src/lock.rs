//! Locks on files, for one holder at a time.

use std::fs::{File, TryLockError};

/// An exclusive lock on a file, held while this value lives; the kernel releases it even after
/// `kill -9`.
#[derive(Debug)]
pub struct Lock(File);

// === impl Lock ===

impl Lock {
    /// Locks `file`; [`TryLockError::WouldBlock`] if it is locked already.
    pub fn try_new(file: File) -> Result<Self, TryLockError> {
        file.try_lock()?;
        Ok(Self(file))
    }

    /// The file.
    pub const fn file(&mut self) -> &mut File {
        &mut self.0
    }
}

/// Unlocks the file. Closing it alone would not do: between fork and exec a child holds a copy of
/// the file, which would keep the lock until then.
impl Drop for Lock {
    fn drop(&mut self) {
        // If unlocking fails, closing the file has to do.
        drop(self.0.unlock());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_file_does_not_keep_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let open = || File::create(folder.path().join("lock")).unwrap();
        let mut lock = Lock::try_new(open()).unwrap();
        assert!(matches!(Lock::try_new(open()), Err(TryLockError::WouldBlock)));
        // The copy that a child holds between fork and exec.
        let copy = lock.file().try_clone().unwrap();
        drop(lock);
        Lock::try_new(open()).unwrap();
        drop(copy);
    }
}
