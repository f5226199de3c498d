//! A pull held in the middle for as long as a test likes: its lower layers are committed, the last is not to be had.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use oci::MediaType;
use testkit::{
    fault::{Content, Fault, Server},
    image::{Blob, Image, Index, Layer},
};

use crate::stage::{COMMITTED, Output, Running, Stage, chain_of, eventually, finish, start};

/// An image behind an index, and a server that says "later" for its last layer until it is opened.
pub(crate) struct Gated {
    pub(crate) image: Image,
    pub(crate) index: Index,
    pub(crate) reference: String,
    open: Arc<AtomicBool>,
    _server: Server,
}

impl Gated {
    pub(crate) fn new(seed: u64) -> Self {
        let small = [seed, seed + 1].map(|seed| Layer::overlaybd(Blob { seed, data: 64 << 10 }));
        let last = Layer::overlaybd(Blob { seed: seed + 2, data: 256 << 10 });
        let size = last.size;
        let image = Image::new(small.into_iter().chain([last]).collect());
        let index = Index::new(vec![image.clone()]);
        let open = Arc::new(AtomicBool::new(false));
        let gate = Arc::clone(&open);
        let mut server = Server::builder()
            .manifest("1", MediaType::OCI_INDEX, &index.bytes())
            .manifest("amd64", image.media_type(), &image.manifest())
            .faults(move |request| {
                let closed = request.size == size && !gate.load(Ordering::Relaxed);
                // Two seconds, eight times: what a test does meanwhile takes far less.
                closed.then(|| Fault::Status { code: 503, retry_after: Some("2".to_owned()) })
            });
        for bytes in image.layers().iter().map(Layer::bytes).chain([image.config()]) {
            server = server.blob(&Content::bytes(bytes));
        }
        let server = server.start();
        let reference = format!("{}/gated:1", server.address());
        Self { image, index, reference, open, _server: server }
    }

    /// Begins a pull and waits until nothing but the last layer is missing; its snapshot is prepared already.
    pub(crate) fn begin(&self, stage: &Stage, flags: &[&str]) -> Running {
        let child = self.spawn(stage, flags);
        let lower = &chain_of(&self.image)[1];
        eventually(|| stage.snapshot(lower)).expect("the lower layers are committed");
        eventually(|| self.active(stage)).expect("the last snapshot is prepared");
        child
    }

    /// Begins a pull.
    pub(crate) fn spawn(&self, stage: &Stage, flags: &[&str]) -> Running {
        start(&mut stage.command(flags.iter().copied().chain(["--platform", "linux/amd64", &self.reference])))
    }

    /// The key of the last layer's snapshot while it is not committed.
    pub(crate) fn active(&self, stage: &Stage) -> Option<String> {
        let top = chain_of(&self.image).pop();
        let unfinished = stage.snapshots().into_iter().filter(|info| info.kind != COMMITTED);
        unfinished.map(|info| info.name).find(|name| top.as_ref().is_some_and(|top| name.ends_with(top.as_str())))
    }

    /// From now on the last layer is to be had.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Relaxed);
    }

    /// Pulls, and does `meanwhile` in the middle.
    pub(crate) fn pull(&self, stage: &Stage, meanwhile: impl FnOnce()) -> Output {
        let child = self.begin(stage, &[]);
        meanwhile();
        self.open();
        finish(child)
    }

    /// Pulls what another run left unfinished; nobody meddles.
    pub(crate) fn pull_again(&self, stage: &Stage, flags: &[&str]) -> serde_json::Value {
        self.open();
        let receipt = stage.pull(flags.iter().copied().chain(["--platform", "linux/amd64", &self.reference]));
        stage.assert_whole(&self.reference, &self.image);
        receipt
    }
}
