//! Room for a model in its cache: under the limit, and on the disk.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;
use std::{fs, io};

use ebb_api::quantity;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::record::{ModelRecord, read_json};
use super::removal;
use super::{CachePlace, disk_error, lock};
use crate::error::FetchError;
use crate::eviction;
use crate::eviction::HeldModel;

/// What a model of unknown size asks for at a time, as it grows.
const STEP: u64 = 64 << 20;
/// What stays free on the disk: journals and records are written until the end.
const SPARE: u64 = 16 << 20;
/// Largest file of progress that is read.
pub(crate) const PROGRESS_BYTES_MAX: u64 = 64 << 10;
/// Most models of a cache that are looked at: each is some hundred megabytes at least.
const MODELS_MAX: usize = 10_000;

/// The room that one fetch has made.
#[derive(Debug)]
pub(crate) struct CacheRoom {
    place: CachePlace,
    limit: Option<u64>,
    /// Bytes that were asked for.
    claimed: Mutex<u64>,
}

/// What another process says of its fetch.
#[derive(Deserialize)]
struct Underway {
    total: Option<u64>,
}

/// What a fetch has made room for. It counts while the lock of the fetch is held.
#[derive(Serialize, Deserialize)]
struct RoomClaim {
    bytes: u64,
}

// === impl CacheRoom ===

impl CacheRoom {
    pub(crate) fn new(place: &CachePlace, limit: Option<u64>) -> Self {
        Self { place: place.clone(), limit, claimed: Mutex::new(0) }
    }

    /// Makes room for `total` bytes of this model, `there` of which are on the disk already. Blocks.
    ///
    /// # Errors
    ///
    /// It cannot be made: with figures.
    pub(crate) fn claim(&self, total: u64, there: u64) -> Result<(), FetchError> {
        let mut claimed = self.claimed.lock();
        self.make(total, there)?;
        *claimed = total;
        Ok(())
    }

    /// Makes room as a model of unknown size grows to `bytes`, in steps. Blocks.
    pub(crate) fn grow(&self, bytes: u64) -> Result<(), FetchError> {
        let mut claimed = self.claimed.lock();
        if bytes <= *claimed {
            return Ok(());
        }
        // Near the limit a step may be more than there is, and the rest of the model less.
        if self.make(bytes + STEP, bytes).is_ok() {
            *claimed = bytes + STEP;
        } else {
            self.make(bytes, bytes)?;
            *claimed = bytes;
        }
        Ok(())
    }

    fn make(&self, total: u64, there: u64) -> Result<(), FetchError> {
        let cache = &self.place.cache;
        let failed = |error: io::Error| disk_error(cache, &error);
        // Two that count at once would each take what is free.
        let counts = lock::open(&cache.join(".room.lock"))
            .and_then(|file| file.lock().map(|()| file))
            .map_err(failed)?;
        if let Some(limit) = self.limit {
            self.evict(limit, total)?;
        }
        // Those who count next have another limit, or come before a byte of this model is there.
        let claim = RoomClaim { bytes: total };
        let bytes = serde_json::to_vec(&claim).map_err(io::Error::from).map_err(failed)?;
        super::replace(&self.place.claim(), &bytes, false).map_err(failed)?;
        drop(counts);
        let missing = total.saturating_sub(there);
        let free =
            free(&self.place.cache).map_err(|error| disk_error(&self.place.cache, &error))?;
        if missing == 0 && free < SPARE {
            let full = io::Error::from(io::ErrorKind::StorageFull);
            return Err(disk_error(&self.place.cache, &full));
        }
        if missing.saturating_add(SPARE) > free {
            return Err(FetchError::Failed(format!(
                "the model needs {} more and the disk of {} has {} free: make room on it, or give \
                 the model a larger volume",
                quantity::bytes(missing),
                self.place.cache.display(),
                quantity::bytes(free.saturating_sub(SPARE)),
            )));
        }
        Ok(())
    }

    fn evict(&self, limit: u64, mine: u64) -> Result<(), FetchError> {
        let cache = &self.place.cache;
        let failed = |error: io::Error| disk_error(cache, &error);
        let mut others = others(cache, &self.place.key).map_err(failed)?;
        loop {
            let go = eviction::choose(limit, mine, &others)
                .map_err(|shortage| too_small(limit, mine, shortage.busy))?;
            if go.is_empty() {
                return Ok(());
            }
            for key in go {
                let went = removal::evict(&CachePlace::new(cache, &key)).map_err(failed)?;
                let other = others.iter_mut().find(|held| held.key == key);
                let other = other.expect("the choice is among the others");
                // One that somebody took since it was looked at stays, and others go for it.
                (other.busy, other.bytes) = if went { (false, 0) } else { (true, other.bytes) };
            }
        }
    }

    /// Bytes that archives may still unpack to. Blocks.
    pub(crate) fn left(&self) -> Result<u64, FetchError> {
        free(&self.place.cache)
            .map(|free| free.saturating_sub(SPARE))
            .map_err(|error| disk_error(&self.place.cache, &error))
    }
}

fn too_small(limit: u64, mine: u64, busy: u64) -> FetchError {
    let limit_text = quantity::bytes(limit);
    let mine_text = quantity::bytes(mine);
    FetchError::Failed(if mine > limit {
        format!(
            "the model needs {mine_text} and the cache may hold {limit_text}: raise its limit above \
             {mine_text}"
        )
    } else {
        format!(
            "the model needs {mine_text} of the {limit_text} that the cache may hold, and models in \
             use take {}: stop one of them, or raise the limit",
            quantity::bytes(busy)
        )
    })
}

/// All other models of a cache.
fn others(cache: &Path, mine: &str) -> io::Result<Vec<HeldModel>> {
    let mut keys = BTreeSet::new();
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let key = match removal::begun(name) {
            Some(key) => Some(key),
            None if name.starts_with('.') => None,
            None => name.strip_suffix(".json").or_else(|| entry.path().is_dir().then_some(name)),
        };
        keys.extend(key.filter(|key| *key != mine && keys.len() < MODELS_MAX).map(str::to_owned));
    }
    // Every model was fetched under its lock: what has none is somebody else's, and stays.
    keys.retain(|key| CachePlace::new(cache, key).lock().is_file());
    keys.into_iter().map(|key| held(cache, key)).collect()
}

fn held(cache: &Path, key: String) -> io::Result<HeldModel> {
    let place = CachePlace::new(cache, &key);
    let fetched = lock::try_exclusive(&place.lock())?;
    let used = lock::try_exclusive(&place.used())?;
    let record = ModelRecord::read(&place);
    let finished = match &record {
        Some(record) => record.bytes(),
        None => size(&place.folder()),
    };
    let mut begun = size(&place.partial()).saturating_add(size(&place.archive()));
    if fetched.is_none() {
        let underway: Option<Underway> = read_json(&place.progress(), PROGRESS_BYTES_MAX);
        let claim: Option<RoomClaim> = read_json(&place.claim(), PROGRESS_BYTES_MAX);
        begun = begun
            .max(underway.and_then(|underway| underway.total).unwrap_or(0))
            .max(claim.map_or(0, |claim| claim.bytes));
    }
    let changed = |path: &Path| fs::symlink_metadata(path).ok()?.modified().ok();
    let last = [place.record(), place.progress(), place.partial(), place.folder()]
        .iter()
        .find_map(|path| changed(path))
        .unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(HeldModel {
        bytes: finished.saturating_add(begun),
        used: last,
        busy: fetched.is_none() || used.is_none(),
        key,
    })
}

/// Bytes of a file, or of all files below a folder.
pub(crate) fn size(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(metadata) if metadata.is_dir() => fs::read_dir(path)
            .map_or(0, |entries| entries.flatten().map(|entry| size(&entry.path())).sum()),
        _ => 0,
    }
}

/// Bytes that this process may still write to the disk of a folder.
fn free(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(cache: &Path, key: &str, bytes: usize, used: u64) -> CachePlace {
        let place = CachePlace::new(cache, key);
        fs::create_dir(place.folder()).unwrap();
        fs::write(place.folder().join("a"), vec![0; bytes]).unwrap();
        lock::open(&place.lock()).unwrap();
        let file = super::super::record::RecordedFile {
            path: "a".to_owned(),
            size: bytes as u64,
            sha256: String::new(),
        };
        let record = ModelRecord {
            source: key.to_owned(),
            source_sha256: String::new(),
            version: None,
            fetched: String::new(),
            files: vec![file],
        };
        record.write(&place).unwrap();
        let used = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(used);
        super::super::record::touch(&place, used);
        place
    }

    #[test]
    fn the_oldest_that_nobody_uses_goes_and_figures_are_told() {
        let cache = tempfile::tempdir().unwrap();
        let old = model(cache.path(), "old", 4096, 1);
        let new = model(cache.path(), "new", 4096, 2);
        let room = CacheRoom::new(&CachePlace::new(cache.path(), "mine"), Some(12 << 10));
        room.claim(4096, 0).unwrap();
        assert!(old.folder().exists());

        let user = lock::open(&old.used()).unwrap();
        user.lock_shared().unwrap();
        room.claim(8192, 0).unwrap();
        assert!(old.folder().exists() && !new.folder().exists() && !new.record().exists());

        let error = room.claim(9000, 0).unwrap_err().to_string();
        assert!(error.contains("models in use take 4Ki"), "{error}");
        let error = room.claim(1 << 20, 0).unwrap_err().to_string();
        assert!(error.contains("needs 1Mi and the cache may hold 12Ki"), "{error}");
    }

    #[test]
    fn a_model_of_unknown_size_grows_up_to_the_limit() {
        let cache = tempfile::tempdir().unwrap();
        let room = CacheRoom::new(&CachePlace::new(cache.path(), "mine"), Some(1 << 20));
        room.grow(1).unwrap();
        room.grow(1 << 20).unwrap();
        assert!(room.grow((1 << 20) + 1).is_err());
    }

    #[test]
    fn another_fetch_counts_with_all_that_it_will_take() {
        let cache = tempfile::tempdir().unwrap();
        let other = CachePlace::new(cache.path(), "other");
        fs::create_dir(other.partial()).unwrap();
        fs::write(other.progress(), r#"{"done":0,"total":1000,"phase":"downloading"}"#).unwrap();
        let lock = lock::try_exclusive(&other.lock()).unwrap();
        let room = CacheRoom::new(&CachePlace::new(cache.path(), "mine"), Some(1500));
        assert!(room.claim(501, 0).is_err());
        room.claim(500, 0).unwrap();
        drop(lock);
        room.claim(1500, 0).unwrap();
        assert!(!other.partial().exists() || size(&other.partial()) == 0);
    }

    /// Its progress is not written yet, and neither is a byte of its files.
    #[test]
    fn another_fetch_that_has_only_claimed_its_room_counts() {
        let cache = tempfile::tempdir().unwrap();
        let place = |key| CachePlace::new(cache.path(), key);
        let room = |key| CacheRoom::new(&place(key), Some(1500));
        let lock = lock::try_exclusive(&place("other").lock()).unwrap();
        room("other").claim(1000, 0).unwrap();
        let error = room("mine").claim(501, 0).unwrap_err().to_string();
        assert!(error.contains("models in use take 1000"), "{error}");
        room("mine").claim(500, 0).unwrap();
        drop(lock);
        room("mine").claim(1500, 0).unwrap();
    }

    #[test]
    fn a_model_larger_than_the_disk_is_refused_with_figures() {
        let cache = tempfile::tempdir().unwrap();
        let room = CacheRoom::new(&CachePlace::new(cache.path(), "mine"), None);
        let error = room.claim(u64::MAX / 2, 0).unwrap_err().to_string();
        assert!(error.contains("free"), "{error}");
    }
}
