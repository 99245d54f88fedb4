//! One data folder, one Ebb: the lock, and the identity that its replicas carry.

use std::{
    collections::hash_map::RandomState,
    fs::{File, TryLockError},
    hash::BuildHasher,
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use super::{Sweep, sweep};
use crate::private;

/// The file in the data folder that holds the identity of the last Ebb and carries the lock.
const FILE_NAME: &str = "instance";

/// Why a data folder could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Another Ebb runs on the same folder.
    #[error("another ebb runs with the data folder {}: stop it, or name another folder", .0.display())]
    Taken(PathBuf),
    /// The identity file could not be read or written.
    #[error("the file {} cannot be used", .path.display())]
    File {
        /// The identity file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The claim on a data folder, held as long as this value lives.
#[derive(Debug)]
pub struct Instance {
    identity: String,
    leftovers: Sweep,
    // The lock goes with the file; the kernel lets go of it even after `kill -9`.
    _lock: File,
}

// === impl Instance ===

impl Instance {
    /// Takes the data folder for this process, ends what a killed predecessor left running, and
    /// writes a fresh identity.
    ///
    /// Blocks while leftovers end, a few seconds at most; immediate when there are none.
    pub fn claim(data: &Path) -> Result<Self, InstanceError> {
        let path = data.join(FILE_NAME);
        let fail = |source| InstanceError::File { path: path.clone(), source };
        private::folder(data).map_err(fail)?;
        let mut file = private::file()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(InstanceError::Taken(data.to_path_buf()));
            }
            Err(TryLockError::Error(source)) => return Err(fail(source)),
        }
        let mut previous = String::new();
        file.read_to_string(&mut previous).map_err(fail)?;
        let previous = previous.trim();
        let leftovers =
            if previous.is_empty() { Sweep { found: 0, left: 0 } } else { sweep(previous) };
        let identity = fresh_identity();
        file.rewind().map_err(fail)?;
        file.set_len(0).map_err(fail)?;
        file.write_all(identity.as_bytes()).map_err(fail)?;
        file.sync_data().map_err(fail)?;
        Ok(Self { identity, leftovers, _lock: file })
    }

    /// The value of `EBB_INSTANCE` in the environment of every replica.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// What a killed predecessor had left running.
    pub fn leftovers(&self) -> Sweep {
        self.leftovers
    }
}

/// 128 random bits from the keys that the standard library draws for its hash maps: enough never
/// to meet a stranger's, and not a secret.
fn fresh_identity() -> String {
    let draw = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", draw(), draw())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_is_claimed_once_at_a_time_and_each_claim_has_its_own_identity() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let first = Instance::claim(folder.path()).expect("the folder is free");
        let refused = Instance::claim(folder.path()).expect_err("the folder is taken");
        assert!(matches!(refused, InstanceError::Taken(_)), "{refused}");
        let identity = first.identity().to_owned();
        drop(first);
        let second = Instance::claim(folder.path()).expect("the folder is free again");
        assert_ne!(second.identity(), identity);
        let stored = fs::read_to_string(folder.path().join(FILE_NAME)).expect("written");
        assert_eq!(stored, second.identity());
    }
}
