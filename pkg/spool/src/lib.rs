#![allow(missing_docs, unused, clippy::all, clippy::pedantic)]
//! The blob on disk before it has a name: file, journal, lock, prefix hash, proof.
use std::{os::fd::BorrowedFd, path::{Path, PathBuf}, sync::Arc, time::Duration};
use oci::{ByteRange, Descriptor, Digest, Namespace};

#[derive(thiserror::Error, Debug)]
#[error("x")]
#[non_exhaustive]
pub enum Error {}

/// The spool directory, opened once by descriptor.
#[derive(Clone)]
pub struct Spool;
impl Spool {
    /// Opens (or makes, 0700) the directory; walks it by descriptor (safety 5). `isolated` = key entries by this namespace too (safety 6).
    pub fn open(dir: &Path, isolated: Option<&Namespace>) -> Result<Self, Error> { todo!() }
    pub fn path(&self) -> &Path { todo!() }
    /// Takes the blob's lock without waiting. `Ok(None)` = another process holds it.
    pub fn try_entry(&self, blob: &Descriptor) -> Result<Option<Entry>, Error> { todo!() }
    /// Like `try_entry`, but waits (polling the flock off the async threads).
    pub async fn entry(&self, blob: &Descriptor) -> Result<Entry, Error> { todo!() }
    /// Unlinks entries unused for longer than `keep` whose lock is free. Returns how many.
    pub fn sweep(&self, keep: Duration) -> Result<usize, Error> { todo!() }
    /// Bytes free for us on the spool's filesystem.
    pub fn free(&self) -> Result<u64, Error> { todo!() }
    /// Removes directory if it is empty (after a finished pull nothing of us stays).
    pub fn remove_if_empty(&self) -> Result<(), Error> { todo!() }
}

/// One blob being written, lock held. Cheap to clone (Arc inside): connections hold grants, a follower hashes.
#[derive(Clone)]
pub struct Entry;
impl Entry {
    pub fn blob(&self) -> &Descriptor { todo!() }
    /// What is still to be fetched, in order; the rest was found by the journal and re-checked by CRC.
    pub fn missing(&self) -> Vec<ByteRange> { todo!() }
    /// Bytes present from an earlier run.
    pub fn resumed(&self) -> u64 { todo!() }
    /// The only way to write: exclusive right on a range that is missing and not granted to anyone else.
    pub fn grant(&self, range: ByteRange) -> Result<Grant, Error> { todo!() }
    /// Forgets everything written: unlinks the name, new inode (safety 1). No grant may be out.
    pub fn restart(&self) -> Result<(), Error> { todo!() }
    /// Waits until the finished prefix is longer than `beyond`, returns its length. (api store streaming)
    pub async fn prefix(&self, beyond: u64) -> Result<u64, Error> { todo!() }
    /// Reads finished bytes (blocking).
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> { todo!() }
    /// Resolves when all bytes are there and the prefix hash is done. Digest equal -> fdatasync, 0444, write descriptor closed -> Verified.
    /// Not equal -> Error::Mismatch{expected, actual}; the entry is left as it is for `restart`.
    pub async fn prove(&self) -> Result<Verified, Error> { todo!() }
}

/// Exclusive right to write one range, front to back. Dropping it gives the unwritten rest back (it is missing again).
pub struct Grant;
impl Grant {
    /// The part not yet written.
    pub fn rest(&self) -> Option<ByteRange> { todo!() }
    /// Writes the next bytes (blocking pwrite). Bytes beyond the grant's end are refused.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> { todo!() }
    /// Gives up everything from `at` on, so that another connection may be granted it.
    pub fn shrink(&mut self, at: u64) -> Result<(), Error> { todo!() }
}

/// A blob whose SHA-256 was computed over the very descriptor it holds (safety 4). Lock still held.
#[derive(Clone)]
pub struct Verified;
impl Verified {
    pub fn digest(&self) -> Digest { todo!() }
    pub fn size(&self) -> u64 { todo!() }
    /// linkat(/proc/self/fd/N) as `name` in `dir`. Compares device, inode, size, mtime before the first link.
    pub fn link(&self, dir: BorrowedFd<'_>, name: &str) -> Result<(), Error> { todo!() }
    /// (device, inode)
    pub fn inode(&self) -> (u64, u64) { todo!() }
    /// Reads (blocking).
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> { todo!() }
    /// Removes the spool name, journal and lock; the bytes live on where they were linked.
    pub fn discard(self) -> Result<(), Error> { todo!() }
    /// Hashes an existing file (safety 9, 14): opened O_NOFOLLOW|O_NONBLOCK, regular, size equal. Blocking.
    pub fn of_file(path: &Path, digest: Digest, size: u64) -> Result<Self, Error> { todo!() }
}
