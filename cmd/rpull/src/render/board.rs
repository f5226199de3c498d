//! What was heard so far, as far as something that is drawn later needs it. Of no particular screen.

use std::{collections::BTreeMap, sync::Arc};

use oci::Digest;
use progress::Event;

/// The state of a run. Without images of a name there is one that has none.
#[derive(Default)]
pub(super) struct Board {
    images: BTreeMap<Option<Arc<str>>, Image>,
    blobs: BTreeMap<Digest, Blob>,
}

/// One image.
#[derive(Default)]
pub(super) struct Image {
    /// Its layers, once they are known.
    pub(super) layers: usize,
}

/// One blob that crosses the network, however many images have it.
#[derive(Clone, Copy, Default)]
struct Blob {
    size: u64,
    fetched: bool,
}

impl Board {
    pub(super) fn hear(&mut self, image: Option<&Arc<str>>, event: &Event) {
        match event {
            Event::Planned { layers, to_fetch } => {
                self.images.entry(image.cloned()).or_default().layers = *layers;
                for (digest, size) in to_fetch {
                    self.blobs.entry(*digest).or_default().size = *size;
                }
            }
            Event::FetchStarted { blob, size, .. } => {
                *self.blobs.entry(*blob).or_default() = Blob { size: *size, fetched: true };
            }
            _ => {}
        }
    }

    /// Layers of an image.
    pub(super) fn layers(&self, image: Option<&Arc<str>>) -> usize {
        self.images.get(&image.cloned()).map_or(0, |image| image.layers)
    }

    /// Bytes of a blob that was fetched, by whichever image of the run.
    pub(super) fn fetched(&self, blob: Digest) -> Option<u64> {
        self.blobs.get(&blob).filter(|blob| blob.fetched).map(|blob| blob.size)
    }
}
