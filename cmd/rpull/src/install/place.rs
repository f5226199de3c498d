//! The directory of a `ctr`, under our lock: what its names are, and each step that changes one. A step is on the disk when it returns.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, FlockOperation};

use super::refused;
use crate::{door::marker, exit::ExitCode, failure::Failure};

/// A name of ours in the directory. What is left under it is of a run that was cut off.
const NEW: &str = ".ctr.rpull-new";

/// A directory that no other `install` works in.
pub(super) struct Place {
    directory: PathBuf,
    /// Holds the lock.
    handle: File,
}

/// What a name is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// Nothing.
    Nothing,
    /// A symbolic link that leads nowhere: ours, when rpull was removed.
    Dangling,
    /// This program, in whatever version.
    Ours,
    /// Any other program.
    Other,
}

impl Place {
    /// Waits for others at the same work.
    pub(super) fn lock(directory: &Path) -> Result<Self, Failure> {
        let directory = std::path::absolute(directory).map_err(|error| refused("is no path", directory, &error))?;
        let handle = File::open(&directory).map_err(|error| {
            let failure = refused("cannot be opened", &directory, &error);
            if error.kind() == io::ErrorKind::NotFound {
                let hint = "install what has its ctr there, or name the directory of yours: --prefix DIR".to_owned();
                return Failure { hint: Some(hint), ..failure };
            }
            failure
        })?;
        rustix::fs::flock(&handle, FlockOperation::LockExclusive)
            .map_err(|error| refused("cannot be locked", &directory, &error.into()))?;
        let place = Self { directory, handle };
        place.fresh()?;
        Ok(place)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn what(&self, name: &str) -> Result<What, Failure> {
        let path = self.path(name);
        let unknown = |error| refused("cannot be looked at", &path, &error);
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(What::Nothing),
            Err(error) => return Err(unknown(error)),
            Ok(_) => {}
        }
        match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(What::Dangling),
            Err(error) => Err(unknown(error)),
            Ok(found) if !found.is_file() => {
                let message = format!("{} is no program", path.display());
                Err(Failure { code: ExitCode::Usage, message, hint: Some("--prefix names the directory of a ctr".to_owned()) })
            }
            Ok(_) if marker::is_ours(&path) => Ok(What::Ours),
            Ok(_) => Ok(What::Other),
        }
    }

    /// Is `name` the symbolic link to this path that [`put_link`](Self::put_link) makes?
    pub(super) fn leads_to(&self, name: &str, path: &Path) -> bool {
        fs::read_link(self.path(name)).is_ok_and(|target| target == path)
    }

    /// Is `path` this name of this directory?
    pub(super) fn is_itself(&self, path: &Path, name: &str) -> bool {
        let directory = path.parent().and_then(|parent| parent.canonicalize().ok());
        path.file_name().is_some_and(|file| file == name)
            && directory.is_some()
            && directory == self.directory.canonicalize().ok()
    }

    /// Are they one file?
    pub(super) fn is_same(&self, name: &str, other: &str) -> bool {
        is_one_file(&self.path(name), &self.path(other))
    }

    /// Gives `name` the second name `kept`, which whatever had it loses.
    pub(super) fn keep(&self, name: &str, kept: &str) -> Result<(), Failure> {
        self.fresh()?;
        // A symbolic link is kept as one.
        rustix::fs::linkat(&self.handle, name, &self.handle, NEW, AtFlags::empty())
            .map_err(|error| refused("cannot be kept under a second name", &self.path(name), &error.into()))?;
        self.rename(NEW, kept)?;
        // Renaming one name of a file to another name of it does nothing.
        self.fresh()?;
        self.sync()
    }

    /// Makes `name` a symbolic link to `file`.
    pub(super) fn put_link(&self, file: &Path, name: &str) -> Result<(), Failure> {
        let new = self.fresh()?;
        std::os::unix::fs::symlink(file, &new).map_err(|error| refused("cannot be made", &new, &error))?;
        self.rename(NEW, name)
    }

    /// Makes `name` a copy of `file`.
    pub(super) fn put_copy(&self, file: &Path, name: &str) -> Result<(), Failure> {
        let new = self.fresh()?;
        let copied = fs::copy(file, &new)
            .and_then(|_| fs::set_permissions(&new, Permissions::from_mode(0o755)))
            .and_then(|()| File::open(&new)?.sync_all());
        copied.map_err(|error| refused("cannot be written", &new, &error))?;
        self.rename(NEW, name)
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), Failure> {
        let to = self.path(to);
        fs::rename(self.path(from), &to).map_err(|error| refused("cannot be replaced", &to, &error))?;
        self.sync()
    }

    /// A name that is not there is removed already.
    pub(super) fn remove(&self, name: &str) -> Result<(), Failure> {
        let path = self.path(name);
        unlink(&path)?;
        self.sync()
    }

    /// What was done to names is on the disk.
    pub(super) fn sync(&self) -> Result<(), Failure> {
        self.handle.sync_all().map_err(|error| refused("cannot be synced", &self.directory, &error))
    }

    /// The path of the new name, with nothing there.
    fn fresh(&self) -> Result<PathBuf, Failure> {
        let path = self.path(NEW);
        unlink(&path)?;
        Ok(path)
    }
}

fn unlink(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(refused("cannot be removed", path, &error)),
        _ => Ok(()),
    }
}

/// Same device and inode, links followed.
pub(super) fn is_one_file(path: &Path, other: &Path) -> bool {
    let id = |path: &Path| path.metadata().map(|found| (found.dev(), found.ino()));
    matches!((id(path), id(other)), (Ok(one), Ok(other)) if one == other)
}
