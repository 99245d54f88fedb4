//! Archives, unpacked without trust. All of it blocks.

mod tarball;
mod zipped;

use std::fs::File;
use std::io;
use std::io::{Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ebb_api::model_source::ArchiveKind;

use crate::cache;
use crate::cache::disk_error;
use crate::cache::record::RecordedFile;
use crate::cache::room::CacheRoom;
use crate::digest::{Expected, Hasher};
use crate::error::FetchError;
use crate::meter::Meter;
use crate::names;
use crate::plan::FILES_MAX;

/// Most entries of an archive, its folders included: as many as a model may have files, and as many
/// folders.
const ENTRIES_MAX: usize = 2 * FILES_MAX;
/// Bytes that are copied at a time.
const COPY_BYTES: usize = 256 << 10;

/// Where an archive goes.
pub(crate) struct Unpacking<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) room: &'a CacheRoom,
    pub(crate) meter: &'a Meter,
    /// Bytes of the archive, which lies beside the files until they are whole.
    packed: u64,
    /// Bytes that the entries may still have.
    left: u64,
    files: Vec<RecordedFile>,
}

/// Unpacks an archive into a folder, which is empty.
///
/// # Errors
///
/// It is damaged, has an entry that is none of a model's, or more than fits.
pub(crate) fn unpack(
    archive: &Path,
    kind: ArchiveKind,
    folder: &Path,
    room: &CacheRoom,
    meter: &Meter,
) -> Result<Vec<RecordedFile>, FetchError> {
    let failed = |error: io::Error| disk_error(archive, &error);
    let packed = std::fs::metadata(archive).map_err(failed)?.len();
    let mut unpacking = Unpacking { folder, room, meter, packed, left: 0, files: Vec::new() };
    match kind {
        ArchiveKind::Tar | ArchiveKind::TarGz => tarball::unpack(archive, kind, &mut unpacking)?,
        ArchiveKind::Zip => zipped::unpack(archive, &mut unpacking)?,
    }
    if unpacking.files.is_empty() {
        return Err(FetchError::Failed("the archive has no file: check the source".to_owned()));
    }
    Ok(unpacking.files)
}

// === impl Unpacking ===

impl Unpacking<'_> {
    /// Makes room for all that the entries say they have.
    fn expect(&mut self, bytes: u64) -> Result<(), FetchError> {
        self.room.claim(self.packed.saturating_add(bytes), self.packed)?;
        self.left = bytes;
        self.meter.restart(Some(bytes));
        Ok(())
    }

    fn make_folder(&self, name: &str) -> Result<(), FetchError> {
        let path = self.folder.join(name);
        cache::make_folder(&path).map_err(|error| entry_error(name, &path, &error))
    }

    /// Writes a file of the archive.
    fn write(&mut self, name: &str, bytes: &mut dyn Read) -> Result<(), FetchError> {
        if self.files.len() == FILES_MAX {
            return Err(too_many(FILES_MAX));
        }
        let path = self.folder.join(name);
        if let Some(folder) = path.parent() {
            cache::make_folder(folder).map_err(|error| entry_error(name, folder, &error))?;
        }
        let failed = |error: io::Error| entry_error(name, &path, &error);
        let mut file = File::options().write(true).create_new(true).open(&path).map_err(failed)?;
        // Whatever the archive says: no file of a model runs, least of all as another user.
        let mode = std::fs::Permissions::from_mode(cache::FILE_MODE);
        cache::unless_fixed(file.set_permissions(mode)).map_err(failed)?;
        let mut hasher = Hasher::new(&Expected::Nothing, None);
        let (mut size, mut buffer) = (0, vec![0; COPY_BYTES]);
        loop {
            let read = bytes.read(&mut buffer).map_err(damaged)?;
            if read == 0 {
                break;
            }
            if self.meter.is_stopped() {
                return Err(FetchError::Stopped);
            }
            size += read as u64;
            if size > self.left {
                return Err(refuse(name, "has more bytes than the archive says"));
            }
            file.write_all(&buffer[..read]).map_err(failed)?;
            hasher.update(&buffer[..read]);
            self.meter.has(read as u64);
        }
        file.sync_all().map_err(failed)?;
        self.left -= size;
        let sha256 = hasher.finish().sha256;
        self.files.push(RecordedFile { path: name.to_owned(), size, sha256 });
        Ok(())
    }
}

/// Two entries of one name, or a file in place of a folder, are the archive's fault.
fn entry_error(name: &str, path: &Path, error: &io::Error) -> FetchError {
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            refuse(name, "is there twice, as a file or a folder")
        }
        _ => disk_error(path, error),
    }
}

/// The relative name of an entry; `None` for the archive's own folder.
fn entry_name(bytes: &[u8]) -> Result<Option<String>, FetchError> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(refuse(&String::from_utf8_lossy(bytes), "is no UTF-8"));
    };
    // As `tar -C model .` writes them.
    let mut name = text;
    while let Some(rest) = name.strip_prefix("./") {
        name = rest;
    }
    let name = name.strip_suffix('/').unwrap_or(name);
    if matches!(name, "" | ".") && !text.starts_with('/') {
        return Ok(None);
    }
    names::check(name).map_err(|why| refuse(text, why))?;
    Ok(Some(name.to_owned()))
}

fn refuse(name: &str, why: &str) -> FetchError {
    FetchError::Failed(format!(
        "the archive's entry {} {why}, and nothing of it is taken: pack the model's files alone",
        names::shown(name)
    ))
}

fn too_many(entries: usize) -> FetchError {
    FetchError::Failed(format!(
        "the archive has more than {FILES_MAX} files, or too many folders ({entries} entries were \
         counted): pack fewer files"
    ))
}

fn damaged(error: impl std::fmt::Display) -> FetchError {
    FetchError::Failed(format!("the archive cannot be read ({error}): check the source"))
}

fn open(archive: &Path) -> Result<File, FetchError> {
    File::open(archive).map_err(|error| disk_error(archive, &error))
}

/// Makes a folder that is empty.
pub(crate) fn empty(folder: &Path) -> Result<(), FetchError> {
    let failed = |error: io::Error| disk_error(folder, &error);
    cache::remove(folder).map_err(failed)?;
    cache::make_folder(folder).map_err(failed)
}
