//! The spool directory, walked once to a descriptor (safety 5); everything later is relative to that descriptor.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags},
    io::Errno,
};

use crate::Error;

/// Held open, and held by a shared `flock`, so that another rpull does not remove it as empty between our steps.
#[derive(Debug)]
pub(crate) struct Directory {
    file: File,
    parent: File,
    name: OsString,
    path: PathBuf,
}

/// Is this a file of our user?
pub(crate) fn is_ours(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.uid() == rustix::process::geteuid().as_raw()
}

impl Directory {
    /// Opens it, or makes it with mode 0700. Symbolic links above it are followed before the walk; itself it may be none.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let unsafe_for = |why| Error::Insecure { path: path.to_owned(), why };
        let path = std::path::absolute(path).map_err(|error| Error::io("open", path, error))?;
        let name = path.file_name().ok_or_else(|| unsafe_for("it has no name of its own"))?.to_owned();
        let above = path.parent().ok_or_else(|| unsafe_for("it has no directory above"))?;
        let above = fs::canonicalize(above).map_err(|error| Error::io("open", above, error))?;
        let parent = walk(&above)?;
        let path = above.join(&name);
        loop {
            match rustix::fs::mkdirat(&parent, &name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(Error::io("make directory", &path, error)),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = match rustix::fs::openat(&parent, &name, flags, Mode::empty()) {
                Ok(descriptor) => File::from(descriptor),
                Err(Errno::NOENT) => continue,
                Err(Errno::NOTDIR | Errno::LOOP) => return Err(Error::Insecure { path, why: "it is not a directory" }),
                Err(error) => return Err(Error::io("open", &path, error)),
            };
            let metadata = file.metadata().map_err(|error| Error::io("inspect", &path, error))?;
            if metadata.uid() != rustix::process::geteuid().as_raw() {
                return Err(Error::Insecure { path, why: "it belongs to another user" });
            }
            if metadata.mode() & 0o077 != 0 {
                return Err(Error::Insecure { path, why: "others have access to it, its mode must be 0700" });
            }
            if hold(&parent, &name, &file).map_err(|error| Error::io("lock", &path, error))? {
                return Ok(Self { file, parent, name, path });
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a name in it: never through a symbolic link, never waiting for a FIFO's other end.
    pub(crate) fn open_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.file, name, flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// Opens a regular file to read. Nothing but a regular file is ever opened: a device could react to that.
    /// `None` when something else is there, or nothing.
    pub(crate) fn open_regular(&self, name: &str) -> io::Result<Option<File>> {
        match rustix::fs::statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                self.open_file(name, OFlags::RDONLY).map(Some)
            }
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Does the name lead to this very inode?
    pub(crate) fn leads_to(&self, name: &str, file: &File) -> io::Result<bool> {
        let metadata = file.metadata()?;
        match rustix::fs::statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(stat.st_ino == metadata.ino() && stat.st_dev == metadata.dev()),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// When the name was last written to, in seconds since the epoch. `None` when it is not there.
    pub(crate) fn modified(&self, name: &str) -> Option<i64> {
        let stat = rustix::fs::statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(stat.st_mtime)
    }

    /// Bytes of the disk that the name's file takes, 0 when it is not there.
    pub(crate) fn allocated(&self, name: &str) -> Result<u64, Error> {
        let failed = |error| Error::io("inspect", self.path_of(name), error);
        // The unit of `st_blocks` is 512 bytes whatever the filesystem's own is (stat(2)).
        let file = self.open_regular(name).map_err(failed)?;
        file.map_or(Ok(0), |file| file.metadata().map(|metadata| metadata.blocks() * 512).map_err(failed))
    }

    /// Takes the name away, whatever it names; the inode lives on where it has other names.
    pub(crate) fn unlink(&self, name: &str) -> Result<(), Error> {
        let result = match rustix::fs::unlinkat(&self.file, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => rustix::fs::unlinkat(&self.file, name, AtFlags::REMOVEDIR),
            other => other,
        };
        match result {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(Error::io("remove", self.path_of(name), error)),
        }
    }

    pub(crate) fn names(&self) -> Result<Vec<String>, Error> {
        let failed = |error| Error::io("list", &self.path, error);
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.file).map_err(failed)? {
            names.extend(entry.map_err(failed)?.file_name().to_str().map(str::to_owned));
        }
        Ok(names)
    }

    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(|error| Error::io("sync", &self.path, error))
    }

    pub(crate) fn free(&self) -> Result<u64, Error> {
        let filesystem = rustix::fs::fstatvfs(&self.file).map_err(|error| Error::io("inspect", &self.path, error))?;
        Ok(filesystem.f_bavail.saturating_mul(filesystem.f_frsize))
    }

    /// Removes the directory if nothing is in it and no other rpull holds it.
    pub(crate) fn remove_if_empty(&self) -> Result<(), Error> {
        let alone = rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_ok();
        let result = if alone { rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR) } else { Ok(()) };
        // A refused upgrade may have dropped the shared lock as well, so it is taken anew either way.
        rustix::fs::flock(&self.file, FlockOperation::LockShared).map_err(|error| Error::io("lock", &self.path, error))?;
        match result {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(error) => Err(Error::io("remove", &self.path, error)),
        }
    }
}

impl Drop for Directory {
    /// Said, not left to the closing of the descriptor: a child just forked elsewhere may have a copy of it until its exec.
    fn drop(&mut self) {
        rustix::fs::flock(&self.file, FlockOperation::Unlock).ok();
    }
}

/// Takes the shared lock. `false`: another rpull had removed the directory before the lock was ours.
fn hold(parent: &File, name: &OsStr, directory: &File) -> io::Result<bool> {
    rustix::fs::flock(directory, FlockOperation::LockShared)?;
    let (held, named) = (directory.metadata()?, rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW));
    Ok(named.is_ok_and(|named| (named.st_dev, named.st_ino) == (held.dev(), held.ino())))
}

/// From the root down, one descriptor after another, each of them safe.
fn walk(path: &Path) -> Result<File, Error> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut so_far = PathBuf::new();
    let mut at: Option<File> = None;
    for component in path.components() {
        so_far.push(component);
        let name: &Path = if component == Component::RootDir { Path::new("/") } else { component.as_ref() };
        let opened = match &at {
            Some(directory) => rustix::fs::openat(directory, name, flags, Mode::empty()),
            None => rustix::fs::openat(CWD, name, flags, Mode::empty()),
        };
        let directory = File::from(opened.map_err(|error| Error::io("open", &so_far, error))?);
        let metadata = directory.metadata().map_err(|error| Error::io("inspect", &so_far, error))?;
        if let Some(why) = weakness(metadata.uid(), metadata.mode(), rustix::process::geteuid().as_raw()) {
            return Err(Error::Insecure { path: so_far, why });
        }
        at = Some(directory);
    }
    at.ok_or_else(|| Error::Insecure { path: path.to_owned(), why: "it has no directory above" })
}

/// Why a directory above the spool cannot be trusted by user `me`. In a sticky one (`/tmp`) nobody can move what is ours.
fn weakness(owner: u32, mode: u32, me: u32) -> Option<&'static str> {
    if owner != 0 && owner != me {
        Some("it belongs to another user")
    } else if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        Some("others can write to it")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_lost_its_name_before_it_was_held_is_not_used() {
        let home = tempfile::tempdir().unwrap();
        let parent = File::open(home.path()).unwrap();
        let make = || {
            fs::create_dir(home.path().join("spool")).unwrap();
            File::open(home.path().join("spool")).unwrap()
        };
        let name = OsStr::new("spool");
        let first = make();
        assert!(hold(&parent, name, &first).unwrap());
        fs::remove_dir(home.path().join("spool")).unwrap();
        assert!(!hold(&parent, name, &first).unwrap());
        let second = make();
        assert!(!hold(&parent, name, &first).unwrap());
        assert!(hold(&parent, name, &second).unwrap());
    }

    #[test]
    fn a_directory_above_is_roots_or_ours_and_nobody_else_can_write_to_it() {
        let (root, me, other) = (0, 1000, 1001);
        for (owner, mode, user, trusted) in [
            (root, 0o755, me, true),
            (me, 0o700, me, true),
            (me, 0o755, me, true),
            (other, 0o755, me, false),
            (me, 0o755, root, false),
            (me, 0o775, me, false),
            (me, 0o757, me, false),
            (root, 0o777, me, false),
            (root, 0o1777, me, true),
            (other, 0o1777, me, false),
        ] {
            assert_eq!(weakness(owner, mode, user).is_none(), trusted, "{owner} {mode:o} for {user}");
        }
    }
}
