//! The story of one pull, in order: resolve, plan, fetch, commit the chain, prove, publish, check again, receipt.

use std::{
    path::PathBuf,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use containerd::{ImageRecord, Labels, Notice, Session, Store};
use oci::Reference;
use progress::{Event, Progress, Step, Subject};
use registry::{Registry, Repository};
use tokio::time::Instant;
use transfer::Engine;

use crate::{
    Error, Options, Receipt,
    blobs::Blobs,
    blocking,
    chain::{Chain, Standing},
    documents, inventory,
    overlaybd::{self, LayerKind},
    plan::{Origin, Plan},
    probe::Probe,
    receipt::{self, Incidents, StoreUse, Times},
    records,
    resolve::{self, Found},
    scratch::Scratch,
    space,
    turns::Turns,
    verify::{Damages, Documents, Report},
    work::{Outcome, Work},
};

/// Pulls images into one containerd namespace, one after the other; [`Puller::another`] pulls at the same time. Cheap to clone.
#[derive(Clone)]
pub struct Puller {
    pub(crate) session: Session,
    pub(crate) registry: Registry,
    pub(crate) engine: Engine,
    pub(crate) options: Arc<Options>,
    pub(crate) progress: Progress,
    pub(crate) scratch: Scratch,
    pub(crate) probe: Probe,
    pub(crate) publishing: Arc<AtomicBool>,
    /// It only looks: nothing that it made is worth a lease.
    pub(crate) looks: Arc<AtomicBool>,
    turns: Turns,
}

impl Puller {
    /// Wires the parts of a run together; nothing is asked of anyone yet.
    pub fn new(session: Session, registry: Registry, engine: Engine, options: Options, progress: Progress) -> Self {
        Self::with(session, registry, engine, Arc::new(options), progress, Turns::default())
    }

    /// A puller for another image at the same time, told of to `progress`: the same connections and limits, a lease and unfinished
    /// snapshots of its own. A blob that both images have is fetched once.
    #[must_use]
    pub fn another(&self, progress: Progress) -> Self {
        let Self { session, registry, engine, options, turns, .. } = self;
        let engine = engine.telling(progress.clone());
        Self::with(session.another(), registry.clone(), engine, Arc::clone(options), progress, turns.clone())
    }

    fn with(
        session: Session,
        registry: Registry,
        engine: Engine,
        options: Arc<Options>,
        progress: Progress,
        turns: Turns,
    ) -> Self {
        let scratch = Scratch::new(session.clone(), options.snapshotter.clone());
        let probe = Probe::new(session.clone(), scratch.clone(), options.snapshotter.clone());
        Self {
            session,
            registry,
            engine,
            options,
            progress,
            scratch,
            probe,
            publishing: Arc::default(),
            looks: Arc::default(),
            turns,
        }
    }

    /// Pulls one image, whole or not at all: the receipt is only made after everything was asked again and found right.
    /// The future may be dropped at any time; [`Puller::abandon`] then clears away what is unfinished.
    ///
    /// # Errors
    /// No image record was made, or it is what it was; finished layers stay under a lease for the next run.
    pub async fn pull(&self, reference: &Reference) -> Result<Receipt, Error> {
        self.to_its_end(Box::pin(self.pull_resolved(reference))).await
    }

    /// Pulls what `record` points at, whatever the registry says of its name by now, and mends before what `report` names.
    pub(crate) async fn pull_recorded(&self, reference: &Reference, record: &ImageRecord, report: &Report) -> Result<(), Error> {
        self.to_its_end(Box::pin(self.mend_recorded(reference, record, report))).await.map(drop)
    }

    async fn to_its_end(&self, pull: impl Future<Output = Result<Receipt, Error>>) -> Result<Receipt, Error> {
        let outcome = pull.await;
        if outcome.is_err() {
            for left in self.abandon().await {
                self.progress.emit(&Event::Warning { text: format!("unfinished {left} could not be removed") });
            }
        }
        outcome
    }

    /// Asks the snapshotter itself for a sign of life; containerd knows only that it was configured.
    ///
    /// # Errors
    /// There is no such snapshotter, or it does not answer.
    pub async fn snapshotter_answers(&self) -> Result<(), Error> {
        self.probe.answers().await.map(drop)
    }

    /// Has the image record been set, or is it about to be? From then on the pull is over in a few calls, and is better waited for
    /// than dropped: it decides itself whether the record stays.
    pub fn is_publishing(&self) -> bool {
        self.publishing.load(Ordering::Relaxed)
    }

    /// Removes every active snapshot, probe and ingest of ours, after a look also its lease. Names what could not be removed.
    pub async fn abandon(&self) -> Vec<String> {
        // Snapshots first: one that is still active keeps a lease alive that holds nothing else.
        let left = self.scratch.clear().await;
        let mut left: Vec<_> = left.into_iter().map(|key| format!("snapshot {key}")).collect();
        self.abort_ingests().await;
        if self.looks.load(Ordering::Relaxed)
            && let Err(error) = self.session.release_lease().await
        {
            left.push(format!("its lease ({error})"));
        }
        left
    }

    async fn abort_ingests(&self) {
        if let Err(error) = self.session.abort_ingests().await {
            tracing::info!(%error, "ingests not removed");
        }
    }

    async fn pull_resolved(&self, reference: &Reference) -> Result<Receipt, Error> {
        // A snapshotter that containerd does not know is found out before anything crosses the network.
        self.session.stat(&self.options.snapshotter, "").await?;
        let clock = Clock::start();
        let repository = self.registry.repository(reference)?;
        let resolving = resolve::resolve(&self.engine, &repository, reference, self.options.platform.as_ref());
        let found = self.progress.step(Step::Resolve, Subject::Image(reference.name().to_owned()), resolving).await?;
        Box::pin(self.pull_found(reference, repository, found, clock, None)).await
    }

    async fn mend_recorded(&self, reference: &Reference, record: &ImageRecord, report: &Report) -> Result<Receipt, Error> {
        let clock = Clock::start();
        let repository = self.registry.repository(reference)?;
        let store = self.session.open_store(self.options.store, self.options.spool_dir.as_deref()).await?;
        let reader = self.reader(&store, Some((&self.engine, &repository)));
        let Documents { fetched, warnings, image, .. } = reader.read(record).await?;
        let image = image.expect("what is not right here was asked of the registry");
        let document_bytes = fetched.iter().map(|(document, _)| document.size()).sum();
        let found = Found { image, warnings, document_bytes };
        let damages = Damages::new(report, fetched);
        Box::pin(self.pull_found(reference, repository, found, clock, Some(damages))).await
    }

    /// The rest of a pull, its image known.
    async fn pull_found(
        &self,
        reference: &Reference,
        repository: Repository,
        found: Found,
        clock: Clock,
        damages: Option<Damages>,
    ) -> Result<Receipt, Error> {
        let kinds = overlaybd::classify(&found.image.layers, self.options.lazy)?;
        let resolved = clock.seconds();
        self.progress.meter().add_source("documents", found.document_bytes);
        self.progress.emit(&Event::Resolved { reference: reference.name().to_owned(), target: found.image.target.digest });
        self.session.lease(self.options.lease_expiry, found.image.manifest.digest).await?;
        let warnings = Arc::default();
        let pull = Pull { puller: self, reference, repository, found, kinds, damages, warnings, clock, resolved };
        let mut work = pin!(pull.run());
        let receipt = tokio::select! {
            receipt = &mut work => receipt?,
            Err(error) = self.session.keep_lease() => {
                if !self.is_publishing() {
                    return Err(error.into());
                }
                work.await?
            }
        };
        // Another client may have finished a blob first, while ours was just being opened.
        self.abort_ingests().await;
        // The image is whole and held by its record: a lease that stays until it expires is no reason to say otherwise.
        if let Err(error) = self.session.release_lease().await {
            self.progress.emit(&Event::Warning { text: format!("the lease of this pull could not be deleted: {error}") });
        }
        Ok(receipt)
    }
}

/// When a pull began.
struct Clock {
    started: jiff::Timestamp,
    monotonic: Instant,
}

impl Clock {
    fn start() -> Self {
        Self { started: jiff::Timestamp::now(), monotonic: Instant::now() }
    }

    fn seconds(&self) -> f64 {
        self.monotonic.elapsed().as_secs_f64()
    }
}

/// One pull under way, its image known.
pub(crate) struct Pull<'a> {
    pub(crate) puller: &'a Puller,
    pub(crate) reference: &'a Reference,
    repository: Repository,
    pub(crate) found: Found,
    pub(crate) kinds: Vec<LayerKind>,
    /// What is to be mended first.
    damages: Option<Damages>,
    warnings: Arc<Mutex<Vec<String>>>,
    clock: Clock,
    resolved: f64,
}

impl Pull<'_> {
    async fn run(&self) -> Result<Receipt, Error> {
        let Puller { session, options, scratch, probe, progress, engine, turns, .. } = self.puller;
        let (image, snapshotter) = (&self.found.image, options.snapshotter.as_str());
        let store = self.open_store().await?;
        let blobs = Blobs {
            store: store.clone(),
            engine: engine.clone(),
            repository: self.repository.clone(),
            progress: progress.clone(),
            turns: turns.clone(),
            source: records::distribution_source(self.reference, &Labels::new()).into_iter().collect(),
            warnings: Arc::clone(&self.warnings),
        };
        if let Some(damages) = &self.damages {
            Box::pin(self.mend(&store, &blobs, damages)).await?;
        }
        let planning = async {
            let here = inventory::look(session, &store, probe, snapshotter, &image.layers, &self.kinds).await?;
            let plan = Plan::new(&image.layers, &self.kinds, &here.layers, options.lazy);
            self.sweep(&store).await;
            if plan.writes() {
                let snapshots = probe.answers().await?;
                self.check_space(&store, &plan, snapshots).await?;
            }
            Ok((here, plan))
        };
        let (here, plan) = self.step(Step::Plan, planning).await?;
        progress.emit(&Event::Planned { layers: plan.layers.len(), to_fetch: plan.blobs_to_fetch() });
        documents::write(session, self.reference, image).await?;
        let chain = Chain {
            session,
            scratch,
            probe,
            snapshotter,
            layers: &image.layers,
            image_ref: self.reference.name(),
            lazy: options.lazy,
            progress,
        };
        let work = Work { blobs, chain, plan: &plan, here: &here, progress };
        let outcomes = self.step(Step::Layers, work.carry_out()).await?;
        let layers_done = self.clock.seconds();
        self.label(&outcomes).await?;
        self.publish(&store).await?;
        self.tidy(&store, &outcomes).await;
        Ok(self.receipt(&store, &plan, &outcomes, layers_done))
    }

    pub(crate) fn step<T>(
        &self,
        step: Step,
        work: impl Future<Output = Result<T, Error>>,
    ) -> impl Future<Output = Result<T, Error>> {
        self.puller.progress.step(step, Subject::Image(self.reference.name().to_owned()), work)
    }

    async fn open_store(&self) -> Result<Store, Error> {
        let Puller { session, options, progress, .. } = self.puller;
        let store = session.open_store(options.store, options.spool_dir.as_deref()).await?;
        let (progress, warnings) = (progress.clone(), Arc::clone(&self.warnings));
        Ok(store.watched(move |notice| {
            let text = match notice {
                Notice::Waiting { digest, reference, offset } => {
                    let whom = format!("another client that writes {reference} ({offset} bytes so far)");
                    return progress.emit(&Event::Waiting { blob: digest, whom });
                }
                Notice::Rotten { digest, file } => {
                    format!("{} does not hold the bytes of {digest}; the blob is fetched again", file.display())
                }
                Notice::Replaced { file, .. } => format!("{} was replaced by the proved blob", file.display()),
                Notice::Fallback { digest, why } => format!("{digest} went through the api store: {why}"),
                _ => return,
            };
            let mut warnings = warnings.lock().unwrap_or_else(PoisonError::into_inner);
            // A file is looked at again after a wait, and found as it was.
            if !warnings.contains(&text) {
                progress.emit(&Event::Warning { text: text.clone() });
                warnings.push(text);
            }
        }))
    }

    /// Is there room for everything still to come? Asked before the first byte, with both numbers in the error.
    async fn check_space(&self, store: &Store, plan: &Plan, snapshots: Option<PathBuf>) -> Result<(), Error> {
        let layers = self.found.image.layers.iter().zip(&plan.layers);
        let mut fetches: Vec<_> =
            layers.filter(|(_, planned)| planned.origin == Origin::Registry).map(|(layer, _)| layer.descriptor.clone()).collect();
        let mut looked_at = 0;
        loop {
            let (store_here, layers, plan, blobs) =
                (store.clone(), self.found.image.layers.clone(), plan.clone(), fetches.clone());
            let snapshots = snapshots.clone();
            let room = blocking(move || space::check(&store_here, &layers, &plan, &blobs, snapshots.as_deref())).await;
            let (Err(short @ Error::NoSpace { .. }), Some(blob)) = (&room, fetches.get(looked_at)) else { return room };
            tracing::debug!(%short, blob = %blob.digest, "does another namespace hold it?");
            // That would cost no room.
            if store.adopt(blob, &Labels::new()).await?.is_some() {
                fetches.remove(looked_at);
            } else {
                looked_at += 1;
            }
        }
    }

    /// The labels containerd's own pull sets when a layer is done (reference 5.4), where they did not come with its blob.
    async fn label(&self, outcomes: &[Outcome]) -> Result<(), Error> {
        let Puller { session, options, .. } = self.puller;
        let image = &self.found.image;
        for (layer, outcome) in image.layers.iter().zip(outcomes) {
            if outcome.standing != Standing::Lazy && session.content(layer.descriptor.digest).await?.is_some() {
                documents::label(session, self.reference, &layer.descriptor, records::layer_labels(layer)).await?;
            }
        }
        let labels = records::config_labels(&options.snapshotter, &image.layers);
        documents::label(session, self.reference, &image.config, labels).await
    }

    fn receipt(&self, store: &Store, plan: &Plan, outcomes: &[Outcome], layers_done: f64) -> Receipt {
        let Puller { session, options, progress, .. } = self.puller;
        let image = &self.found.image;
        let dropped = |(layer, kind): (&oci::Layer, &LayerKind)| {
            let dropped = overlaybd::snapshot_labels(layer, *kind, self.reference.name(), options.lazy).dropped;
            (!dropped.is_empty()).then_some((layer.descriptor.digest, dropped))
        };
        let tally = progress.meter().tally();
        let mut warnings = self.found.warnings.clone();
        warnings.append(&mut self.warnings.lock().unwrap_or_else(PoisonError::into_inner));
        Receipt {
            v: Receipt::VERSION,
            reference: self.reference.name().to_owned(),
            names: self.names(),
            namespace: session.namespace().to_string(),
            snapshotter: options.snapshotter.clone(),
            target: image.target.digest,
            manifest: image.manifest.digest,
            config: image.config.digest,
            complete: !options.lazy,
            store: StoreUse { mode: store.mode().as_str(), why: store.why().to_owned() },
            layers: receipt::layers(&image.layers, plan, outcomes),
            bytes: receipt::bytes(&image.layers, outcomes, &tally, self.found.document_bytes),
            transfer: Incidents {
                retries: tally.retries,
                stalls: tally.stalls.total(),
                stalls_by_rule: tally.stalls,
                refetched: tally.refetched,
            },
            times: Times {
                started: self.clock.started.to_string(),
                resolve: self.resolved,
                layers: layers_done,
                total: self.clock.seconds(),
            },
            dropped_annotations: image.layers.iter().zip(&self.kinds).filter_map(dropped).collect(),
            warnings,
        }
    }
}
