//! `Content-Encoding` of small answers, undone. Asked for is `identity`; some servers and caches compress all the same.
//!
//! Blobs never come here: a range of an encoded blob would be a range of other bytes.

use std::io::{self, Read};

use http::{HeaderMap, header::CONTENT_ENCODING};

use crate::redact;

/// What a decoder may keep of what it has put out, as RFC 9659 bounds it for zstd: 8 MiB, as a power of two.
const ZSTD_WINDOW_LOG: u32 = 23;

/// How a body is encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

/// Why a body could not be decoded.
#[derive(Debug)]
pub(crate) enum DecodeError {
    /// More bytes than allowed come out.
    TooLong,
    /// It is not what its header says.
    Broken(io::Error),
}

impl Encoding {
    /// What the header says; `Err` with its text where that is nothing known here, two encodings on each other among it.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, String> {
        let texts: Vec<&str> =
            headers.get_all(CONTENT_ENCODING).iter().map(|value| value.to_str().unwrap_or("unreadable").trim()).collect();
        let text = texts.join(", ");
        match text.to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(redact::line(&text, 20)),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The body as it was before, if that has at most `limit` bytes.
    pub(crate) fn decode(self, body: Vec<u8>, limit: u64) -> Result<Vec<u8>, DecodeError> {
        let body = match self {
            Self::Identity => Ok(body),
            Self::Gzip => read(flate2::read::MultiGzDecoder::new(&body[..]), limit),
            Self::Zstd => zstd::Decoder::with_buffer(&body[..]).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                read(decoder, limit)
            }),
        };
        let body = body.map_err(DecodeError::Broken)?;
        if body.len() as u64 > limit { Err(DecodeError::TooLong) } else { Ok(body) }
    }
}

/// One byte more than allowed at most.
fn read(decoder: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    decoder.take(limit + 1).read_to_end(&mut body)?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_header_names_what_can_be_undone() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, value.parse().unwrap());
            }
            Encoding::of(&headers)
        };
        assert_eq!(of(&[]), Ok(Encoding::Identity));
        assert_eq!(of(&[" Identity"]), Ok(Encoding::Identity));
        assert_eq!(of(&["GZIP"]), Ok(Encoding::Gzip));
        assert_eq!(of(&["x-gzip"]), Ok(Encoding::Gzip));
        assert_eq!(of(&["zstd"]), Ok(Encoding::Zstd));
        assert_eq!(of(&["br"]), Err("br".to_owned()));
        assert_eq!(of(&["gzip", "gzip"]), Err("gzip, gzip".to_owned()));
    }

    #[test]
    fn what_comes_out_is_bounded_and_broken_bodies_are_told() {
        let text = vec![b'a'; 1000];
        let packed = [(Encoding::Gzip, gzip(&text)), (Encoding::Zstd, zstd::encode_all(&text[..], 3).unwrap())];
        for (encoding, packed) in packed {
            assert_eq!(encoding.decode(packed.clone(), 1000).unwrap(), text);
            assert!(matches!(encoding.decode(packed.clone(), 999), Err(DecodeError::TooLong)));
            let cut = packed[..packed.len() - 2].to_vec();
            assert!(matches!(encoding.decode(cut, 1000), Err(DecodeError::Broken(_))), "{encoding:?}");
            assert!(matches!(encoding.decode(text.clone(), 1000), Err(DecodeError::Broken(_))), "{encoding:?}");
        }
    }

    #[test]
    fn a_bomb_costs_no_more_than_what_is_allowed() {
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 100 << 10);
        assert!(matches!(Encoding::Gzip.decode(bomb, 1 << 20), Err(DecodeError::TooLong)));
    }
}
