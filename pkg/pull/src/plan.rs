//! Keep, attach or fetch: from an image and what is already here to what is to be done, without asking anyone.

use std::collections::HashMap;

use oci::{Digest, Layer};

use crate::overlaybd::{LayerKind, State};

/// What the content store of this namespace has of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing. Another namespace may hold it, which shows only when it is written.
    Absent,
    /// A blob of this many bytes.
    Held(u64),
}

/// What the snapshotter has of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Snapshot {
    /// Nothing committed under its chain id.
    Absent,
    /// A committed snapshot.
    Committed {
        /// Was it committed without its data? It may have got it since.
        lazy: bool,
        /// Its `overlaybd.commit`; `None` when its directory is not known or cannot be reached. Looked at for native layers only.
        file: Option<State>,
    },
}

/// What is already here of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inventory {
    /// Its blob.
    pub(crate) content: Content,
    /// Its snapshot.
    pub(crate) snapshot: Snapshot,
}

/// What is to be done for a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Nothing.
    Keep,
    /// Make its snapshot, or make it whole, from what is on this machine or needs no data.
    Attach,
    /// Fetch its blob, then attach it.
    Fetch,
}

/// Where a layer's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// In the content store of this namespace.
    Content,
    /// In the `overlaybd.commit` of this layer's snapshot, to be hashed and given back to the content store. If it turns out
    /// wrong, the blob has to be fetched after all.
    Snapshot,
    /// In the registry, to be fetched.
    Registry,
    /// The same blob as the layer at this position, whose bytes come first.
    Layer(usize),
    /// Not needed here: a lazy pull leaves them in the registry.
    Remote,
}

/// One layer of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LayerPlan {
    /// Its blob.
    pub(crate) digest: Digest,
    /// Its kind.
    pub(crate) kind: LayerKind,
    /// What is to be done.
    pub(crate) action: Action,
    /// Where its bytes come from.
    pub(crate) origin: Origin,
    /// Why, for people.
    pub(crate) why: String,
    /// Bytes to fetch for it.
    pub(crate) bytes: u64,
}

/// What is to be done for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Layers, bottom first, as in the image.
    pub(crate) layers: Vec<LayerPlan>,
}

impl Plan {
    /// Plans a pull; the three slices pair by position. `lazy` leaves the data of native layers in the registry.
    pub(crate) fn new(layers: &[Layer], kinds: &[LayerKind], inventory: &[Inventory], lazy: bool) -> Self {
        assert!(layers.len() == kinds.len() && layers.len() == inventory.len(), "kinds and inventory pair with layers");
        let rows = || layers.iter().zip(kinds).zip(inventory).map(|((layer, &kind), here)| (layer, kind, here));
        let mut sources = Sources::default();
        for (position, (layer, kind, here)) in rows().enumerate() {
            sources.offer_file(position, layer, kind, here);
        }
        let mut planned = Vec::with_capacity(layers.len());
        for (position, (layer, kind, here)) in rows().enumerate() {
            let (action, origin, why) = decide(position, layer, kind, here, lazy, &mut sources);
            let bytes = if origin == Origin::Registry { layer.descriptor.size() } else { 0 };
            planned.push(LayerPlan { digest: layer.descriptor.digest, kind, action, origin, why, bytes });
        }
        Self { layers: planned }
    }

    /// Is any byte of a layer to be written here, or at least linked?
    pub(crate) fn writes(&self) -> bool {
        self.layers.iter().any(|layer| layer.action != Action::Keep && layer.origin != Origin::Remote)
    }

    /// Blobs that will come over the network, unless another namespace or another image of the run brings them, each once.
    pub(crate) fn blobs_to_fetch(&self) -> Vec<(Digest, u64)> {
        let fetched = self.layers.iter().filter(|layer| layer.origin == Origin::Registry);
        fetched.map(|layer| (layer.digest, layer.bytes)).collect()
    }
}

/// The first layer that brings each blob which the content store does not hold: an image may have a blob several times.
#[derive(Default)]
struct Sources(HashMap<Digest, usize>);

impl Sources {
    /// A file in a snapshot spares a fetch for every layer with the same blob, also for those below it.
    fn offer_file(&mut self, position: usize, layer: &Layer, kind: LayerKind, here: &Inventory) {
        let file = matches!(&here.snapshot, Snapshot::Committed { file: Some(State::Unproved), .. });
        if kind.links() && file && here.content == Content::Absent {
            self.0.entry(layer.descriptor.digest).or_insert(position);
        }
    }

    fn bring(&mut self, position: usize, layer: &Layer) -> usize {
        *self.0.entry(layer.descriptor.digest).or_insert(position)
    }
}

type Decision = (Action, Origin, String);

fn decide(position: usize, layer: &Layer, kind: LayerKind, here: &Inventory, lazy: bool, sources: &mut Sources) -> Decision {
    if lazy && let Some(decision) = decide_lazy(kind, &here.snapshot) {
        return decision;
    }
    match here.content {
        Content::Held(size) if size == layer.descriptor.size() => {
            let (action, why) = with_content(kind, &here.snapshot);
            (action, Origin::Content, why)
        }
        content => without_content(position, layer, kind, here, content, sources),
    }
}

/// Lazily, a layer whose snapshot is committed is done, and a native one needs no data; others are unpacked as ever.
fn decide_lazy(kind: LayerKind, snapshot: &Snapshot) -> Option<Decision> {
    match snapshot {
        Snapshot::Committed { .. } => Some((Action::Keep, Origin::Remote, "its snapshot is committed".to_owned())),
        Snapshot::Absent if kind.links() => {
            Some((Action::Attach, Origin::Remote, "its data stays in the registry and is read lazily".to_owned()))
        }
        Snapshot::Absent => None,
    }
}

fn with_content(kind: LayerKind, snapshot: &Snapshot) -> (Action, String) {
    let (lazy, file) = match snapshot {
        Snapshot::Absent => return (Action::Attach, "its blob is in the content store".to_owned()),
        Snapshot::Committed { .. } if !kind.links() => {
            return (Action::Keep, "its snapshot is committed and its blob in the content store".to_owned());
        }
        Snapshot::Committed { lazy, file } => (*lazy, file),
    };
    match file {
        Some(State::Linked) => (Action::Keep, "its snapshot is committed and linked to its blob".to_owned()),
        Some(State::Copy { linkable: false } | State::Unwrapped { linkable: false }) => {
            (Action::Keep, "its snapshot is committed and has its own copy, which no link can replace".to_owned())
        }
        Some(State::Copy { .. } | State::Unwrapped { .. }) => {
            (Action::Attach, "its snapshot has a second copy, which a link replaces".to_owned())
        }
        Some(State::Missing) => (Action::Attach, "its snapshot is lazy, its blob is in the content store".to_owned()),
        Some(State::Unproved) => (Action::Attach, "its snapshot's file has yet to be compared with its blob".to_owned()),
        Some(State::Wrong { why }) => (Action::Attach, format!("its snapshot's file is wrong: {why}")),
        None if lazy => (Action::Attach, "its snapshot was committed lazily".to_owned()),
        None => (Action::Keep, "its snapshot is committed; its directory cannot be seen from here".to_owned()),
    }
}

fn without_content(
    position: usize,
    layer: &Layer,
    kind: LayerKind,
    here: &Inventory,
    content: Content,
    sources: &mut Sources,
) -> Decision {
    let first = sources.bring(position, layer);
    if first != position {
        return (Action::Attach, Origin::Layer(first), format!("it is the same blob as layer {}", first + 1));
    }
    let why = match (&here.snapshot, content) {
        (Snapshot::Committed { file: Some(State::Unproved), .. }, Content::Absent) if kind.links() => {
            let why = "its blob is gone from the content store, its snapshot still has a file of that size";
            return (Action::Attach, Origin::Snapshot, why.to_owned());
        }
        (_, Content::Held(size)) => {
            format!("the content store has {size} bytes under its digest instead of {}", layer.descriptor.size())
        }
        (Snapshot::Absent, _) => "it is not here".to_owned(),
        (Snapshot::Committed { file: Some(State::Wrong { why }), .. }, _) if kind.links() => {
            format!("its snapshot's file cannot be proved: {why}")
        }
        (Snapshot::Committed { lazy, file }, _) if kind.links() && (*lazy || *file == Some(State::Missing)) => {
            "its snapshot is lazy, its data in the registry".to_owned()
        }
        (Snapshot::Committed { .. }, _) => "its snapshot is committed, its blob is gone from the content store".to_owned(),
    };
    (Action::Fetch, Origin::Registry, why)
}

#[cfg(test)]
mod tests {
    use oci::{Descriptor, MediaType};

    use super::*;

    fn layers(blobs: &[&str]) -> Vec<Layer> {
        let layer = |(index, blob): (usize, &&str)| {
            let digest = Digest::of(blob.as_bytes());
            let descriptor = Descriptor::new(MediaType::new(MediaType::OCI_LAYER), digest, 100 + blob.len() as u64).unwrap();
            Layer { index, descriptor, diff_id: digest, chain_id: digest, parent: None }
        };
        blobs.iter().enumerate().map(layer).collect()
    }

    fn plan(blobs: &[&str], kind: LayerKind, inventory: &[(Content, Snapshot)], lazy: bool) -> Plan {
        let inventory: Vec<_> = inventory.iter().cloned().map(|(content, snapshot)| Inventory { content, snapshot }).collect();
        Plan::new(&layers(blobs), &vec![kind; blobs.len()], &inventory, lazy)
    }

    fn committed(lazy: bool, file: impl Into<Option<State>>) -> Snapshot {
        Snapshot::Committed { lazy, file: file.into() }
    }

    const HELD: Content = Content::Held(101);
    const ABSENT: Content = Content::Absent;

    fn bytes(plan: &Plan) -> u64 {
        plan.blobs_to_fetch().iter().map(|(_, size)| size).sum()
    }

    #[test]
    fn one_layer_is_kept_attached_or_fetched() {
        use Action::{Attach, Fetch, Keep};
        use LayerKind::{Acceleration, Native, Plain, Turbo};
        let wrong = || State::Wrong { why: "it has 3 bytes".to_owned() };
        let rows = [
            // A full pull of a native layer.
            (Native, false, ABSENT, Snapshot::Absent, Fetch, Origin::Registry),
            (Native, false, HELD, Snapshot::Absent, Attach, Origin::Content),
            (Native, false, HELD, committed(false, State::Linked), Keep, Origin::Content),
            (Native, false, HELD, committed(true, State::Linked), Keep, Origin::Content),
            (Native, false, HELD, committed(false, State::Copy { linkable: false }), Keep, Origin::Content),
            (Native, false, HELD, committed(false, State::Copy { linkable: true }), Attach, Origin::Content),
            (Native, false, HELD, committed(false, State::Unwrapped { linkable: true }), Attach, Origin::Content),
            (Native, false, HELD, committed(true, State::Missing), Attach, Origin::Content),
            (Native, false, HELD, committed(false, wrong()), Attach, Origin::Content),
            (Native, false, HELD, committed(true, None), Attach, Origin::Content),
            (Native, false, HELD, committed(false, None), Keep, Origin::Content),
            (Native, false, ABSENT, committed(true, State::Missing), Fetch, Origin::Registry),
            (Native, false, ABSENT, committed(false, State::Unproved), Attach, Origin::Snapshot),
            (Native, false, ABSENT, committed(false, wrong()), Fetch, Origin::Registry),
            (Native, false, ABSENT, committed(false, None), Fetch, Origin::Registry),
            (Native, false, Content::Held(7), committed(false, State::Unproved), Fetch, Origin::Registry),
            // Layers that are unpacked have no file to look at.
            (Plain, false, ABSENT, Snapshot::Absent, Fetch, Origin::Registry),
            (Plain, false, HELD, Snapshot::Absent, Attach, Origin::Content),
            (Plain, false, HELD, committed(false, None), Keep, Origin::Content),
            (Plain, false, ABSENT, committed(false, None), Fetch, Origin::Registry),
            (Acceleration, false, HELD, committed(false, None), Keep, Origin::Content),
            // A lazy pull.
            (Native, true, ABSENT, Snapshot::Absent, Attach, Origin::Remote),
            (Native, true, ABSENT, committed(true, None), Keep, Origin::Remote),
            (Native, true, HELD, committed(false, State::Linked), Keep, Origin::Remote),
            (Turbo, true, ABSENT, Snapshot::Absent, Fetch, Origin::Registry),
            (Turbo, true, HELD, Snapshot::Absent, Attach, Origin::Content),
            (Turbo, true, ABSENT, committed(false, None), Keep, Origin::Remote),
            (Plain, true, ABSENT, Snapshot::Absent, Fetch, Origin::Registry),
        ];
        for (kind, lazy, content, snapshot, action, origin) in rows {
            let name = format!("{kind:?} lazy={lazy} {content:?} {snapshot:?}");
            let plan = plan(&["a"], kind, &[(content, snapshot)], lazy);
            assert_eq!((plan.layers[0].action, plan.layers[0].origin), (action, origin), "{name}");
            assert_eq!(bytes(&plan), if action == Fetch { 101 } else { 0 }, "{name}");
            assert!(!plan.layers[0].why.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_blob_that_occurs_twice_is_fetched_once() {
        let absent = (ABSENT, Snapshot::Absent);
        let plan = plan(&["a", "b", "a"], LayerKind::Native, &[absent.clone(), absent.clone(), absent], false);
        let actions: Vec<_> = plan.layers.iter().map(|layer| layer.action).collect();
        assert_eq!(actions, [Action::Fetch, Action::Fetch, Action::Attach]);
        assert_eq!(bytes(&plan), 202);
        assert_eq!((plan.layers[2].action, plan.layers[2].origin), (Action::Attach, Origin::Layer(0)));
    }

    #[test]
    fn a_file_in_an_upper_snapshot_spares_the_fetch_below() {
        let here = [(ABSENT, committed(true, State::Missing)), (ABSENT, committed(false, State::Unproved))];
        let plan = plan(&["a", "a"], LayerKind::Native, &here, false);
        assert_eq!(bytes(&plan), 0);
        assert_eq!(plan.layers.iter().map(|layer| layer.origin).collect::<Vec<_>>(), [Origin::Layer(1), Origin::Snapshot]);
    }

    #[test]
    fn a_complete_image_needs_nothing() {
        let whole = (HELD, committed(false, State::Linked));
        let plan = plan(&["a", "b"], LayerKind::Native, &[whole.clone(), whole], false);
        assert!(plan.layers.iter().all(|layer| layer.action == Action::Keep));
        assert_eq!(bytes(&plan), 0);
    }
}
