//! A containerd of one test's own: private root, state and socket; killed and removed at the end.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use containerd::{Labels, Session, Store, StoreChoice};
use oci::{ByteRange, Descriptor, Digest, MediaType};
use spool::{Entry, Verified};
use tempfile::TempDir;

/// containerd loads its plugins before it answers; on a busy machine that takes a while.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Daemon {
    child: Child,
    command: Command,
    dir: TempDir,
    root: PathBuf,
}

impl Daemon {
    pub(crate) async fn start(binary: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        Self::launch(binary, dir, root, Command::new(binary), "").await
    }

    pub(crate) async fn isolated(binary: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let policy = "[plugins.'io.containerd.metadata.v1.bolt']\ncontent_sharing_policy = 'isolated'";
        Self::launch(binary, dir, root, Command::new(binary), policy).await
    }

    /// Says that its root is `root`, and has something else there: it lives in a mount namespace of its own, like one in a pod.
    pub(crate) async fn in_a_pod(binary: &str, root: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root).unwrap();
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs rpull-test \"$0\" && exec \"$@\"";
        command.args(["--mount", "sh", "-c", script]).arg(root).arg(binary);
        Self::launch(binary, dir, root.to_owned(), command, "").await
    }

    async fn launch(binary: &str, dir: TempDir, root: PathBuf, mut command: Command, more: &str) -> Self {
        let path = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = '{root}'\nstate = '{state}'\ndisabled_plugins = [{disabled}]\n[grpc]\naddress = '{address}'\n{more}\n",
            root = root.display(),
            state = path("state"),
            address = path("c.sock"),
            // Slow to start, and not asked for anything here.
            disabled = "'io.containerd.grpc.v1.cri', 'io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime', \
                'io.containerd.nri.v1.nri', 'io.containerd.internal.v1.opt', 'io.containerd.internal.v1.tracing', \
                'io.containerd.tracing.processor.v1.otlp', 'io.containerd.snapshotter.v1.devmapper'",
        );
        std::fs::write(path("config.toml"), config).unwrap();
        command.args(["--config", &path("config.toml")]);
        let child = spawn(&mut command, dir.path());
        let daemon = Self { child, command, dir, root };
        daemon.answers(binary).await;
        daemon
    }

    async fn answers(&self, binary: &str) {
        let started = tokio::time::Instant::now();
        while let Err(error) = self.try_session("default").await {
            let log = || std::fs::read_to_string(path_of(self, "log")).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "{binary} does not come up: {error}\n{}", log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) fn address(&self) -> String {
        path_of(self, "c.sock").display().to_string()
    }

    /// What Debian's `ctr` prints.
    pub(crate) fn ctr(&self, args: &[&str]) -> String {
        let output = Command::new("ctr").args(["-a", &self.address()]).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Ends it; what it has on disk stays.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as [`Self::kill`] does and starts it again on the same root and socket.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        self.child = spawn(&mut self.command, self.dir.path());
        self.answers("the daemon started again").await;
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn content_root(&self) -> PathBuf {
        self.root.join("io.containerd.content.v1.content")
    }

    pub(crate) fn blob(&self, digest: Digest) -> PathBuf {
        self.content_root().join("blobs/sha256").join(digest.hex())
    }

    pub(crate) async fn session(&self, namespace: &str) -> Session {
        self.try_session(namespace).await.unwrap()
    }

    async fn try_session(&self, namespace: &str) -> Result<Session, containerd::Error> {
        Session::connect(&self.address(), namespace.parse().unwrap(), Duration::from_secs(5)).await
    }

    /// A session under a lease and its store.
    pub(crate) async fn store(&self, namespace: &str, choice: StoreChoice) -> (Session, Store) {
        let session = self.session(namespace).await;
        session.lease(Duration::from_secs(3600), oci::Digest::of(b"manifest")).await.unwrap();
        let store = session.open_store(choice, None).await.unwrap();
        (session, store)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(command: &mut Command, dir: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn path_of(daemon: &Daemon, name: &str) -> PathBuf {
    daemon.dir.path().join(name)
}

/// The daemons to test on: Debian's, and those named by `CONTAINERD_17` and `CONTAINERD_2`.
pub(crate) fn binaries() -> Vec<String> {
    let newer = ["CONTAINERD_17", "CONTAINERD_2"].map(|name| std::env::var(name).ok().filter(|path| !path.is_empty()));
    std::iter::once("/usr/bin/containerd".to_owned()).chain(newer.into_iter().flatten()).collect()
}

/// Bytes nobody else has.
pub(crate) fn random_bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::fill(&mut bytes);
    bytes
}

pub(crate) fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor::new(MediaType::new(MediaType::OCI_LAYER), Digest::of(bytes), bytes.len() as u64).unwrap()
}

pub(crate) fn entry(store: &Store, bytes: &[u8]) -> Entry {
    store.spool().try_entry(&descriptor(bytes)).unwrap().expect("nobody else has this blob")
}

pub(crate) fn write(entry: &Entry, bytes: &[u8], range: std::ops::Range<usize>) {
    let mut grant = entry.grant(ByteRange::new(range.start as u64, range.end as u64).unwrap()).unwrap();
    grant.write(&bytes[range]).unwrap();
}

/// The blob as the spool hands it over.
pub(crate) async fn verified(store: &Store, bytes: &[u8]) -> Verified {
    let entry = entry(store, bytes);
    for range in entry.missing() {
        let bound = |offset| usize::try_from(offset).unwrap();
        write(&entry, bytes, bound(range.start())..bound(range.end()));
    }
    entry.prove().await.unwrap()
}

pub(crate) fn no_labels() -> Labels {
    Labels::new()
}

/// Makes garbage and lets containerd sweep, until it is dropped.
pub(crate) struct Collector(tokio::task::JoinHandle<()>);

impl Collector {
    pub(crate) async fn start(daemon: &Daemon) -> Self {
        let session = daemon.session("garbage").await;
        Self(tokio::spawn(async move {
            loop {
                let bytes = random_bytes(64);
                session.write_document(&descriptor(&bytes), &bytes, &no_labels()).await.ok();
                session.delete_content(Digest::of(&bytes)).await.unwrap();
            }
        }))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits until `done`, a minute at most.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let started = tokio::time::Instant::now();
    while !done().await {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}: not within a minute");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
