//! `<content root>/blobs/sha256` by descriptor: linking a proved file into it, and what to do about one that is there already.

use std::{
    io::ErrorKind,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, CWD, FileType, Mode, OFlags, Stat},
    io::Errno,
};
use spool::{Spool, Verified};

use crate::{Error, error::is_damaged};

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
    spool: OwnedFd,
    owner: (u32, u32),
}

/// What became of a file to be placed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Placed {
    /// A file with these bytes is there, this one or one that was there before and was hashed.
    There,
    /// A file with other bytes was there.
    Replaced {
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
    pub(crate) fn open(root: &Path, spool: &Spool) -> Result<Self, String> {
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
        let blobs = Self { path, dir, spool: spool_dir, owner: (owned.st_uid, owned.st_gid) };
        blobs.rehearse().map_err(|why| format!("{}: {why}", spool.path().display()))?;
        Ok(blobs)
    }

    /// Makes a file as the spool does and looks whether it comes out as a blob has to be.
    fn rehearse(&self) -> Result<(), String> {
        let name = format!("probe-{:016x}", fastrand::u64(..));
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
        let say = |error: Errno| error.to_string();
        let file = fs::openat(&self.spool, &name, flags, Mode::RUSR | Mode::WUSR).map_err(say)?;
        let outcome = fs::fchmod(&file, BLOB_MODE).map_err(say).and_then(|()| {
            let stat = fs::fstat(&file).map_err(say)?;
            match self.unfit(&stat) {
                Some(why) => Err(why),
                None if has_acl(&file) => Err("files made here have an access control list".to_owned()),
                None => Ok(()),
            }
        });
        fs::unlinkat(&self.spool, &name, AtFlags::empty()).map_err(say)?;
        outcome
    }

    /// Puts the proved file under its digest and makes the name durable. Blocking: hashes a file that is there and not ours.
    pub(crate) fn place(&self, verified: &Verified) -> Result<Placed, Error> {
        let name = verified.digest().hex();
        for _ in 0..LOOKS {
            let placed = match verified.link(self.dir.as_fd(), &name) {
                Ok(()) => self.linked(&name)?,
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

    /// What was just linked must look like a blob; a file that comes from elsewhere (a snapshot, say) may not.
    fn linked(&self, name: &str) -> Result<Placed, Error> {
        match self.stat(name)? {
            Some(stat) if stat.st_mode & 0o7777 == BLOB_MODE.as_raw_mode() && self.unfit(&stat).is_none() => Ok(Placed::There),
            // Swept already; COMMIT will say so.
            None => Ok(Placed::There),
            Some(stat) => {
                fs::unlinkat(&self.dir, name, AtFlags::empty()).map_err(|error| self.file_error(error))?;
                Ok(Placed::Cannot { why: self.unfit(&stat).unwrap_or_default() })
            }
        }
    }

    /// A file has this name already. `None`: it has gone since.
    fn occupied(&self, name: &str, verified: &Verified) -> Result<Option<Placed>, Error> {
        let Some(stat) = self.stat(name)? else { return Ok(None) };
        if (stat.st_dev, stat.st_ino) == verified.inode() {
            return Ok(Some(Placed::There));
        }
        let file = self.path.join(name);
        match Verified::of_file(&file, verified.digest(), verified.size()) {
            Ok(_) => Ok(Some(Placed::There)),
            Err(error) if is_damaged(&error) => self.replace(name, verified).map(|()| Some(Placed::Replaced { file })),
            Err(error) if error.io_kind() == Some(ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Renames the proved file over a bad one: at no time is there none.
    fn replace(&self, name: &str, verified: &Verified) -> Result<(), Error> {
        let temporary = format!("replace-{:016x}", fastrand::u64(..));
        verified.link(self.spool.as_fd(), &temporary)?;
        fs::renameat(&self.spool, &temporary, &self.dir, name).map_err(|error| {
            // The link has no further use; the error that matters is the first.
            let _ = fs::unlinkat(&self.spool, &temporary, AtFlags::empty());
            self.file_error(error)
        })
    }

    fn stat(&self, name: &str) -> Result<Option<Stat>, Error> {
        match fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.file_error(error)),
        }
    }

    /// What keeps a file from being a blob.
    fn unfit(&self, stat: &Stat) -> Option<String> {
        let mode = stat.st_mode & 0o7777;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Some("it is no regular file".to_owned());
        }
        if (stat.st_uid, stat.st_gid) != self.owner {
            let (user, group) = self.owner;
            return Some(format!(
                "files made here belong to {}:{}, those of containerd to {user}:{group}",
                stat.st_uid, stat.st_gid
            ));
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

fn has_acl(file: &OwnedFd) -> bool {
    fs::fgetxattr(file, "system.posix_acl_access", &mut [0_u8; 0][..]).is_ok_and(|length| length > 0)
}
