//! Content that this namespace holds is trusted as containerd trusts it, until something contradicts it. Then it is hashed: the
//! image may be broken in the registry, or its blob may have rotted here, and the cure is another. Everything here blocks.

use std::path::Path;

use oci::Digest;
use spool::Verified;

use crate::{
    Error,
    overlaybd::{self, Original, Payload},
};

/// Opens a native layer's content blob and finds its payload.
pub(crate) fn open(path: &Path, digest: Digest, size: u64) -> Result<(Original, Payload), Error> {
    let original = Original::open(path, digest, size)?;
    match overlaybd::check(digest, &original, size) {
        Ok(payload) => Ok((original, payload)),
        Err(error) => {
            acquit(path, digest, size)?;
            Err(error.into())
        }
    }
}

/// Hashes a content blob.
///
/// # Errors
/// Damage, naming the file, when it does not have the bytes of its digest.
pub(crate) fn acquit(path: &Path, digest: Digest, size: u64) -> Result<(), Error> {
    match Verified::of_file(path, digest, size) {
        Ok(_) => Ok(()),
        Err(error) if error.is_damage() => Err(containerd::Error::Damaged { digest, place: path.display().to_string() }.into()),
        Err(error) => Err(error.into()),
    }
}
