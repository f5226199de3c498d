//! The step of a repair that a pull does not have: what is damaged is put right, good bytes first (safety 22).

use std::{collections::BTreeSet, path::PathBuf};

use containerd::Store;
use oci::{Descriptor, Digest, Layer};
use progress::Event;

use super::report::{Damage, Part, Place, Report};
use crate::{
    Error,
    blobs::Blobs,
    blocking,
    overlaybd::{self, LayerKind},
    probe::Directories,
    run::Pull,
    suspect,
};

/// What a repair has to put right before it goes on as a pull does.
pub(crate) struct Damages {
    /// Documents that are not right here, with their bytes.
    pub(crate) documents: Vec<(Descriptor, Vec<u8>)>,
    /// The layers with what is wrong with them; `None`, when nobody knew before which there are.
    layers: Option<Vec<Part>>,
}

impl Damages {
    pub(crate) fn new(report: &Report, documents: Vec<(Descriptor, Vec<u8>)>) -> Self {
        let layers = report.parts.iter().filter(|part| matches!(part.place, Place::Layer { .. }));
        Self { documents, layers: report.layers_known.then(|| layers.cloned().collect()) }
    }
}

/// What has to be done about layers.
struct Needed {
    /// Blobs that are missing or wrong.
    blobs: BTreeSet<Digest>,
    /// Position of the lowest layer whose snapshot has to be made anew.
    lowest: Option<usize>,
}

impl Needed {
    fn new(layers: &[Part]) -> Self {
        let anew = |part: &Part| match part.place {
            Place::Layer { index, .. } if part.damage.iter().any(|it| matches!(it, Damage::Snapshot { .. })) => Some(index),
            _ => None,
        };
        let bad = layers.iter().filter(|part| part.damage.iter().any(Damage::is_of_content));
        Self { blobs: bad.map(|part| part.digest).collect(), lowest: layers.iter().filter_map(anew).min() }
    }
}

impl Pull<'_> {
    /// Puts content right, then takes away the snapshots that have to be made anew: the pull that follows makes them.
    pub(crate) async fn mend(&self, store: &Store, blobs: &Blobs, damages: &Damages) -> Result<(), Error> {
        self.hold_everything().await?;
        for (descriptor, bytes) in &damages.documents {
            blobs.renew_document(descriptor, bytes.clone()).await?;
        }
        let directories = self.directories().await?;
        let needed = match &damages.layers {
            None => Needed::new(&self.puller.look(store, false).at(&self.found.image.layers, &self.kinds, &mut |_| ()).await?),
            Some(layers) => Needed::new(layers),
        };
        let layers = &self.found.image.layers;
        let mut replaced = false;
        for (layer, kind) in layers.iter().zip(&self.kinds) {
            // The same blob may be several layers.
            let first = layers.iter().position(|other| other.descriptor.digest == layer.descriptor.digest);
            if needed.blobs.contains(&layer.descriptor.digest) && first == Some(layer.index) {
                replaced |= self.mend_blob(store, blobs, layer, *kind, &directories).await?;
            }
        }
        if replaced {
            let text = "a container that runs on this image keeps the old files until it is started again".to_owned();
            self.puller.progress.emit(&Event::Warning { text });
        }
        if let Some(lowest) = needed.lowest {
            self.clear_snapshots(lowest).await?;
        }
        Ok(())
    }

    /// Puts all that is here of the image under the lease: what a document holds must not go while the document is replaced.
    async fn hold_everything(&self) -> Result<(), Error> {
        let (session, image) = (&self.puller.session, &self.found.image);
        let documents = [&image.target, &image.manifest, &image.config];
        let gone = |outcome: Result<(), containerd::Error>| match outcome {
            Err(error) if !error.is_gone() => Err(Error::from(error)),
            _ => Ok(()),
        };
        for blob in documents.into_iter().chain(image.layers.iter().map(|layer| &layer.descriptor)) {
            gone(session.hold_content(blob.digest).await)?;
        }
        for layer in &image.layers {
            gone(session.hold_snapshot(&self.puller.options.snapshotter, &layer.chain_id.to_string()).await)?;
        }
        Ok(())
    }

    /// Directories of the chain, as far up as it is sound.
    async fn directories(&self) -> Result<Directories, Error> {
        let (session, options) = (&self.puller.session, &self.puller.options);
        let mut chain = Vec::new();
        for layer in &self.found.image.layers {
            if crate::proof::check_snapshot(session, &options.snapshotter, layer).await.is_err() {
                break;
            }
            chain.push(layer.chain_id);
        }
        if self.kinds.iter().any(|kind| kind.links()) {
            self.puller.probe.directories(&chain).await
        } else {
            Ok(Directories::new())
        }
    }

    /// Puts one blob right, and every file that is or should be the same. Did something else stand in a device's place before?
    async fn mend_blob(
        &self,
        store: &Store,
        blobs: &Blobs,
        layer: &Layer,
        kind: LayerKind,
        directories: &Directories,
    ) -> Result<bool, Error> {
        let layers = self.found.image.layers.iter().filter(|other| other.descriptor.digest == layer.descriptor.digest);
        let files: Vec<PathBuf> =
            layers.filter_map(|layer| directories.get(&layer.chain_id)).map(|fs| fs.join(overlaybd::NAME)).collect();
        let before = store.inode(layer.descriptor.digest);
        let blob = blobs.renew(&layer.descriptor, kind, files).await?;
        let Some(fs) = directories.values().next().filter(|_| kind.links()).cloned() else { return Ok(false) };
        let digest = layer.descriptor.digest;
        blocking(move || {
            let Some((original, payload)) = suspect::open(&blob)? else { return Ok(false) };
            let mut replaced = false;
            for fs in overlaybd::standing_on(&fs, digest, before)? {
                let old = before.is_some() && before != Some(original.inode()) && overlaybd::file_inode(&fs) == before;
                // A lazy layer of somebody else is no damage, nor is a copy of his own, nor a directory that goes just now.
                let wrong = || matches!(overlaybd::state(&fs, &original, payload), Ok(overlaybd::State::Wrong { .. }));
                if old || wrong() {
                    overlaybd::place(&fs, &original, payload)?;
                    replaced = true;
                }
            }
            Ok(replaced)
        })
        .await
    }

    /// Removes the snapshots from the top of the image down to the layer at `lowest`; one that something else stands on stays.
    async fn clear_snapshots(&self, lowest: usize) -> Result<(), Error> {
        let (session, snapshotter) = (&self.puller.session, self.puller.options.snapshotter.as_str());
        for layer in self.found.image.layers[lowest..].iter().rev() {
            session.remove(snapshotter, &layer.chain_id.to_string()).await.map_err(|source| -> Error {
                match source {
                    containerd::Error::Refused { .. } => {
                        Error::InUse { chain_id: layer.chain_id, layer: layer.descriptor.digest, source: source.into() }
                    }
                    other => other.into(),
                }
            })?;
        }
        Ok(())
    }
}
