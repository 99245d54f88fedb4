//! A mount namespace of this process alone, and how a volume gets a place in it.
//!
//! A folder that a mount needs and this machine does not have is made in a view: a folder in memory
//! that covers its parent and shows what the parent has. So nothing is left on the machine, and
//! no permission is needed. A process that may not mount at all has its own namespace of users first,
//! in which it is still the same user.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getgid, getuid};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use super::Mount;

/// Most entries of a folder that is viewed: each is a mount of its own, some ten microseconds.
const VIEW_ENTRIES_MAX: usize = 4096;

/// Most bytes of new files in a view, which are in memory. Models write to their volumes; this is for
/// what a program leaves beside them.
const VIEW_SIZE: &str = "256m";

/// Why a mount cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpaceError {
    #[error(
        "this machine does not let a program have mounts of its own ({0}): allow namespaces of \
         users (sysctl kernel.apparmor_restrict_unprivileged_userns=0 or \
         user.max_user_namespaces), or run ebb as root"
    )]
    NotAllowed(io::Error),
    #[error("the container's first program has not started yet, or has ended")]
    NotThere,
    #[error("cannot join the container's mounts: {0}")]
    Join(io::Error),
    #[error("volume \"{volume}\" cannot be mounted at {target}: {source}")]
    Mount { volume: String, target: String, source: io::Error },
    #[error(
        "volume \"{volume}\" cannot be mounted at {target}, which is a {found} on this machine"
    )]
    Kind { volume: String, target: String, found: &'static str },
    #[error(
        "volume \"{volume}\" cannot be mounted at {target}: {folder} has more than \
         {VIEW_ENTRIES_MAX} entries, so make {target} on this machine first"
    )]
    Crowded { volume: String, target: String, folder: String },
}

/// What goes wrong inside, before it is said for which mount.
enum Trouble {
    Io(io::Error),
    Kind(&'static str),
    Crowded(PathBuf),
}

/// The namespace that the process is in.
pub(super) struct Space {
    /// The file systems of the views, by their device: folders of the machine that are shown in a view
    /// are not of it, and nothing may be made in them.
    views: Vec<u64>,
    /// Volumes that may be written to, in which folders for other mounts are made.
    volumes: Vec<PathBuf>,
}

/// Joins the mounts of a program that `leader` is the first process of. The process must have become
/// that program: before, it may see this machine's files still.
pub(super) fn join(leader: i32) -> Result<(), SpaceError> {
    let link = |pid: &str, name: &str| fs::read_link(format!("/proc/{pid}/{name}"));
    let leader = leader.to_string();
    let is_same = |name: &str| match (link(&leader, name), link("self", name)) {
        (Ok(its), Ok(own)) => Ok(its == own),
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => Err(SpaceError::NotThere),
        (Err(error), _) | (_, Err(error)) => Err(SpaceError::Join(error)),
    };
    if is_same("exe")? || is_same("ns/mnt")? {
        return Err(SpaceError::NotThere);
    }
    let open = |name: &str| fs::File::open(format!("/proc/{leader}/ns/{name}"));
    let joined = || -> io::Result<()> {
        let (users, mounts) = (open("user")?, open("mnt")?);
        if link(&leader, "ns/user")? != link("self", "ns/user")? {
            setns(users, CloneFlags::CLONE_NEWUSER)?;
        }
        Ok(setns(mounts, CloneFlags::CLONE_NEWNS)?)
    };
    joined().map_err(SpaceError::Join)
}

// === impl Trouble ===

impl Trouble {
    fn at(self, mount: &Mount) -> SpaceError {
        let (volume, target) = (mount.volume.clone(), mount.target.display().to_string());
        match self {
            Self::Io(source) => SpaceError::Mount { volume, target, source },
            Self::Kind(found) => SpaceError::Kind { volume, target, found },
            Self::Crowded(folder) => {
                SpaceError::Crowded { volume, target, folder: folder.display().to_string() }
            }
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustix::io::Errno> for Trouble {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

// === impl Space ===

impl Space {
    /// Enters a new namespace. What is mounted on this machine later is seen in it, not the other way.
    pub(super) fn enter() -> Result<Self, SpaceError> {
        let entered = match unshare(CloneFlags::CLONE_NEWNS) {
            Err(Errno::EPERM) => Self::enter_as_user(),
            other => other.map_err(io::Error::from),
        };
        entered.map_err(SpaceError::NotAllowed)?;
        let apart = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", apart)
            .map_err(|error| SpaceError::NotAllowed(error.into()))?;
        Ok(Self { views: Vec::new(), volumes: Vec::new() })
    }

    fn enter_as_user() -> io::Result<()> {
        let (user, group) = (getuid(), getgid());
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
        // Without it no group may be mapped (user_namespaces(7)).
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
        fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
    }

    /// Makes the mounts in their order.
    pub(super) fn fill(&mut self, mounts: &[Mount]) -> Result<(), SpaceError> {
        let tree = |mount: &Mount| {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE;
            rustix::mount::open_tree(CWD, &mount.source, flags)
                .map_err(|error| Trouble::from(error).at(mount))
        };
        // All before the first is placed, which may hide the source of another.
        let trees = mounts.iter().map(tree).collect::<Result<Vec<_>, _>>()?;
        for (mount, tree) in mounts.iter().zip(trees) {
            self.place(mount, &tree).map_err(|trouble| trouble.at(mount))?;
        }
        Ok(())
    }

    fn place(&mut self, mount: &Mount, tree: &OwnedFd) -> Result<(), Trouble> {
        let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(tree)?.st_mode);
        let point = self.point(&mount.target, kind.is_dir())?;
        attach(tree, CWD, &point)?;
        if mount.is_read_only {
            close(&point)?;
        } else if kind.is_dir() {
            self.volumes.push(point);
        }
        Ok(())
    }

    /// The place for a mount, which is there afterwards.
    fn point(&mut self, target: &Path, is_folder: bool) -> Result<PathBuf, Trouble> {
        if let Ok(found) = target.canonicalize() {
            return match (is_folder, found.is_dir()) {
                (true, false) => Err(Trouble::Kind("file")),
                (false, true) => Err(Trouble::Kind("folder")),
                _ => Ok(found),
            };
        }
        let mut base = target;
        let folder = loop {
            base = base.parent().unwrap_or_else(|| Path::new("/"));
            if let Ok(found) = base.canonicalize() {
                break found;
            }
        };
        let rest = target.strip_prefix(base).map_err(io::Error::other)?;
        let point = folder.join(rest);
        let device = fs::metadata(&folder)?.dev();
        let is_own = self.views.contains(&device)
            || self.volumes.iter().any(|volume| folder.starts_with(volume));
        if !(is_own && make(&point, is_folder).is_ok()) {
            self.view(&folder)?;
            make(&point, is_folder)?;
        }
        Ok(point)
    }

    /// Covers a folder with one in memory that has the same entries.
    fn view(&mut self, folder: &Path) -> Result<(), Trouble> {
        let mut names = Vec::new();
        let entries = match fs::read_dir(folder) {
            // Its entries are not for this user's programs, and so the view has none.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            entries => Some(entries?),
        };
        for entry in entries.into_iter().flatten() {
            if names.len() == VIEW_ENTRIES_MAX {
                return Err(Trouble::Crowded(folder.to_path_buf()));
            }
            names.push(entry?.file_name());
        }
        let mode = fs::metadata(folder)?.permissions().mode() & 0o7777;
        let below = rustix::fs::open(
            folder,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let over = memory(mode)?;
        attach(&over, CWD, folder)?;
        for name in names {
            // One that cannot be shown (it has gone meanwhile, or its server is dead) is missing, or
            // empty: the program would have failed with it on this machine, too.
            let _ = show(&below, &over, &name);
        }
        if folder == Path::new("/") {
            // A process does not see what covers its root until it has another.
            rustix::process::fchdir(&over)?;
            rustix::process::pivot_root(".", ".")?;
            rustix::mount::unmount(".", UnmountFlags::DETACH)?;
            rustix::process::chdir("/")?;
        }
        self.views.push(rustix::fs::fstat(&over)?.st_dev);
        Ok(())
    }
}

/// A file system in memory that is mounted nowhere yet.
fn memory(mode: u32) -> rustix::io::Result<OwnedFd> {
    let system = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(system.as_fd(), "size", VIEW_SIZE)?;
    rustix::mount::fsconfig_set_string(system.as_fd(), "mode", format!("{mode:o}"))?;
    rustix::mount::fsconfig_create(system.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    rustix::mount::fsmount(system.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Makes an entry of one folder appear in another.
fn show(below: &OwnedFd, over: &OwnedFd, name: &OsString) -> rustix::io::Result<()> {
    // Nothing is mounted just because somebody looks.
    let quietly = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let at = rustix::fs::statat(below, name, quietly)?;
    let kind = rustix::fs::FileType::from_raw_mode(at.st_mode);
    if kind.is_symlink() {
        let target = rustix::fs::readlinkat(below, name, Vec::new())?;
        return rustix::fs::symlinkat(target.as_c_str(), over, name);
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW
        | OpenTreeFlags::AT_NO_AUTOMOUNT;
    if kind.is_dir() {
        rustix::fs::mkdirat(over, name, Mode::RWXU)?;
    } else {
        drop(rustix::fs::openat(
            over,
            name,
            OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::RUSR,
        )?);
    }
    let tree = rustix::mount::open_tree(below, name, flags)?;
    attach(&tree, over, Path::new(name))
}

fn attach(tree: &OwnedFd, folder: impl AsFd, path: &Path) -> rustix::io::Result<()> {
    rustix::mount::move_mount(tree, "", folder, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Makes the mount at `point` read-only. Flags that the machine has set for its file system are
/// said again: a process of its own namespace of users may not take them away.
fn close(point: &Path) -> rustix::io::Result<()> {
    use rustix::fs::StatVfsMountFlags as Now;
    let now = rustix::fs::statvfs(point)?.f_flag;
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    for (known, flag) in [
        (Now::NOSUID, MountFlags::NOSUID),
        (Now::NODEV, MountFlags::NODEV),
        (Now::NOEXEC, MountFlags::NOEXEC),
        (Now::NOATIME, MountFlags::NOATIME),
        (Now::NODIRATIME, MountFlags::NODIRATIME),
        (Now::RELATIME, MountFlags::RELATIME),
    ] {
        flags.set(flag, now.contains(known));
    }
    rustix::mount::mount_remount(point, flags, "")
}

/// Makes the folder or the empty file that a mount is to cover.
fn make(point: &Path, is_folder: bool) -> io::Result<()> {
    if is_folder {
        return fs::create_dir_all(point);
    }
    if let Some(parent) = point.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::File::options().create_new(true).write(true).open(point).map(drop)
}
