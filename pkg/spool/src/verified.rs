//! A blob that was proved: the only thing a content store accepts.

use std::{
    fs::{self, File, Metadata, Permissions},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, RawFd},
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use oci::Digest;
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags},
    io::Errno,
};

use crate::{
    Error,
    core::{self, Core},
    lock::Lock,
    resume,
};

/// A blob whose SHA-256 was computed over the very descriptor it holds (safety 4). One made by
/// [`Entry::prove`](crate::Entry::prove) holds the lock of the entry; only dropped, the name stays for the next run.
#[derive(Clone, Debug)]
pub struct Verified(Arc<Proof>);

#[derive(Debug)]
struct Proof {
    file: Arc<File>,
    path: PathBuf,
    digest: Digest,
    size: u64,
    identity: Identity,
    /// Are the bytes on the disk, as far as it is ours to see to it?
    synced: bool,
    lock: Option<Arc<Lock>>,
}

/// Which inode, and what a write to it by anyone would change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl Identity {
    /// Of an open file.
    pub fn of(file: &File) -> io::Result<Self> {
        Ok(Self::from(&file.metadata()?))
    }

    /// Device and inode.
    pub fn inode(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Verified {
    /// Closes an entry whose prefix hash is right: nothing of ours can write it any more and, if it has to be `synced`, everything is
    /// on the disk.
    pub(crate) fn seal(core: &Core, lock: &Arc<Lock>, synced: bool) -> Result<Self, Error> {
        core.close_for_writing()?;
        core.read.set_permissions(Permissions::from_mode(resume::PROVED)).map_err(|error| core.io("make read-only", error))?;
        if synced {
            core.read.sync_all().map_err(|error| core.io("sync", error))?;
            lock.directory.sync()?;
        }
        let identity = Identity::of(&core.read).map_err(|error| core.io("inspect", error))?;
        if identity.size != core.size {
            return Err(Error::Changed { path: core.path.clone() });
        }
        Ok(Self(Arc::new(Proof {
            file: core.read.clone(),
            path: core.path.clone(),
            digest: core.digest,
            size: core.size,
            identity,
            synced,
            lock: Some(lock.clone()),
        })))
    }

    /// Hashes an existing file (safety 9, 14): no symbolic link, regular, of that size. Blocking.
    ///
    /// # Errors
    /// [`Error::NotRegular`], [`Error::Size`], [`Error::Mismatch`]: what is there is not that blob. [`Error::Changed`]: it was
    /// written to meanwhile.
    pub fn of_file(path: &Path, digest: Digest, size: u64) -> Result<Self, Error> {
        let failed = |action| move |error: io::Error| Error::io(action, path, error);
        let stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| Error::io("inspect", path, error))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::NotRegular { path: path.to_owned() });
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(descriptor) => File::from(descriptor),
            Err(Errno::LOOP) => return Err(Error::NotRegular { path: path.to_owned() }),
            Err(error) => return Err(Error::io("open", path, error)),
        };
        let metadata = file.metadata().map_err(failed("inspect"))?;
        if !metadata.is_file() {
            return Err(Error::NotRegular { path: path.to_owned() });
        }
        if metadata.len() != size {
            return Err(Error::Size { path: path.to_owned(), expected: size, actual: metadata.len() });
        }
        let identity = Identity::of(&file).map_err(failed("inspect"))?;
        let actual = resume::digest(&file, size).map_err(failed("read"))?;
        if actual != digest {
            return Err(Error::Mismatch { expected: digest, actual });
        }
        let verified = Self(Arc::new(Proof {
            file: Arc::new(file),
            path: path.to_owned(),
            digest,
            size,
            identity,
            synced: true,
            lock: None,
        }));
        verified.unchanged().map(|()| verified)
    }

    /// The digest that was proved.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Device and inode of the file.
    pub fn inode(&self) -> (u64, u64) {
        (self.0.identity.device, self.0.identity.inode)
    }

    /// Permission bits, and the ids of owner and group.
    pub fn ownership(&self) -> Result<(u32, u32, u32), Error> {
        let metadata = self.0.file.metadata().map_err(|error| Error::io("inspect", &self.0.path, error))?;
        Ok((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()))
    }

    /// The same proof without the entry's lock, to be kept beyond the entry.
    #[must_use]
    pub fn unlocked(&self) -> Self {
        let Proof { file, path, digest, size, identity, synced, .. } = &*self.0;
        let (file, path) = (file.clone(), path.clone());
        Self(Arc::new(Proof { file, path, digest: *digest, size: *size, identity: *identity, synced: *synced, lock: None }))
    }

    /// The descriptor that was hashed, once more. Read-only.
    ///
    /// # Errors
    /// [`Error::Changed`] when size or modification time are not those at the proof.
    pub fn open(&self) -> Result<File, Error> {
        self.unchanged()?;
        self.0.file.try_clone().map_err(|error| Error::io("open", &self.0.path, error))
    }

    /// Gives the file the name `name` in `dir`: a hard link made from the descriptor that was hashed, not from a path. Its bytes are
    /// on the disk before it has the name; the caller syncs `dir`.
    ///
    /// # Errors
    /// [`Error::Changed`] when size or modification time are not those at the proof. [`Error::Io`], whose
    /// [`io_kind`](Error::io_kind) tells `AlreadyExists`, `CrossesDevices`, `TooManyLinks`, `PermissionDenied`.
    pub fn link(&self, dir: BorrowedFd<'_>, name: &str) -> Result<(), Error> {
        self.unchanged()?;
        // Only to name the file in an error: nothing is opened by this path.
        let target = || fs::read_link(descriptor_path(dir.as_raw_fd())).unwrap_or_default().join(name);
        if name.contains('/') {
            return Err(Error::io("link to", target(), Errno::INVAL));
        }
        if !self.0.synced {
            self.0.file.sync_all().map_err(|error| Error::io("sync", &self.0.path, error))?;
        }
        let from = descriptor_path(self.0.file.as_raw_fd());
        rustix::fs::linkat(CWD, from, dir, name, AtFlags::SYMLINK_FOLLOW).map_err(|error| Error::io("link to", target(), error))
    }

    fn unchanged(&self) -> Result<(), Error> {
        let now = Identity::of(&self.0.file).map_err(|error| Error::io("inspect", &self.0.path, error))?;
        if now == self.0.identity { Ok(()) } else { Err(Error::Changed { path: self.0.path.clone() }) }
    }

    /// Reads bytes of the file (blocking); `Ok(0)` at its end.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        core::read_at(&self.0.file, buffer, offset).map_err(|error| Error::io("read", &self.0.path, error))
    }

    /// Removes the spool's name, journal and lock; the bytes live on where they were linked. Does nothing for a file that was
    /// not in the spool.
    pub fn discard(self) -> Result<(), Error> {
        self.0.lock.as_ref().map_or(Ok(()), |lock| lock.discard())
    }
}

/// Leads to the open file itself, whatever its names are by now.
pub(crate) fn descriptor_path(descriptor: RawFd) -> String {
    format!("/proc/self/fd/{descriptor}")
}
