//! What of a blob is on disk, so that it survives `kill -9` and power loss.
//!
//! A header that names blob and inode, then one record per finished *piece*: its index and the CRC-32C of its bytes. A record
//! is one small write after the piece's bytes are in the page cache; a killed process loses none of it. After a power
//! loss a record may be there without its bytes, so a piece counts again only after its CRC was checked on re-reading.
//!
//! A piece is 1 MiB up to blobs of 64 GiB, above that the power of two that keeps the number of pieces at or below
//! 65536: 16 MiB at 1 TiB. So a journal never needs more than 786 KiB, and one above 1 MiB is none of ours.

use std::{
    collections::BTreeMap,
    fs::{File, Metadata},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    sync::atomic::{AtomicU64, Ordering},
};

use oci::{ByteRange, Descriptor, Digest};
use rustix::fs::OFlags;

use crate::{
    directory::{Directory, is_ours},
    key::Key,
};

/// No journal is larger (safety 5).
const LIMIT: u64 = 1 << 20;
const PIECES: u64 = 1 << 16;
const SMALLEST_PIECE: u64 = 1 << 20;
const HEADER: usize = 100;
const RECORD: usize = 12;
/// The last byte is the version of this format.
const MAGIC: &[u8; 8] = b"rpullsp\x01";

/// How a blob is cut into pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pieces {
    size: u64,
    piece: u64,
}

/// CRC-32C of finished pieces, by index.
pub(crate) type Records = BTreeMap<u32, u32>;

/// What stands in a journal.
pub(crate) struct Written {
    /// Inode of the journal itself.
    inode: u64,
    pub(crate) records: Records,
    /// Length up to the last whole record.
    valid: u64,
}

/// The open journal of one inode.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    seed: u32,
    /// Bytes it may still grow by: pieces fetched again after damage are recorded again.
    room: AtomicU64,
}

impl Pieces {
    pub(crate) fn of(size: u64) -> Self {
        Self { size, piece: size.div_ceil(PIECES).next_power_of_two().max(SMALLEST_PIECE) }
    }

    /// Index of the piece that holds `offset`.
    pub(crate) fn at(self, offset: u64) -> u32 {
        u32::try_from(offset / self.piece).expect("a blob has at most 65536 pieces")
    }

    /// Bytes of a piece, `None` when it lies outside the blob.
    pub(crate) fn range(self, index: u32) -> Option<ByteRange> {
        let start = u64::from(index) * self.piece;
        ByteRange::new(start, (start + self.piece).min(self.size))
    }
}

impl Journal {
    /// A new journal for a new inode.
    pub(crate) fn create(directory: &Directory, key: &Key, blob: &Descriptor, data: &Metadata) -> io::Result<Self> {
        let mut file = directory.open_file(&key.journal(), OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::APPEND)?;
        let header = header(blob.digest, blob.size(), data.ino());
        file.write_all(&header)?;
        Ok(Self::at(file, &header, HEADER as u64))
    }

    /// Reads the journal of this inode. `None` when there is none or it cannot be trusted.
    pub(crate) fn open(
        directory: &Directory,
        key: &Key,
        blob: &Descriptor,
        data: &Metadata,
    ) -> io::Result<Option<(Self, Records)>> {
        let Some(Written { inode, records, valid }) = Self::read(directory, key, blob, data)? else { return Ok(None) };
        let file = directory.open_file(&key.journal(), OFlags::RDWR | OFlags::APPEND)?;
        if file.metadata()?.ino() != inode {
            return Ok(None);
        }
        // A torn record at the end would put every later one out of step.
        file.set_len(valid)?;
        Ok(Some((Self::at(file, &header(blob.digest, blob.size(), data.ino()), valid), records)))
    }

    /// The same, and only reads.
    pub(crate) fn read(directory: &Directory, key: &Key, blob: &Descriptor, data: &Metadata) -> io::Result<Option<Written>> {
        let Some(reader) = directory.open_regular(&key.journal())? else { return Ok(None) };
        let metadata = reader.metadata()?;
        if !is_ours(&metadata) || metadata.nlink() != 1 || metadata.len() > LIMIT || metadata.mode() & 0o200 == 0 {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        reader.take(LIMIT).read_to_end(&mut bytes)?;
        let header = header(blob.digest, blob.size(), data.ino());
        let decoded = decode(&bytes, &header, Pieces::of(blob.size()));
        Ok(decoded.map(|(records, valid)| Written { inode: metadata.ino(), records, valid }))
    }

    fn at(file: File, header: &[u8], len: u64) -> Self {
        Self { file, seed: crc32c::crc32c(header), room: AtomicU64::new(LIMIT - len) }
    }

    /// Records a finished piece. When the journal is full the piece is only not remembered.
    pub(crate) fn record(&self, index: u32, crc: u32) -> io::Result<()> {
        let grow = |room: u64| room.checked_sub(RECORD as u64);
        if self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_ok() {
            (&self.file).write_all(&record(self.seed, index, crc))?;
        }
        Ok(())
    }
}

fn header(digest: Digest, size: u64, inode: u64) -> [u8; HEADER] {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(digest.hex().as_bytes());
    for number in [size, inode, Pieces::of(size).piece] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes.try_into().expect("the fields add up to the length of a header")
}

fn record(seed: u32, index: u32, crc: u32) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[..4].copy_from_slice(&index.to_le_bytes());
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    let seal = crc32c::crc32c_append(seed, &bytes[..8]);
    bytes[8..].copy_from_slice(&seal.to_le_bytes());
    bytes
}

/// The records of a journal, and how many of its bytes are valid. `None` when the header is another's, or a record
/// names a piece outside the blob. The last record of a piece counts.
fn decode(bytes: &[u8], header: &[u8; HEADER], pieces: Pieces) -> Option<(Records, u64)> {
    let seed = crc32c::crc32c(header);
    let mut records = Records::new();
    let mut valid = HEADER;
    for bytes in bytes.strip_prefix(header)?.chunks_exact(RECORD) {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (index, crc) = (number(0), number(4));
        if bytes != record(seed, index, crc) {
            break;
        }
        pieces.range(index)?;
        records.insert(index, crc);
        valid += RECORD;
    }
    Some((records, valid as u64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 100 << 20;

    fn encode(records: &[(u32, u32)]) -> Vec<u8> {
        let header = header(Digest::of(b"x"), SIZE, 7);
        let seed = crc32c::crc32c(&header);
        records.iter().fold(header.to_vec(), |mut bytes, &(index, crc)| {
            bytes.extend_from_slice(&record(seed, index, crc));
            bytes
        })
    }

    fn read(bytes: &[u8]) -> Option<(Records, u64)> {
        decode(bytes, &header(Digest::of(b"x"), SIZE, 7), Pieces::of(SIZE))
    }

    #[test]
    fn a_journal_of_the_largest_blob_stays_below_its_limit() {
        for size in [1, 1 << 20, (1 << 36) + 1, oci::MAX_BLOB_SIZE] {
            let pieces = Pieces::of(size);
            let count = u64::from(pieces.at(size - 1)) + 1;
            assert!(HEADER as u64 + count * RECORD as u64 <= LIMIT, "{size}");
            assert_eq!(pieces.range(pieces.at(size - 1)).unwrap().end(), size);
        }
        assert_eq!(Pieces::of(1 << 36).piece, 1 << 20);
        assert_eq!(Pieces::of(oci::MAX_BLOB_SIZE).piece, 16 << 20);
    }

    #[test]
    fn a_record_outside_the_blob_condemns_the_journal() {
        assert!(read(&encode(&[(0, 1), (99, 2)])).is_some());
        assert_eq!(read(&encode(&[(0, 1), (100, 2)])), None);
    }

    #[test]
    fn a_journal_of_another_blob_or_inode_is_not_read() {
        let bytes = encode(&[(0, 1)]);
        for other in [header(Digest::of(b"y"), SIZE, 7), header(Digest::of(b"x"), SIZE + 1, 7), header(Digest::of(b"x"), SIZE, 8)]
        {
            assert_eq!(decode(&bytes, &other, Pieces::of(SIZE)), None);
        }
    }

    proptest! {
        #[test]
        fn what_was_recorded_is_read_back(records in proptest::collection::vec((0..100_u32, any::<u32>()), 0..200)) {
            let bytes = encode(&records);
            let (found, valid) = read(&bytes).unwrap();
            prop_assert_eq!(found, records.into_iter().collect::<Records>());
            prop_assert_eq!(valid, bytes.len() as u64);
        }

        #[test]
        fn damage_loses_records_but_never_makes_one(
            records in proptest::collection::vec((0..100_u32, any::<u32>()), 1..50),
            at in any::<proptest::sample::Index>(),
            flip in 1..=255_u8,
            cut in any::<bool>(),
        ) {
            let mut bytes = encode(&records);
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at); } else { bytes[at] ^= flip; }
            match read(&bytes) {
                None => prop_assert!(at < HEADER),
                Some((found, valid)) => {
                    let whole = (at - HEADER) / RECORD;
                    prop_assert_eq!(found, records[..whole].iter().copied().collect::<Records>());
                    prop_assert_eq!(valid, (HEADER + whole * RECORD) as u64);
                }
            }
        }
    }
}
