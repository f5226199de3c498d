//! `ZFile`, the seekable compressed file in a layer blob (blob format, section 2): header, blocks, an index of their sizes, trailer.

use super::{
    Payload,
    blob::{Fault, ReadAt, fill, u32_at, u64_at},
};

const MAGIC: &[u8; 24] = b"ZFile\0\x01\0tuji.yyf@Alibaba";
/// Length of header and of trailer.
const ENDS: u64 = 512;
const FIELDS_SIZE: u32 = 96;

const IS_HEADER: u64 = 1;
const IS_DATA: u64 = 1 << 1;
const IS_SEALED: u64 = 1 << 2;
/// The header was written again at the end and has the real fields; otherwise the trailer has them.
const HEADER_COMPLETE: u64 = 1 << 3;
const HAS_DIGEST: u64 = 1 << 4;

/// The daemon refuses more blocks.
const MAX_BLOCKS: u64 = 1_000_000_000;
const MAX_BLOCK_SIZE: u32 = 1 << 20;
const CRC_LENGTH: u64 = 4;
/// The block checksum does not start from zero, so that a block of zeros has none of zero.
const BLOCK_CRC_SEED: u32 = 100_007;
/// Entries of the block index read at once.
const PIECE: usize = 16 << 10;
/// Positions remembered of a block index, however long it is.
const MARKS: u64 = 64 << 10;

/// Does this begin with a `ZFile` header?
pub(super) fn is_zfile(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// A `ZFile` whose header, trailer and whole block index have been checked.
pub(super) struct ZFile<'a, R: ?Sized> {
    blob: &'a R,
    /// Where it starts in the blob.
    start: u64,
    fields: Fields,
    algorithm: Algorithm,
    /// Start of every `stride`-th block, from the start of the file.
    marks: Vec<u64>,
    stride: u64,
}

#[derive(Clone, Copy)]
enum Algorithm {
    Lz4,
    Zstd,
}

#[derive(Clone, Copy)]
struct Fields {
    flags: u64,
    index_offset: u64,
    /// Number of blocks.
    blocks: u64,
    original: u64,
    index_crc: u32,
    block_size: u32,
    algorithm: u8,
    verify: bool,
}

impl Fields {
    /// Reserved bits and bytes are not looked at: the base layer everyone uses has garbage there.
    fn parse(bytes: &[u8; 512], name: &str) -> Result<Self, Fault> {
        if !is_zfile(bytes) || u32_at(bytes, 24) != FIELDS_SIZE {
            return broken(format!("there is no {name}"));
        }
        let flags = u64_at(bytes, 32);
        if flags & HAS_DIGEST != 0 {
            let mut cleared = *bytes;
            cleared[28..32].fill(0);
            if raw_crc(0, &cleared) != u32_at(bytes, 28) {
                return broken(format!("the digest of its {name} is wrong"));
            }
        }
        Ok(Self {
            flags,
            index_offset: u64_at(bytes, 40),
            blocks: u64_at(bytes, 48),
            original: u64_at(bytes, 56),
            index_crc: u32_at(bytes, 64),
            block_size: u32_at(bytes, 72),
            algorithm: bytes[76],
            verify: bytes[88] != 0,
        })
    }

    /// Do header and trailer say the same of what lies between them? Digests are one of those things: else a single flipped bit
    /// in the flags would switch the checks off.
    fn agrees(&self, other: &Self) -> bool {
        let key = |f: &Self| (f.flags & HAS_DIGEST, f.index_offset, f.blocks, f.original, f.block_size, f.algorithm, f.verify);
        key(self) == key(other)
    }
}

impl<'a, R: ReadAt + ?Sized> ZFile<'a, R> {
    /// Checks header, trailer, sizes and block index.
    pub(super) fn open(blob: &'a R, payload: Payload) -> Result<Self, Fault> {
        let fields = ends(blob, payload)?;
        let algorithm = match fields.algorithm {
            1 => Algorithm::Lz4,
            2 => Algorithm::Zstd,
            0 => return broken("it is compressed with minilzo, which rpull cannot check".to_owned()),
            other => return broken(format!("it is compressed with the unknown algorithm {other}")),
        };
        if !fields.block_size.is_power_of_two() || !(512..=MAX_BLOCK_SIZE).contains(&fields.block_size) {
            return broken(format!("its block size is {}", fields.block_size));
        }
        if fields.original.div_ceil(u64::from(fields.block_size)) != fields.blocks || fields.blocks == 0 {
            return broken(format!("{} blocks do not make {} bytes", fields.blocks, fields.original));
        }
        if fields.blocks > MAX_BLOCKS || fields.index_offset.checked_add(4 * fields.blocks + ENDS) != Some(payload.len) {
            return broken("its index does not end at its trailer".to_owned());
        }
        let stride = fields.blocks.div_ceil(MARKS);
        let mut file = Self { blob, start: payload.offset, fields, algorithm, marks: Vec::new(), stride };
        file.read_index()?;
        Ok(file)
    }

    /// Bytes of the decompressed file.
    pub(super) fn original(&self) -> u64 {
        self.fields.original
    }

    pub(super) fn blocks(&self) -> u64 {
        self.fields.blocks
    }

    /// Decompresses `length` bytes from `offset` on, which must lie within the decompressed file.
    pub(super) fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, Fault> {
        let block_size = u64::from(self.fields.block_size);
        let mut bytes = Vec::with_capacity(length);
        let mut number = offset / block_size;
        let mut skip = to_usize(offset % block_size);
        let (mut at, mut sizes) = self.locate(number)?;
        while bytes.len() < length {
            let size = u64::from(sizes.next(self)?);
            let block = self.decompress(number, at, size)?;
            let rest = block.get(skip..).unwrap_or_default();
            bytes.extend_from_slice(&rest[..rest.len().min(length - bytes.len())]);
            (skip, number, at) = (0, number + 1, at + size);
        }
        Ok(bytes)
    }

    /// Reads one block, compares its checksum and decompresses it.
    pub(super) fn check_block(&self, number: u64) -> Result<(), Fault> {
        let (at, mut sizes) = self.locate(number)?;
        let size = u64::from(sizes.next(self)?);
        self.decompress(number, at, size).map(drop)
    }

    /// Reads the index in pieces: every entry has a possible size, their sum ends where the index begins, the CRC is right.
    fn read_index(&mut self) -> Result<(), Fault> {
        // What the compressors can make of an incompressible block, generously, and the block's CRC.
        let largest = self.fields.block_size + self.fields.block_size / 64 + 512;
        let mut piece = vec![0; PIECE * 4];
        let (mut number, mut at, mut crc) = (0, ENDS, 0);
        while number < self.fields.blocks {
            let count = to_usize((self.fields.blocks - number).min(PIECE as u64));
            let bytes = &mut piece[..count * 4];
            fill(self.blob, self.start + self.fields.index_offset + 4 * number, bytes)?;
            crc = raw_crc(crc, bytes);
            for entry in bytes.chunks_exact(4).map(|entry| u32_at(entry, 0)) {
                if u64::from(entry) <= CRC_LENGTH || entry > largest {
                    return broken(format!("block {number} of its index has {entry} bytes"));
                }
                if number.is_multiple_of(self.stride) {
                    self.marks.push(at);
                }
                at += u64::from(entry);
                number += 1;
            }
        }
        if at != self.fields.index_offset {
            return broken("the blocks in its index do not fill the space before it".to_owned());
        }
        if self.fields.flags & HAS_DIGEST != 0 && crc != self.fields.index_crc {
            return broken("the checksum of its index is wrong".to_owned());
        }
        Ok(())
    }

    /// Where block `number` starts in the file, and the sizes from it on.
    fn locate(&self, number: u64) -> Result<(u64, Sizes), Fault> {
        let mark = number / self.stride;
        let mut at = self.marks[to_usize(mark)];
        let mut sizes = Sizes { number: mark * self.stride, piece: Vec::new(), position: 0 };
        for _ in mark * self.stride..number {
            at += u64::from(sizes.next(self)?);
        }
        Ok((at, sizes))
    }

    fn decompress(&self, number: u64, at: u64, size: u64) -> Result<Vec<u8>, Fault> {
        let mut stored = vec![0; to_usize(size)];
        if at + size > self.fields.index_offset {
            return broken(format!("block {number} reaches into its index"));
        }
        fill(self.blob, self.start + at, &mut stored)?;
        if self.fields.verify {
            let (block, crc) = stored.split_at(stored.len() - to_usize(CRC_LENGTH));
            if raw_crc(BLOCK_CRC_SEED, block) != u32_at(crc, 0) {
                return broken(format!("the checksum of block {number} is wrong"));
            }
            stored.truncate(stored.len() - to_usize(CRC_LENGTH));
        }
        let block_size = u64::from(self.fields.block_size);
        let expected = to_usize((self.fields.original - number * block_size).min(block_size));
        let mut block = vec![0; expected];
        let length = match self.algorithm {
            Algorithm::Lz4 => lz4_flex::block::decompress_into(&stored, &mut block).ok(),
            Algorithm::Zstd => zstd::bulk::decompress_to_buffer(&stored, &mut block).ok(),
        };
        if length == Some(expected) {
            Ok(block)
        } else {
            broken(format!("block {number} does not decompress to {expected} bytes"))
        }
    }
}

/// Walks the block index.
struct Sizes {
    /// First block of the next piece.
    number: u64,
    piece: Vec<u8>,
    position: usize,
}

impl Sizes {
    /// Sizes read ahead; a few blocks are usually all that is wanted.
    const AHEAD: u64 = 256;

    fn next<R: ReadAt + ?Sized>(&mut self, file: &ZFile<'_, R>) -> Result<u32, Fault> {
        if self.position == self.piece.len() {
            let count = (file.fields.blocks - self.number).min(Self::AHEAD);
            if count == 0 {
                return broken("it has fewer blocks than its size needs".to_owned());
            }
            self.piece.resize(to_usize(count * 4), 0);
            fill(file.blob, file.start + file.fields.index_offset + 4 * self.number, &mut self.piece)?;
            (self.number, self.position) = (self.number + count, 0);
        }
        self.position += 4;
        Ok(u32_at(&self.piece, self.position - 4))
    }
}

/// Header and trailer, and those of their fields that count.
fn ends<R: ReadAt + ?Sized>(blob: &R, payload: Payload) -> Result<Fields, Fault> {
    if payload.len < 2 * ENDS {
        return broken("it is shorter than its header and trailer".to_owned());
    }
    let mut bytes = [0; 512];
    fill(blob, payload.offset, &mut bytes)?;
    let header = Fields::parse(&bytes, "header")?;
    if header.flags & IS_HEADER == 0 || header.flags & IS_DATA == 0 {
        return broken("its header is not marked as one".to_owned());
    }
    fill(blob, payload.offset + payload.len - ENDS, &mut bytes)?;
    let trailer = Fields::parse(&bytes, "trailer")?;
    if trailer.flags & (IS_HEADER | IS_DATA | IS_SEALED) != IS_DATA | IS_SEALED {
        return broken("its trailer is not marked as one".to_owned());
    }
    if header.flags & HEADER_COMPLETE == 0 {
        return Ok(trailer);
    }
    if header.agrees(&trailer) { Ok(header) } else { broken("its header and trailer disagree".to_owned()) }
}

/// CRC-32C without the usual inversions at start and end.
fn raw_crc(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// For values that were compared with a block or piece size before.
fn to_usize(value: u64) -> usize {
    usize::try_from(value).expect("bounded by a block or piece size")
}

fn broken<T>(why: String) -> Result<T, Fault> {
    Err(Fault::ZFile(why))
}
