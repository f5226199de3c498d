//! SHA-256 digests, parsed once, never text inside.

use std::{fmt, str::FromStr};

use ring::digest::{Context, SHA256};

use crate::Error;

/// Characters of a text that is no digest of ours in a message: all of a sha512 one.
const MOST_SHOWN: usize = 160;

/// A sha256 digest: 32 bytes. Its text form is `sha256:` and 64 lower-case hex digits
/// (OCI image spec, descriptor.md "Digests"). Other algorithms are refused by name (safety 20).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The 64 hex digits, the only form in which a digest may enter a path.
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string does not fail");
            text
        })
    }

    /// The first 12 hex digits, for lines a person reads.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let malformed = || Error::Digest { text: shown(text) };
        let (algorithm, hex) = text.split_once(':').ok_or_else(malformed)?;
        if algorithm != "sha256" {
            let known = matches!(algorithm, "sha512" | "sha384" | "blake3" | "sha1" | "md5");
            return Err(if known {
                Error::Algorithm { text: shown(text), algorithm: algorithm.to_owned() }
            } else {
                malformed()
            });
        }
        let hex = hex.as_bytes();
        if hex.len() != 64 {
            return Err(malformed());
        }
        let nibble = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = nibble(pair[0]).zip(nibble(pair[1])).map(|(high, low)| high << 4 | low).ok_or_else(malformed)?;
        }
        Ok(Self(bytes))
    }
}

/// As much of `text` as belongs into a message; a document may hold megabytes where a digest should be.
fn shown(text: &str) -> String {
    match text.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// SHA-256 fed piece by piece.
///
/// By ring, which TLS needs anyway: on a processor without SHA instructions its AVX code is nearly twice as fast as plain Rust, and
/// the hash of every byte is what such a machine waits for.
#[derive(Clone)]
pub struct Hasher(Context);

impl Hasher {
    /// Feeds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything fed.
    pub fn finish(self) -> Digest {
        Digest(self.0.finish().as_ref().try_into().expect("a SHA-256 has 32 bytes"))
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn text_and_bytes_agree() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(b""));
    }

    /// The example of two blocks in FIPS 180-2, appendix B.2, fed in every two parts.
    #[test]
    fn a_digest_does_not_depend_on_the_pieces_it_was_fed_in() {
        let bytes = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        let expected = "sha256:248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1";
        for at in 0..=bytes.len() {
            let mut hasher = Hasher::default();
            hasher.update(&bytes[..at]);
            let mut ahead = hasher.clone();
            hasher.update(&bytes[at..]);
            assert_eq!(hasher.finish().to_string(), expected);
            // The copy goes on from where it was taken.
            ahead.update(&bytes[at..]);
            assert_eq!(ahead.finish().to_string(), expected);
        }
    }

    #[test]
    fn refuses_everything_but_sha256_in_lower_case_hex() {
        for text in ["", "sha256", "sha256:", &EMPTY[..70], &EMPTY.to_uppercase(), &EMPTY.replace('e', "E"), "sha256:../../x"] {
            assert!(matches!(text.parse::<Digest>(), Err(Error::Digest { .. })), "{text}");
        }
        let sha512 = format!("sha512:{}", "0".repeat(128));
        assert!(matches!(sha512.parse::<Digest>(), Err(Error::Algorithm { .. })));
    }
}
