//! LSMT, the layer of block mappings in a `ZFile` (blob format, section 3): header, data, an index of mappings, trailer.

use super::{
    blob::{Fault, ReadAt, u32_at, u64_at},
    zfile::ZFile,
};

const MAGIC: &[u8; 24] = b"LSMT\0\x01\x02\0\x65\x7e\x63\xd2\x94\x44\x08\x4c\xa2\xd2\xc8\xec\x4f\xcf\xae\x8a";
/// Length of header and of trailer.
const ENDS: u64 = 4096;
const FIELDS_SIZE: u32 = 390;
const IS_HEADER: u32 = 1;
const IS_DATA: u32 = 1 << 1;
const IS_SEALED: u32 = 1 << 2;

/// The daemon refuses a longer index, so at most 16 MB are read.
const MAX_ENTRIES: u64 = 1_000_000;
const ENTRY: usize = 16;
/// Entries decompressed at once.
const PIECE: usize = 4096;
const SECTOR: u64 = 512;

/// Checks header, trailer and the index of mappings; of the data only that the mappings stay within it.
pub(super) fn check<R: ReadAt + ?Sized>(file: &ZFile<'_, R>) -> Result<(), Fault> {
    let size = file.original();
    if size < 2 * ENDS {
        return broken("it is shorter than its header and trailer");
    }
    let header = file.read(0, FIELDS_SIZE as usize)?;
    if flags(&header, "header")? & (IS_HEADER | IS_DATA) != IS_HEADER | IS_DATA {
        return broken("its header is not marked as one");
    }
    let trailer = file.read(size - ENDS, FIELDS_SIZE as usize)?;
    if flags(&trailer, "trailer")? & (IS_HEADER | IS_DATA | IS_SEALED) != IS_DATA | IS_SEALED {
        return broken("its trailer is not marked as one");
    }
    let (index_offset, entries, virtual_size) = (u64_at(&trailer, 32), u64_at(&trailer, 40), u64_at(&trailer, 48));
    if entries > MAX_ENTRIES {
        return broken("its index is longer than the daemon takes");
    }
    if index_offset < ENDS || index_offset.checked_add(entries * ENTRY as u64 + ENDS) != Some(size) {
        return broken("its index does not end at its trailer");
    }
    let mut last = 0;
    for first in (0..entries).step_by(PIECE) {
        let count = usize::try_from(entries - first).unwrap_or(PIECE).min(PIECE);
        let piece = file.read(index_offset + first * ENTRY as u64, count * ENTRY)?;
        for mapping in piece.chunks_exact(ENTRY).filter_map(Mapping::parse) {
            last = mapping.check(last, index_offset, virtual_size)?;
        }
    }
    Ok(())
}

/// A run of sectors of the device and where they are in the data.
struct Mapping {
    offset: u64,
    length: u64,
    data: u64,
    zeroed: bool,
}

impl Mapping {
    /// `None` for the entries that only pad the index.
    fn parse(entry: &[u8]) -> Option<Self> {
        const PADDING: u64 = (1 << 50) - 1;
        let (place, target) = (u64_at(entry, 0), u64_at(entry, 8));
        let offset = place & PADDING;
        (offset != PADDING).then_some(Self {
            offset,
            length: place >> 50,
            data: target & ((1 << 55) - 1),
            zeroed: target >> 55 & 1 == 1,
        })
    }

    /// Is it behind `last`, on the device, and within the data? Returns its end.
    fn check(&self, last: u64, index_offset: u64, virtual_size: u64) -> Result<u64, Fault> {
        let end = self.offset + self.length;
        if self.length == 0 || self.offset < last {
            return broken("its mappings are not in order");
        }
        if end > virtual_size / SECTOR {
            return broken("a mapping lies beyond the end of the device");
        }
        if !self.zeroed && (self.data < ENDS / SECTOR || self.data + self.length > index_offset / SECTOR) {
            return broken("a mapping lies beyond the data");
        }
        Ok(end)
    }
}

fn flags(bytes: &[u8], name: &str) -> Result<u32, Fault> {
    if bytes.starts_with(MAGIC) && u32_at(bytes, 24) == FIELDS_SIZE {
        Ok(u32_at(bytes, 28))
    } else {
        broken(&format!("there is no {name}"))
    }
}

fn broken<T>(why: &str) -> Result<T, Fault> {
    Err(Fault::Lsmt(why.to_owned()))
}
