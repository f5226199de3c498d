#![allow(missing_docs, unused, clippy::all, clippy::pedantic)]
//! Speaks containerd's gRPC: session with namespace and lease, content, snapshots, diff, images, introspection.
use std::{collections::BTreeMap, path::{Path, PathBuf}, time::Duration};
use oci::{Descriptor, Digest, MediaType, Namespace};
use spool::{Entry, Spool, Verified};

#[derive(thiserror::Error, Debug)]
#[error("x")]
#[non_exhaustive]
pub enum Error {}

pub type Labels = BTreeMap<String, String>;

/// One connection, one namespace, at most one lease; the headers go on every call. Cheap to clone.
#[derive(Clone)]
pub struct Session;
impl Session {
    /// `address` plain path, `unix://` allowed. Distinguishes socket missing / not allowed / not answering.
    pub async fn connect(address: &str, namespace: Namespace, connect_timeout: Duration) -> Result<Self, Error> { todo!() }
    pub fn namespace(&self) -> &Namespace { todo!() }
    pub async fn version(&self) -> Result<String, Error> { todo!() }
    /// Introspection digest: content root (local plugin only), policy shared/isolated, snapshotter plugin present and its init_err.
    pub async fn layout(&self) -> Result<Layout, Error> { todo!() }
    /// Creates a lease (random id, expiry) and puts it on every later call of this session and its clones.
    pub async fn lease(&self, expiry: Duration) -> Result<(), Error> { todo!() }
    /// At half-life: new lease, all resources moved and confirmed, old one deleted (safety 17).
    pub async fn renew_lease(&self) -> Result<(), Error> { todo!() }
    pub async fn release_lease(&self) -> Result<(), Error> { todo!() }

    // content
    pub async fn content(&self, digest: Digest) -> Result<Option<ContentInfo>, Error> { todo!() }
    pub async fn read_content(&self, digest: Digest, limit: u64) -> Result<Vec<u8>, Error> { todo!() }
    pub async fn write_document(&self, descriptor: &Descriptor, bytes: &[u8], labels: &Labels) -> Result<Committed, Error> { todo!() }
    pub async fn label_content(&self, digest: Digest, labels: &Labels) -> Result<(), Error> { todo!() }

    // snapshots
    pub async fn prepare(&self, snapshotter: &str, key: &str, parent: Option<Digest>, labels: &Labels) -> Result<Prepared, Error> { todo!() }
    pub async fn view(&self, snapshotter: &str, key: &str, parent: Digest, labels: &Labels) -> Result<Vec<Mount>, Error> { todo!() }
    pub async fn commit(&self, snapshotter: &str, name: Digest, key: &str, labels: &Labels) -> Result<(), Error> { todo!() }
    pub async fn stat(&self, snapshotter: &str, name: &str) -> Result<Option<SnapshotInfo>, Error> { todo!() }
    pub async fn remove(&self, snapshotter: &str, key: &str) -> Result<(), Error> { todo!() }
    pub async fn usage(&self, snapshotter: &str, key: &str) -> Result<u64, Error> { todo!() }
    pub async fn apply(&self, descriptor: &Descriptor, mounts: &[Mount]) -> Result<Digest, Error> { todo!() }

    // images
    pub async fn image(&self, name: &str) -> Result<Option<ImageRecord>, Error> { todo!() }
    pub async fn put_image(&self, name: &str, target: &Descriptor, labels: &Labels) -> Result<(), Error> { todo!() }
    pub async fn delete_image(&self, name: &str) -> Result<(), Error> { todo!() }
}
pub struct Layout;
pub struct ContentInfo { pub digest: Digest, pub size: u64, pub labels: Labels }
pub struct SnapshotInfo { pub name: String, pub parent: String, pub committed: bool, pub labels: Labels }
pub struct ImageRecord { pub name: String, pub target: Descriptor, pub labels: Labels }
#[derive(Clone)]
pub struct Mount { pub kind: String, pub source: PathBuf, pub options: Vec<String> }
pub enum Prepared { Active(Vec<Mount>), Exists }

/// Content this namespace holds, proved by a successful COMMIT or found present. Only this crate makes one.
#[derive(Clone)]
pub struct Committed;

/// Where blobs become content: direct (hard link + one COMMIT) or api (streamed Write).
pub enum Store { }
