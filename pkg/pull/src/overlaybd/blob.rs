//! Is this an overlaybd blob? Recognised by structure, not by magic alone (safety 16).
//!
//! overlaybd checks nothing of a local file, so a blob that could never be mounted has to be found out here. The bytes are not
//! trusted: every offset is compared with the size before it is used, memory is bounded, and time by the blob's own index.
//! Whether the bytes are those the manifest promised is not asked here; their digest says that.

use std::{fs::File, io, os::unix::fs::FileExt};

use oci::Digest;

use super::{Error, lsmt, wrapper, zfile::ZFile};

/// Blocks looked at between the first and the last, evenly spread: a run of zeros longer than this fraction cannot hide.
const SAMPLES: u64 = 64;

/// Bytes that can be read at an offset.
pub(crate) trait ReadAt {
    /// Reads up to the length of `buffer` and returns how much; 0 is the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

impl ReadAt for spool::Verified {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_at(offset, buffer).map_err(io::Error::other)
    }
}

/// What is wrong with a blob.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// It could not be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// The tar around it.
    #[error("its tar wrapper is broken: {0}")]
    Wrapper(String),
    /// The compressed file in the tar.
    #[error("its ZFile is broken: {0}")]
    ZFile(String),
    /// The layer in the compressed file.
    #[error("its LSMT layer is broken: {0}")]
    Lsmt(String),
}

/// Where a blob's payload lies: the `ZFile` without the tar around it, as unpacking the blob leaves it in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    /// Its first byte.
    pub(crate) offset: u64,
    /// Its length in bytes.
    pub(crate) len: u64,
}

/// Checks the structure of blob `layer` of `size` bytes: tar wrapper in either form or none, `ZFile` header, trailer and block
/// index, LSMT header, index and trailer, and a spread of data blocks. Blocking; reads the indices and some hundred blocks.
///
/// # Errors
/// [`Error::Blob`], whose source says what is wrong.
pub(crate) fn check<R: ReadAt + ?Sized>(layer: Digest, blob: &R, size: u64) -> Result<Payload, Error> {
    structure(blob, size).map_err(|source| Error::Blob { layer, source })
}

fn structure<R: ReadAt + ?Sized>(blob: &R, size: u64) -> Result<Payload, Fault> {
    let payload = wrapper::payload(blob, size)?;
    let file = ZFile::open(blob, payload)?;
    lsmt::check(&file)?;
    // Blocks in the middle are in nobody's way: without this, zeros between good ends and good indices would pass.
    let blocks = file.blocks();
    for sample in 0..SAMPLES.min(blocks) {
        file.check_block(sample * blocks / SAMPLES.min(blocks))?;
    }
    Ok(payload)
}

/// Fills `buffer` from `offset` on.
pub(super) fn fill<R: ReadAt + ?Sized>(blob: &R, offset: u64, buffer: &mut [u8]) -> Result<(), Fault> {
    let mut done = 0;
    while done < buffer.len() {
        match blob.read_at(offset + done as u64, &mut buffer[done..]) {
            Ok(0) => return Err(Fault::Read(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Fault::Read(error)),
        }
    }
    Ok(())
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
#[path = "blob/tests.rs"]
mod tests;
