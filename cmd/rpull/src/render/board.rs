//! What was heard so far, as far as something that is drawn later needs it. Of no particular screen.

use std::{collections::BTreeMap, sync::Arc};

use oci::Digest;
use progress::{Event, Written};

/// The state of a run. Without images of a name there is one that has none.
#[derive(Default)]
pub(super) struct Board {
    images: BTreeMap<Option<Arc<str>>, Image>,
    blobs: BTreeMap<Digest, Blob>,
    /// In the order in which they set out.
    under_way: Vec<Digest>,
    /// Why something had to be tried again, the last time.
    trouble: Option<String>,
}

/// One image whose plan stands.
#[derive(Default)]
pub(super) struct Image {
    /// Its layers.
    pub(super) layers: usize,
    /// Those that are committed.
    committed: usize,
    /// What the plan wants to fetch of it.
    blobs: Vec<Digest>,
}

/// One blob that crosses the network, however many images have it.
#[derive(Clone)]
struct Blob {
    size: u64,
    state: State,
}

/// A blob on its way.
pub(super) struct Fetching {
    pub(super) digest: Digest,
    pub(super) done: u64,
    pub(super) size: u64,
}

#[derive(Clone)]
enum State {
    Planned,
    Fetching(Written),
    Fetched,
    /// It came from somewhere else after all.
    Here,
}

impl Blob {
    fn done(&self) -> u64 {
        match &self.state {
            State::Planned => 0,
            State::Fetching(written) => written.bytes().min(self.size),
            State::Fetched | State::Here => self.size,
        }
    }
}

impl Board {
    pub(super) fn hear(&mut self, image: Option<&Arc<str>>, event: &Event) {
        match event {
            Event::Planned { layers, to_fetch } => {
                let blobs = to_fetch.iter().map(|(digest, _)| *digest).collect();
                self.images.insert(image.cloned(), Image { layers: *layers, committed: 0, blobs });
                for (digest, size) in to_fetch {
                    self.blobs.entry(*digest).or_insert(Blob { size: *size, state: State::Planned });
                }
            }
            Event::FetchStarted { blob, size, written, .. } => {
                self.blobs.insert(*blob, Blob { size: *size, state: State::Fetching(written.clone()) });
                self.under_way.retain(|other| other != blob);
                self.under_way.push(*blob);
            }
            Event::FetchFinished { blob } => {
                self.under_way.retain(|other| other != blob);
                if let Some(blob) = self.blobs.get_mut(blob) {
                    blob.state = State::Fetched;
                }
            }
            Event::LayerCommitted { blob, .. } => {
                if let Some(image) = self.images.get_mut(&image.cloned()) {
                    image.committed += 1;
                }
                if let Some(blob) = self.blobs.get_mut(blob).filter(|blob| !matches!(blob.state, State::Fetched)) {
                    blob.state = State::Here;
                }
            }
            Event::Retrying { cause, .. } => self.trouble = Some(cause.clone()),
            _ => {}
        }
    }

    /// The image will not be whole: what only it wants is waited for no longer.
    pub(super) fn forget(&mut self, image: &str) {
        let key = Some(Arc::from(image));
        let Some(gone) = self.images.remove(&key) else { return };
        for digest in gone.blobs {
            let wanted = self.images.values().any(|image| image.blobs.contains(&digest));
            let done = self.blobs.get(&digest).is_some_and(|blob| matches!(blob.state, State::Fetched | State::Here));
            if !wanted && !done {
                self.blobs.remove(&digest);
            }
        }
    }

    /// One image, once its plan stands.
    pub(super) fn image(&self, image: Option<&Arc<str>>) -> Option<&Image> {
        self.images.get(&image.cloned())
    }

    /// Bytes of a blob that was fetched, by whichever image of the run.
    pub(super) fn fetched(&self, blob: Digest) -> Option<u64> {
        self.blobs.get(&blob).filter(|blob| matches!(blob.state, State::Fetched)).map(|blob| blob.size)
    }

    /// Bytes that are here and bytes there will be, of all blobs to fetch.
    pub(super) fn bytes(&self) -> (u64, u64) {
        self.blobs.values().fold((0, 0), |(done, total), blob| (done + blob.done(), total + blob.size))
    }

    /// Blobs on their way, those first that set out first.
    pub(super) fn fetching(&self) -> Vec<Fetching> {
        let fetching = self.under_way.iter().filter_map(|digest| {
            let blob = self.blobs.get(digest).filter(|blob| matches!(blob.state, State::Fetching(_)))?;
            Some(Fetching { digest: *digest, done: blob.done(), size: blob.size })
        });
        fetching.collect()
    }

    /// Layers that are committed and layers there will be, of all images.
    pub(super) fn layers(&self) -> (usize, usize) {
        self.images.values().fold((0, 0), |(committed, layers), image| (committed + image.committed, layers + image.layers))
    }

    /// Each image whose plan stands, with its bytes; a blob that several have counts for each.
    pub(super) fn images(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        self.images.iter().filter_map(|(name, image)| {
            let blobs = image.blobs.iter().filter_map(|digest| self.blobs.get(digest));
            let (done, total) = blobs.fold((0, 0), |(done, total), blob| (done + blob.done(), total + blob.size));
            Some((name.as_deref()?, done, total))
        })
    }

    /// Why something had to be tried again, the last time.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The same, once.
    pub(super) fn take_trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }
}
