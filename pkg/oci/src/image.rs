//! One image as a pull sees it: documents with their bytes, layers with their chain ids.

use crate::{Descriptor, Digest, Error, Index, Manifest};

/// One layer of an image.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Position, 0 is the bottom.
    pub index: usize,
    /// Its blob.
    pub descriptor: Descriptor,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Name of its committed snapshot (image spec, config.md "Layer ChainID").
    pub chain_id: Digest,
    /// Chain id of the layer below.
    pub parent: Option<Digest>,
}

/// An image resolved for one platform. Documents are kept as the exact bytes the registry gave: their digests name them.
#[derive(Clone, Debug)]
pub struct Image {
    /// What the reference points at: the index if there is one, else the manifest.
    pub target: Descriptor,
    /// The index and its bytes, when the reference pointed at one.
    pub index: Option<(Index, Vec<u8>)>,
    /// The manifest's descriptor.
    pub manifest: Descriptor,
    /// The manifest's bytes.
    pub manifest_bytes: Vec<u8>,
    /// The config's descriptor.
    pub config: Descriptor,
    /// The config's bytes.
    pub config_bytes: Vec<u8>,
    /// Layers, bottom first.
    pub layers: Vec<Layer>,
}

impl Image {
    /// Pairs layers with diff ids and computes the chain.
    ///
    /// # Errors
    /// [`Error::DiffIds`] when the counts differ (reference 6.1).
    pub fn layers(manifest_digest: Digest, manifest: &Manifest, diff_ids: &[Digest]) -> Result<Vec<Layer>, Error> {
        let _ = (manifest_digest, manifest, diff_ids);
        todo!()
    }
}

/// `chain[0] = diff[0]`, `chain[i] = sha256(chain[i-1] + " " + diff[i])` over the texts (reference 6.1).
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let _ = diff_ids;
    todo!()
}
