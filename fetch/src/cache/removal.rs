//! How models and leftovers leave a cache: a crash at any moment leaves no half model in sight.

use std::path::Path;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use super::{CachePlace, lock};

/// How long an unfinished model that nobody fetches stays for somebody to go on with.
const STALE_AFTER: Duration = Duration::from_hours(24 * 7);
/// The beginning of the names of folders that are being deleted.
const GONE: &str = ".gone-";

/// Removes a model, if nobody uses or fetches it; whether it went.
pub(crate) fn evict(place: &CachePlace) -> io::Result<bool> {
    let Some(_used) = lock::try_exclusive(&place.used())? else { return Ok(false) };
    let Some(_fetched) = lock::try_exclusive(&place.lock())? else { return Ok(false) };
    clear(place)?;
    super::remove(&place.progress())?;
    Ok(true)
}

/// Removes all of a model but its locks, one of which the caller holds.
///
/// The record goes first, without which the folder is no model; then the folder by one rename.
pub(crate) fn clear(place: &CachePlace) -> io::Result<()> {
    discard_finished(place)?;
    discard_begun(place)
}

/// Removes what was begun, and leaves the finished files.
fn discard_begun(place: &CachePlace) -> io::Result<()> {
    for leftover in [place.partial(), place.archive(), place.journal(), place.claim()] {
        super::remove(&leftover)?;
    }
    Ok(())
}

/// Removes the finished files, and leaves what was begun.
pub(crate) fn discard_finished(place: &CachePlace) -> io::Result<()> {
    super::remove(&place.record())?;
    let gone = place.cache.join(format!("{GONE}{}-{}", place.key, std::process::id()));
    match fs::rename(place.folder(), &gone) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => super::remove(&gone),
    }
}

/// Goes on with deletions that a crash cut off, and removes what was begun and left a week ago.
pub(crate) fn sweep(cache: &Path, mine: &str, now: SystemTime) -> io::Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        // People keep other things beside their models: what is Ebb's has a lock file.
        let is_ours = |key: &str| CachePlace::new(cache, key).lock().is_file();
        if let Some(gone) = name.strip_prefix(GONE) {
            if !gone.rsplit_once('-').is_some_and(|(key, _)| is_ours(key)) {
                continue;
            }
            // Two processes may do it at once: what the other one removed is gone as well.
            drop(super::remove(&entry.path()));
            continue;
        }
        let Some(key) = begun(name).filter(|key| *key != mine && is_ours(key)) else { continue };
        let place = CachePlace::new(cache, key);
        if is_stale(&place, now) {
            let Some(_fetched) = lock::try_exclusive(&place.lock())? else { continue };
            discard_begun(&place)?;
        }
    }
    Ok(())
}

/// The key of the unfinished model that a name of the cache belongs to.
pub(crate) fn begun(name: &str) -> Option<&str> {
    let name = name.strip_prefix('.')?;
    [".partial", ".archive", ".journal", ".claim"]
        .into_iter()
        .find_map(|end| name.strip_suffix(end))
}

/// Whether nothing of it has changed for long: a fetch writes its progress all the time.
fn is_stale(place: &CachePlace, now: SystemTime) -> bool {
    let begun = [place.journal(), place.partial(), place.archive(), place.claim()];
    let changed = [place.progress()]
        .into_iter()
        .chain(begun)
        .filter_map(|path| fs::symlink_metadata(path).ok()?.modified().ok())
        .max();
    changed.is_some_and(|changed| now.duration_since(changed).is_ok_and(|age| age > STALE_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache_with(key: &str) -> (tempfile::TempDir, CachePlace) {
        let folder = tempfile::tempdir().unwrap();
        let place = CachePlace::new(folder.path(), key);
        fs::create_dir(place.partial()).unwrap();
        fs::write(place.partial().join("a"), "x").unwrap();
        fs::write(place.journal(), "{}").unwrap();
        (folder, place)
    }

    #[test]
    fn what_was_left_a_week_ago_goes_unless_somebody_fetches_it() {
        let later = SystemTime::now() + STALE_AFTER + Duration::from_mins(1);
        let (cache, place) = cache_with("k");
        sweep(cache.path(), "other", SystemTime::now()).unwrap();
        assert!(place.partial().exists(), "a young one went");
        sweep(cache.path(), "k", later).unwrap();
        assert!(place.partial().exists(), "the own one went");
        let lock = lock::try_exclusive(&place.lock()).unwrap().unwrap();
        sweep(cache.path(), "other", later).unwrap();
        assert!(place.partial().exists(), "one that is being fetched went");
        drop(lock);
        sweep(cache.path(), "other", later).unwrap();
        assert!(!place.partial().exists() && !place.journal().exists());
    }

    #[test]
    fn a_deletion_that_was_cut_off_goes_on() {
        let cache = tempfile::tempdir().unwrap();
        let gone = cache.path().join(".gone-k-1");
        fs::create_dir_all(gone.join("a/b")).unwrap();
        fs::write(CachePlace::new(cache.path(), "k").lock(), "").unwrap();
        sweep(cache.path(), "k", SystemTime::now()).unwrap();
        assert!(!gone.exists());
    }

    #[test]
    fn what_is_not_ebbs_stays_however_old_it_is_and_whatever_its_name() {
        let cache = tempfile::tempdir().unwrap();
        let others = [".backup.archive", ".notes.journal", ".gone-away", ".gone-with-the-wind"];
        for name in others {
            fs::create_dir(cache.path().join(name)).unwrap();
        }
        let later = SystemTime::now() + STALE_AFTER + Duration::from_mins(1);
        sweep(cache.path(), "k", later).unwrap();
        for name in others {
            assert!(cache.path().join(name).exists(), "{name}");
        }
    }

    #[test]
    fn a_model_in_use_or_being_fetched_does_not_go() {
        let (_cache, place) = cache_with("k");
        fs::create_dir(place.folder()).unwrap();
        for path in [place.used(), place.lock()] {
            let user = lock::open(&path).unwrap();
            user.lock_shared().unwrap();
            assert!(!evict(&place).unwrap());
            assert!(place.folder().exists());
        }
        assert!(evict(&place).unwrap());
        assert!(!place.folder().exists() && !place.partial().exists());
    }
}
