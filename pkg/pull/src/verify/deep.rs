//! What a layer unpacks to: the digest of the tar in it, computed as containerd's differ does, without writing it anywhere.

use std::io::{self, SeekFrom};

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use containerd::{Committed, Session};
use oci::{Digest, Hasher};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncSeekExt as _, BufReader};

use crate::{Error, blocking};

/// Bytes read at once, and bytes that wait between containerd and the decoder.
const BUFFER: usize = 1 << 20;

/// First bytes of a gzip member (RFC 1952) and of a zstd frame (RFC 8878): containerd goes by them too, not by the media type.
const GZIP: &[u8] = &[0x1f, 0x8b, 0x08];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Unpacks a blob that was found right. The inner error says why it cannot be unpacked.
pub(crate) async fn diff_id(session: &Session, blob: &Committed) -> Result<io::Result<Digest>, Error> {
    let (digest, opened) = (blob.digest(), blob.clone());
    if let Some(file) = blocking(move || Ok(opened.open()?)).await? {
        let mut file = tokio::fs::File::from_std(file);
        // The descriptor may be shared with whoever hashed it.
        return Ok(match file.seek(SeekFrom::Start(0)).await {
            Ok(_) => unpacked(BufReader::with_capacity(BUFFER, file)).await,
            Err(error) => Err(error),
        });
    }
    let (mut writer, reader) = tokio::io::duplex(BUFFER);
    let copy = async {
        let copied = session.copy_content(digest, &mut writer).await;
        drop(writer);
        copied
    };
    let (copied, unpacked) = tokio::join!(copy, unpacked(BufReader::with_capacity(BUFFER, reader)));
    // A decoder that gives up closes its end: its own error says more than the broken pipe.
    copied?.ok();
    Ok(unpacked)
}

async fn unpacked(mut packed: impl AsyncBufRead + Send + Unpin) -> io::Result<Digest> {
    let first = packed.fill_buf().await?;
    if first.starts_with(GZIP) {
        let mut decoder = GzipDecoder::new(packed);
        decoder.multiple_members(true);
        return hash(decoder).await;
    }
    if first.starts_with(ZSTD) {
        let mut decoder = ZstdDecoder::new(packed);
        decoder.multiple_members(true);
        return hash(decoder).await;
    }
    hash(packed).await
}

async fn hash(mut tar: impl AsyncRead + Send + Unpin) -> io::Result<Digest> {
    let (mut hasher, mut buffer) = (Hasher::default(), vec![0; BUFFER]);
    loop {
        match tar.read(&mut buffer).await? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::bufread::{GzipEncoder, ZstdEncoder};

    use super::*;

    async fn read(mut packed: impl AsyncRead + Unpin) -> Vec<u8> {
        let mut bytes = Vec::new();
        packed.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn the_tar_is_hashed_however_it_is_packed() {
        let (one, other) = (vec![1_u8; 3_000_000], vec![2_u8; 70_000]);
        let tar = [&one[..], &other].concat();
        let gzip = [read(GzipEncoder::new(&one[..])).await, read(GzipEncoder::new(&other[..])).await].concat();
        let zstd = [read(ZstdEncoder::new(&one[..])).await, read(ZstdEncoder::new(&other[..])).await].concat();
        for packed in [&tar, &gzip, &zstd] {
            assert_eq!(unpacked(&packed[..]).await.unwrap(), Digest::of(&tar));
        }
        for packed in [&gzip, &zstd] {
            assert!(unpacked(&packed[..packed.len() - 9]).await.is_err(), "it is cut short");
        }
    }
}
