//! What is already here of an image: asked of containerd and the disk, put under the lease as it is found.

use std::{collections::HashMap, path::PathBuf};

use containerd::{Committed, Labels, Session, Store};
use oci::{Digest, Layer};

use crate::{
    Error, blocking,
    overlaybd::{self, LayerKind, State},
    plan::{Content, Inventory, Snapshot},
    probe::{Directories, Probe},
    suspect,
};

/// Everything found.
pub(crate) struct Here {
    /// One per layer, for the plan.
    pub(crate) layers: Vec<Inventory>,
    /// Blobs this namespace holds.
    pub(crate) committed: HashMap<Digest, Committed>,
    /// Directories of the committed snapshots; empty when they cannot be reached.
    pub(crate) directories: Directories,
}

impl Here {
    /// What the layer's file is, where its snapshot is committed and in reach.
    pub(crate) fn file(&self, index: usize) -> Option<&State> {
        match &self.layers[index].snapshot {
            Snapshot::Committed { file, .. } => file.as_ref(),
            Snapshot::Absent => None,
        }
    }

    /// Is the snapshot of the layer at this position committed?
    pub(crate) fn committed_snapshot(&self, index: usize) -> bool {
        self.layers[index].snapshot != Snapshot::Absent
    }
}

/// Looks at every layer. Whatever is found is held by the session's lease from then on.
pub(crate) async fn look(
    session: &Session,
    store: &Store,
    probe: &Probe,
    snapshotter: &str,
    layers: &[Layer],
    kinds: &[LayerKind],
) -> Result<Here, Error> {
    let mut committed = HashMap::new();
    for layer in layers {
        if let Some(found) = store.present(&layer.descriptor).await? {
            committed.insert(layer.descriptor.digest, found);
        }
    }
    let snapshots = committed_snapshots(session, snapshotter, layers).await?;
    let chain: Vec<Digest> = layers[..snapshots.len()].iter().map(|layer| layer.chain_id).collect();
    let natives = kinds[..snapshots.len()].iter().any(|kind| kind.links());
    let directories = if natives { probe.directories(&chain).await? } else { Directories::new() };
    let mut found = Vec::with_capacity(layers.len());
    for (layer, kind) in layers.iter().zip(kinds) {
        let blob = committed.get(&layer.descriptor.digest);
        let content = blob.map_or(Content::Absent, |blob| Content::Held(blob.size()));
        let snapshot = match snapshots.get(layer.index) {
            None => Snapshot::Absent,
            Some(labels) => {
                let lazy = overlaybd::is_lazy(labels);
                let directory = directories.get(&layer.chain_id).filter(|_| kind.links());
                let mut file = match directory {
                    Some(fs) => Some(file_state(fs.clone(), layer, blob).await?),
                    None => None,
                };
                if let Some(State::Unwrapped { linkable }) = &mut file
                    && overlaybd::missing_label(labels, layer, *kind).is_some()
                {
                    // Unpacked from a re-compressed copy: without the labels the snapshotter goes by the file's first bytes
                    // (reference 7.3), which the wrapped blob does not have.
                    *linkable = false;
                }
                Snapshot::Committed { lazy, file }
            }
        };
        found.push(Inventory { content, snapshot });
    }
    Ok(Here { layers: found, committed, directories })
}

/// The labels of each committed snapshot of the chain from the bottom. The first gap ends the chain, for a snapshot without its
/// parent cannot be.
async fn committed_snapshots(session: &Session, snapshotter: &str, layers: &[Layer]) -> Result<Vec<Labels>, Error> {
    let mut committed = Vec::new();
    for layer in layers {
        let name = layer.chain_id.to_string();
        if session.stat(snapshotter, &name).await?.is_none() {
            break;
        }
        // An older containerd leases nothing when a snapshot is found (safety 19): add it, then look again.
        match session.hold_snapshot(snapshotter, &name).await {
            Ok(()) => {}
            Err(containerd::Error::Gone { .. }) => break,
            Err(error) => return Err(error.into()),
        }
        let Some(info) = session.stat(snapshotter, &name).await? else { break };
        committed.push(info.labels);
    }
    Ok(committed)
}

/// How the layer's file in `fs` stands to its blob, as far as there is one to compare with.
pub(crate) async fn file_state(fs: PathBuf, layer: &Layer, blob: Option<&Committed>) -> Result<State, Error> {
    let (size, blob) = (layer.descriptor.size(), blob.cloned());
    blocking(move || {
        let opened = blob.as_ref().map(suspect::open).transpose()?.flatten();
        let (Some(blob), Some((original, payload))) = (&blob, opened) else { return Ok(overlaybd::glance(&fs, size)?) };
        let state = overlaybd::state(&fs, &original, payload)?;
        if matches!(state, State::Wrong { .. }) {
            // One of the two is bad, and so far nobody has looked which: a good file must not be replaced by a rotten blob.
            suspect::acquit(blob)?;
        }
        Ok(state)
    })
    .await
}
