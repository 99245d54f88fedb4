//! A file while it is fetched: on the disk and in its checksum at once. All of it blocks.

use std::fs::File;
use std::io;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::cache;
use crate::cache::disk_error;
use crate::digest::{Expected, Hasher, Hashes};
use crate::error::FetchError;
use crate::meter::Meter;

/// Bytes that are read at a time.
const READ_BYTES: usize = 1 << 20;

/// The beginning of a file.
pub(crate) struct FilePart {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    expected: Expected,
    size: Option<u64>,
    length: u64,
}

// === impl FilePart ===

impl FilePart {
    /// Opens what there is of a file, and reads it for its checksum.
    ///
    /// `size`: of the whole, for a file that has one for sure; what is longer is thrown away.
    pub(crate) fn open(
        path: &Path,
        expected: &Expected,
        size: Option<u64>,
        meter: &Meter,
    ) -> Result<Self, FetchError> {
        let failed = |error: io::Error| disk_error(path, &error);
        if let Some(folder) = path.parent() {
            cache::make_folder(folder).map_err(failed)?;
        }
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = file.map_err(failed)?;
        let mode = std::fs::Permissions::from_mode(cache::FILE_MODE);
        cache::unless_fixed(file.set_permissions(mode)).map_err(failed)?;
        let there = file.metadata().map_err(failed)?.len();
        if size.is_some_and(|size| there > size) {
            file.set_len(0).map_err(failed)?;
        }
        let mut hasher = Hasher::new(expected, size);
        let mut length = 0;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = file.read(&mut buffer).map_err(failed)?;
            if read == 0 {
                break;
            }
            if meter.is_stopped() {
                return Err(FetchError::Stopped);
            }
            hasher.update(&buffer[..read]);
            length += read as u64;
            meter.has(read as u64);
        }
        Ok(Self { path: path.to_owned(), file, hasher, expected: expected.clone(), size, length })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are there.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Throws away what is there.
    pub(crate) fn restart(&mut self, meter: &Meter) -> Result<(), FetchError> {
        let failed = |error: io::Error| disk_error(&self.path, &error);
        self.file.set_len(0).map_err(failed)?;
        self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
        meter.lost(self.length);
        self.length = 0;
        self.hasher = Hasher::new(&self.expected, self.size);
        Ok(())
    }

    pub(crate) fn write(&mut self, chunks: &[Bytes]) -> Result<(), FetchError> {
        for chunk in chunks {
            self.file.write_all(chunk).map_err(|error| disk_error(&self.path, &error))?;
            self.hasher.update(chunk);
            self.length += chunk.len() as u64;
        }
        Ok(())
    }

    /// Waits until the file is on the disk; its size and its checksums.
    pub(crate) fn finish(self) -> Result<(u64, Hashes), FetchError> {
        self.file.sync_all().map_err(|error| disk_error(&self.path, &error))?;
        Ok((self.length, self.hasher.finish()))
    }
}
