//! A huge overlaybd blob that hardly takes any disk: valid from the first block to the last, and nearly all of it holes.
//!
//! Its disk is zeros, and its blocks are stored, not compressed: LZ4 allows a block to be one run of literals. So the file holds
//! runs of zeros, which the filesystem leaves out, between the few bytes that frame each block.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use oci::Digest;

use super::{
    blob::{BLOCK_CRC_START, PAGE, ZFILE_HEADER, ZFileHeader, compress, hash, lsmt_header, lsmt_index, raw_crc},
    wrapper,
};

/// Bytes in a block. The daemon keeps where a block starts within 64 KiB in 16 bits, so it is well below that.
const BLOCK: usize = 32 << 10;

/// A blob of zeros to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SparseBlob {
    /// Bytes of disk data inside, rounded up to a few blocks; the blob comes out half a percent larger.
    pub data: u64,
}

impl SparseBlob {
    /// Writes the blob to a new file; its digest and size. Takes as long as hashing that many bytes.
    pub fn write(self, path: &Path) -> (Digest, u64) {
        self.try_write(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn try_write(self, path: &Path) -> io::Result<(Digest, u64)> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        // With the LSMT header in front the data fills whole blocks.
        let blocks = (self.data + PAGE as u64).div_ceil(BLOCK as u64);
        let data = blocks * BLOCK as u64 - PAGE as u64;
        let mut first = lsmt_header(0, 7, 0, 0);
        first.resize(BLOCK, 0);
        let mut end = lsmt_index(data);
        let entries = end.len() as u64 / 16;
        end.extend_from_slice(&lsmt_header(0, 6, PAGE as u64 + data, entries));

        let mut out = Blocks { file: &file, sizes: Vec::new(), written: 0 };
        out.block(&compress(&first)?)?;
        out.zeros(blocks - 1)?;
        for block in end.chunks(BLOCK) {
            out.block(&compress(block)?)?;
        }
        let original = blocks * BLOCK as u64 + end.len() as u64;
        out.finish(original)?;
        hash(file)
    }
}

struct Blocks<'a> {
    file: &'a File,
    sizes: Vec<u32>,
    /// Bytes of all blocks so far.
    written: u64,
}

impl Blocks<'_> {
    fn end(&self) -> u64 {
        wrapper::PAYLOAD + ZFILE_HEADER as u64 + self.written
    }

    fn block(&mut self, block: &[u8]) -> io::Result<()> {
        self.file.write_all_at(block, self.end())?;
        self.count(block.len());
        Ok(())
    }

    /// So many blocks of zeros, written without their zeros.
    fn zeros(&mut self, blocks: u64) -> io::Result<()> {
        let (head, crc) = stored_zeros();
        // One block's end and the next one's start are neighbours: one write for both.
        let seam = [&crc[..], &head[..]].concat();
        for number in 0..blocks {
            if number == 0 {
                self.file.write_all_at(&head, self.end())?;
            } else {
                self.file.write_all_at(&seam, self.end() - crc.len() as u64)?;
            }
            self.count(head.len() + BLOCK + crc.len());
        }
        if blocks > 0 {
            self.file.write_all_at(&crc, self.end() - crc.len() as u64)?;
        }
        Ok(())
    }

    fn count(&mut self, length: usize) {
        self.sizes.push(u32::try_from(length).expect("a block is small"));
        self.written += length as u64;
    }

    /// Index, trailer, the end of the tar, and the front, which names their sizes.
    fn finish(self, original: u64) -> io::Result<()> {
        let index: Vec<u8> = self.sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
        let header = ZFileHeader {
            index_offset: ZFILE_HEADER as u64 + self.written,
            entries: self.sizes.len() as u64,
            original,
            index_crc: raw_crc(&index, 0),
            block_size: u32::try_from(BLOCK).expect("a block is small"),
        };
        let payload = header.index_offset + index.len() as u64 + ZFILE_HEADER as u64;
        let end = [index, header.to_bytes(0x16), wrapper::tail(payload)].concat();
        self.file.write_all_at(&end, self.end())?;
        self.file.write_all_at(&[wrapper::head(payload), header.to_bytes(0x1b)].concat(), 0)
    }
}

/// What stands before and after the zeros of one stored block: LZ4's token and length of the literals, and the block's CRC.
fn stored_zeros() -> (Vec<u8>, [u8; 4]) {
    let mut block = vec![0xf0];
    let rest = BLOCK - 15;
    block.resize(1 + rest / 255, 0xff);
    block.push(u8::try_from(rest % 255).expect("less than 255"));
    let head = block.clone();
    block.resize(head.len() + BLOCK, 0);
    (head, raw_crc(&block, BLOCK_CRC_START).to_le_bytes())
}
