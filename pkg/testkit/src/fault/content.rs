//! Bytes to serve: kept, or read from a file or made from their offset so that large blobs take no memory.

use std::{fs::File, os::unix::fs::FileExt, sync::Arc};

use oci::{Digest, Hasher};

/// Largest piece made at once while hashing.
const PIECE: usize = 64 << 10;

/// One blob.
#[derive(Clone, Debug)]
pub struct Content(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Bytes(Arc<[u8]>),
    Random { seed: u64, size: u64 },
    File { file: Arc<File>, size: u64, digest: Digest },
}

impl Content {
    /// These bytes.
    pub fn bytes(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(Kind::Bytes(bytes.into()))
    }

    /// `size` pseudo-random bytes, the same for the same seed.
    pub fn random(seed: u64, size: u64) -> Self {
        Self(Kind::Random { seed, size })
    }

    /// What is in this file, whose digest is known.
    pub fn file(file: File, digest: Digest) -> Self {
        let size = file.metadata().expect("an open file tells its size").len();
        Self(Kind::File { file: Arc::new(file), size, digest })
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        match &self.0 {
            Kind::Bytes(bytes) => bytes.len() as u64,
            Kind::Random { size, .. } | Kind::File { size, .. } => *size,
        }
    }

    /// SHA-256 of everything.
    pub fn digest(&self) -> Digest {
        if let Kind::File { digest, .. } = self.0 {
            return digest;
        }
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; PIECE];
        let mut offset = 0;
        while offset < self.size() {
            let length = usize::try_from(self.size() - offset).map_or(PIECE, |rest| rest.min(PIECE));
            self.fill(offset, &mut buffer[..length]);
            hasher.update(&buffer[..length]);
            offset += length as u64;
        }
        hasher.finish()
    }

    /// Copies the bytes from `offset` on.
    pub fn fill(&self, offset: u64, buffer: &mut [u8]) {
        match &self.0 {
            Kind::Bytes(bytes) => {
                let start = usize::try_from(offset).expect("kept bytes are addressable");
                buffer.copy_from_slice(&bytes[start..start + buffer.len()]);
            }
            Kind::File { file, .. } => file.read_exact_at(buffer, offset).expect("the file stays as it is"),
            Kind::Random { seed, .. } => {
                let (mut at, mut filled) = (offset, 0);
                while filled < buffer.len() {
                    let word = word(*seed, at / 8).to_le_bytes();
                    let from = usize::try_from(at % 8).expect("less than 8");
                    let length = (8 - from).min(buffer.len() - filled);
                    buffer[filled..filled + length].copy_from_slice(&word[from..from + length]);
                    filled += length;
                    at += length as u64;
                }
            }
        }
    }
}

/// `SplitMix64`: any word of the stream without those before it.
fn word(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_depend_on_their_offset_alone() {
        let content = Content::random(3, 1000);
        let mut all = vec![0; 1000];
        content.fill(0, &mut all);
        let mut part = vec![0; 100];
        content.fill(333, &mut part);
        assert_eq!(part, all[333..433]);
        assert_eq!(content.digest(), Digest::of(&all));
    }

    #[test]
    fn a_file_is_served_from_any_offset_under_its_digest() {
        let bytes = b"0123456789";
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), bytes).unwrap();
        let content = Content::file(File::open(path.path()).unwrap(), Digest::of(bytes));
        let mut part = [0; 4];
        content.fill(3, &mut part);
        assert_eq!((&part, content.size(), content.digest()), (b"3456", 10, Digest::of(bytes)));
    }
}
