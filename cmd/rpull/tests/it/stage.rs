//! A real containerd with a registry and an overlaybd snapshotter around it, rpull run on it as a user runs it, and an
//! independent client to ask containerd how it stands afterwards.

mod running;

use std::{
    ffi::OsStr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use containerd_client::services::v1::{
    GetImageRequest, Image as Record, InfoRequest, ListContentRequest, ListImagesRequest, ListRequest,
    content_client::ContentClient,
    images_client::ImagesClient,
    leases_client::LeasesClient,
    snapshots::{ListSnapshotsRequest, StatSnapshotRequest, snapshots_client::SnapshotsClient},
};
pub(crate) use containerd_client::services::v1::{Info as ContentInfo, snapshots::Info as SnapshotInfo};
use serde_json::Value;
use testkit::{
    Containerd, ContainerdOptions, Daemon, Daemons, DistributionRegistry, Snapshotter,
    image::{Blob, Image, Layer},
};
use tokio::runtime::Runtime;
use tonic::{Code, Request, Status, transport::Channel};

pub(crate) use self::running::{Output, Running, assert_for_people, eventually, finish, run, start};

/// containerd's own name for the snapshotter.
pub(crate) const OVERLAYBD: &str = "overlaybd";

/// Kind of a committed snapshot on the wire.
pub(crate) const COMMITTED: i32 = 3;

/// A place to pull to, with a namespace of its own. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Stage {
    hall: Arc<Hall>,
    namespace: String,
}

/// The processes behind a stage.
struct Hall {
    // Dropped in this order: containerd goes before what is plugged into it.
    client: Client,
    containerd: Containerd,
    snapshotter: Snapshotter,
    registry: DistributionRegistry,
}

struct Client {
    channel: Channel,
    runtime: Runtime,
}

/// Halls in use, by daemon: tests that run at the same time share one, and the last to end takes it down.
static HALLS: Mutex<Vec<(String, Weak<Hall>)>> = Mutex::new(Vec::new());

/// The oldest and the newest daemon there is.
pub(crate) fn daemons() -> Vec<Daemon> {
    let mut daemons = Daemons::available();
    let last = daemons.pop();
    daemons.into_iter().take(1).chain(last).collect()
}

/// Runs the story on the oldest and the newest daemon, in the namespace (and repository) `name` of a shared stage.
pub(crate) fn on_each_daemon(name: &str, story: impl Fn(Stage)) {
    for daemon in daemons() {
        say(&format!("on containerd {}", daemon.label));
        story(Stage::shared(&daemon, name));
    }
}

/// Tells whoever reads the test's output.
#[expect(clippy::print_stderr, reason = "shown when the test fails")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

impl Stage {
    /// A stage nobody else uses.
    pub(crate) fn on(daemon: &Daemon) -> Self {
        Self::with(daemon, ContainerdOptions::default())
    }

    /// A stage nobody else uses, with containerd's options; the overlaybd snapshotter is plugged in unless one is named.
    pub(crate) fn with(daemon: &Daemon, options: ContainerdOptions) -> Self {
        Self { hall: Arc::new(Hall::new(daemon, options)), namespace: "default".to_owned() }
    }

    /// A stage that other tests use too; only what is in its namespace is this test's, and blobs that other tests have as well
    /// may come from their namespaces.
    pub(crate) fn shared(daemon: &Daemon, namespace: &str) -> Self {
        let mut halls = HALLS.lock().unwrap_or_else(PoisonError::into_inner);
        let known = halls.iter().find(|(label, _)| *label == daemon.label).and_then(|(_, hall)| hall.upgrade());
        let hall = known.unwrap_or_else(|| Arc::new(Hall::new(daemon, ContainerdOptions::default())));
        halls.retain(|(label, _)| *label != daemon.label);
        halls.push((daemon.label.clone(), Arc::downgrade(&hall)));
        Self { hall, namespace: namespace.to_owned() }
    }

    /// The same stage seen from another namespace.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self.clone() }
    }

    /// The same stage, from another namespace from now on.
    pub(crate) fn moved_to(self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self }
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn containerd(&self) -> &Containerd {
        &self.hall.containerd
    }

    pub(crate) fn snapshotter(&self) -> &Snapshotter {
        &self.hall.snapshotter
    }

    pub(crate) fn registry(&self) -> &DistributionRegistry {
        &self.hall.registry
    }

    /// To kill and restart it; only on a stage of one's own, not cloned.
    pub(crate) fn containerd_mut(&mut self) -> &mut Containerd {
        &mut Arc::get_mut(&mut self.hall).expect("nobody else is on this stage").containerd
    }

    /// To kill and restart it; only on a stage of one's own, not cloned.
    pub(crate) fn snapshotter_mut(&mut self) -> &mut Snapshotter {
        &mut Arc::get_mut(&mut self.hall).expect("nobody else is on this stage").snapshotter
    }

    /// To kill and restart it; only on a stage of one's own, not cloned.
    pub(crate) fn registry_mut(&mut self) -> &mut DistributionRegistry {
        &mut Arc::get_mut(&mut self.hall).expect("nobody else is on this stage").registry
    }

    /// rpull with this stage's containerd and namespace, plain HTTP, and nothing of the environment.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = crate::rpull();
        command.arg("--address").arg(self.containerd().address()).args(["--plain-http", "--namespace", &self.namespace]);
        command.args(args);
        command
    }

    /// Runs rpull to its end.
    pub(crate) fn rpull<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        run(&mut self.command(args))
    }

    /// Runs rpull, which must succeed; its receipt.
    pub(crate) fn pull<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Value {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let file = directory.path().join("receipt.json");
        run(self.command(args).arg("--receipt").arg(&file)).succeeds();
        let text = std::fs::read(&file).expect("a pull that succeeded wrote its receipt");
        serde_json::from_slice(&text).expect("a receipt is JSON")
    }

    /// Runs the daemon's `ctr` in this namespace; its standard output.
    pub(crate) fn ctr<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        let namespace = ["--namespace", &self.namespace].map(Into::into);
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
        self.containerd().ctr_ok(namespace.into_iter().chain(args).collect::<Vec<std::ffi::OsString>>())
    }

    /// Deletes an image and waits for the garbage collector.
    pub(crate) fn remove_image(&self, name: &str) {
        self.ctr(["images", "rm", "--sync", name]);
    }

    /// Has the garbage collector run to its end: what was removed is off the disk then, too.
    pub(crate) fn collect(&self) {
        static COLLECTIONS: AtomicU64 = AtomicU64::new(0);
        let lease = format!("collect-{}", COLLECTIONS.fetch_add(1, Ordering::Relaxed));
        self.ctr(["leases", "create", "--id", &lease]);
        self.ctr(["leases", "rm", "--sync", &lease]);
    }

    /// What this namespace knows of a blob.
    pub(crate) fn content(&self, digest: &str) -> Option<ContentInfo> {
        let ask = InfoRequest { digest: digest.to_owned() };
        let info = self.ask(|channel, request| async move { ContentClient::new(channel).info(request).await }, ask);
        found(info).and_then(|reply| reply.info)
    }

    /// Digests of all blobs of this namespace, sorted.
    pub(crate) fn contents(&self) -> Vec<String> {
        let list = |channel, request| async move {
            let mut stream = ContentClient::new(channel).list(request).await?.into_inner();
            let mut all = Vec::new();
            while let Some(reply) = stream.message().await? {
                all.extend(reply.info.into_iter().map(|info| info.digest));
            }
            Ok(tonic::Response::new(all))
        };
        let mut all = found(self.ask(list, ListContentRequest { filters: Vec::new() })).unwrap_or_default();
        all.sort_unstable();
        all
    }

    /// Where containerd keeps a blob.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        self.containerd().content_root().join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }

    /// A snapshot of the overlaybd snapshotter by key or chain id.
    pub(crate) fn snapshot(&self, key: &str) -> Option<SnapshotInfo> {
        self.snapshot_of(OVERLAYBD, key)
    }

    /// A snapshot by key or chain id.
    pub(crate) fn snapshot_of(&self, snapshotter: &str, key: &str) -> Option<SnapshotInfo> {
        let ask = StatSnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() };
        let info = self.ask(|channel, request| async move { SnapshotsClient::new(channel).stat(request).await }, ask);
        found(info).and_then(|reply| reply.info)
    }

    /// All snapshots of a snapshotter in this namespace, by key.
    pub(crate) fn snapshots_of(&self, snapshotter: &str) -> Vec<SnapshotInfo> {
        let list = |channel, request| async move {
            let mut stream = SnapshotsClient::new(channel).list(request).await?.into_inner();
            let mut all = Vec::new();
            while let Some(reply) = stream.message().await? {
                all.extend(reply.info);
            }
            Ok(tonic::Response::new(all))
        };
        let ask = ListSnapshotsRequest { snapshotter: snapshotter.to_owned(), filters: Vec::new() };
        let mut all: Vec<SnapshotInfo> = found(self.ask(list, ask)).unwrap_or_default();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// All overlaybd snapshots of this namespace.
    pub(crate) fn snapshots(&self) -> Vec<SnapshotInfo> {
        self.snapshots_of(OVERLAYBD)
    }

    /// An image record.
    pub(crate) fn image(&self, name: &str) -> Option<Record> {
        let ask = GetImageRequest { name: name.to_owned() };
        let image = self.ask(|channel, request| async move { ImagesClient::new(channel).get(request).await }, ask);
        found(image).and_then(|reply| reply.image)
    }

    /// Names of all image records of this namespace.
    pub(crate) fn images(&self) -> Vec<String> {
        let ask = ListImagesRequest { filters: Vec::new() };
        let list = self.ask(|channel, request| async move { ImagesClient::new(channel).list(request).await }, ask);
        found(list).map(|reply| reply.images.into_iter().map(|image| image.name).collect()).unwrap_or_default()
    }

    /// Ids of all leases of this namespace.
    pub(crate) fn leases(&self) -> Vec<String> {
        let ask = ListRequest { filters: Vec::new() };
        let list = self.ask(|channel, request| async move { LeasesClient::new(channel).list(request).await }, ask);
        found(list).map(|reply| reply.leases.into_iter().map(|lease| lease.id).collect()).unwrap_or_default()
    }

    /// The `fs` directory of the snapshot whose device configuration ends with this blob. Found on the disk, so only where one
    /// namespace of the stage has it; with several the newest.
    pub(crate) fn directory_of(&self, blob: &str) -> Option<PathBuf> {
        self.directories_of(blob).pop()
    }

    /// All such directories, oldest first. containerd takes those of removed snapshots at its next collection.
    pub(crate) fn directories_of(&self, blob: &str) -> Vec<PathBuf> {
        self.collect();
        let snapshots = std::fs::read_dir(self.snapshotter().root().join("snapshots")).expect("a snapshotter has its root");
        let mut found: Vec<(u64, PathBuf)> = Vec::new();
        for entry in snapshots.flatten() {
            let Ok(text) = std::fs::read(entry.path().join("block/config.v1.json")) else { continue };
            let Ok(config) = serde_json::from_slice::<Value>(&text) else { continue };
            let fs = entry.path().join("fs");
            let own = config["lowers"].as_array().and_then(|lowers| lowers.last());
            if own.is_some_and(|own| own["digest"] == blob && own["dir"].as_str().is_some_and(|dir| Path::new(dir) == fs)) {
                let id = entry.file_name().to_string_lossy().parse().unwrap_or(0);
                found.push((id, fs));
            }
        }
        found.sort();
        found.into_iter().map(|(_, fs)| fs).collect()
    }

    /// The spool beside the content root.
    pub(crate) fn spool(&self) -> PathBuf {
        self.containerd().content_root().with_file_name("rpull-spool")
    }

    /// `overlaybd.commit` of a layer that only one namespace of the stage has.
    #[track_caller]
    pub(crate) fn commit_file(&self, layer: &Layer) -> PathBuf {
        let found = self.directory_of(&layer.digest.to_string());
        found.expect("a layer has a snapshot with a device configuration").join("overlaybd.commit")
    }

    /// Asserts that an image of native layers is here as it should be: record, content, snapshots, each file the blob itself.
    #[track_caller]
    pub(crate) fn assert_whole(&self, reference: &str, image: &Image) {
        let record = self.image(reference).expect("the image has a record");
        assert_eq!(record.labels.get("rpull/complete"), Some(&image.digest().to_string()));
        self.assert_layers(image);
        self.assert_nothing_unfinished();
        assert_eq!(self.leases(), Vec::<String>::new());
    }

    /// Asserts that all layers of an image are here as they should be.
    #[track_caller]
    pub(crate) fn assert_layers(&self, image: &Image) {
        let mut parent = String::new();
        for (layer, chain) in image.layers().iter().zip(chain_of(image)) {
            let digest = layer.digest.to_string();
            assert!(self.content(&digest).is_some(), "content {digest} is missing");
            let snapshot = self.snapshot(&chain).expect("a layer has its snapshot");
            assert_eq!((snapshot.kind, snapshot.parent), (COMMITTED, parent));
            let blob = self.blob(&digest);
            let files = self.directories_of(&digest);
            assert!(!files.is_empty(), "layer {digest} has no directory");
            for fs in files {
                assert_eq!(inode(&fs.join("overlaybd.commit")), inode(&blob), "{} is not the blob", fs.display());
            }
            assert_eq!(std::fs::read(&blob).expect("a blob can be read"), layer.bytes(), "{digest} has other bytes");
            parent = chain;
        }
    }

    /// Asserts that the spool has nothing of these layers. Other tests on the stage may have something there.
    #[track_caller]
    pub(crate) fn assert_not_in_spool(&self, image: &Image) {
        let names = std::fs::read_dir(self.spool()).into_iter().flatten().flatten();
        let names: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let left: Vec<_> =
            image.layers().iter().flat_map(|layer| names.iter().filter(|name| name.contains(&layer.digest.hex()))).collect();
        assert!(left.is_empty(), "{left:?} are left in the spool");
    }

    /// Asserts that there is no record of that name and no unfinished snapshot. An ingest may be left: it goes with its lease, or
    /// when the next client wants its ref.
    #[track_caller]
    pub(crate) fn assert_nothing_visible(&self, reference: &str) {
        assert!(self.image(reference).is_none(), "there is a record of {reference}");
        self.assert_no_active_snapshot();
    }

    /// Asserts that nothing unfinished is left in this namespace: no active snapshot or view, no ingest.
    #[track_caller]
    pub(crate) fn assert_nothing_unfinished(&self) {
        self.assert_no_active_snapshot();
        let ingests = self.ctr(["content", "active"]);
        assert_eq!(ingests.lines().skip(1).collect::<Vec<_>>(), Vec::<&str>::new(), "ingests are left");
    }

    #[track_caller]
    fn assert_no_active_snapshot(&self) {
        let unfinished = self.snapshots().into_iter().filter(|info| info.kind != COMMITTED).map(|info| info.name);
        assert_eq!(unfinished.collect::<Vec<_>>(), Vec::<String>::new());
    }

    /// Asks containerd with a client of the test's own.
    pub(crate) fn ask<Q, A, F>(&self, call: impl FnOnce(Channel, Request<Q>) -> F, message: Q) -> Result<A, Status>
    where
        F: Future<Output = Result<tonic::Response<A>, Status>>,
    {
        let mut request = Request::new(message);
        let namespace = self.namespace.parse().expect("a namespace is ASCII");
        request.metadata_mut().insert("containerd-namespace", namespace);
        let Client { channel, runtime } = &self.hall.client;
        runtime.block_on(call(channel.clone(), request)).map(tonic::Response::into_inner)
    }
}

impl Hall {
    fn new(daemon: &Daemon, options: ContainerdOptions) -> Self {
        let snapshotter = Snapshotter::start();
        let overlaybd = options.overlaybd.clone().unwrap_or_else(|| snapshotter.address());
        let containerd = Containerd::start(daemon, &ContainerdOptions { overlaybd: Some(overlaybd), ..options });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime for the client");
        let channel = runtime.block_on(containerd_client::connect(containerd.address())).expect("containerd answers");
        let client = Client { channel, runtime };
        Self { client, containerd, snapshotter, registry: DistributionRegistry::start() }
    }
}

#[track_caller]
fn found<T>(reply: Result<T, Status>) -> Option<T> {
    match reply {
        Ok(reply) => Some(reply),
        Err(status) if status.code() == Code::NotFound => None,
        Err(status) => panic!("{status}"),
    }
}

/// Device and inode of a regular file.
#[track_caller]
pub(crate) fn inode(path: &Path) -> (u64, u64) {
    let found = path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(found.is_file(), "{} is no regular file", path.display());
    (found.dev(), found.ino())
}

/// Layer bytes that came over the network.
#[track_caller]
pub(crate) fn network(receipt: &Value) -> u64 {
    let hosts = receipt["bytes"]["network"].as_object().expect("a receipt counts bytes by host");
    hosts.values().map(|bytes| bytes.as_u64().expect("a count")).sum()
}

/// One field of every layer in a receipt.
#[track_caller]
pub(crate) fn each<'a>(receipt: &'a Value, field: &str) -> Vec<&'a str> {
    let layers = receipt["layers"].as_array().expect("a receipt lists layers");
    layers.iter().map(|layer| layer[field].as_str().unwrap_or_default()).collect()
}

/// Names of the snapshots of layers with these diff ids.
pub(crate) fn chain_ids<'a>(diff_ids: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut chain: Vec<String> = Vec::new();
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.to_owned(),
            Some(parent) => oci::Digest::of(format!("{parent} {diff_id}").as_bytes()).to_string(),
        };
        chain.push(next);
    }
    chain
}

/// Names of the snapshots of an image.
pub(crate) fn chain_of(image: &Image) -> Vec<String> {
    let diff_ids: Vec<String> = image.layers().iter().map(|layer| layer.diff_id.to_string()).collect();
    chain_ids(diff_ids.iter().map(String::as_str))
}

/// An image of small native overlaybd layers.
pub(crate) fn native(seeds: &[u64]) -> Image {
    let layer = |&seed| Layer::overlaybd(Blob { seed, data: 64 << 10 });
    Image::new(seeds.iter().map(layer).collect())
}

/// Bytes of all layers, each blob counted once.
pub(crate) fn size_of(image: &Image) -> u64 {
    let blobs: std::collections::BTreeMap<_, _> = image.layers().iter().map(|layer| (layer.digest, layer.size)).collect();
    blobs.values().sum()
}
