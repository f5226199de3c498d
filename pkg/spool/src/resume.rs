//! Opening an entry: what an earlier run left is taken over if every byte of it can be trusted again, else a new inode begins.

use std::{fs::File, io, os::unix::fs::MetadataExt};

use oci::{Descriptor, Digest, Hasher};
use rustix::{
    fs::{FallocateFlags, OFlags},
    io::Errno,
};

use crate::{
    Error,
    core::{CHUNK, Core, Found, Prefix, read_range},
    directory::{Directory, is_ours},
    journal::{Journal, Pieces, Records},
    key::Key,
    ledger::Ledger,
    lock::Lock,
};

/// Mode of a proved file; see `verified`.
pub(crate) const PROVED: u32 = 0o444;

/// Takes over what is there, or begins.
pub(crate) fn open(lock: &Lock, blob: &Descriptor) -> Result<Core, Error> {
    let path = lock.directory.path_of(lock.key.data());
    match found(lock, blob) {
        Ok(Some(found)) => Ok(Core::new(blob, path, found)),
        Ok(None) => fresh(lock, blob),
        Err(error) => Err(Error::io("open", path, error)),
    }
}

/// Begins: the old name goes, a new inode comes (safety 1). Space for the whole blob is reserved.
pub(crate) fn fresh(lock: &Lock, blob: &Descriptor) -> Result<Core, Error> {
    let path = lock.directory.path_of(lock.key.data());
    lock.unlink_data()?;
    match begin(lock, blob) {
        Ok(begun) => Ok(Core::new(blob, path, begun)),
        Err(error) => {
            // Nothing of it is worth keeping, and the reserved space would be missed. The first error is the one to tell.
            lock.unlink_data().ok();
            Err(Error::io("create", path, error))
        }
    }
}

fn begin(lock: &Lock, blob: &Descriptor) -> io::Result<Found> {
    let write = lock.directory.open_file(lock.key.data(), OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
    reserve(&write, blob.size())?;
    let journal = Journal::create(&lock.directory, &lock.key, blob, &write.metadata()?)?;
    let read = lock.directory.open_file(lock.key.data(), OFlags::RDONLY)?;
    same_inode(&read, &write)?;
    let ledger = Ledger::new(blob.size());
    Ok(Found { read, write: Some((write, journal)), ledger, prefix: Prefix::default(), resumed: 0 })
}

/// `fallocate`, where the filesystem has it; else the file is only made that long.
fn reserve(file: &File, size: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return file.set_len(size),
            other => return Ok(other?),
        }
    }
}

fn same_inode(one: &File, other: &File) -> io::Result<()> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    if (one.dev(), one.ino()) == (other.dev(), other.ino()) {
        Ok(())
    } else {
        Err(io::Error::other("it was replaced while being opened"))
    }
}

/// What an earlier run left, if it can be trusted. `None`: start over.
fn found(lock: &Lock, blob: &Descriptor) -> io::Result<Option<Found>> {
    let read = match lock.directory.open_regular(lock.key.data()) {
        Ok(Some(read)) => read,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = read.metadata()?;
    if !is_ours(&metadata) || metadata.len() != blob.size() {
        return Ok(None);
    }
    if metadata.mode() & 0o7777 == PROVED {
        return Ok(whole(read, blob));
    }
    // Never opened for writing: it may be a published blob by another name (safety 1).
    if metadata.nlink() != 1 || metadata.mode() & 0o200 == 0 {
        return Ok(None);
    }
    let Some((journal, records)) = Journal::open(&lock.directory, &lock.key, blob, &metadata)? else { return Ok(None) };
    let write = lock.directory.open_file(lock.key.data(), OFlags::RDWR)?;
    same_inode(&read, &write)?;
    let (ledger, prefix, resumed) = replay(&read, blob, &records);
    if prefix.len == blob.size() && prefix.hasher.clone().finish() != blob.digest {
        return Ok(None);
    }
    Ok(Some(Found { read, write: Some((write, journal)), ledger, prefix, resumed }))
}

/// Bytes that an earlier run, or one at work now, says are there. Nothing is checked, locked or written.
pub(crate) fn recorded(directory: &Directory, key: &Key, blob: &Descriptor) -> io::Result<u64> {
    let Some(read) = directory.open_regular(key.data())? else { return Ok(0) };
    let metadata = read.metadata()?;
    if !is_ours(&metadata) || metadata.len() != blob.size() {
        return Ok(0);
    }
    if metadata.mode() & 0o7777 == PROVED {
        return Ok(blob.size());
    }
    let pieces = Pieces::of(blob.size());
    let written = Journal::read(directory, key, blob, &metadata)?;
    let records = written.map(|written| written.records).unwrap_or_default();
    Ok(records.keys().filter_map(|index| pieces.range(*index)).map(oci::ByteRange::len).sum())
}

/// A file that was proved before its process ended: hashed again, and only read. It may have other names by now.
fn whole(read: File, blob: &Descriptor) -> Option<Found> {
    let all = oci::ByteRange::new(0, blob.size())?;
    let mut hasher = Hasher::default();
    read_range(&read, all, &mut vec![0; CHUNK], |bytes| hasher.update(bytes)).ok()?;
    if hasher.clone().finish() != blob.digest {
        return None;
    }
    let mut ledger = Ledger::new(blob.size());
    ledger.finish(all);
    Some(Found { read, write: None, ledger, prefix: Prefix { hasher, len: blob.size() }, resumed: blob.size() })
}

/// Reads every recorded piece once: its CRC decides whether it counts, and the prefix goes into the hash on the way.
fn replay(read: &File, blob: &Descriptor, records: &Records) -> (Ledger, Prefix, u64) {
    let pieces = Pieces::of(blob.size());
    let mut buffer = vec![0; CHUNK];
    let mut ledger = Ledger::new(blob.size());
    let (mut prefix, mut resumed) = (Prefix::default(), 0);
    for (&index, &expected) in records {
        let Some(piece) = pieces.range(index) else { continue };
        let mut ahead = (piece.start() == prefix.len).then(|| prefix.hasher.clone());
        let mut crc = 0;
        let outcome = read_range(read, piece, &mut buffer, |bytes| {
            crc = crc32c::crc32c_append(crc, bytes);
            if let Some(hasher) = &mut ahead {
                hasher.update(bytes);
            }
        });
        // A piece that cannot be read is fetched again like one that is damaged.
        if outcome.is_err() || crc != expected {
            tracing::debug!(digest = %blob.digest, %piece, "a recorded piece is damaged");
            continue;
        }
        ledger.finish(piece);
        resumed += piece.len();
        if let Some(hasher) = ahead {
            prefix = Prefix { hasher, len: piece.end() };
        }
    }
    (ledger, prefix, resumed)
}

/// Hashes a whole file that is open.
pub(crate) fn digest(file: &File, size: u64) -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    if let Some(all) = oci::ByteRange::new(0, size) {
        read_range(file, all, &mut vec![0; CHUNK], |bytes| hasher.update(bytes))?;
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::Arc};

    use oci::MediaType;

    use super::*;

    /// Safety 1: the names are taken away first, and were one to come back in between, what it names is left alone.
    #[test]
    fn nothing_that_is_there_is_ever_begun_upon() {
        let home = tempfile::tempdir().unwrap();
        let directory = Arc::new(Directory::open(&home.path().join("spool")).unwrap());
        let key = Key::new(None, Digest::of(b"x"));
        let blob = Descriptor::new(MediaType::new(""), Digest::of(b"x"), 1 << 20).unwrap();
        let lock = Lock::try_take(&directory, &key).unwrap().unwrap();
        for name in [key.data().to_owned(), key.journal()] {
            let path = directory.path_of(&name);
            fs::write(&path, "published").unwrap();
            assert_eq!(begin(&lock, &blob).err().map(|error| error.kind()), Some(io::ErrorKind::AlreadyExists), "{name}");
            assert_eq!(fs::read(&path).unwrap(), b"published", "{name}");
            lock.unlink_data().unwrap();
        }
        assert!(begin(&lock, &blob).is_ok());
    }
}
