//! What a document says of a blob before anyone has seen it.

use std::collections::BTreeMap;

use crate::{Digest, Error, MediaType, Platform};

/// No blob is larger (safety 20): a size above is a lie or a mistake, and would reserve the disk.
pub const MAX_BLOB_SIZE: u64 = 1 << 40;

/// An OCI descriptor (image spec, descriptor.md): media type, digest, size in bytes, annotations.
/// `size` is at least 1 and at most [`MAX_BLOB_SIZE`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// Media type as written, without parameters.
    pub media_type: MediaType,
    /// Digest of the bytes.
    pub digest: Digest,
    size: u64,
    /// Annotations as written; nobody outside `pull::overlaybd` acts on them.
    pub annotations: BTreeMap<String, String>,
    /// Platform of a manifest in an index.
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// A descriptor without annotations or platform.
    ///
    /// # Errors
    /// [`Error::Size`] for 0 and for more than [`MAX_BLOB_SIZE`].
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Result<Self, Error> {
        if size == 0 || size > MAX_BLOB_SIZE {
            return Err(Error::Size { digest, size: size.to_string() });
        }
        Ok(Self { media_type, digest, size, annotations: BTreeMap::new(), platform: None })
    }

    /// Size in bytes, 1 to [`MAX_BLOB_SIZE`].
    pub fn size(&self) -> u64 {
        self.size
    }
}
