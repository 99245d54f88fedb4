//! `.zip`, by its directory at the end.

use std::path::Path;

use zip::ZipArchive;
use zip::read::Config;
use zip::unstable::read::ZipIterable;

use super::{ENTRIES_MAX, Unpacking, damaged, entry_name, open, refuse, too_many};
use crate::error::FetchError;

/// The kind of a file in its Unix mode, and what is taken of them.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

pub(super) fn unpack(archive: &Path, to: &mut Unpacking<'_>) -> Result<(), FetchError> {
    // Before the directory is read into memory.
    let entries = ZipIterable::try_new(open(archive)?, Config::default()).map_err(damaged)?.len();
    if entries > ENTRIES_MAX {
        return Err(too_many(entries));
    }
    let mut zip = ZipArchive::new(open(archive)?).map_err(damaged)?;
    let mut bytes = 0_u64;
    for index in 0..zip.len() {
        let entry = zip.by_index_raw(index).map_err(damaged)?;
        bytes = bytes.saturating_add(entry.size());
    }
    to.expect(bytes)?;
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(damaged)?;
        let raw = entry.name_raw().to_vec();
        let shown = String::from_utf8_lossy(&raw).into_owned();
        match entry.unix_mode().map_or(0, |mode| mode & KIND) {
            0 | REGULAR | FOLDER => {}
            LINK => return Err(refuse(&shown, "is a link")),
            _ => return Err(refuse(&shown, "is a device")),
        }
        let Some(name) = entry_name(&raw)? else { continue };
        if entry.is_dir() {
            to.make_folder(&name)?;
        } else {
            to.write(&name, &mut entry)?;
        }
    }
    Ok(())
}
