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
    /// Name of its committed snapshot (image spec, config.md "Layer `ChainID`").
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
        if manifest.layers.len() != diff_ids.len() {
            return Err(Error::DiffIds { manifest: manifest_digest, layers: manifest.layers.len(), diff_ids: diff_ids.len() });
        }
        let chain = chain_ids(diff_ids);
        let pairs = manifest.layers.iter().zip(diff_ids).enumerate();
        Ok(pairs
            .map(|(index, (descriptor, &diff_id))| Layer {
                index,
                descriptor: descriptor.clone(),
                diff_id,
                chain_id: chain[index],
                parent: index.checked_sub(1).map(|below| chain[below]),
            })
            .collect())
    }
}

/// `chain[0] = diff[0]`, `chain[i] = sha256(chain[i-1] + " " + diff[i])` over the texts (reference 6.1).
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for &diff_id in diff_ids {
        chain.push(match chain.last() {
            None => diff_id,
            Some(parent) => Digest::of(format!("{parent} {diff_id}").as_bytes()),
        });
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MediaType;

    fn digest(text: &str) -> Digest {
        text.parse().unwrap()
    }

    /// Of a real image; the chain id below was computed with `sha256sum`.
    const DIFF_IDS: [&str; 2] = [
        "sha256:a8b5fca80efae55088290f3da8110d7742de55c2a378d5ab53226a483f390e21",
        "sha256:dd64da15debdb86181624f8b7903379cd974a3ac5bf672f78b7453713f197d7c",
    ];

    fn manifest(layers: &[Digest]) -> Manifest {
        let descriptor = |digest| Descriptor::new(MediaType::new(MediaType::OCI_LAYER), digest, 10).unwrap();
        Manifest { config: descriptor(Digest::of(b"config")), layers: layers.iter().copied().map(descriptor).collect() }
    }

    #[test]
    fn a_chain_id_covers_everything_below() {
        let diff_ids = DIFF_IDS.map(digest);
        let chain = chain_ids(&diff_ids);
        assert_eq!(chain[0], diff_ids[0]);
        assert_eq!(chain[1], digest("sha256:05dd6dc6dd752e528205f8f1d4b1b7953e56507263ce356a374ef2370db00074"));
        assert!(chain_ids(&[]).is_empty());
    }

    #[test]
    fn layers_know_their_parent() {
        let blobs = [Digest::of(b"a"), Digest::of(b"b")];
        let diff_ids = DIFF_IDS.map(digest);
        let layers = Image::layers(Digest::of(b"m"), &manifest(&blobs), &diff_ids).unwrap();
        assert_eq!(layers[0].parent, None);
        assert_eq!(layers[1].parent, Some(layers[0].chain_id));
        assert_eq!((layers[1].index, layers[1].diff_id, layers[1].descriptor.digest), (1, diff_ids[1], blobs[1]));
    }

    #[test]
    fn a_layer_may_come_twice() {
        let blob = Digest::of(b"a");
        let diff_id = digest(DIFF_IDS[0]);
        let layers = Image::layers(Digest::of(b"m"), &manifest(&[blob, blob]), &[diff_id, diff_id]).unwrap();
        assert_ne!(layers[0].chain_id, layers[1].chain_id);
    }

    #[test]
    fn layers_without_diff_ids_are_refused_with_both_counts() {
        let error = Image::layers(Digest::of(b"m"), &manifest(&[Digest::of(b"a")]), &[]).unwrap_err();
        assert!(error.to_string().ends_with("has 1 layers and its config 0 diff ids"), "{error}");
    }
}
