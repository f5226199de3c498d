//! Asks again: containerd for every blob and snapshot, the disk for every file. Nothing here is taken from the pull's memory.

use std::path::Path;

use containerd::{Committed, Labels, Session, Store};
use oci::{Digest, Image, Layer};

use crate::{
    Error,
    inventory::file_state,
    overlaybd::{self, LayerKind, State},
    probe::{Directories, Probe},
};

/// Bytes by which the file in a snapshot may be smaller than its blob: the tar around the payload, with generous padding.
const WRAPPER: u64 = 64 << 10;

/// A layer that was asked for again and found whole. Only [`prove`] makes one, and only with all of them an image is published.
#[derive(Debug)]
pub(crate) struct Attached {
    /// Its blob; `None` when a lazy pull left it in the registry.
    digest: Option<Digest>,
    chain_id: Digest,
}

/// What is proved, and against whom.
pub(crate) struct Prover<'a> {
    pub(crate) session: &'a Session,
    pub(crate) store: &'a Store,
    pub(crate) probe: &'a Probe,
    pub(crate) snapshotter: &'a str,
    pub(crate) layers: &'a [Layer],
    pub(crate) kinds: &'a [LayerKind],
}

impl Prover<'_> {
    /// Proves every layer (safety 13, 14, 16).
    pub(crate) async fn prove(&self) -> Result<Vec<Attached>, Error> {
        let chain: Vec<Digest> = self.layers.iter().map(|layer| layer.chain_id).collect();
        let natives = self.kinds.iter().any(|kind| kind.links());
        let directories = if natives { self.probe.directories(&chain).await? } else { Directories::new() };
        let mut attached = Vec::with_capacity(self.layers.len());
        for (layer, kind) in self.layers.iter().zip(self.kinds) {
            let digest = layer.descriptor.digest;
            let Some(blob) = self.store.present(&layer.descriptor).await? else {
                return Err(Error::Gone { what: format!("content {digest}") });
            };
            let labels = check_snapshot(self.session, self.snapshotter, layer).await?;
            match directories.get(&layer.chain_id).filter(|_| kind.links() && blob.path().is_some()) {
                Some(fs) => check_file(fs, layer, &blob, &labels).await?,
                None => check_weight(self.session, self.snapshotter, layer, *kind, &labels).await?,
            }
            attached.push(Attached { digest: Some(digest), chain_id: layer.chain_id });
        }
        Ok(attached)
    }

    /// What a lazy pull can prove: the chain is committed, and the blobs that were unpacked were unpacked by containerd.
    pub(crate) async fn prove_chain(&self) -> Result<Vec<Attached>, Error> {
        let mut attached = Vec::with_capacity(self.layers.len());
        for layer in self.layers {
            check_snapshot(self.session, self.snapshotter, layer).await?;
            let digest = self.session.content(layer.descriptor.digest).await?.map(|content| content.digest);
            attached.push(Attached { digest, chain_id: layer.chain_id });
        }
        Ok(attached)
    }
}

/// The look after the image record was set: is everything still there (safety 18)?
pub(crate) async fn still_there(session: &Session, snapshotter: &str, image: &Image, attached: &[Attached]) -> Result<(), Error> {
    for document in [&image.target, &image.manifest, &image.config] {
        if session.content(document.digest).await?.is_none() {
            return Err(Error::Gone { what: format!("content {}", document.digest) });
        }
    }
    for layer in attached {
        if let Some(digest) = layer.digest
            && session.content(digest).await?.is_none()
        {
            return Err(Error::Gone { what: format!("content {digest}") });
        }
        if session.stat(snapshotter, &layer.chain_id.to_string()).await?.is_none() {
            return Err(Error::Gone { what: format!("snapshot {}", layer.chain_id) });
        }
    }
    Ok(())
}

/// Is the native layer's file right, and does the snapshotter know what it is?
async fn check_file(fs: &Path, layer: &Layer, blob: &Committed, labels: &Labels) -> Result<(), Error> {
    let state = file_state(fs.to_owned(), layer, Some(blob)).await?;
    if !state.is_right() {
        return Err(unproved(layer, format!("{} in {} is {state}", overlaybd::NAME, fs.display())));
    }
    match overlaybd::missing_label(labels, layer, LayerKind::Native) {
        // The snapshotter recognises an unpacked layer by its first bytes; a wrapped one only by the labels (reference 7.3).
        Some(label) if !matches!(state, State::Unwrapped { .. }) => Err(unusable(
            layer,
            format!("its label {label} is missing or another layer's, so that no device would find its file"),
        )),
        _ => Ok(()),
    }
}

/// Where no file can be looked at, the snapshot must at least not be lazy, and a native one weigh what its layer does.
pub(crate) async fn check_weight(
    session: &Session,
    snapshotter: &str,
    layer: &Layer,
    kind: LayerKind,
    labels: &Labels,
) -> Result<(), Error> {
    if overlaybd::is_lazy(labels) {
        return Err(unusable(layer, "it was committed lazily, its data is in the registry".to_owned()));
    }
    if !kind.links() {
        return Ok(());
    }
    let counted = session.usage(snapshotter, &layer.chain_id.to_string()).await?;
    if counted + WRAPPER >= layer.descriptor.size() {
        return Ok(());
    }
    Err(unusable(layer, format!("it holds {counted} bytes of a layer of {}", layer.descriptor.size())))
}

/// Is the layer's snapshot committed, on the right parent? Answers its labels.
pub(crate) async fn check_snapshot(session: &Session, snapshotter: &str, layer: &Layer) -> Result<Labels, Error> {
    let Some(info) = session.stat(snapshotter, &layer.chain_id.to_string()).await? else {
        return Err(Error::Gone { what: format!("snapshot {}", layer.chain_id) });
    };
    let parent = layer.parent.map(|parent| parent.to_string()).unwrap_or_default();
    if !info.committed {
        return Err(unproved(layer, "it is not committed".to_owned()));
    }
    if info.parent != parent {
        return Err(unproved(layer, format!("its parent is {:?} instead of {parent:?}", info.parent)));
    }
    Ok(info.labels)
}

fn unusable(layer: &Layer, why: String) -> Error {
    Error::Unusable { chain_id: layer.chain_id, layer: layer.descriptor.digest, why }
}

fn unproved(layer: &Layer, why: String) -> Error {
    Error::Unproved { what: format!("snapshot {}", layer.chain_id), why }
}
