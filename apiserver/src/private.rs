//! Files and folders that only their owner may read: objects hold secrets in plain text.
//!
//! A umask for the whole process was rejected: replicas would inherit it, and it is not for Ebb to
//! hide the files that a model writes.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Makes a folder and those above it, or closes an existing folder to everybody else.
///
/// # Errors
///
/// The folder cannot be made, or it is open to others and belongs to another user.
pub fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)?;
    if is_open(path) {
        fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE))?;
    }
    Ok(())
}

/// Whether anybody but the owner has a permission on the file or folder at `path`.
pub fn is_open(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
}

/// Options to open a file; a new one is the owner's alone.
pub fn file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE_MODE);
    options
}

/// Replaces the file at `path`, whole or not at all, even in a folder of another user. A file that
/// is as it shall be is left alone: a full disk must not keep Ebb from starting.
///
/// # Errors
///
/// The new file cannot be made, written or put into the place of the old one.
pub fn replace(path: &Path, content: &str) -> io::Result<()> {
    if !is_open(path) && fs::read_to_string(path).is_ok_and(|kept| kept == content) {
        return Ok(());
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    // A file that a killed start left there may be open to others, or be a link to somewhere else.
    match fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut new = file().write(true).create_new(true).open(beside)?;
    new.write_all(content.as_bytes())?;
    new.sync_data()?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    /// Everybody could read the folders of earlier versions.
    #[test]
    fn a_folder_is_closed_to_others_also_when_it_was_open() {
        let scratch = tempfile::tempdir().unwrap();
        let (new, old) = (scratch.path().join("deep/new"), scratch.path().join("old"));
        folder(&new).unwrap();
        fs::create_dir(&old).unwrap();
        fs::set_permissions(&old, Permissions::from_mode(0o755)).unwrap();
        folder(&old).unwrap();
        assert_eq!((mode(&new), mode(&old)), (0o700, 0o700));
    }

    #[test]
    fn a_replaced_file_is_the_owners_alone_whatever_lay_there() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("token");
        for name in ["token", "token.new"] {
            let open = scratch.path().join(name);
            fs::write(&open, "old").unwrap();
            fs::set_permissions(&open, Permissions::from_mode(0o666)).unwrap();
        }
        replace(&path, "new").unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("new", 0o600));
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    /// A full disk must not keep Ebb from starting with its earlier kubeconfig.
    #[test]
    fn an_unchanged_file_is_not_rewritten() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("kubeconfig");
        replace(&path, "same").unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        replace(&path, "same").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), before, "nothing was written");
        replace(&path, "other").unwrap();
        assert_ne!(fs::metadata(&path).unwrap().ino(), before);
    }
}
