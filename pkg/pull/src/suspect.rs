//! Content that this namespace holds is trusted as containerd trusts it, until something contradicts it. Then it is hashed: the
//! image may be broken in the registry, or its blob may have rotted here, and the cure is another. Everything here blocks.

use containerd::{Committed, How};
use spool::Verified;

use crate::{
    Error,
    overlaybd::{self, Original, Payload},
};

/// Opens a native layer's content blob, through the descriptor it was hashed by if it was (safety 4), and finds its payload.
/// `None` where the content store is out of reach.
pub(crate) fn open(blob: &Committed) -> Result<Option<(Original, Payload)>, Error> {
    let Some(file) = blob.open()? else { return Ok(None) };
    let (digest, size) = (blob.digest(), blob.size());
    let original = Original::new(file, digest, size)?;
    match overlaybd::check(digest, &original, size) {
        Ok(payload) => Ok(Some((original, payload))),
        Err(error) => {
            acquit(blob)?;
            Err(error.into())
        }
    }
}

/// Hashes a content blob that nobody has hashed in this pull.
///
/// # Errors
/// Damage, naming the file, when it does not have the bytes of its digest.
pub(crate) fn acquit(blob: &Committed) -> Result<(), Error> {
    let Some(path) = blob.path().filter(|_| blob.how() == How::Trusted) else { return Ok(()) };
    let digest = blob.digest();
    match Verified::of_file(path, digest, blob.size()) {
        Ok(_) => Ok(()),
        Err(error) if error.is_damage() => Err(containerd::Error::Damaged { digest, place: path.display().to_string() }.into()),
        Err(error) => Err(error.into()),
    }
}
