//! The folders of this machine in which pods have their volumes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use super::Kind;
use super::files::Content;

/// Where Linux has files in memory.
const MEMORY: &str = "/dev/shm";

/// Beginning of the names of Ebb's folders there.
const PREFIX: &str = "ebb-volumes-";

/// Folders for volumes: one for each pod, in which each of its volumes has its own.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    disk: PathBuf,
    memory: Option<PathBuf>,
}

// === impl Folders ===

impl Folders {
    /// Folders on `disk`, which is a folder of the state, and in memory. The state's path names those in
    /// memory, so that the next Ebb with that state finds what this one leaves.
    pub(crate) fn new(disk: PathBuf) -> Self {
        let named = disk.as_os_str().as_encoded_bytes().iter();
        // FNV-1a: a name, not a secret, and the same in every build.
        let hash = named.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let memory = Path::new(MEMORY);
        let memory = memory.is_dir().then(|| memory.join(format!("{PREFIX}{hash:016x}")));
        Self { disk, memory }
    }

    /// The folder or file of a volume of the pod with this UID, made if it was not there. Blocks.
    pub(crate) fn make(&self, uid: &str, volume: &str, kind: &Kind) -> io::Result<PathBuf> {
        let (root, mode) = match kind {
            Kind::Host { path, type_ } => return host(path, type_).map(|()| path.clone()),
            Kind::Empty { is_in_memory: true } => {
                (self.memory.as_ref().unwrap_or(&self.disk), 0o777)
            }
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

    /// Writes the files of a volume. Each appears whole, so that a container that runs already never
    /// reads half of one. `writer` names who writes: containers of a pod may start at once. Blocks.
    pub(crate) fn write(
        folder: &Path,
        writer: &str,
        files: &BTreeMap<PathBuf, Content>,
    ) -> io::Result<()> {
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
        for root in self.roots() {
            remove(&root.join(uid));
        }
    }

    /// Removes the volumes of all pods: those of a former Ebb. Blocks.
    pub(crate) fn clear(&self) {
        self.roots().for_each(|root| remove(root));
    }

    fn roots(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.disk).chain(&self.memory)
    }
}

fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Ok(()) => {}
        // The usual case: most pods have no volumes.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(%error, folder = %folder.display(), "Volumes of a pod that ended are left");
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
        let folders = Folders::new(scratch.path().join("volumes"));
        let empty = Kind::Empty { is_in_memory: false };
        let own = folders.make("uid-1", "cache", &empty).expect("made");
        fs::write(own.join("x"), "kept").expect("writable");
        let again = folders.make("uid-1", "cache", &empty).expect("there");
        assert_eq!(fs::read_to_string(again.join("x")).expect("read"), "kept", "at a restart");
        let memory = Kind::Empty { is_in_memory: true };
        let memory = folders.make("uid-1", "shm", &memory).expect("made");
        assert!(memory.starts_with(MEMORY) || !Path::new(MEMORY).is_dir());
        let other = folders.make("uid-2", "cache", &empty).expect("made");
        folders.remove("uid-1");
        assert!(!own.exists() && !memory.exists() && other.exists());
        folders.clear();
        assert!(!other.exists());
    }

    #[test]
    fn files_appear_whole_with_their_modes() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let mut files = BTreeMap::new();
        files.insert(PathBuf::from("a/b"), Content { bytes: b"one".to_vec(), mode: 0o400 });
        Folders::write(scratch.path(), "c", &files).expect("written");
        files.insert(PathBuf::from("a/b"), Content { bytes: b"two".to_vec(), mode: 0o440 });
        Folders::write(scratch.path(), "c", &files).expect("written over what is read-only");
        let path = scratch.path().join("a/b");
        assert_eq!(fs::read_to_string(&path).expect("read"), "two");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o440);
        assert_eq!(fs::read_dir(scratch.path().join("a")).expect("there").count(), 1);
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
