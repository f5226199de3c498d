//! Asks again: containerd for every blob and snapshot, the disk for every file. Nothing here is taken from the pull's memory.

use containerd::{Session, Store};
use oci::{Digest, Layer};

use crate::{
    Error,
    inventory::file_state,
    overlaybd::{self, LayerKind},
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
            let lazy = check_snapshot(self.session, self.snapshotter, layer, *kind).await?;
            if kind.links() {
                match directories.get(&layer.chain_id) {
                    Some(fs) if blob.path().is_some() => {
                        let state = file_state(fs.clone(), layer, Some(&blob)).await?;
                        if !state.is_right() {
                            return Err(unproved(
                                layer,
                                format!("{} in {} is not right: {state:?}", overlaybd::NAME, fs.display()),
                            ));
                        }
                    }
                    _ => self.check_weight(layer, lazy).await?,
                }
            }
            attached.push(Attached { digest: Some(digest), chain_id: layer.chain_id });
        }
        Ok(attached)
    }

    /// What a lazy pull can prove: the chain is committed, and the blobs that were unpacked were unpacked by containerd.
    pub(crate) async fn prove_chain(&self) -> Result<Vec<Attached>, Error> {
        let mut attached = Vec::with_capacity(self.layers.len());
        for (layer, kind) in self.layers.iter().zip(self.kinds) {
            check_snapshot(self.session, self.snapshotter, layer, *kind).await?;
            let digest = self.session.content(layer.descriptor.digest).await?.map(|content| content.digest);
            attached.push(Attached { digest, chain_id: layer.chain_id });
        }
        Ok(attached)
    }

    /// Where the directory is out of reach, the snapshotter's own count tells a whole layer from a lazy one.
    async fn check_weight(&self, layer: &Layer, lazy: bool) -> Result<(), Error> {
        let counted = self.session.usage(self.snapshotter, &layer.chain_id.to_string()).await?;
        if !lazy && counted + WRAPPER >= layer.descriptor.size() {
            return Ok(());
        }
        Err(unproved(layer, format!("it holds {counted} bytes of a layer of {}", layer.descriptor.size())))
    }
}

/// The look after the image record was set: is everything still there (safety 18)?
pub(crate) async fn still_there(session: &Session, snapshotter: &str, attached: &[Attached]) -> Result<(), Error> {
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

/// Is the layer's snapshot committed on the right parent, with labels that make the snapshotter treat it as what it is?
/// Answers whether it was committed lazily.
pub(crate) async fn check_snapshot(session: &Session, snapshotter: &str, layer: &Layer, kind: LayerKind) -> Result<bool, Error> {
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
    if let Some(label) = overlaybd::missing_label(&info.labels, layer, kind) {
        return Err(unproved(
            layer,
            format!("its label {label} is missing or of another layer; a device would not find the layer"),
        ));
    }
    Ok(overlaybd::is_lazy(&info.labels))
}

fn unproved(layer: &Layer, why: String) -> Error {
    Error::Unproved { what: format!("snapshot {}", layer.chain_id), why }
}
