//! A structurally valid overlaybd blob of pseudo-random content: tar wrapper around a ZFile around an LSMT file.
//!
//! Every header, index, CRC and trailer is as the real tools write it; what the blocks hold is no file system.

use std::{
    fs::File,
    io::{self, BufWriter, Cursor, Read, Seek, SeekFrom, Write},
    path::Path,
};

use oci::{Digest, Hasher};

use super::wrapper;

pub(super) const PAGE: usize = 4096;
const SECTOR: u64 = 512;
/// Pages of random content; what is longer repeats them in random order, so that a large blob costs no compressing.
const POOL: u64 = 256;
/// Longest extent of the index: its length has 14 bits of sectors; a multiple of a page.
const EXTENT: u64 = 2047 * PAGE as u64;
const INDEX_PADDING: u64 = (1 << 50) - 1;
const VIRTUAL_SIZE: u64 = 64 << 30;
pub(super) const BLOCK_CRC_START: u32 = 100_007;
pub(super) const ZFILE_HEADER: usize = 512;

/// A blob to make. The same seed and size always give the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Chooses the content.
    pub seed: u64,
    /// Bytes of disk data inside, rounded up to pages of 4 KiB; the blob comes out half a percent larger.
    pub data: u64,
}

impl Blob {
    /// The blob in memory.
    pub fn to_vec(self) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        self.write_to(&mut file).expect("memory can be written");
        file.into_inner()
    }

    /// Writes the blob to a new file without holding it in memory; its digest and size.
    pub fn write(self, path: &Path) -> (Digest, u64) {
        self.try_write(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn try_write(self, path: &Path) -> io::Result<(Digest, u64)> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        let mut writer = BufWriter::with_capacity(1 << 20, file);
        self.write_to(&mut writer)?;
        hash(writer.into_inner().map_err(io::IntoInnerError::into_error)?)
    }

    /// The sizes in the headers are known at the end, so the front is written last.
    fn write_to(self, out: &mut (impl Write + Seek)) -> io::Result<()> {
        out.seek(SeekFrom::Start(wrapper::PAYLOAD + ZFILE_HEADER as u64))?;
        let mut blocks = Blocks { out, sizes: Vec::new(), written: 0 };
        self.write_lsmt(&mut blocks)?;
        let Blocks { out, sizes, written } = blocks;
        let index: Vec<u8> = sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
        out.write_all(&index)?;
        let header = ZFileHeader {
            index_offset: ZFILE_HEADER as u64 + written,
            entries: sizes.len() as u64,
            original: sizes.len() as u64 * PAGE as u64,
            index_crc: raw_crc(&index, 0),
            block_size: u32::try_from(PAGE).expect("4096 fits"),
        };
        out.write_all(&header.to_bytes(0x16))?;
        let payload = header.index_offset + index.len() as u64 + ZFILE_HEADER as u64;
        out.write_all(&wrapper::tail(payload))?;
        out.seek(SeekFrom::Start(0))?;
        out.write_all(&wrapper::head(payload))?;
        out.write_all(&header.to_bytes(0x1b))
    }

    fn write_lsmt<W: Write>(self, out: &mut Blocks<'_, W>) -> io::Result<()> {
        let data = self.data.div_ceil(PAGE as u64) * PAGE as u64;
        out.page(&lsmt_header(self.seed, 7, 0, 0))?;
        let mut random = fastrand::Rng::with_seed(self.seed);
        let pages = data / PAGE as u64;
        let mut pool = Vec::new();
        for _ in 0..POOL.min(pages) {
            let mut page = [0; PAGE];
            random.fill(&mut page);
            pool.push(compress(&page)?);
        }
        for number in 0..pages {
            let chosen = if number < POOL { number } else { random.u64(..POOL) };
            out.block(&pool[usize::try_from(chosen).expect("the pool is small")])?;
        }
        let index = lsmt_index(data);
        for page in index.chunks(PAGE) {
            out.page(page)?;
        }
        out.page(&lsmt_header(self.seed, 6, PAGE as u64 + data, index.len() as u64 / 16))
    }
}

/// Writes block after block and remembers how long each is.
struct Blocks<'a, W> {
    out: &'a mut W,
    sizes: Vec<u32>,
    written: u64,
}

impl<W: Write> Blocks<'_, W> {
    fn page(&mut self, page: &[u8]) -> io::Result<()> {
        self.block(&compress(page)?)
    }

    fn block(&mut self, block: &[u8]) -> io::Result<()> {
        self.out.write_all(block)?;
        self.sizes.push(u32::try_from(block.len()).expect("a page compresses to about a page"));
        self.written += block.len() as u64;
        Ok(())
    }
}

/// Digest and size of a file, read from its start.
pub(super) fn hash(mut file: File) -> io::Result<(Digest, u64)> {
    file.rewind()?;
    let size = file.metadata()?.len();
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hasher.finish(), size)),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// One block as a ZFile has it: LZ4 and its CRC.
pub(super) fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut block = vec![0; lz4_flex::block::get_maximum_output_size(bytes.len())];
    let length = lz4_flex::block::compress_into(bytes, &mut block).map_err(io::Error::other)?;
    block.truncate(length);
    block.extend_from_slice(&raw_crc(&block, BLOCK_CRC_START).to_le_bytes());
    Ok(block)
}

pub(super) struct ZFileHeader {
    pub(super) index_offset: u64,
    pub(super) entries: u64,
    pub(super) original: u64,
    pub(super) index_crc: u32,
    pub(super) block_size: u32,
}

impl ZFileHeader {
    /// The header (flags 0x1b) and the trailer (0x16) differ in their flags and so in their digest.
    pub(super) fn to_bytes(&self, flags: u64) -> Vec<u8> {
        let mut bytes = b"ZFile\0\x01\0tuji.yyf@Alibaba".to_vec();
        bytes.extend_from_slice(&96u32.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        for field in [flags, self.index_offset, self.entries, self.original] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&self.index_crc.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.block_size.to_le_bytes());
        bytes.push(1); // LZ4
        bytes.resize(88, 0);
        bytes.push(1); // a CRC after each block
        bytes.resize(ZFILE_HEADER, 0);
        let digest = raw_crc(&bytes, 0);
        bytes[28..32].copy_from_slice(&digest.to_le_bytes());
        bytes
    }
}

/// LSMT header (flags 7, index unknown) or trailer (flags 6).
pub(super) fn lsmt_header(seed: u64, flags: u32, index_offset: u64, entries: u64) -> Vec<u8> {
    let mut bytes = b"LSMT\0\x01\x02\0\x65\x7e\x63\xd2\x94\x44\x08\x4c\xa2\xd2\xc8\xec\x4f\xcf\xae\x8a".to_vec();
    bytes.extend_from_slice(&390u32.to_le_bytes());
    bytes.extend_from_slice(&flags.to_le_bytes());
    for field in [index_offset, entries, VIRTUAL_SIZE] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(format!("{:08X}-0000-4000-8000-{:012X}\0", seed >> 32, seed & 0xffff_ffff).as_bytes());
    bytes.extend_from_slice(b"00000000-0000-0000-0000-000000000000\0");
    bytes.extend_from_slice(&[0, 0, 1, 1]);
    bytes.resize(PAGE, 0);
    bytes
}

/// One run of extents from the start of the disk, padded to a multiple of 256 entries.
pub(super) fn lsmt_index(data: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < data {
        let length = EXTENT.min(data - at);
        bytes.extend_from_slice(&((at / SECTOR) | ((length / SECTOR) << 50)).to_le_bytes());
        bytes.extend_from_slice(&((PAGE as u64 + at) / SECTOR).to_le_bytes());
        at += length;
    }
    while bytes.is_empty() || !bytes.len().is_multiple_of(256 * 16) {
        bytes.extend_from_slice(&INDEX_PADDING.to_le_bytes());
        bytes.extend_from_slice(&0u64.to_le_bytes());
    }
    bytes
}

/// CRC-32C without the inversion at start and end that the standard one has.
pub(super) fn raw_crc(bytes: &[u8], start: u32) -> u32 {
    !crc32c::crc32c_append(!start, bytes)
}

/// Zeros between the good headers and the good trailer of a blob, everything else kept: what a check of magic numbers
/// alone lets pass.
pub fn hollow(mut blob: Vec<u8>) -> Vec<u8> {
    let start = usize::try_from(wrapper::PAYLOAD).expect("1536 fits") + ZFILE_HEADER;
    let trailer = blob.windows(8).rposition(|window| window == b"ZFile\0\x01\0").expect("the blob has a trailer");
    blob[start..trailer].fill(0);
    blob
}

#[cfg(test)]
mod tests;
