//! A spool, a repository on the fault server, an engine.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    sync::{Arc, Mutex},
    time::Duration,
};

use oci::{Descriptor, Digest, MediaType, Reference};
use progress::{Event, Progress};
use registry::{Credentials, Options, Registry, Repository};
use spool::{Spool, Verified};
use tempfile::TempDir;
use testkit::fault::{Content, Server};
use transfer::{Engine, Error, Fetched, Limits, RetryPolicy};

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) struct Stage {
    pub(crate) home: TempDir,
    pub(crate) spool: Spool,
    pub(crate) engine: Engine,
    pub(crate) progress: Progress,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
}

/// Small ranges, so that small blobs have many, and short pauses.
pub(crate) fn limits() -> Limits {
    Limits {
        range_size: NonZeroU64::new(MIB).unwrap(),
        least_range: NonZeroU64::new(MIB / 4).unwrap(),
        max_connections: NonZeroUsize::new(8).unwrap(),
        ..Limits::default()
    }
}

pub(crate) fn retry() -> RetryPolicy {
    RetryPolicy { first_pause: Duration::from_millis(5), longest_pause: Duration::from_millis(100), ..RetryPolicy::default() }
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(limits(), retry())
    }

    pub(crate) fn with(limits: Limits, retry: RetryPolicy) -> Self {
        let home = tempfile::tempdir().unwrap();
        let spool = Spool::open(&home.path().join("spool"), None).unwrap();
        let events = Arc::<Mutex<Vec<Event>>>::default();
        let log = events.clone();
        let progress = Progress::new(move |_, event| log.lock().unwrap().push(event.clone()));
        let engine = Engine::new(limits, retry, progress.clone());
        Self { home, spool, engine, progress, events }
    }

    pub(crate) async fn fetch(&self, repository: &Repository, content: &Content) -> Result<Verified, Error> {
        self.fetched(repository, content).await.map(|fetched| fetched.verified)
    }

    /// With the engine's warnings.
    pub(crate) async fn fetched(&self, repository: &Repository, content: &Content) -> Result<Fetched, Error> {
        let entry = self.spool.entry(&descriptor(content)).await.unwrap();
        self.engine.fetch(repository, entry).await
    }

    /// Fetches, and compares what is in the file with what was served.
    pub(crate) async fn fetch_right(&self, repository: &Repository, content: &Content) {
        let verified = self.fetch(repository, content).await.unwrap();
        assert_same(&verified, content);
    }
}

pub(crate) fn assert_same(verified: &Verified, content: &Content) {
    let mut bytes = vec![0; usize::try_from(content.size()).unwrap()];
    let mut filled = 0;
    while filled < bytes.len() {
        let read = verified.read_at(filled as u64, &mut bytes[filled..]).unwrap();
        assert!(read > 0, "the file ends at {filled}");
        filled += read;
    }
    assert_eq!(Digest::of(&bytes), content.digest());
}

pub(crate) fn descriptor(content: &Content) -> Descriptor {
    let media_type = MediaType::new("application/vnd.oci.image.layer.v1.tar");
    Descriptor::new(media_type, content.digest(), content.size()).unwrap()
}

pub(crate) fn repository(server: &Server) -> Repository {
    repository_with(&server.address(), Options::default())
}

pub(crate) fn repository_with(host: &str, options: Options) -> Repository {
    let registry = Registry::new(Options { plain_http: true, ..options }, Credentials::Anonymous).unwrap();
    let reference: Reference = format!("{host}/t/blobs:1").parse().unwrap();
    registry.repository(&reference).unwrap()
}

/// A repository of `registry` with mirrors before it.
pub(crate) fn mirrored(stage: &Stage, mirrors: &[&str], registry: &str) -> Repository {
    let root = stage.home.path().join("hosts");
    let directory = root.join(registry);
    std::fs::create_dir_all(&directory).unwrap();
    let mirrors = mirrors.iter().map(|mirror| format!("[host.\"http://{mirror}\"]\n")).collect::<Vec<_>>().concat();
    std::fs::write(directory.join("hosts.toml"), format!("server = \"http://{registry}\"\n{mirrors}")).unwrap();
    repository_with(registry, Options { hosts_dirs: vec![root], ..Options::default() })
}
