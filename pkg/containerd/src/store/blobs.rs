//! `<content root>/blobs/sha256` by descriptor: linking a proved file into it, and what to do about one that is there already.

use std::{
    io::ErrorKind,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, CWD, Mode, OFlags, Stat},
    io::Errno,
};
use spool::{Spool, Verified};

use super::rotten::{Found, Rotten};
use crate::Error;

/// Mode containerd gives the directories it makes here.
const DIR_MODE: Mode = Mode::from_raw_mode(0o755);

/// Mode of every blob (reference 3.6).
const BLOB_MODE: Mode = Mode::from_raw_mode(0o444);

/// The file may come and go under a garbage collector while we look at it.
const LOOKS: usize = 16;

/// The directory of the content store's blobs.
#[derive(Debug)]
pub(crate) struct Blobs {
    path: PathBuf,
    dir: OwnedFd,
    /// The spool directory: a temporary name for a rename must not be made where containerd looks.
    spool: Spool,
    spool_dir: OwnedFd,
    owner: (u32, u32),
    rotten: Rotten,
}

/// What became of a file to be placed.
#[derive(Clone, Debug)]
pub(crate) enum Placed {
    /// A file with these bytes is there: this one, or one that was there before and was hashed.
    There(Verified),
    /// This file is there, in place of one with other bytes.
    Replaced {
        /// As it was proved.
        proof: Verified,
        /// Which.
        file: PathBuf,
    },
    /// It cannot be linked.
    Cannot {
        /// Why.
        why: String,
    },
}

impl Blobs {
    /// Opens the directory, if files made in the spool can be blobs as they are; else says why they cannot.
    pub(crate) fn open(root: &Path, spool: &Spool, rotten: Rotten) -> Result<Self, String> {
        let blame = |path: &Path| {
            let path = path.display().to_string();
            move |error: Errno| format!("{path}: {error}")
        };
        let path = root.join("blobs").join("sha256");
        let root_dir = open_dir(CWD, root).map_err(blame(root))?;
        let blobs = make_dir(&root_dir, "blobs").map_err(blame(&path))?;
        let dir = make_dir(&blobs, "sha256").map_err(blame(&path))?;
        let spool_dir = open_dir(CWD, spool.path()).map_err(blame(spool.path()))?;
        let owned = fs::fstat(&root_dir).map_err(blame(root))?;
        let device = |dir: &OwnedFd| fs::fstat(dir).map(|stat| stat.st_dev);
        if device(&dir).map_err(blame(&path))? != device(&spool_dir).map_err(blame(spool.path()))? {
            return Err(format!("{} is on another filesystem than {}", spool.path().display(), path.display()));
        }
        let blobs = Self { path, dir, spool: spool.clone(), spool_dir, owner: (owned.st_uid, owned.st_gid), rotten };
        blobs.rehearse().map_err(|why| format!("{}: {why}", spool.path().display()))?;
        Ok(blobs)
    }

    /// Makes a file as the spool does and looks whether it comes out as a blob has to be.
    fn rehearse(&self) -> Result<(), String> {
        let say = |error: Errno| error.to_string();
        let file = self.spool.sample().map_err(|error| error.to_string())?;
        fs::fchmod(&file, BLOB_MODE).map_err(say)?;
        let stat = fs::fstat(&file).map_err(say)?;
        match self.unfit(stat.st_mode, (stat.st_uid, stat.st_gid)) {
            Some(why) => Err(why),
            None if has_acl(&file) => Err("files made here have an access control list".to_owned()),
            None => Ok(()),
        }
    }

    /// Puts the proved file under its digest and makes the name durable. Blocking: hashes a file that is there and not ours.
    pub(crate) fn place(&self, verified: &Verified) -> Result<Placed, Error> {
        let name = verified.digest().hex();
        // One that comes from elsewhere (a snapshot, say) may not look like a blob. Once linked, others rely on the name.
        let (mode, user, group) = verified.ownership()?;
        if let Some(why) = self.unfit(mode, (user, group)) {
            let there = self.stat(&name)?.is_some_and(|stat| (stat.st_dev, stat.st_ino) == verified.inode());
            return Ok(if there { Placed::There(verified.unlocked()) } else { Placed::Cannot { why } });
        }
        for _ in 0..LOOKS {
            let placed = match verified.link(self.dir.as_fd(), &name) {
                Ok(()) => Placed::There(verified.unlocked()),
                Err(error) => match error.io_kind() {
                    Some(ErrorKind::AlreadyExists) => match self.occupied(&name, verified)? {
                        Some(placed) => placed,
                        None => continue,
                    },
                    Some(
                        kind @ (ErrorKind::PermissionDenied
                        | ErrorKind::CrossesDevices
                        | ErrorKind::TooManyLinks
                        | ErrorKind::ReadOnlyFilesystem),
                    ) => Placed::Cannot { why: format!("no link in {}: {kind}", self.path.display()) },
                    _ => return Err(error.into()),
                },
            };
            fs::fsync(&self.dir).map_err(|error| self.file_error(error))?;
            return Ok(placed);
        }
        Ok(Placed::Cannot { why: format!("{} does not keep still", self.path.join(name).display()) })
    }

    /// May this file be a blob as it is?
    pub(crate) fn takes(&self, verified: &Verified) -> Result<bool, Error> {
        let (mode, user, group) = verified.ownership()?;
        Ok(self.unfit(mode, (user, group)).is_none())
    }

    /// A file has this name already. `None`: it has gone since.
    fn occupied(&self, name: &str, verified: &Verified) -> Result<Option<Placed>, Error> {
        let Some(stat) = self.stat(name)? else { return Ok(None) };
        if (stat.st_dev, stat.st_ino) == verified.inode() {
            return Ok(Some(Placed::There(verified.unlocked())));
        }
        let file = self.path.join(name);
        match self.rotten.look(&file, verified.digest(), verified.size())? {
            Found::Right(other) if self.takes(&other)? => Ok(Some(Placed::There(other))),
            Found::Nothing => Ok(None),
            // Also one with the right bytes to which somebody could write others.
            Found::Right(_) | Found::Rotten { .. } | Found::OtherSize(_) => {
                let proof = verified.unlocked();
                Ok(self.replace(name, verified)?.then_some(Placed::Replaced { proof, file }))
            }
        }
    }

    /// Renames the proved file over a bad one: at no time is there none. `false`: another rpull does the same, look again.
    fn replace(&self, name: &str, verified: &Verified) -> Result<bool, Error> {
        let temporary = self.spool.replacement(verified.digest());
        match verified.link(self.spool_dir.as_fd(), &temporary) {
            Ok(()) => {}
            // Of a run that was killed.
            Err(error) if error.io_kind() == Some(ErrorKind::AlreadyExists) => {
                return match fs::unlinkat(&self.spool_dir, &temporary, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => Ok(false),
                    Err(error) => Err(self.file_error(error)),
                };
            }
            Err(error) => return Err(error.into()),
        }
        match fs::renameat(&self.spool_dir, &temporary, &self.dir, name) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => {
                // The link has no further use; the error that matters is the first.
                let _ = fs::unlinkat(&self.spool_dir, &temporary, AtFlags::empty());
                Err(self.file_error(error))
            }
        }
    }

    fn stat(&self, name: &str) -> Result<Option<Stat>, Error> {
        match fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.file_error(error)),
        }
    }

    /// What keeps a file from being a blob.
    fn unfit(&self, mode: u32, (user, group): (u32, u32)) -> Option<String> {
        let mode = mode & 0o7777;
        if (user, group) != self.owner {
            let (its_user, its_group) = self.owner;
            return Some(format!("its owner is {user}:{group}, that of a blob is {its_user}:{its_group}"));
        }
        (mode != BLOB_MODE.as_raw_mode()).then(|| format!("its mode is {mode:o}, that of a blob is 444"))
    }

    fn file_error(&self, error: Errno) -> Error {
        Error::File { path: self.path.clone(), source: error.into() }
    }
}

fn open_dir(at: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    fs::openat(at, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a directory below `at`, making it if need be: a fresh containerd makes it at its first blob only.
fn make_dir(at: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    match fs::mkdirat(at, name, DIR_MODE) {
        Ok(()) | Err(Errno::EXIST) => open_dir(at, name),
        Err(error) => Err(error),
    }
}

fn has_acl(file: impl AsFd) -> bool {
    fs::fgetxattr(file, "system.posix_acl_access", &mut [0_u8; 0][..]).is_ok_and(|length| length > 0)
}
