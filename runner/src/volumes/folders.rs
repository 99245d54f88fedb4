//! The folders of this machine in which pods have their volumes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
    PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use super::Kind;
use super::files::Content;

/// Where Linux has files in memory. Every user of the machine may make folders there.
const MEMORY: &str = "/dev/shm";

/// Beginning of the names of Ebb's folders there.
const PREFIX: &str = "ebb-volumes-";

/// The file in the state folder that names the folder in memory, for the next Ebb.
const NOTE: &str = ".in-memory";

/// Folders for volumes: one for each pod, in which each of its volumes has its own.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    disk: PathBuf,
    memory: Option<PathBuf>,
}

// === impl Folders ===

impl Folders {
    /// Folders on `disk`, which is a folder of the state, and in memory. `instance` cannot be guessed, so
    /// nobody else has the folder in memory before.
    pub(crate) fn new(disk: PathBuf, instance: &str) -> Self {
        let memory = Path::new(MEMORY);
        let memory = memory.is_dir().then(|| memory.join(format!("{PREFIX}{instance}")));
        Self { disk, memory }
    }

    /// The folder or file of a volume of the pod with this UID, made if it was not there. Blocks.
    pub(crate) fn make(&self, uid: &str, volume: &str, kind: &Kind) -> io::Result<PathBuf> {
        let (root, mode) = match kind {
            Kind::Host { path, type_ } => return host(path, type_).map(|()| path.clone()),
            Kind::Empty { is_in_memory: true } => (self.memory()?, 0o777),
            Kind::Empty { is_in_memory: false } => (&self.disk, 0o777),
            Kind::Files { .. } => (&self.disk, 0o755),
        };
        // Closed to other users of the machine: a volume may hold a secret.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root.join(uid))?;
        let folder = root.join(uid).join(volume);
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode))?;
        Ok(folder)
    }

    /// The folder in memory, made if it was not there; on disk where there is none in memory.
    fn memory(&self) -> io::Result<&PathBuf> {
        let Some(memory) = &self.memory else {
            return Ok(&self.disk);
        };
        // Noted first: what is left is found by the note.
        fs::create_dir_all(&self.disk)?;
        fs::write(self.disk.join(NOTE), memory.as_os_str().as_encoded_bytes())?;
        match fs::DirBuilder::new().mode(0o700).create(memory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        if is_own(memory) {
            Ok(memory)
        } else {
            let why = format!("{} is another user's, or open to others", memory.display());
            Err(io::Error::other(why))
        }
    }

    /// Writes the files of a volume. Each appears whole, so that a container that runs already never
    /// reads half of one; files of keys that have gone are removed before. `writer` names who writes: containers of a pod may start at once. Blocks.
    ///
    /// The folder is named by its pod and its volume and not by its path, so that no other folder can
    /// lose a file.
    pub(crate) fn write(
        &self,
        (uid, volume): (&str, &str),
        writer: &str,
        files: &BTreeMap<PathBuf, Content>,
    ) -> io::Result<()> {
        let folder = &self.disk.join(uid).join(volume);
        prune(folder, Path::new(""), files)?;
        for (path, content) in files {
            let path = folder.join(path);
            let parent = path.parent().unwrap_or(folder);
            fs::create_dir_all(parent)?;
            let part = parent.join(format!("..{writer}.part"));
            let mut file = fs::File::options()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&part)?;
            file.write_all(&content.bytes)?;
            file.set_permissions(fs::Permissions::from_mode(content.mode))?;
            fs::rename(&part, &path)?;
        }
        Ok(())
    }

    /// Removes the volumes of a pod that has ended. Blocks.
    pub(crate) fn remove(&self, uid: &str) {
        // Without a name below it the path would be that of all pods.
        if uid.is_empty() {
            return;
        }
        for root in self.roots() {
            remove(&root.join(uid));
        }
    }

    /// Removes the volumes of all pods, also those that a former Ebb with this state has left. Blocks.
    pub(crate) fn clear(&self) {
        let note = fs::read_to_string(self.disk.join(NOTE)).ok().map(PathBuf::from);
        let is_ours = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            path.parent() == Some(Path::new(MEMORY)) && name.starts_with(PREFIX) && is_own(path)
        };
        note.iter().filter(|path| is_ours(path)).chain([&self.disk]).for_each(|path| remove(path));
    }

    fn roots(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.disk).chain(&self.memory)
    }
}

/// Whether this is a folder, and no link to one, of this user alone.
fn is_own(folder: &Path) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|found| {
        found.is_dir()
            && found.uid() == nix::unistd::geteuid().as_raw()
            && found.permissions().mode() & 0o777 == 0o700
    })
}

/// Removes what `below` the folder of a volume is none of its files.
fn prune(folder: &Path, below: &Path, files: &BTreeMap<PathBuf, Content>) -> io::Result<()> {
    for entry in fs::read_dir(folder.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        // Another container of the pod may be writing one.
        let is_part = entry.file_name().as_encoded_bytes().starts_with(b"..");
        if entry.file_type()?.is_dir() {
            if files.contains_key(&path) {
                fs::remove_dir_all(entry.path())?;
            } else {
                prune(folder, &path, files)?;
            }
        } else if !is_part && !files.contains_key(&path) {
            match fs::remove_file(entry.path()) {
                // Another container of the pod, which starts as well, was first.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
    }
    Ok(())
}

fn remove(folder: &Path) {
    let removed = fs::remove_dir_all(folder).or_else(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            open(folder);
            fs::remove_dir_all(folder)
        }
        _ => Err(error),
    });
    match removed {
        Ok(()) => {}
        // The usual case: most pods have no volumes.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(%error, folder = %folder.display(), "Volumes of a pod that ended are left");
        }
    }
}

/// Lets the owner remove what lies in a folder that a model has made read-only. What cannot be opened
/// is named by the removal.
fn open(folder: &Path) {
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open(&entry.path());
        }
    }
}

/// Makes or checks a path of this machine, by Kubernetes' `hostPath.type`.
fn host(path: &Path, type_: &str) -> io::Result<()> {
    match type_ {
        "DirectoryOrCreate" => fs::create_dir_all(path)?,
        "FileOrCreate" if !path.exists() => drop(fs::File::create(path)?),
        _ => {}
    }
    let found = fs::metadata(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let (is_it, name) = match type_ {
        "Directory" | "DirectoryOrCreate" => (found.is_dir(), "directory"),
        "File" | "FileOrCreate" => (found.is_file(), "file"),
        "Socket" => (found.file_type().is_socket(), "socket"),
        "CharDevice" => (found.file_type().is_char_device(), "character device"),
        "BlockDevice" => (found.file_type().is_block_device(), "block device"),
        _ => return Ok(()),
    };
    let wrong = || format!("hostPath type check failed: {} is not a {name}", path.display());
    if is_it { Ok(()) } else { Err(io::Error::other(wrong())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_its_volumes_until_it_ends() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let folders =
            Folders::new(scratch.path().join("volumes"), &format!("test-{}", std::process::id()));
        let empty = Kind::Empty { is_in_memory: false };
        let own = folders.make("uid-1", "cache", &empty).expect("made");
        fs::write(own.join("x"), "kept").expect("writable");
        let again = folders.make("uid-1", "cache", &empty).expect("there");
        assert_eq!(fs::read_to_string(again.join("x")).expect("read"), "kept", "at a restart");
        let memory = Kind::Empty { is_in_memory: true };
        let memory = folders.make("uid-1", "shm", &memory).expect("made");
        assert!(memory.starts_with(MEMORY) || !Path::new(MEMORY).is_dir());
        let other = folders.make("uid-2", "cache", &empty).expect("made");
        // As caches of Go's modules are.
        fs::create_dir(own.join("fixed")).expect("writable");
        fs::write(own.join("fixed/file"), "").expect("writable");
        fs::set_permissions(own.join("fixed"), fs::Permissions::from_mode(0o555)).expect("ours");
        folders.remove("");
        assert!(own.exists());
        folders.remove("uid-1");
        assert!(!own.exists() && !memory.exists() && other.exists());
        let root = memory.ancestors().nth(2).expect("a root");
        // The next Ebb has another name for what is in memory.
        Folders::new(scratch.path().join("volumes"), "next").clear();
        assert!(!other.exists() && !root.exists());
    }

    #[test]
    fn a_folder_in_memory_that_is_open_to_others_is_not_used() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let folders = Folders {
            disk: scratch.path().join("disk"),
            memory: Some(scratch.path().join("taken")),
        };
        fs::create_dir(scratch.path().join("taken")).expect("made");
        fs::set_permissions(scratch.path().join("taken"), fs::Permissions::from_mode(0o777))
            .expect("ours");
        let volume = Kind::Empty { is_in_memory: true };
        assert!(folders.make("u", "v", &volume).is_err());
        fs::remove_dir(scratch.path().join("taken")).expect("removed");
        std::os::unix::fs::symlink(scratch.path(), scratch.path().join("taken")).expect("made");
        assert!(folders.make("u", "v", &volume).is_err());
    }

    #[test]
    fn files_appear_whole_with_their_modes() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let folders = Folders { disk: scratch.path().to_path_buf(), memory: None };
        let kind = Kind::Files { parts: Vec::new(), mode: 0o644 };
        let folder = folders.make("u", "v", &kind).expect("made");
        let write = |files: &_| folders.write(("u", "v"), "c", files);
        let mut files = BTreeMap::new();
        files.insert(PathBuf::from("a/b"), Content { bytes: b"one".to_vec(), mode: 0o400 });
        write(&files).expect("written");
        files.insert(PathBuf::from("a/b"), Content { bytes: b"two".to_vec(), mode: 0o440 });
        write(&files).expect("written over what is read-only");
        let path = folder.join("a/b");
        assert_eq!(fs::read_to_string(&path).expect("read"), "two");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o440);
        assert_eq!(fs::read_dir(folder.join("a")).expect("there").count(), 1);
        // The key has another path now, where a folder was.
        let moved = BTreeMap::from([(PathBuf::from("a"), Content { bytes: vec![], mode: 0o400 })]);
        write(&moved).expect("written");
        assert!(folder.join("a").is_file());
        write(&files).expect("written back");
        assert!(path.is_file());
    }

    #[test]
    fn a_path_of_the_machine_is_what_its_type_says() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let new = scratch.path().join("new/folder");
        assert!(host(&new, "").is_err() && host(&new, "Directory").is_err());
        host(&new, "DirectoryOrCreate").expect("made");
        host(&new, "Directory").expect("there");
        let refused = host(&new, "File").unwrap_err().to_string();
        assert!(refused.ends_with("new/folder is not a file"), "{refused}");
        host(&new.join("file"), "FileOrCreate").expect("made");
    }
}
