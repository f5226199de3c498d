//! Bytes to serve: kept, or made from their offset so that large blobs take no memory.

use std::sync::Arc;

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

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        match &self.0 {
            Kind::Bytes(bytes) => bytes.len() as u64,
            Kind::Random { size, .. } => *size,
        }
    }

    /// SHA-256 of everything.
    pub fn digest(&self) -> Digest {
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
}
