//! What a pull would do, without doing it.
//!
//! Documents are resolved and not written, snapshots looked at by Views that are removed, no blob is fetched, hashed or taken. So two
//! things stay open until the pull itself: whether what another namespace has is the blob, and what another client does meanwhile.

use std::sync::{Arc, Mutex, PoisonError};

use containerd::{Notice, Store};
use oci::{Descriptor, Digest, Layer, Reference};
use serde::Serialize;

use crate::{
    Error, Puller, StoreUse, blocking, inventory,
    overlaybd::{self, LayerKind},
    plan::{Action, Origin, Plan},
    resolve::{self, Found},
    space::{self, Room},
};

/// A pull that was not done.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    /// Version of this form.
    pub v: u32,
    /// Name of the image record.
    pub reference: String,
    /// containerd namespace.
    pub namespace: String,
    /// Snapshotter.
    pub snapshotter: String,
    /// What the image record would point at.
    pub target: Digest,
    /// The manifest that would be pulled.
    pub manifest: Digest,
    /// The store that would be used, and why.
    pub store: StoreUse,
    /// Layers, bottom first.
    pub layers: Vec<PlannedLayer>,
    /// Layer bytes that would come over the network.
    pub network: u64,
    /// Every filesystem that would be written to.
    pub space: Vec<Room>,
    /// What is no failure but worth knowing.
    pub warnings: Vec<String>,
}

/// What would be done for one layer.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedLayer {
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Name of its snapshot.
    pub chain_id: Digest,
    /// Its kind: `native`, `acceleration`, `plain`, `turbo`.
    pub kind: &'static str,
    /// What would be done.
    pub action: PlannedAction,
    /// Bytes of it that would come over the network.
    pub network: u64,
    /// Why, for people.
    pub why: String,
}

/// What would be done for a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PlannedAction {
    /// Nothing: it is whole.
    Keep,
    /// Its snapshot made, or made whole, from what is on this machine or needs no data.
    Attach,
    /// Its blob fetched, then attached.
    Fetch,
}

impl Planned {
    /// Version of the form this library writes; raised when a field changes its meaning or goes.
    pub const VERSION: u32 = 1;

    /// What the pull would fail with for lack of room.
    pub fn shortage(&self) -> Option<Error> {
        self.space.iter().find(|room| room.is_short()).map(Room::shortage)
    }
}

impl Puller {
    /// Finds out what [`Puller::pull`] would do, and leaves nothing behind. As there, the future may be dropped at any time and
    /// [`Puller::abandon`] then clears away what it made to look.
    ///
    /// # Errors
    /// Those of a pull up to its first byte, but for the lack of room, which is part of the plan.
    pub async fn plan(&self, reference: &Reference) -> Result<Planned, Error> {
        self.session.stat(&self.options.snapshotter, "").await?;
        let repository = self.registry.repository(reference)?;
        let found = resolve::resolve(&self.engine, &repository, reference, self.options.platform.as_ref()).await?;
        let kinds = overlaybd::classify(&found.image.layers, self.options.lazy)?;
        Box::pin(self.looking(&format!("plan {reference}"), self.plan_found(reference, &found, &kinds))).await
    }

    /// The store, opened to its end also when nobody waits for it any more.
    async fn open(&self) -> Result<Opened, Error> {
        let (session, options) = (self.session.clone(), Arc::clone(&self.options));
        let open = async move { session.open_store(options.store, options.spool_dir.as_deref()).await.map(Opened) };
        self.scratch.to_its_end(open).await
    }

    async fn plan_found(&self, reference: &Reference, found: &Found, kinds: &[LayerKind]) -> Result<Planned, Error> {
        let Self { session, options, probe, .. } = self;
        let (image, snapshotter) = (&found.image, options.snapshotter.as_str());
        let rotten: Arc<Mutex<Vec<Digest>>> = Arc::default();
        let heard = Arc::clone(&rotten);
        let opened = self.open().await?;
        let store = opened.0.clone().watched(move |notice| {
            if let Notice::Rotten { digest, .. } = notice {
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(digest);
            }
        });
        let here = inventory::look(session, &store, probe, snapshotter, &image.layers, kinds).await?;
        let plan = Plan::new(&image.layers, kinds, &here.layers, options.lazy);
        let snapshots = if plan.writes() { probe.answers().await? } else { None };
        let rotten = std::mem::take(&mut *rotten.lock().unwrap_or_else(PoisonError::into_inner));
        let (layers, looked_at) = (image.layers.clone(), store.clone());
        let (layers, space) = blocking(move || {
            let rows = rows(&looked_at, &layers, &plan, &rotten)?;
            let fetches =
                |(layer, row): (&Layer, &PlannedLayer)| (row.action == PlannedAction::Fetch).then(|| layer.descriptor.clone());
            let fetches: Vec<Descriptor> = layers.iter().zip(&rows).filter_map(fetches).collect();
            let rooms = space::rooms(&looked_at, &layers, &plan, &fetches, snapshots.as_deref())?;
            Ok((rows, rooms))
        })
        .await?;
        Ok(Planned {
            v: Planned::VERSION,
            reference: reference.name().to_owned(),
            namespace: session.namespace().to_string(),
            snapshotter: snapshotter.to_owned(),
            target: image.target.digest,
            manifest: image.manifest.digest,
            store: StoreUse { mode: store.mode().as_str(), why: store.why().to_owned() },
            network: layers.iter().map(|layer| layer.network).sum(),
            layers,
            space,
            warnings: found.warnings.clone(),
        })
    }
}

/// A store whose spool was opened to look: if nothing is in the spool, it goes with the look, however that ends.
struct Opened(Store);

impl Drop for Opened {
    fn drop(&mut self) {
        if let Err(error) = self.0.spool().remove_if_empty() {
            tracing::info!(%error, "spool not removed");
        }
    }
}

/// The plan, and what the disk has to say to it. Blocking.
fn rows(store: &Store, layers: &[Layer], plan: &Plan, rotten: &[Digest]) -> Result<Vec<PlannedLayer>, Error> {
    let row = |(layer, planned): (&Layer, &crate::plan::LayerPlan)| {
        let blob = &layer.descriptor;
        let fetched = planned.origin == Origin::Registry;
        let (action, why) = if fetched && rotten.contains(&blob.digest) {
            (planned.action, "its blob in the content store has other bytes".to_owned())
        } else if fetched && store.is_elsewhere(blob) {
            (Action::Attach, "another namespace has a blob of its size, which is taken if its bytes are right".to_owned())
        } else {
            (planned.action, planned.why.clone())
        };
        let left = if action == Action::Fetch { store.spool().recorded(blob)?.min(blob.size()) } else { 0 };
        let network = if action == Action::Fetch { blob.size() - left } else { 0 };
        let why = if left > 0 { format!("{why}; an earlier run left {left} bytes of it") } else { why };
        Ok(PlannedLayer {
            digest: blob.digest,
            size: blob.size(),
            chain_id: layer.chain_id,
            kind: planned.kind.name(),
            action: match action {
                Action::Keep => PlannedAction::Keep,
                Action::Attach => PlannedAction::Attach,
                Action::Fetch => PlannedAction::Fetch,
            },
            network,
            why,
        })
    };
    layers.iter().zip(&plan.layers).map(row).collect()
}
