//! One data folder, one Ebb: the lock, and the identity that its replicas carry.

use std::collections::hash_map::RandomState;
use std::fs::{self, TryLockError};
use std::hash::BuildHasher;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use ebb_apiserver::lock::Lock;
use ebb_apiserver::private;

use super::{Sweep, sweep};

/// The file in the data folder that holds the identity of the last Ebb and carries the lock.
const FILE_NAME: &str = "instance";

/// Why a data folder could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Another Ebb runs on the same folder.
    #[error("another ebb runs with the data folder {}: stop it, or name another folder", .0.display())]
    Taken(PathBuf),
    /// The folder is open to others, who use it for other things and would be shut out.
    #[error(
        "the folder {} is open to others and holds other things: name a folder for Ebb alone",
        .0.display()
    )]
    Shared(PathBuf),
    /// The identity file could not be read or written.
    #[error("the file {} cannot be used", .path.display())]
    File {
        /// The identity file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// The claim on a data folder, held as long as this value lives.
#[derive(Debug)]
pub struct Instance {
    identity: String,
    leftovers: Sweep,
    _lock: Lock,
}

// === impl Instance ===

impl Instance {
    /// Takes the data folder for this process, ends the processes that a killed predecessor left
    /// running, and writes a fresh identity.
    ///
    /// Blocks while leftovers end, a few seconds at most; immediate when there are none.
    pub fn claim(data: &Path) -> Result<Self, InstanceError> {
        let path = data.join(FILE_NAME);
        let fail = |source| InstanceError::File { path: path.clone(), source };
        if private::is_open(data) && !is_ours(data, &path).map_err(fail)? {
            return Err(InstanceError::Shared(data.to_path_buf()));
        }
        private::folder(data).map_err(fail)?;
        let file = private::file()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(fail)?;
        let mut lock = Lock::try_new(file).map_err(|error| match error {
            TryLockError::WouldBlock => InstanceError::Taken(data.to_path_buf()),
            TryLockError::Error(source) => fail(source),
        })?;
        let file = lock.file();
        let mut previous = String::new();
        file.read_to_string(&mut previous).map_err(fail)?;
        let previous = previous.trim();
        let leftovers =
            if previous.is_empty() { Sweep { found: 0, left: 0 } } else { sweep(previous) };
        let identity = fresh_identity();
        file.rewind().map_err(fail)?;
        // Written over the old identity, which is as long: most file systems need no room for that.
        file.write_all(identity.as_bytes()).map_err(fail)?;
        let length = file.stream_position().map_err(fail)?;
        file.set_len(length).map_err(fail)?;
        file.sync_data().map_err(fail)?;
        Ok(Self { identity, leftovers, _lock: lock })
    }

    /// The value of `EBB_INSTANCE` in the environment of every replica.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The processes that a killed predecessor had left running.
    pub fn leftovers(&self) -> Sweep {
        self.leftovers
    }
}

/// Whether the folder is an Ebb's already, or still empty.
fn is_ours(data: &Path, identity_file: &Path) -> io::Result<bool> {
    Ok(identity_file.exists() || fs::read_dir(data)?.next().is_none())
}

/// 128 random bits from the keys that the standard library draws for its hash maps: enough never to
/// equal another Ebb's, and not a secret.
fn fresh_identity() -> String {
    let draw = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", draw(), draw())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_that_others_use_is_not_closed_to_them() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let open = || fs::Permissions::from_mode(0o1777);
        fs::set_permissions(folder.path(), open()).expect("it is ours");
        fs::write(folder.path().join("other"), "things").expect("it is ours");
        let refused = Instance::claim(folder.path()).expect_err("it is shared");
        assert!(matches!(refused, InstanceError::Shared(_)), "{refused}");
        assert!(private::is_open(folder.path()));
        // A folder that an earlier version left open is an Ebb's, whatever else lies there.
        fs::write(folder.path().join(FILE_NAME), "").expect("it is ours");
        Instance::claim(folder.path()).expect("it is Ebb's");
        assert!(!private::is_open(folder.path()));
    }

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
