//! Carries a plan out: blobs arrive all at once, the chain is committed parent first as they do.

use std::{collections::HashMap, path::PathBuf};

use containerd::Committed;
use oci::{Digest, Layer};
use progress::{Event, Progress};
use tokio::task::JoinSet;

use crate::{
    Error,
    blobs::{Arrived, Blobs, Source},
    chain::{Chain, Standing},
    inventory::Here,
    overlaybd::{self, LayerKind},
    plan::{Action, LayerPlan, Origin, Plan},
};

/// A plan with everything needed to carry it out.
pub(crate) struct Work<'a> {
    pub(crate) blobs: Blobs,
    pub(crate) chain: Chain<'a>,
    pub(crate) plan: &'a Plan,
    pub(crate) here: &'a Here,
    pub(crate) progress: &'a Progress,
}

/// How one layer ended.
#[derive(Clone)]
pub(crate) struct Outcome {
    pub(crate) standing: Standing,
    /// How its blob came, when the plan had to bring it.
    pub(crate) arrived: Option<Arrived>,
    /// Its blob, when it was here before and nothing had to be done.
    pub(crate) kept: Option<Committed>,
}

impl Outcome {
    /// The layer's blob as content, if it is any.
    pub(crate) fn committed(&self) -> Option<&Committed> {
        self.arrived.as_ref().map(|arrived| &arrived.committed).or(self.kept.as_ref())
    }

    /// Does its data stay in the registry? Of a TurboOCI layer only the metadata is ever here.
    pub(crate) fn is_lazy(&self, kind: LayerKind) -> bool {
        self.standing == Standing::Lazy || kind == LayerKind::Turbo
    }
}

/// Blobs on their way and those that arrived. Dropping it cancels what is still on its way.
struct Arrivals {
    tasks: JoinSet<Result<(Digest, Arrived), Error>>,
    here: HashMap<Digest, Arrived>,
}

impl Work<'_> {
    /// Until the last layer is committed, or the first thing fails.
    pub(crate) async fn carry_out(&self) -> Result<Vec<Outcome>, Error> {
        let mut arrivals = self.set_out();
        let mut outcomes = Vec::with_capacity(self.plan.layers.len());
        for (layer, planned) in self.chain.layers.iter().zip(&self.plan.layers) {
            let outcome = Box::pin(self.finish(layer, planned, &mut arrivals)).await?;
            let (index, blob, lazy) = (layer.index, layer.descriptor.digest, outcome.is_lazy(planned.kind));
            self.progress.emit(&Event::LayerCommitted { index, blob, lazy });
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// Every blob that is needed sets out at once; which bytes come first is `transfer`'s business.
    fn set_out(&self) -> Arrivals {
        let mut arrivals = Arrivals { tasks: JoinSet::new(), here: HashMap::new() };
        for (layer, planned) in self.chain.layers.iter().zip(&self.plan.layers) {
            let (digest, size) = (layer.descriptor.digest, layer.descriptor.size());
            match planned.origin {
                _ if planned.action == Action::Keep => {}
                Origin::Remote | Origin::Layer(_) => {}
                Origin::Content => {
                    let committed = self.here.committed.get(&digest).expect("the plan was made from it").clone();
                    let arrived = Arrived { committed, source: Source::SameNamespace, resumed: 0 };
                    if arrivals.here.insert(digest, arrived.clone()).is_none() {
                        arrived.count(size, self.progress.meter());
                    }
                }
                Origin::Snapshot | Origin::Registry => {
                    let file = (planned.origin == Origin::Snapshot).then(|| self.file(layer)).flatten();
                    let (blobs, layer, kind) = (self.blobs.clone(), layer.clone(), planned.kind);
                    arrivals.tasks.spawn(async move {
                        let arrived = blobs.bring(&layer, kind, file).await?;
                        arrived.count(size, blobs.progress.meter());
                        Ok((digest, arrived))
                    });
                }
            }
        }
        arrivals
    }

    fn file(&self, layer: &Layer) -> Option<PathBuf> {
        self.here.directories.get(&layer.chain_id).map(|fs| fs.join(overlaybd::NAME))
    }

    async fn finish(&self, layer: &Layer, planned: &LayerPlan, arrivals: &mut Arrivals) -> Result<Outcome, Error> {
        if planned.action == Action::Keep {
            let kept = self.here.committed.get(&layer.descriptor.digest).cloned();
            let standing = match (planned.origin, self.here.file(layer.index)) {
                (_, Some(file)) if file.is_right() => Standing::Found { linked: *file == overlaybd::State::Linked },
                (Origin::Remote, _) if planned.kind.links() => Standing::Lazy,
                _ => Standing::Committed,
            };
            return Ok(Outcome { standing, arrived: None, kept });
        }
        let begun =
            if self.here.committed_snapshot(layer.index) { None } else { Some(self.chain.begin(layer, planned.kind).await?) };
        let arrived = match planned.origin {
            Origin::Remote => None,
            _ => Some(arrivals.wait_for(layer.descriptor.digest).await?),
        };
        let blob = arrived.as_ref().map(|arrived| &arrived.committed);
        let standing = match (begun, blob) {
            (Some(begun), blob) => self.chain.finish(begun, layer, planned.kind, blob).await?,
            (None, Some(blob)) if planned.kind.links() => {
                let fs = self.here.directories.get(&layer.chain_id).map(PathBuf::as_path);
                self.chain.attach(layer, blob, fs).await?
            }
            // Its snapshot only lacked the blob beneath it in the content store.
            (None, _) => Standing::Committed,
        };
        Ok(Outcome { standing, arrived, kept: None })
    }
}

impl Arrivals {
    async fn wait_for(&mut self, digest: Digest) -> Result<Arrived, Error> {
        while !self.here.contains_key(&digest) {
            let (digest, arrived) = self.tasks.join_next().await.expect("every blob of the plan set out")??;
            self.here.insert(digest, arrived);
        }
        Ok(self.here[&digest].clone())
    }
}
