//! What the files of an unfinished model belong to.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::CachePlace;
use super::record::read_json;

/// Largest journal: as a record.
const JOURNAL_BYTES_MAX: u64 = 16 << 20;
/// Another text after each start of the machine.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// What was begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FetchJournal {
    /// SHA-256 of the whole source.
    pub(crate) source: String,
    /// The start of the machine. After another one the end of a file may be missing although its
    /// length is there, and only a checksum shows it.
    boot: String,
    /// By name.
    pub(crate) files: BTreeMap<String, FileMark>,
}

/// The state of a file at the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileMark {
    pub(crate) size: Option<u64>,
    /// A checksum, an `ETag` or a date. A file without one cannot be gone on with.
    pub(crate) validator: Option<String>,
    /// Whether a checksum will tell if the file is damaged.
    pub(crate) checked: bool,
}

// === impl FetchJournal ===

impl FetchJournal {
    pub(crate) fn new(source: &str, files: BTreeMap<String, FileMark>) -> Self {
        let boot = fs::read_to_string(BOOT).unwrap_or_default().trim().to_owned();
        Self { source: source.to_owned(), boot, files }
    }

    pub(crate) fn read(place: &CachePlace) -> Option<Self> {
        read_json(&place.journal(), JOURNAL_BYTES_MAX)
    }

    pub(crate) fn write(&self, place: &CachePlace) -> io::Result<()> {
        super::replace(&place.journal(), &serde_json::to_vec(self)?, false)
    }

    /// Whether what `earlier` began of a file can be gone on with.
    pub(crate) fn continues(&self, earlier: &Self, name: &str) -> bool {
        let (Some(now), Some(then)) = (self.files.get(name), earlier.files.get(name)) else {
            return false;
        };
        self.source == earlier.source
            && now == then
            && now.validator.is_some()
            && (now.checked || (self.boot == earlier.boot && !self.boot.is_empty()))
    }
}

/// Removes everything below `folder` that the journal does not go on with.
pub(crate) fn prune(folder: &Path, keep: &dyn Fn(&str) -> bool) -> io::Result<()> {
    prune_below(folder, "", keep)
}

fn prune_below(folder: &Path, prefix: &str, keep: &dyn Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_str().map(|name| format!("{prefix}{name}"));
        let kind = entry.file_type()?;
        match name {
            Some(name) if kind.is_dir() => {
                prune_below(&entry.path(), &format!("{name}/"), keep)?;
                // Refused for one with files that stay. An empty one would become part of the model.
                drop(fs::remove_dir(entry.path()));
            }
            Some(name) if kind.is_file() && keep(&name) => {}
            _ => super::remove(&entry.path())?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_gone_on_with_goes_with_its_folders() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["old/a", "old/deep/b", "new/c", "new/d"] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        prune(folder.path(), &|name| name == "new/c").unwrap();
        let there = |path: &str| folder.path().join(path).exists();
        assert!(there("new/c") && !there("new/d") && !there("old"));
    }

    fn journal(mark: FileMark) -> FetchJournal {
        FetchJournal::new("s", [("a".to_owned(), mark)].into())
    }

    #[test]
    fn only_the_same_state_of_a_file_is_gone_on_with() {
        let mark = FileMark { size: Some(3), validator: Some("x".to_owned()), checked: false };
        let now = journal(mark.clone());
        assert!(now.continues(&now, "a"));
        assert!(!now.continues(&now, "b"));
        let other = journal(FileMark { validator: Some("y".to_owned()), ..mark.clone() });
        assert!(!now.continues(&other, "a"));
        let unknown = journal(FileMark { validator: None, ..mark.clone() });
        assert!(!unknown.continues(&unknown, "a"));
        assert!(!now.continues(&FetchJournal { source: "t".to_owned(), ..now.clone() }, "a"));
    }

    #[test]
    fn after_a_start_of_the_machine_only_a_checksum_vouches_for_a_part() {
        let mark = FileMark { size: Some(3), validator: Some("x".to_owned()), checked: false };
        let before =
            |journal: &FetchJournal| FetchJournal { boot: "other".to_owned(), ..journal.clone() };
        let now = journal(mark.clone());
        assert!(!now.continues(&before(&now), "a"));
        let checked = journal(FileMark { checked: true, ..mark });
        assert!(checked.continues(&before(&checked), "a"));
    }
}
