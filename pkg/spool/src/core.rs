//! One inode of an entry while it is being written: who holds which bytes, how far the hash is, who waits for what.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use oci::{ByteRange, Descriptor, Digest, Hasher};
use tokio::sync::watch;

use crate::{
    Error, follower,
    journal::{Journal, Pieces},
    ledger::Ledger,
};

/// The hash is woken when it can take this much, or everything.
const HASH_STEP: u64 = 1 << 20;
/// So many bytes are written before they are sent to the disk, early, so that the last sync is short.
const FLUSH_STEP: u64 = 32 << 20;
/// For re-reading pieces and the prefix. Small: there is one for each blob in flight, 64 of them, and it should stay in the CPU's cache.
pub(crate) const CHUNK: usize = 64 << 10;

/// Shared by entry, grants and follower. A restarted entry gets a new one.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) path: PathBuf,
    /// The descriptor that is hashed, and later the one in `Verified`.
    pub(crate) read: Arc<File>,
    pub(crate) resumed: u64,
    pieces: Pieces,
    journal: Option<Journal>,
    state: Mutex<State>,
    hash: Condvar,
    flush: Condvar,
    published: watch::Sender<Published>,
}

/// What an earlier run left.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) read: File,
    /// `None` when the file is complete and proved, never to be written again.
    pub(crate) write: Option<(File, Journal)>,
    pub(crate) ledger: Ledger,
    pub(crate) prefix: Prefix,
    pub(crate) resumed: u64,
}

/// The hash of the first `len` bytes.
#[derive(Clone, Default, Debug)]
pub(crate) struct Prefix {
    pub(crate) hasher: Hasher,
    pub(crate) len: u64,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    write: Option<Arc<File>>,
    /// Until the follower takes it over.
    prefix: Option<Prefix>,
    hash_at: u64,
    written: u64,
    flush_at: u64,
    closed: bool,
}

/// How far the prefix hash is.
#[derive(Default, Debug)]
pub(crate) struct Published {
    pub(crate) hashed: u64,
    pub(crate) end: Option<Result<Digest, Error>>,
    pub(crate) closed: bool,
}

impl Core {
    pub(crate) fn new(blob: &Descriptor, path: PathBuf, found: Found) -> Self {
        let Found { read, write, ledger, prefix, resumed } = found;
        let (write, journal) = write.unzip();
        let published = Published { hashed: prefix.len, ..Published::default() };
        let state = State {
            ledger,
            write: write.map(Arc::new),
            prefix: Some(prefix),
            hash_at: u64::MAX,
            written: 0,
            flush_at: FLUSH_STEP,
            closed: false,
        };
        Self {
            digest: blob.digest,
            size: blob.size(),
            path,
            read: Arc::new(read),
            resumed,
            pieces: Pieces::of(blob.size()),
            journal,
            state: Mutex::new(state),
            hash: Condvar::new(),
            flush: Condvar::new(),
            published: watch::Sender::new(published),
        }
    }

    /// A panic elsewhere does not make these counts wrong: each is changed in one step.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn io(&self, action: &'static str, source: impl Into<std::io::Error>) -> Error {
        Error::io(action, &self.path, source)
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    /// Starts the follower, once; with `synced` also what writes a large blob back early.
    pub(crate) fn start(self: &Arc<Self>, synced: bool) -> Result<(), Error> {
        let taken = self.state().prefix.take();
        let Some(prefix) = taken else { return Ok(()) };
        follower::start(self, prefix, synced && self.size > FLUSH_STEP)
    }

    /// Gives a range to one writer, with the file to write to.
    pub(crate) fn grant(&self, range: ByteRange) -> Result<Arc<File>, Error> {
        let mut state = self.state();
        let file = state.write.clone();
        match file.filter(|_| !state.closed && state.ledger.grant(range)) {
            Some(file) => Ok(file),
            None => Err(Error::Taken { digest: self.digest, range }),
        }
    }

    pub(crate) fn shrink(&self, start: u64, end: u64) {
        self.state().ledger.shrink(start, end);
    }

    pub(crate) fn release(&self, start: u64) {
        self.state().ledger.release(start);
    }

    /// These bytes, all of one piece, are in the file. `crc` is that of the piece from its start, where the writer knows it.
    pub(crate) fn finish(&self, range: ByteRange, crc: Option<u32>) {
        let index = self.pieces.at(range.start());
        let piece = self.pieces.range(index).expect("a written byte lies inside the blob");
        let whole = {
            let mut state = self.state();
            state.ledger.finish(range);
            state.written += range.len();
            let complete = state.ledger.is_complete();
            if state.ledger.prefix() >= state.hash_at {
                state.hash_at = u64::MAX;
                self.hash.notify_all();
            }
            if complete || state.written >= state.flush_at {
                state.flush_at = u64::MAX;
                self.flush.notify_all();
            }
            // True for one write only, the one that filled the last gap.
            state.ledger.is_done(piece)
        };
        if whole && let Some(journal) = &self.journal {
            let recorded = crc.map_or_else(|| self.crc(piece), Ok).and_then(|crc| journal.record(index, crc));
            if let Err(error) = recorded {
                tracing::debug!(path = %self.path.display(), %error, "a piece is not in the journal");
            }
        }
    }

    pub(crate) fn piece_of(&self, offset: u64) -> ByteRange {
        self.pieces.range(self.pieces.at(offset)).expect("the offset lies inside the blob")
    }

    /// CRC of a piece that several writers filled, read back.
    fn crc(&self, piece: ByteRange) -> std::io::Result<u32> {
        let mut crc = 0;
        read_range(&self.read, piece, &mut vec![0; CHUNK], |bytes| crc = crc32c::crc32c_append(crc, bytes))?;
        Ok(crc)
    }

    /// Sleeps until the hash can take a step behind `hashed`; its new end. `None` when the entry is closed.
    pub(crate) fn next_hash(&self, hashed: u64) -> Option<u64> {
        let mut state = self.state();
        let step = (hashed + HASH_STEP).min(self.size);
        while !state.closed {
            if state.ledger.prefix() >= step {
                return Some(step);
            }
            state.hash_at = step;
            state = self.hash.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    /// Sleeps until there is enough to send to the disk. `Some(true)`: everything is written. `None` when the entry is closed.
    pub(crate) fn next_flush(&self, flushed: &mut u64) -> Option<bool> {
        let mut state = self.state();
        while !state.closed {
            let complete = state.ledger.is_complete();
            if complete || state.written >= *flushed + FLUSH_STEP {
                *flushed = state.written;
                return Some(complete);
            }
            state.flush_at = *flushed + FLUSH_STEP;
            state = self.flush.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    pub(crate) fn publish(&self, hashed: u64) {
        self.published.send_modify(|published| published.hashed = hashed);
    }

    /// The follower's last word. The first failure stays.
    pub(crate) fn publish_end(&self, end: Result<Digest, Error>) {
        self.published.send_modify(|published| {
            if !matches!(published.end, Some(Err(_))) {
                published.end = Some(end);
            }
        });
    }

    /// Nobody will write or ask any more; the threads end.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.hash.notify_all();
        self.flush.notify_all();
        self.published.send_modify(|published| published.closed = true);
    }

    /// Closes the write descriptor. Possible once nobody holds a grant.
    pub(crate) fn close_for_writing(&self) -> Result<(), Error> {
        let file = self.state().write.take();
        match file.map(Arc::into_inner) {
            Some(None) => Err(Error::Busy { digest: self.digest }),
            None | Some(Some(_)) => Ok(()),
        }
    }

    pub(crate) fn missing(&self) -> Vec<ByteRange> {
        self.state().ledger.missing()
    }

    pub(crate) fn is_granted(&self) -> bool {
        self.state().ledger.is_granted()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state().ledger.is_empty()
    }

    /// Reads finished bytes; 0 where none are finished.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let there = self.state().ledger.run(offset) - offset;
        let len = usize::try_from(there).unwrap_or(usize::MAX).min(buffer.len());
        read_at(&self.read, &mut buffer[..len], offset).map_err(|error| self.io("read", error))
    }
}

/// `pread` that is not disturbed by signals.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Reads a range chunk by chunk through `buffer`.
pub(crate) fn read_range(file: &File, range: ByteRange, buffer: &mut [u8], mut each: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut at = range.start();
    while at < range.end() {
        let len = usize::try_from(range.end() - at).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact_at(&mut buffer[..len], at)?;
        each(&buffer[..len]);
        at += len as u64;
    }
    Ok(())
}
