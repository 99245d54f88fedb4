//! Writing the last journal anew where the disk may lack some of it.
//!
//! After a failed sync the kernel holds bytes that the disk does not, and calls them clean: a later
//! sync of the same file succeeds without them. Whoever opens the journal next reads them and cannot
//! tell. A new file has no such bytes. That a sync failed is noted nowhere, for the note would be on
//! the same disk: what no record says was confirmed counts as lacking, a second's worth after a
//! crash.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::sync_folder;
use crate::private;

/// Ending of a file that is not whole yet.
pub(super) const UNFINISHED: &str = "new";

/// Replaces the journal at `path` by a new file with its first `length` bytes, whole or not at all.
///
/// After an error of the writing it is what it was; after one of the last sync, either.
pub(super) fn rewrite(folder: &Path, path: &Path, length: u64) -> io::Result<()> {
    // Read and written, not copied by the file system: that may let the new file share the places on
    // the disk where the bytes never arrived.
    let mut bytes = fs::read(path)?;
    bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    let unfinished = path.with_extension(UNFINISHED);
    if let Err(error) = write(&unfinished, &bytes) {
        // It takes room that may be what is missing.
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
