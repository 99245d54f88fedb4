//! What other processes may know of a cache: how far a fetch is, and that a model is in use.

use std::fs::File;
use std::io;
use std::path::Path;

use serde::Deserialize;

use crate::cache::CachePlace;
use crate::cache::lock;
use crate::cache::record::read_json;

/// Longest file of progress; an error in it is a sentence.
const PROGRESS_BYTES_MAX: u64 = 16 << 10;

/// How far a fetch is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FetchProgress {
    /// Bytes that are there.
    pub done: u64,
    /// Bytes of all files, once they are known.
    pub total: Option<u64>,
    /// `listing`, `downloading`, `checking`, `unpacking`, `done` or `failed`.
    pub phase: String,
}

/// While it lives, no fetch removes the model to make room.
#[derive(Debug)]
pub struct ModelLease {
    _lock: File,
}

/// How far the fetch of the model `key` is; `None` where none has begun. Blocks for one small file.
pub fn progress(cache: &Path, key: &str) -> Option<FetchProgress> {
    read_json(&CachePlace::new(cache, key).progress(), PROGRESS_BYTES_MAX)
}

/// Marks the model `key` as used; `None` while a fetch removes it. Blocks for one small file.
///
/// # Errors
///
/// That of the file system.
pub fn lease(cache: &Path, key: &str) -> io::Result<Option<ModelLease>> {
    crate::cache::make_folder(cache)?;
    let lock = lock::try_shared(&CachePlace::new(cache, key).used())?;
    Ok(lock.map(|lock| ModelLease { _lock: lock }))
}
