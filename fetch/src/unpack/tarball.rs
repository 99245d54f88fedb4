//! `.tar` and `.tar.gz`, read twice: first what the entries are, then their bytes.

use std::io;
use std::io::{BufReader, Read};
use std::path::Path;

use ebb_api::model_source::ArchiveKind;
use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType, Header, PaxExtensions};

use super::{ENTRIES_MAX, Unpacking, damaged, entry_name, open, refuse, too_many};
use crate::error::FetchError;

/// Longest name or set of attributes in a header of its own: the crate reads it into memory.
const EXTENSION_BYTES_MAX: u64 = 64 << 10;
/// Bytes of a block of a tar file.
const BLOCK: usize = 512;

pub(super) fn unpack(
    archive: &Path,
    kind: ArchiveKind,
    to: &mut Unpacking<'_>,
) -> Result<(), FetchError> {
    let bytes = survey(reader(archive, kind)?, to)?;
    to.expect(bytes)?;
    let mut archive = Archive::new(reader(archive, kind)?);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let kind = entry.header().entry_type();
        // Of `git archive`: a comment for all entries.
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        let bytes = entry.path_bytes().into_owned();
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        // A file of the oldest format whose name ends with a slash is a folder, as for tar itself.
        let is_folder = kind.is_dir() || (kind.is_file() && bytes.ends_with(b"/"));
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::Directory => {}
            EntryType::Symlink | EntryType::Link => return Err(refuse(&shown, "is a link")),
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                return Err(refuse(&shown, "is a device"));
            }
            _ => return Err(refuse(&shown, "is neither a file nor a folder")),
        }
        let Some(name) = entry_name(&bytes)? else { continue };
        if is_folder {
            to.make_folder(&name)?;
        } else {
            to.write(&name, &mut entry)?;
        }
    }
    Ok(())
}

/// Bytes of all entries, of which there are not too many.
///
/// It reads the headers itself, as the crate would, so that none makes the crate read more into
/// memory than this has allowed.
fn survey(mut reader: Box<dyn Read>, to: &Unpacking<'_>) -> Result<u64, FetchError> {
    let most = to.room.left()?;
    let (mut entries, mut bytes) = (0, 0_u64);
    // The size of the next entry, if it is too large for its own header.
    let mut told = None;
    while let Some(header) = next(&mut reader)? {
        let kind = header.entry_type();
        let is_extension = kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions();
        let size = header.entry_size().map_err(damaged)?;
        let size = if is_extension { size } else { told.take().unwrap_or(size) };
        let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
        if is_extension && size > EXTENSION_BYTES_MAX {
            return Err(refuse(&name, "has a longer name than any file"));
        }
        if kind.is_gnu_sparse() {
            return Err(refuse(&name, "has holes"));
        }
        entries += 1;
        // An entry may have two headers before it.
        if entries > 3 * ENTRIES_MAX {
            return Err(too_many(ENTRIES_MAX));
        }
        bytes = bytes.saturating_add(size);
        if bytes > most {
            return Err(FetchError::Failed(format!(
                "the archive unpacks to more than the {} that are free: give the model a larger \
                 volume",
                ebb_api::quantity::bytes(most)
            )));
        }
        if to.meter.is_stopped() {
            return Err(FetchError::Stopped);
        }
        // The crate takes a global header for the entry that the attributes before it are about.
        if kind.is_pax_global_extensions() && told.is_some() {
            return Err(refuse(&name, "follows another header for one entry"));
        }
        let mut body = (&mut reader).take(size.next_multiple_of(BLOCK as u64));
        if kind.is_pax_local_extensions() {
            let mut text = Vec::new();
            body.read_to_end(&mut text).map_err(damaged)?;
            text.truncate(usize::try_from(size).map_err(damaged)?);
            if told.is_some() {
                return Err(refuse(&name, "follows another header for one entry"));
            }
            told = pax_size(&name, &text)?;
        } else {
            io::copy(&mut body, &mut io::sink()).map_err(damaged)?;
        }
    }
    Ok(bytes)
}

/// The size that a header of attributes gives the next entry, if it gives one.
///
/// The crate stops at the first attribute that it cannot read, and takes the first size: a header that
/// two readers may understand differently is refused.
fn pax_size(name: &str, text: &[u8]) -> Result<Option<u64>, FetchError> {
    let unclear = || refuse(name, "has attributes that cannot be read");
    let mut told = None;
    for pair in PaxExtensions::new(text) {
        let pair = pair.map_err(|_| unclear())?;
        if pair.key_bytes().starts_with(b"GNU.sparse.") {
            return Err(refuse(name, "has holes"));
        }
        if pair.key_bytes() == b"size" {
            let size = pair.value().ok().and_then(|size| size.parse().ok()).ok_or_else(unclear)?;
            if told.replace(size).is_some() {
                return Err(unclear());
            }
        }
    }
    Ok(told)
}

/// The next header; `None` at the end.
fn next(reader: &mut dyn Read) -> Result<Option<Header>, FetchError> {
    let mut header = Header::new_old();
    let block = header.as_mut_bytes();
    match reader.read_exact(block) {
        // The crate takes an archive without its last blocks as well.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other.map_err(damaged)?,
    }
    let is_end = block.iter().all(|byte| *byte == 0);
    Ok((!is_end).then_some(header))
}

fn reader(archive: &Path, kind: ArchiveKind) -> Result<Box<dyn Read>, FetchError> {
    let file = BufReader::new(open(archive)?);
    Ok(match kind {
        ArchiveKind::TarGz => Box::new(MultiGzDecoder::new(file)),
        ArchiveKind::Tar | ArchiveKind::Zip => Box::new(file),
    })
}
