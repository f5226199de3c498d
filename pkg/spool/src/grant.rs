//! The right to write: a byte has one owner, by type (safety 2).

use std::{fs::File, os::unix::fs::FileExt, sync::Arc};

use oci::ByteRange;

use crate::{Error, core::Core, entry::Handle};

/// Exclusive right to write one range, front to back. Dropping it gives the unwritten rest back (it is missing again).
///
/// Writing takes `&mut self` and returns when the bytes are in the file, so a range can pass to another writer only
/// after the last write of its former owner has returned.
#[derive(Debug)]
pub struct Grant {
    core: Arc<Core>,
    /// Held as long as something may be written: the proof waits for all of these to be closed.
    file: Option<Arc<File>>,
    start: u64,
    position: u64,
    end: u64,
    /// CRC of the current piece so far, `None` when this grant did not begin it.
    crc: Option<u32>,
    /// Keeps the lock.
    _entry: Arc<Handle>,
}

impl Grant {
    pub(crate) fn new(entry: Arc<Handle>, core: Arc<Core>, range: ByteRange) -> Result<Self, Error> {
        let file = Some(core.grant(range)?);
        Ok(Self { core, file, start: range.start(), position: range.start(), end: range.end(), crc: None, _entry: entry })
    }

    /// The part not yet written.
    pub fn rest(&self) -> Option<ByteRange> {
        ByteRange::new(self.position, self.end)
    }

    /// Writes the next bytes (a blocking `pwrite`).
    ///
    /// # Errors
    /// [`Error::Outside`] for bytes beyond the grant's end: none of them is written. [`Error::Io`]; what was written before
    /// stays written.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() as u64 > self.end - self.position {
            return Err(Error::Outside { digest: self.core.digest, offset: self.position + bytes.len() as u64 });
        }
        while let Some(file) = self.file.as_ref().filter(|_| !bytes.is_empty()) {
            let piece = self.core.piece_of(self.position);
            let to_its_end = usize::try_from(piece.end() - self.position).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(to_its_end.min(bytes.len()));
            file.write_all_at(now, self.position).map_err(|error| self.core.io("write", error))?;
            if self.position == piece.start() {
                self.crc = Some(0);
            }
            self.crc = self.crc.map(|crc| crc32c::crc32c_append(crc, now));
            self.advance(now.len() as u64, piece);
            bytes = later;
        }
        Ok(())
    }

    fn advance(&mut self, len: u64, piece: ByteRange) {
        let written = ByteRange::new(self.position, self.position + len).expect("something was written");
        self.position = written.end();
        let over = self.position == self.end;
        if over {
            // Closed before the bytes count as finished, so that a complete blob has no open writer.
            self.file = None;
        }
        let crc = if self.position == piece.end() { self.crc.take() } else { None };
        self.core.finish(written, crc);
        if over {
            self.core.release(self.start);
        }
    }

    /// Gives up everything from `at` on, so that another connection may be granted it. Nothing changes when `at` is at
    /// or behind the end.
    ///
    /// # Errors
    /// [`Error::Outside`] when bytes behind `at` are written already.
    pub fn shrink(&mut self, at: u64) -> Result<(), Error> {
        if at < self.position {
            return Err(Error::Outside { digest: self.core.digest, offset: at });
        }
        if at < self.end {
            self.end = at;
            if at == self.position {
                self.give_back();
            } else {
                self.core.shrink(self.start, at);
            }
        }
        Ok(())
    }

    fn give_back(&mut self) {
        if self.file.take().is_some() {
            self.core.release(self.start);
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.give_back();
    }
}
