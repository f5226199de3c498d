//! A strict reader of blobs, and the same reader on real ones: what it accepts there, made ones must be.

use std::{os::unix::fs::MetadataExt, path::PathBuf};

use super::{super::SparseBlob, *};

fn fixture(hex: &str) -> Vec<u8> {
    let blobs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/obd-image/blobs/sha256");
    std::fs::read(blobs.join(hex)).unwrap()
}

fn real() -> [Vec<u8>; 3] {
    [
        fixture("dd64da15debdb86181624f8b7903379cd974a3ac5bf672f78b7453713f197d7c"),
        fixture("2e6371fc4bd890435a96b2af324fbee38a03a8739833bba52b189b8b694f1392"),
        fixture("61eb1566f942e9b017b7abd03c7ba5d61d61f83025d6deae651bed64071a6305"),
    ]
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn usize_at(bytes: &[u8], at: usize) -> usize {
    u64_at(bytes, at).try_into().unwrap()
}

/// Refuses with the name of the rule that is broken.
fn rule(holds: bool, name: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(name) }
}

/// The payload of a tar wrapper, checked byte by byte.
fn unwrap(blob: &[u8]) -> Result<&[u8], &'static str> {
    let record = std::str::from_utf8(&blob[512..544]).unwrap_or_default();
    let payload = record.split_once("size=").and_then(|(_, rest)| rest.split('\n').next()).and_then(|text| text.parse().ok());
    let payload: u64 = payload.ok_or("pax size")?;
    rule(blob[..1536] == wrapper::head(payload), "wrapper head")?;
    let end = 1536 + usize::try_from(payload).unwrap();
    rule(blob[end..] == wrapper::tail(payload), "wrapper tail")?;
    Ok(&blob[1536..end])
}

/// The decompressed LSMT file of a ZFile.
fn inflate(zfile: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (header, trailer) = (&zfile[..512], &zfile[zfile.len() - 512..]);
    for (part, flags) in [(header, 0x1b), (trailer, 0x16)] {
        let entries = u64_at(part, 48);
        let fields = ZFileHeader {
            index_offset: u64_at(part, 40),
            entries,
            original: u64_at(part, 56),
            index_crc: u32_at(part, 64),
            block_size: u32_at(part, 72),
        };
        rule(part == fields.to_bytes(flags), "zfile header")?;
        rule(fields.original.div_ceil(u64::from(fields.block_size)) == entries, "number of blocks")?;
        rule(fields.index_offset + 4 * entries + 512 == zfile.len() as u64, "index place")?;
    }
    let index = &zfile[usize_at(header, 40)..zfile.len() - 512];
    rule(raw_crc(index, 0) == u32_at(header, 64), "index crc")?;
    let (mut at, mut original) = (512, Vec::new());
    let sizes: Vec<_> = index.chunks(4).map(|entry| u32_at(entry, 0) as usize).collect();
    let block_size = u32_at(header, 72) as usize;
    // A jump table keeps where each block starts within 64 KiB of them in 16 bits, so the last of a group does not count.
    let group = 65536 / block_size;
    rule(sizes.chunks(group).all(|blocks| blocks.iter().take(group - 1).sum::<usize>() < 65535), "jump table")?;
    for size in sizes {
        let (block, crc) = zfile[at..at + size].split_at(size - 4);
        rule(raw_crc(block, BLOCK_CRC_START) == u32_at(crc, 0), "block crc")?;
        original.extend(lz4_flex::block::decompress(block, block_size).map_err(|_| "lz4")?);
        at += size;
    }
    rule(at == usize_at(header, 40) && original.len() == usize_at(header, 56), "sum of blocks")?;
    Ok(original)
}

/// Number of data entries in the index of an LSMT file.
fn entries(lsmt: &[u8]) -> Result<usize, &'static str> {
    let (header, trailer) = (&lsmt[..4096], &lsmt[lsmt.len() - 4096..]);
    for (part, flags) in [(header, 7), (trailer, 6)] {
        let model = lsmt_header(0, flags, u64_at(part, 32), u64_at(part, 40));
        rule(part[..56] == model[..56] && part[130..] == model[130..], "lsmt header")?;
    }
    let (offset, count) = (usize_at(trailer, 32), usize_at(trailer, 40));
    rule(count % 256 == 0 && offset + 16 * count + 4096 == lsmt.len(), "lsmt index place")?;
    let (mut end, mut found) = (0, 0);
    for entry in lsmt[offset..].chunks(16).take(count) {
        let (at, length) = (u64_at(entry, 0) & INDEX_PADDING, u64_at(entry, 0) >> 50);
        let (data, zeroed) = (u64_at(entry, 8) & ((1 << 55) - 1), u64_at(entry, 8) >> 55 & 1 == 1);
        if at == INDEX_PADDING {
            rule(u64_at(entry, 8) == 0 && length == 0, "padding entry")?;
            continue;
        }
        rule(at >= end && length > 0 && (at + length) * SECTOR <= VIRTUAL_SIZE, "order of entries")?;
        rule(zeroed || (data >= 8 && (data + length) * SECTOR <= offset as u64), "extent")?;
        end = at + length;
        found += 1;
    }
    Ok(found)
}

fn read(blob: &[u8]) -> Result<usize, &'static str> {
    entries(&inflate(unwrap(blob)?)?)
}

#[test]
fn the_reader_accepts_the_real_blobs() {
    for blob in real() {
        assert!(read(&blob).unwrap() > 1);
    }
}

#[test]
fn made_blobs_pass_the_same_reader() {
    for (data, extents) in [(0, 0), (1, 1), (4096, 1), (1 << 20, 1), (20 << 20, 3)] {
        let blob = Blob { seed: data, data }.to_vec();
        assert_eq!(read(&blob), Ok(extents), "{data}");
        assert!(blob.len() as u64 > data);
    }
}

#[test]
fn a_seed_decides_the_bytes_and_a_file_holds_the_same() {
    let blob = Blob { seed: 7, data: 300_000 };
    let directory = tempfile::tempdir().unwrap();
    let (digest, size) = blob.write(&directory.path().join("blob"));
    let bytes = blob.to_vec();
    assert_eq!((digest, size), (Digest::of(&bytes), bytes.len() as u64));
    assert_eq!(std::fs::read(directory.path().join("blob")).unwrap(), bytes);
    assert_ne!(Blob { seed: 8, ..blob }.to_vec(), bytes);
}

#[test]
fn a_sparse_blob_passes_the_same_reader_and_leaves_its_zeros_out() {
    let directory = tempfile::tempdir().unwrap();
    for (data, extents) in [(0, 1), (1, 1), (28 << 10, 1), (20 << 20, 3)] {
        let path = directory.path().join(data.to_string());
        let (digest, size) = SparseBlob { data }.write(&path);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((digest, size), (Digest::of(&bytes), bytes.len() as u64));
        assert_eq!(read(&bytes), Ok(extents), "{data}");
    }
    let metadata = std::fs::metadata(directory.path().join((20 << 20).to_string())).unwrap();
    assert!(metadata.blocks() * 512 < metadata.len() / 2, "{} blocks on disk", metadata.blocks());
}

#[test]
fn a_hollow_blob_keeps_its_headers_and_fails_inside() {
    let blob = Blob { seed: 1, data: 100_000 }.to_vec();
    let hollow = hollow(blob.clone());
    assert_eq!(hollow.len(), blob.len());
    assert_eq!(hollow[..2048], blob[..2048]);
    assert_eq!(read(&hollow), Err("index crc"));
}
