//! Real blobs pass, damaged and invented ones fail with words, none panics.

use std::path::PathBuf;

use super::*;

const BASE: &str = "a8b5fca80efae55088290f3da8110d7742de55c2a378d5ab53226a483f390e21";
const TOP: &str = "61eb1566f942e9b017b7abd03c7ba5d61d61f83025d6deae651bed64071a6305";
const OTHERS: [&str; 2] = [
    "dd64da15debdb86181624f8b7903379cd974a3ac5bf672f78b7453713f197d7c",
    "2e6371fc4bd890435a96b2af324fbee38a03a8739833bba52b189b8b694f1392",
];

fn fixture(hex: &str) -> Vec<u8> {
    let blobs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/obd-image/blobs/sha256");
    std::fs::read(blobs.join(hex)).unwrap()
}

fn verdict(bytes: &[u8]) -> Result<Payload, Fault> {
    structure(bytes, bytes.len() as u64)
}

fn why(bytes: &[u8]) -> String {
    verdict(bytes).unwrap_err().to_string()
}

/// Layout of a fixture, computed independently of the code under test where it matters: the index comes from the trailer.
struct Layout {
    payload: Payload,
    index: usize,
    blocks: usize,
}

fn layout(bytes: &[u8]) -> Layout {
    let payload = verdict(bytes).unwrap();
    let trailer = usize::try_from(payload.offset + payload.len).unwrap() - 512;
    let index = usize::try_from(payload.offset + u64_at(bytes, trailer + 40)).unwrap();
    Layout { payload, index, blocks: usize::try_from(u64_at(bytes, trailer + 48)).unwrap() }
}

#[test]
fn real_blobs_pass_wrapped_and_unpacked() {
    for (hex, offset) in [(BASE, 512), (TOP, 1536), (OTHERS[0], 1536), (OTHERS[1], 1536)] {
        let bytes = fixture(hex);
        let payload = verdict(&bytes).unwrap_or_else(|fault| panic!("{hex}: {fault}"));
        assert_eq!(payload.offset, offset, "{hex}");
        let start = usize::try_from(payload.offset).unwrap();
        let unpacked = &bytes[start..start + usize::try_from(payload.len).unwrap()];
        assert_eq!(verdict(unpacked).unwrap(), Payload { offset: 0, len: payload.len }, "{hex}");
    }
}

#[test]
fn a_file_is_checked_like_bytes_and_the_error_names_the_layer() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/obd-image/blobs/sha256").join(TOP);
    let file = File::open(&path).unwrap();
    let digest: Digest = format!("sha256:{TOP}").parse().unwrap();
    assert_eq!(check(digest, &file, file.metadata().unwrap().len()).unwrap().offset, 1536);
    let error = check(digest, &[0; 4096][..], 4096).unwrap_err();
    assert!(error.to_string().contains(TOP) && error.hint().is_some());
}

#[test]
fn more_zero_blocks_or_a_further_member_may_follow() {
    let mut bytes = fixture(TOP);
    bytes.extend([0; 1024]);
    verdict(&bytes).unwrap();
    let layout = layout(&bytes);
    let end = usize::try_from((layout.payload.offset + layout.payload.len).next_multiple_of(512)).unwrap();
    let member = bytes[1024..1536].to_vec();
    bytes[end..end + 512].copy_from_slice(&member);
    verdict(&bytes).unwrap();
}

#[test]
fn zeros_fail() {
    for length in [0, 1, 511, 512, 1024, 4096, 1 << 20] {
        why(&vec![0; length]);
    }
}

/// Keeps everything but `hole`.
fn with_zeros(hex: &str, hole: impl Fn(&Layout) -> std::ops::Range<usize>) -> Vec<u8> {
    let mut bytes = fixture(hex);
    let hole = hole(&layout(&bytes));
    bytes[hole].fill(0);
    bytes
}

#[test]
fn zeros_between_good_headers_fail() {
    for hex in [BASE, TOP, OTHERS[0], OTHERS[1]] {
        let start = |l: &Layout| usize::try_from(l.payload.offset).unwrap() + 512;
        let all = with_zeros(hex, |l| start(l)..l.index + 4 * l.blocks);
        assert!(why(&all).contains("block 0 of its index"), "{hex}: {}", why(&all));
        let data = with_zeros(hex, |l| start(l)..l.index);
        assert!(why(&data).contains("block"), "{hex}: {}", why(&data));
        // The first block and everything from the mapping index on are there, only the data in between is not.
        let middle = with_zeros(hex, |l| start(l) + 4096..start(l) + (l.index - start(l)) / 2);
        assert!(why(&middle).contains("block"), "{hex}: {}", why(&middle));
        let mappings = with_zeros(hex, |l| l.index - 2000..l.index - 100);
        assert!(why(&mappings).contains("block"), "{hex}: {}", why(&mappings));
    }
}

#[test]
fn a_truncated_blob_fails_wherever_it_is_cut() {
    let bytes = fixture(TOP);
    for length in (0..bytes.len()).step_by(509) {
        assert!(verdict(&bytes[..length]).is_err(), "{length}");
        let unpacked = &bytes[1536..];
        assert!(verdict(&unpacked[..length.min(unpacked.len() - 2000)]).is_err(), "unpacked {length}");
    }
}

#[test]
fn one_wrong_byte_in_header_trailer_or_index_fails() {
    let bytes = fixture(TOP);
    let layout = layout(&bytes);
    let end = usize::try_from(layout.payload.offset + layout.payload.len).unwrap();
    // Everything that a checksum covers: both tar headers, the ZFile header, its index and its trailer. Not the text of the tar
    // checksums themselves, where a blank and a leading zero are the same number.
    let covered = (0..148).chain(156..512).chain(1024..1172).chain(1180..2048);
    for at in covered.chain(layout.index..end) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(verdict(&damaged).is_err(), "byte {at} of {}", bytes.len());
    }
}

/// Damages one byte of the ends in every fixture at a time, and many at once: whatever the verdict, there is one.
#[test]
fn damaged_ends_never_panic() {
    let mut random = fastrand::Rng::with_seed(16);
    for hex in [BASE, TOP, OTHERS[1]] {
        let original = fixture(hex);
        let layout = layout(&original);
        let end = usize::try_from(layout.payload.offset + layout.payload.len).unwrap();
        let mut damaged = original.clone();
        let spots: Vec<usize> = (0..2200).chain(end - 600..original.len()).collect();
        for round in 0..if hex == BASE { 60 } else { 1000 } {
            let changes = if round % 2 == 0 { 1 } else { random.usize(2..20) };
            let chosen: Vec<usize> = (0..changes).map(|_| spots[random.usize(..spots.len())]).collect();
            for &at in &chosen {
                damaged[at] = random.u8(..);
            }
            let _ = verdict(&damaged);
            for at in chosen {
                damaged[at] = original[at];
            }
        }
    }
}

/// Hostile numbers behind right checksums: fields are set to extremes and the digest made right again.
#[test]
fn hostile_fields_fail_without_panic() {
    let original = fixture(TOP);
    let end = original.len().next_multiple_of(512);
    let layout = layout(&original);
    let trailer = usize::try_from(layout.payload.offset + layout.payload.len).unwrap() - 512;
    assert!(trailer < end);
    for field in [40, 48, 56] {
        for value in
            [0, 1, 511, 512, 513, 1 << 20, u64::from(u32::MAX), 1 << 40, (1 << 62) - 1, 1 << 63, u64::MAX - 511, u64::MAX]
        {
            let mut bytes = original.clone();
            for place in [1536, trailer] {
                bytes[place + field..place + field + 8].copy_from_slice(&value.to_le_bytes());
                seal(&mut bytes[place..place + 512]);
            }
            let fault = verdict(&bytes).unwrap_err();
            assert!(matches!(fault, Fault::ZFile(_)), "{field} {value}: {fault}");
        }
    }
    for block_size in [0_u32, 1, 4095, 8192, 1 << 20, 1 << 21, u32::MAX] {
        let mut bytes = original.clone();
        for place in [1536, trailer] {
            bytes[place + 72..place + 76].copy_from_slice(&block_size.to_le_bytes());
            seal(&mut bytes[place..place + 512]);
        }
        assert!(verdict(&bytes).is_err(), "{block_size}");
    }
}

#[test]
fn other_compressions_are_refused_by_name() {
    let original = fixture(TOP);
    let trailer = usize::try_from(layout(&original).payload.len).unwrap() + 1536 - 512;
    for (algorithm, word) in [(0, "minilzo"), (9, "unknown algorithm 9"), (2, "does not decompress")] {
        let mut bytes = original.clone();
        for place in [1536, trailer] {
            bytes[place + 76] = algorithm;
            seal(&mut bytes[place..place + 512]);
        }
        assert!(why(&bytes).contains(word), "{}", why(&bytes));
    }
}

/// A blob of our own making, so that what it holds can be varied: `lsmt` compressed in blocks of 4096.
fn build(lsmt: &[u8], zstd: bool) -> Vec<u8> {
    let (mut blocks, mut index) = (Vec::new(), Vec::new());
    for block in lsmt.chunks(4096) {
        let mut stored = if zstd { zstd::bulk::compress(block, 1).unwrap() } else { lz4_flex::block::compress(block) };
        let crc = !crc32c::crc32c_append(!100_007, &stored);
        stored.extend(crc.to_le_bytes());
        index.extend(u32::try_from(stored.len()).unwrap().to_le_bytes());
        blocks.extend(stored);
    }
    let end = |flags: u64| {
        let mut bytes = [0; 512];
        bytes[..24].copy_from_slice(b"ZFile\0\x01\0tuji.yyf@Alibaba");
        bytes[24] = 96;
        bytes[32..40].copy_from_slice(&flags.to_le_bytes());
        bytes[40..48].copy_from_slice(&(512 + blocks.len() as u64).to_le_bytes());
        bytes[48..56].copy_from_slice(&(index.len() as u64 / 4).to_le_bytes());
        bytes[56..64].copy_from_slice(&(lsmt.len() as u64).to_le_bytes());
        bytes[64..68].copy_from_slice(&(!crc32c::crc32c_append(!0, &index)).to_le_bytes());
        bytes[72..76].copy_from_slice(&4096_u32.to_le_bytes());
        bytes[76] = if zstd { 2 } else { 1 };
        bytes[88] = 1;
        seal(&mut bytes);
        bytes
    };
    [&end(0x1b)[..], &blocks, &index, &end(0x16)].concat()
}

/// Device sector, sectors, data sector, zeroed.
type Mapping = (u64, u64, u64, bool);

/// A layer with these mappings over 16 sectors of data.
fn lsmt(mappings: &[Mapping]) -> Vec<u8> {
    let end = |flags: u32, index: u64, entries: u64| {
        let mut bytes = vec![0; 4096];
        bytes[..24].copy_from_slice(b"LSMT\0\x01\x02\0\x65\x7e\x63\xd2\x94\x44\x08\x4c\xa2\xd2\xc8\xec\x4f\xcf\xae\x8a");
        bytes[24..28].copy_from_slice(&390_u32.to_le_bytes());
        bytes[28..32].copy_from_slice(&flags.to_le_bytes());
        bytes[32..40].copy_from_slice(&index.to_le_bytes());
        bytes[40..48].copy_from_slice(&entries.to_le_bytes());
        bytes[48..56].copy_from_slice(&(1_u64 << 20).to_le_bytes());
        bytes
    };
    let mut index = Vec::new();
    for &(offset, length, data, zeroed) in mappings {
        index.extend((offset | length << 50).to_le_bytes());
        index.extend((data | u64::from(zeroed) << 55).to_le_bytes());
    }
    let padding: [u8; 16] = [((1_u64 << 50) - 1).to_le_bytes(), [0; 8]].concat().try_into().unwrap();
    while index.len() < 4096 {
        index.extend(padding);
    }
    [end(7, 0, 0), vec![0xa5; 8192], index, end(6, 4096 + 8192, 256)].concat()
}

fn seal(bytes: &mut [u8]) {
    bytes[28..32].fill(0);
    let digest = !crc32c::crc32c_append(!0, bytes);
    bytes[28..32].copy_from_slice(&digest.to_le_bytes());
}

#[test]
fn mappings_must_be_in_order_on_the_device_and_in_the_data() {
    let rows: [(&str, &[Mapping], Option<&str>); 9] = [
        ("empty", &[], None),
        ("two", &[(0, 8, 8, false), (100, 8, 16, false)], None),
        ("zeroed needs no data", &[(0, 8, 0, true)], None),
        ("last sector", &[(2047, 1, 8, false)], None),
        ("overlap", &[(0, 8, 8, false), (7, 8, 16, false)], Some("order")),
        ("no length", &[(0, 0, 8, false)], Some("order")),
        ("beyond the device", &[(2047, 2, 8, false)], Some("device")),
        ("in the header", &[(0, 8, 7, false)], Some("data")),
        ("beyond the data", &[(0, 8, 17, false)], Some("data")),
    ];
    for (name, mappings, expected) in rows {
        for zstd in [false, true] {
            let result = verdict(&build(&lsmt(mappings), zstd));
            match (result, expected) {
                (Ok(_), None) => {}
                (Err(fault), Some(word)) => assert!(fault.to_string().contains(word), "{name}: {fault}"),
                (result, _) => panic!("{name}: {result:?}"),
            }
        }
    }
}

#[test]
fn a_zfile_of_something_else_is_no_layer() {
    for (content, word) in [
        (vec![0; 65536], "no header"),
        (vec![7; 4096], "shorter"),
        ([&lsmt(&[])[..8192], &vec![0; 8192][..]].concat(), "no trailer"),
        ([&lsmt(&[])[..4096], &lsmt(&[])[8192..]].concat(), "index does not end"),
    ] {
        assert!(why(&build(&content, false)).contains(word), "{}", why(&build(&content, false)));
    }
}

#[test]
fn random_bytes_never_pass_and_never_panic() {
    let mut random = fastrand::Rng::with_seed(3);
    for round in 0..1000 {
        let length = random.usize(..6000);
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
        if round % 2 == 0 && bytes.len() > 512 {
            bytes[..24].copy_from_slice(b"ZFile\0\x01\0tuji.yyf@Alibaba");
            bytes[24..28].copy_from_slice(&96_u32.to_le_bytes());
            bytes[32] = random.u8(..) & !0x10;
        }
        assert!(verdict(&bytes).is_err());
    }
}

/// Random content behind right checksums, so that the decompressors and the LSMT reader meet it too.
#[test]
fn hostile_content_behind_right_checksums_never_panics() {
    let mut random = fastrand::Rng::with_seed(5);
    let good = lsmt(&[(0, 8, 8, false), (100, 8, 16, false)]);
    for round in 0..600 {
        let mut layer = good.clone();
        let spots = [28..64, 12288..16384, 16384 + 24..16384 + 56];
        for _ in 0..random.usize(1..12) {
            let spot = spots[random.usize(..3)].clone();
            layer[random.usize(spot)] = random.u8(..);
        }
        let mut blob = build(&layer, round % 2 == 0);
        if round % 3 == 0 {
            let at = random.usize(512..blob.len() - 512);
            blob[at] = random.u8(..);
        }
        let _ = verdict(&blob);
    }
}
