//! The tar wrapper of an overlaybd layer, in the form its commit tool writes: a PAX header that alone knows the size,
//! then the member `overlaybd.commit` with size 0.

/// Where the payload starts.
pub(super) const PAYLOAD: u64 = 1536;
const BLOCK: usize = 512;

/// The three blocks before a payload of this size.
pub(super) fn head(payload: u64) -> Vec<u8> {
    let record = pax_record(payload);
    let mut bytes = header("overlaybd.pax", None, record.len(), b'x');
    bytes.extend_from_slice(record.as_bytes());
    bytes.resize(2 * BLOCK, 0);
    bytes.extend_from_slice(&header("overlaybd.commit", Some("100644 "), 0, b'0'));
    bytes
}

/// What follows a payload of this size: padding to a block and two blocks of zeros.
pub(super) fn tail(payload: u64) -> Vec<u8> {
    let over = usize::try_from(payload % BLOCK as u64).expect("a remainder of 512 fits");
    vec![0; (BLOCK - over) % BLOCK + 2 * BLOCK]
}

/// `"<length of the record> size=<payload>\n"`; the length counts itself.
fn pax_record(payload: u64) -> String {
    let body = format!(" size={payload}\n");
    let mut length = body.len();
    while format!("{length}{body}").len() != length {
        length = format!("{length}{body}").len();
    }
    format!("{length}{body}")
}

/// Space padded numbers, and an owner only where there is a mode.
fn header(name: &str, mode: Option<&str>, size: usize, kind: u8) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(124, &format!("{size:>11o} "));
    if let Some(mode) = mode {
        put(100, mode);
        put(108, "     0 ");
        put(116, "     0 ");
        put(136, "          0 ");
        put(265, "root");
        put(297, "root");
    }
    put(257, "ustar\0");
    put(263, "00");
    block[156] = kind;
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:>6o} \0").as_bytes());
    block
}
