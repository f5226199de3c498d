//! `overlaybd.commit`, the file in a snapshot directory that the daemon reads a layer from (safety 14, 15; reference 7.10, 7.11).
//!
//! Its mere presence makes the daemon use it, so it appears under its name only whole and by rename. Everything here blocks.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::Path,
};

use oci::{Digest, Hasher};
use rustix::{
    fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, StatxFlags},
    io::Errno,
};
use spool::Identity;

use super::{
    Error, Payload,
    blob::{Fault, ReadAt, fill},
};

/// The file's name in a snapshot's `fs` directory.
pub(crate) const NAME: &str = "overlaybd.commit";

/// Where a file stands until it is whole. One name is enough, for the directory is locked meanwhile; and what a killed run left
/// is found again. The daemon knows `.commit` and `.download`, not this.
const TEMPORARY: &str = ".overlaybd.commit.rpull";

const BUFFER: usize = 1 << 20;

/// A proved blob as a file of this machine: what `overlaybd.commit` is compared with and linked to.
#[derive(Debug)]
pub(crate) struct Original {
    file: File,
    digest: Digest,
    identity: Identity,
}

impl Original {
    /// Takes a blob's file, open to read.
    ///
    /// # Errors
    /// [`Error::Original`] when it is no regular file of `size` bytes.
    pub(crate) fn new(file: File, digest: Digest, size: u64) -> Result<Self, Error> {
        let changed = |why: String| Error::Original { layer: digest, why };
        let metadata = file.metadata().map_err(|error| changed(error.to_string()))?;
        if !metadata.is_file() {
            return Err(changed("it is not a regular file".to_owned()));
        }
        if metadata.len() != size {
            return Err(changed(format!("it has {} bytes, not {size}", metadata.len())));
        }
        let identity = Identity::of(&file).map_err(|error| changed(error.to_string()))?;
        Ok(Self { file, digest, identity })
    }

    /// The blob's size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.identity.size()
    }

    /// Device and inode.
    pub(crate) fn inode(&self) -> (u64, u64) {
        self.identity.inode()
    }

    fn unchanged(&self) -> Result<(), Error> {
        match Identity::of(&self.file) {
            Ok(identity) if identity == self.identity => Ok(()),
            _ => Err(Error::Original { layer: self.digest, why: "it was changed meanwhile".to_owned() }),
        }
    }
}

impl ReadAt for Original {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(&self.file, buffer, offset)
    }
}

/// How a directory's `overlaybd.commit` stands to the proved blob.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// There is none: the layer is read from the registry.
    Missing,
    /// It is the blob's inode.
    Linked,
    /// It is a second copy of the blob. `linkable`: where a link could stand in its place.
    Copy {
        /// Is it on the blob's filesystem and mount?
        linkable: bool,
    },
    /// It is the blob's payload without the tar around it: what unpacking leaves.
    Unwrapped {
        /// Is it on the blob's filesystem and mount?
        linkable: bool,
    },
    /// It has the blob's size, and there was no blob to compare it with ([`glance`]).
    Unproved,
    /// It is something else.
    Wrong {
        /// What shows it.
        why: String,
    },
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Linked => f.write_str("the blob itself"),
            Self::Copy { .. } => f.write_str("a copy of the blob"),
            Self::Unwrapped { .. } => f.write_str("the unpacked blob"),
            Self::Unproved => f.write_str("not proved"),
            Self::Wrong { why } => write!(f, "wrong: {why}"),
        }
    }
}

impl State {
    /// Does it hold the layer, in whatever form?
    pub(crate) const fn is_right(&self) -> bool {
        matches!(self, Self::Linked | Self::Copy { .. } | Self::Unwrapped { .. })
    }
}

/// How [`place`] left the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    /// It was right already, and nothing better can stand there.
    Kept,
    /// The blob's inode.
    Linked,
    /// A clone that shares the blob's extents.
    Cloned,
    /// A copy, synced and hashed again.
    Copied,
}

/// What [`place`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Placed {
    /// How the file is there now.
    pub(crate) how: How,
    /// Disk bytes given free because another file stood under the name. A running device keeps using that one until it ends.
    pub(crate) freed: u64,
}

/// Compares the file in `fs` with the blob. The copies are compared byte for byte.
///
/// # Errors
/// [`Error::Disk`]; a file that cannot be right is no error but [`State::Wrong`].
pub(crate) fn state(fs: &Path, original: &Original, payload: Payload) -> Result<State, Error> {
    Directory::open(fs)?.state(original, payload)
}

/// Looks at the file in `fs` without a blob to compare it with: [`State::Missing`], [`State::Unproved`] or [`State::Wrong`].
///
/// # Errors
/// [`Error::Disk`].
pub(crate) fn glance(fs: &Path, size: u64) -> Result<State, Error> {
    Ok(match Directory::open(fs)?.file()? {
        Found::Nothing => State::Missing,
        Found::Other(why) => State::Wrong { why },
        Found::Regular(_, identity) if identity.size() == size => State::Unproved,
        Found::Regular(_, identity) => wrong_size(&identity),
    })
}

/// Makes the file in `fs` right: a hard link to the blob; where that is impossible what is right already stays, else a clone or
/// a copy is made. Whatever stood there before is replaced, never removed first. The directory is locked meanwhile.
///
/// # Errors
/// [`Error::Original`] when the blob's file changed since it was opened, [`Error::Copy`] when a copy came out wrong,
/// [`Error::Disk`]. The file under the name is then as it was.
pub(crate) fn place(fs: &Path, original: &Original, payload: Payload) -> Result<Placed, Error> {
    let directory = Directory::open(fs)?;
    rustix::fs::flock(&directory.fd, FlockOperation::LockExclusive).map_err(|error| directory.disk("lock", error))?;
    let before = directory.state(original, payload)?;
    original.unchanged()?;
    if before == State::Linked {
        return Ok(Placed { how: How::Kept, freed: 0 });
    }
    let temporary = Temporary::clear(&directory)?;
    let how = match link(&directory, original) {
        Ok(()) => How::Linked,
        Err(Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP) if before.is_right() => {
            return Ok(Placed { how: How::Kept, freed: 0 });
        }
        Err(Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP) => copy(&directory, original)?,
        Err(error) => return Err(directory.disk("link a blob into", error)),
    };
    let freed = directory.allocated();
    match rustix::fs::renameat(&directory.fd, TEMPORARY, &directory.fd, NAME) {
        // A directory gives way to no file; but the two can change places.
        Err(Errno::ISDIR) => rustix::fs::renameat_with(&directory.fd, TEMPORARY, &directory.fd, NAME, RenameFlags::EXCHANGE),
        other => other,
    }
    .map_err(|error| directory.disk("rename in", error))?;
    drop(temporary);
    rustix::fs::fsync(&directory.fd).map_err(|error| directory.disk("sync", error))?;
    Ok(Placed { how, freed })
}

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// A snapshot's `fs` directory, held open so that no other can slip under the path.
struct Directory<'a> {
    path: &'a Path,
    fd: OwnedFd,
}

enum Found {
    Nothing,
    Regular(File, Identity),
    Other(String),
}

impl<'a> Directory<'a> {
    fn open(path: &'a Path) -> Result<Self, Error> {
        let flags = FLAGS | OFlags::DIRECTORY;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| Error::Disk {
            doing: "open",
            path: path.to_owned(),
            source: error.into(),
        })?;
        Ok(Self { path, fd })
    }

    fn file(&self) -> Result<Found, Error> {
        let file = match rustix::fs::openat(&self.fd, NAME, FLAGS, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(Found::Nothing),
            Err(Errno::LOOP) => return Ok(Found::Other("it is a symbolic link".to_owned())),
            Err(Errno::NXIO) => return Ok(Found::Other("it is not a regular file".to_owned())),
            Err(error) => return Err(self.disk("read overlaybd.commit in", error)),
        };
        let disk = |error| self.disk("read overlaybd.commit in", error);
        if !file.metadata().map_err(disk)?.is_file() {
            return Ok(Found::Other("it is not a regular file".to_owned()));
        }
        let identity = Identity::of(&file).map_err(disk)?;
        Ok(Found::Regular(file, identity))
    }

    fn state(&self, original: &Original, payload: Payload) -> Result<State, Error> {
        let (file, identity) = match self.file()? {
            Found::Nothing => return Ok(State::Missing),
            Found::Other(why) => return Ok(State::Wrong { why }),
            Found::Regular(file, identity) => (file, identity),
        };
        if identity.inode() == original.inode() {
            return Ok(State::Linked);
        }
        let linkable = identity.inode().0 == original.inode().0 && same_mount(&file, &original.file);
        let (offset, right) = match identity.size() {
            size if size == original.size() => (0, State::Copy { linkable }),
            size if size == payload.len => (payload.offset, State::Unwrapped { linkable }),
            _ => return Ok(wrong_size(&identity)),
        };
        match first_difference(&file, original, offset, identity.size())
            .map_err(|error| self.disk("compare overlaybd.commit in", error))?
        {
            None => Ok(right),
            Some(at) => Ok(State::Wrong { why: format!("it differs from the blob at byte {at}") }),
        }
    }

    /// Whatever it is: a directory that stood in the file's place is of no use to anyone.
    fn remove_temporary(&self) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.fd, TEMPORARY, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => std::fs::remove_dir_all(format!("/proc/self/fd/{}/{TEMPORARY}", self.fd.as_raw_fd())),
            Err(error) => Err(error.into()),
        }
    }

    /// Disk bytes that go free when the file loses this name.
    fn allocated(&self) -> u64 {
        match rustix::fs::statat(&self.fd, NAME, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.st_nlink == 1 => u64::try_from(stat.st_blocks).unwrap_or(0) * 512,
            _ => 0,
        }
    }

    fn disk(&self, doing: &'static str, source: impl Into<io::Error>) -> Error {
        Error::Disk { doing, path: self.path.to_owned(), source: source.into() }
    }
}

/// The temporary name, free when this is made and free again when it goes: a rename of a link over its own inode does nothing
/// and leaves it (POSIX `rename`), as does every failure.
struct Temporary<'a>(&'a Directory<'a>);

impl<'a> Temporary<'a> {
    fn clear(directory: &'a Directory<'a>) -> Result<Self, Error> {
        match directory.remove_temporary() {
            Ok(()) => Ok(Self(directory)),
            Err(error) => Err(directory.disk("clear a leftover in", error)),
        }
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        // Best effort: the next run clears it.
        let _ = self.0.remove_temporary();
    }
}

/// A link leads from one mount to another not even on the same filesystem. A kernel before 5.8 does not tell mounts apart; there
/// the link is tried.
fn same_mount(one: &File, other: &File) -> bool {
    let mount = |file: &File| {
        let found = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
        StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID).then_some(found.stx_mnt_id)
    };
    mount(one) == mount(other)
}

fn wrong_size(identity: &Identity) -> State {
    State::Wrong { why: format!("it has {} bytes", identity.size()) }
}

/// Links the very descriptor that was proved, not whatever its path names now (safety 4).
fn link(directory: &Directory<'_>, original: &Original) -> Result<(), Errno> {
    let source = format!("/proc/self/fd/{}", original.file.as_raw_fd());
    rustix::fs::linkat(CWD, source, &directory.fd, TEMPORARY, AtFlags::SYMLINK_FOLLOW)
}

/// A clone where the filesystem is the same behind another mount, else a copy, which is read back and hashed.
fn copy(directory: &Directory<'_>, original: &Original) -> Result<How, Error> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(&directory.fd, TEMPORARY, flags, Mode::RUSR | Mode::WUSR)
        .map(File::from)
        .map_err(|error| directory.disk("copy a blob into", error))?;
    let disk = |error: io::Error| directory.disk("copy a blob into", error);
    let how = if rustix::fs::ioctl_ficlone(&target, &original.file).is_ok() {
        How::Cloned
    } else {
        copy_bytes(original, &target).map_err(disk)?;
        How::Copied
    };
    rustix::fs::fchmod(target.as_fd(), Mode::RUSR | Mode::RGRP | Mode::ROTH).map_err(|error| disk(error.into()))?;
    target.sync_all().map_err(disk)?;
    if how == How::Copied {
        let actual = digest_of(&target).map_err(disk)?;
        if actual != original.digest {
            return Err(Error::Copy { path: directory.path.join(NAME), layer: original.digest, actual });
        }
    }
    Ok(how)
}

/// In the kernel where it can, through a buffer from wherever it gave up. Offsets are explicit: the descriptor is shared.
fn copy_bytes(original: &Original, target: &File) -> io::Result<()> {
    let size = original.size();
    let mut done = 0;
    while done < size {
        let (mut from, mut to) = (done, done);
        let length = usize::try_from(size - done).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(&original.file, Some(&mut from), target, Some(&mut to), length) {
            Ok(0) => break,
            Ok(count) => done += count as u64,
            Err(Errno::INTR) => {}
            Err(Errno::NOSPC) => return Err(Errno::NOSPC.into()),
            Err(_) => break,
        }
    }
    let mut buffer = vec![0; BUFFER];
    while done < size {
        let count = FileExt::read_at(&original.file, &mut buffer, done)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        target.write_all_at(&buffer[..count], done)?;
        done += count as u64;
    }
    Ok(())
}

fn digest_of(file: &File) -> io::Result<Digest> {
    let (mut hasher, mut buffer, mut at) = (Hasher::default(), vec![0; BUFFER], 0);
    loop {
        match FileExt::read_at(file, &mut buffer, at)? {
            0 => return Ok(hasher.finish()),
            count => {
                hasher.update(&buffer[..count]);
                at += count as u64;
            }
        }
    }
}

/// Compares `size` bytes of `file` with those of the blob from `offset` on.
fn first_difference(file: &File, original: &Original, offset: u64, size: u64) -> io::Result<Option<u64>> {
    let (mut ours, mut theirs) = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut done = 0;
    while done < size {
        let count = usize::try_from(size - done).unwrap_or(BUFFER).min(BUFFER);
        for (source, at, buffer) in [(&original.file, offset + done, &mut ours), (file, done, &mut theirs)] {
            fill(source, at, &mut buffer[..count]).map_err(|fault| match fault {
                Fault::Read(error) => error,
                other => io::Error::other(other),
            })?;
        }
        if let Some(at) = ours[..count].iter().zip(&theirs[..count]).position(|(one, other)| one != other) {
            return Ok(Some(done + at as u64));
        }
        done += count as u64;
    }
    Ok(None)
}

#[cfg(test)]
#[path = "commit_file/tests.rs"]
mod tests;
