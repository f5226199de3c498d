#![allow(missing_docs, unused, clippy::all, clippy::pedantic)]
//! Speaks the distribution API: hosts, credentials, tokens, resolve, one ranged GET; one attempt a call, every failure classified.
//!
//! Called by `pull` (resolve, documents) and by `transfer` (blob ranges). Never retries, never schedules, knows no containerd.
use std::{sync::Arc, time::Duration};
use bytes::Bytes;
use oci::{ByteRange, Descriptor, Reference};

/// Which of the two sides a fault belongs to… here always the registry; kept as data for the exit code.
/// How a failure is to be taken. Adapters classify, only `transfer::Schedule` decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class {
    /// May work the next time; `after` is a `Retry-After` (already turned into a span from now, capped at 5 min).
    Transient { after: Option<Duration> },
    /// Credentials missing, wrong or not sufficient.
    Denied,
    /// 404.
    Missing,
    /// The bytes are not what they should be (digest, size, Content-Range of another span).
    Corrupt,
    /// The server does not serve this range (416, or an answer that cannot be used as ranges).
    NoRange,
    /// Will not work the next time either.
    Fatal,
}

/// A failed request: which host, what kind, what to do.
#[derive(Debug)]
pub struct Fault { pub class: Class, pub host: String, pub what: String, pub hint: Option<String>, pub connect: bool, pub source: Option<Arc<dyn std::error::Error + Send + Sync>> }

/// Client options, all with defaults.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub skip_verify: bool,
    pub plain_http: bool,
    pub hosts_dirs: Vec<std::path::PathBuf>,
    pub tls_ca: Option<std::path::PathBuf>,
    pub tls_cert: Option<(std::path::PathBuf, std::path::PathBuf)>,
    pub http_dump: bool,
    // connect_timeout etc.
}

/// From the command line. `None` = anonymous.
#[derive(Clone)]
pub enum Credentials { Anonymous, Basic { user: String, password: Secret }, Refresh(Secret) }
/// Text that never prints.
#[derive(Clone)]
pub struct Secret(String);

/// Cheap to clone.
#[derive(Clone)]
pub struct Registry;
impl Registry {
    pub fn new(options: Options, credentials: Credentials) -> Result<Self, Error> { todo!() }
    /// The repository a reference names, with the hosts to try for it, in order.
    pub fn repository(&self, reference: &Reference) -> Result<Repository, Error> { todo!() }
}
/// Options that cannot be used (unreadable CA file, broken hosts.toml, …).
#[derive(thiserror::Error, Debug)]
#[error("x")]
pub enum Error {}

/// Cheap to clone (Arc inside).
#[derive(Clone)]
pub struct Repository;

/// What a reference resolved to.
pub struct Resolved { pub descriptor: Descriptor, pub bytes: Vec<u8>, pub host: String, pub warnings: Vec<String> }

impl Repository {
    /// Resolves tag or digest to a verified document, trying the hosts in order (one attempt each).
    pub async fn resolve(&self) -> Result<Resolved, Fault> { todo!() }
    /// A manifest or config, whole, its digest and size compared before it is returned; hosts in order, one attempt each. ≤ 8 MiB.
    pub async fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Fault> { todo!() }
    /// How many hosts may serve blobs; index 0 is preferred.
    pub fn hosts(&self) -> usize { todo!() }
    /// host:port of host i, for reports.
    pub fn host_name(&self, host: usize) -> &str { todo!() }
    /// One GET of a blob on host `host`. `range: None` asks for the whole. Returns when the status line and headers are checked.
    pub async fn blob(&self, host: usize, blob: &Descriptor, range: Option<ByteRange>) -> Result<Body, Fault> { todo!() }
}

/// An open answer. Dropping it before the end closes the connection.
pub struct Body;
/// What the server decided to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// 206 with exactly the range asked for.
    Range(ByteRange),
    /// 200: the whole blob from byte 0.
    Whole,
}
impl Body {
    pub fn span(&self) -> Span { todo!() }
    /// Next frame; `None` at a clean end. A short or over-long body is a Fault (Transient / Corrupt).
    pub async fn frame(&mut self) -> Result<Option<Bytes>, Fault> { todo!() }
}
