//! Locks on files, for one holder at a time.

use std::fs::{File, TryLockError};

/// A file that nobody else has locked, for as long as this value lives; the kernel lets go of it
/// even after `kill -9`.
#[derive(Debug)]
pub struct Lock(File);

// === impl Lock ===

impl Lock {
    /// Locks `file`, or says that somebody else has.
    pub fn try_new(file: File) -> Result<Self, TryLockError> {
        file.try_lock()?;
        Ok(Self(file))
    }

    /// The file.
    pub const fn file(&mut self) -> &mut File {
        &mut self.0
    }
}

/// Closing the file alone would not do: a process that is just being started has a copy of it until
/// it becomes its own program, and would keep the lock for so long.
impl Drop for Lock {
    fn drop(&mut self) {
        // Whoever could not unlock it closes it now.
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
        // What a child has between its start and its own program.
        let copy = lock.file().try_clone().unwrap();
        drop(lock);
        Lock::try_new(open()).unwrap();
        drop(copy);
    }
}
