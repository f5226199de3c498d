//! The tar around a layer's `ZFile`: a PAX header and a header, one header alone, or nothing (blob format, section 1).
//!
//! The daemon reads no more of it than is read here; names do not matter to it. Only the checksum, the sizes and the end do.

use super::{
    Payload,
    blob::{Fault, ReadAt, fill},
    zfile::is_zfile,
};

const BLOCK: u64 = 512;
type Block = [u8; 512];

/// Where the payload lies in a blob of `size` bytes.
pub(super) fn payload<R: ReadAt + ?Sized>(blob: &R, size: u64) -> Result<Payload, Fault> {
    if size < BLOCK {
        return broken("the blob is shorter than a header");
    }
    let first = block(blob, 0, size)?;
    if is_zfile(&first) {
        return Ok(Payload { offset: 0, len: size });
    }
    let header =
        Header::parse(&first).ok_or_else(|| Fault::Wrapper("there is neither a tar header nor a ZFile at its start".into()))?;
    let payload = match header.kind {
        b'x' => {
            if !(1..=BLOCK).contains(&header.size) {
                return broken("its PAX header is longer than the one block the daemon reads");
            }
            let records = block(blob, BLOCK, size)?;
            let length = usize::try_from(header.size).expect("at most one block");
            let len = pax_size(&records[..length]).ok_or_else(|| Fault::Wrapper("its PAX header gives no size".into()))?;
            if Header::parse(&block(blob, 2 * BLOCK, size)?).is_none_or(|file| !file.is_regular()) {
                return broken("no file header follows its PAX header");
            }
            Payload { offset: 3 * BLOCK, len }
        }
        _ if header.is_regular() => Payload { offset: BLOCK, len: header.size },
        _ => return broken("its first member is not a regular file"),
    };
    check_end(blob, size, payload)?;
    Ok(payload)
}

/// Zeros up to the block's end, then either the end of the archive (two zero blocks, any number more) or a further member.
fn check_end<R: ReadAt + ?Sized>(blob: &R, size: u64, payload: Payload) -> Result<(), Fault> {
    let end = payload.offset.checked_add(payload.len).filter(|&end| end <= size);
    let Some(end) = end else { return broken("its payload is longer than the blob") };
    if payload.len < BLOCK {
        return broken("its payload is empty");
    }
    let padded = end.next_multiple_of(BLOCK);
    let mut padding = [0; 512];
    let padding = &mut padding[..usize::try_from(padded - end).expect("less than a block")];
    if padded > size {
        return broken("it ends within a block");
    }
    fill(blob, end, padding)?;
    if padding.iter().any(|&byte| byte != 0) {
        return broken("its payload is followed by something else than zeros");
    }
    let next = block(blob, padded, size)?;
    let ends = next.iter().all(|&byte| byte == 0) && block(blob, padded + BLOCK, size)?.iter().all(|&byte| byte == 0);
    if ends || Header::parse(&next).is_some() { Ok(()) } else { broken("it has no end") }
}

fn block<R: ReadAt + ?Sized>(blob: &R, offset: u64, size: u64) -> Result<Block, Fault> {
    if offset + BLOCK > size {
        return broken("it is cut short");
    }
    let mut bytes = [0; 512];
    fill(blob, offset, &mut bytes)?;
    Ok(bytes)
}

struct Header {
    kind: u8,
    size: u64,
}

impl Header {
    /// A ustar header with a right checksum, which counts its own field as blanks.
    fn parse(block: &Block) -> Option<Self> {
        if &block[257..262] != b"ustar" || &block[263..265] != b"00" {
            return None;
        }
        let written = octal(&block[148..156])?;
        let counted = |index: usize, byte: u8| if (148..156).contains(&index) { b' ' } else { byte };
        let unsigned: u64 = block.iter().enumerate().map(|(index, &byte)| u64::from(counted(index, byte))).sum();
        // Old tars summed signed characters; the daemon takes both.
        let signed: i64 = block.iter().enumerate().map(|(index, &byte)| i64::from(counted(index, byte).cast_signed())).sum();
        let right = written == unsigned || i64::try_from(written) == Ok(signed);
        right.then_some(Self { kind: block[156], size: octal(&block[124..136])? })
    }

    fn is_regular(&self) -> bool {
        matches!(self.kind, b'0' | 0)
    }
}

/// An octal field: blanks, digits, then blanks or NULs.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.bytes().all(|byte| byte.is_ascii_digit()) { u64::from_str_radix(text, 8).ok() } else { None }
}

/// The `size` of PAX records, each `<length> <key>=<value>\n` with its own length in front.
fn pax_size(mut records: &[u8]) -> Option<u64> {
    let mut size = None;
    while !records.is_empty() {
        let blank = records.iter().position(|&byte| byte == b' ')?;
        let length: usize = std::str::from_utf8(&records[..blank]).ok()?.parse().ok()?;
        if length <= blank + 1 || length > records.len() || records[length - 1] != b'\n' {
            return None;
        }
        if let Some(value) = records[blank + 1..length - 1].strip_prefix(b"size=") {
            size = Some(std::str::from_utf8(value).ok()?.parse().ok()?);
        }
        records = &records[length..];
    }
    size
}

fn broken<T>(why: &str) -> Result<T, Fault> {
    Err(Fault::Wrapper(why.to_owned()))
}
