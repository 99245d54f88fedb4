//! Writes the last journal anew if the disk may lack some of its bytes.
//!
//! After a failed sync the kernel holds bytes that the disk does not, and marks them as clean: a
//! later sync of the same file succeeds without them. The next process that opens the journal reads
//! them and cannot tell. A new file has no such bytes. A failed sync is noted nowhere, for the note
//! would be on the same disk. Instead all bytes that no record notes as confirmed count as lacking,
//! a second's worth after a crash.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::sync_folder;
use crate::private;

/// Extension of a file that is not whole yet.
pub(super) const UNFINISHED: &str = "new";

/// Replaces the journal at `path` by a new file with its first `length` bytes, whole or not at all.
///
/// If writing the new file fails, the journal is unchanged; if the last sync fails, it is either of
/// the two.
pub(super) fn rewrite(folder: &Path, path: &Path, length: u64) -> io::Result<()> {
    // Read and written, not copied by the file system: such a copy may share the places on the disk
    // where the bytes never arrived.
    let mut bytes = fs::read(path)?;
    bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    let unfinished = path.with_extension(UNFINISHED);
    if let Err(error) = write(&unfinished, &bytes) {
        // The unfinished file takes room, which may be what is missing.
        drop(fs::remove_file(&unfinished));
        return Err(error);
    }
    fs::rename(&unfinished, path)?;
    sync_folder(folder)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = private::file().write(true).create(true).truncate(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
