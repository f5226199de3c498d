//! One connection, one namespace, at most one lease; every call of this crate goes through here.
//!
//! Headers are set in one interceptor, time limits in one function. Nothing is tried twice here: tonic reconnects by itself when
//! containerd was restarted between two calls, and whether a pull goes on after a failed call is not this crate's decision.

use std::{
    fmt, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use containerd_client::services::v1::{
    content_client::ContentClient, diff_client::DiffClient, images_client::ImagesClient,
    introspection_client::IntrospectionClient, leases_client::LeasesClient, namespaces_client::NamespacesClient,
    snapshots::snapshots_client::SnapshotsClient, version_client::VersionClient,
};
use oci::Namespace;
use tokio::{
    net::UnixStream,
    sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock},
    time::timeout,
};
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::{
    Error,
    lease::{Lease, Leases},
    store::Uploads,
};

/// containerd sends and takes at most this in one message (its `defaults.go`); tonic would stop at 4 MiB.
const MAX_MESSAGE: usize = 16 << 20;

/// A connect timeout of zero means this, as in containerd's own client.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A call may be silent this long before containerd is asked whether it is still there. gRPC keep-alive pings cannot be used for
/// that: containerd's server hangs up on a client that pings more often than every five minutes.
const SILENCE: Duration = Duration::from_secs(30);

/// One connection, one namespace, at most one lease; the headers go on every call. Cheap to clone.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    address: String,
    channel: Channel,
    namespace: Namespace,
    leases: Mutex<Leases>,
    /// Read-held by every open ingest.
    ingests: Arc<RwLock<()>>,
    /// Of all sessions on the connection.
    uploads: Uploads,
}

/// A channel that sets the two headers. Holds the lease it names, so that renewing knows who still works under the old one.
pub(crate) type Wire = InterceptedService<Channel, Headers>;

/// The headers of reference 3.7.
#[derive(Clone)]
pub(crate) struct Headers {
    namespace: MetadataValue<Ascii>,
    lease: Option<Arc<Lease>>,
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("containerd-namespace", self.namespace.clone());
        if let Some(lease) = &self.lease {
            request.metadata_mut().insert("containerd-lease", lease.header().clone());
        }
        Ok(request)
    }
}

impl Session {
    /// `address` is a path, `unix://` allowed in front. A socket that is missing, that may not be used, or where nobody answers
    /// within `connect_timeout` (zero: 10 s) are three different errors.
    pub async fn connect(address: &str, namespace: Namespace, connect_timeout: Duration) -> Result<Self, Error> {
        let address = address.strip_prefix("unix://").unwrap_or(address).to_owned();
        let limit = if connect_timeout.is_zero() { CONNECT_TIMEOUT } else { connect_timeout };
        let silent = |source| Error::Silent { address: address.clone(), source };
        let attempt = async {
            // tonic wraps what goes wrong here many times; a socket of our own says it plainly.
            UnixStream::connect(&address).await.map_err(|error| unusable(&address, error))?;
            let channel = dial(&address).await.map_err(|error| silent(Some(error.into())))?;
            let session = Self::new(address.clone(), channel, namespace, Uploads::default());
            session.version().await?;
            Ok(session)
        };
        timeout(limit, attempt).await.unwrap_or_else(|_| Err(silent(None)))
    }

    /// Another session on the same connection: it has no lease yet, and the two know nothing of each other's. What is sent to containerd
    /// at once is bounded for both together.
    #[must_use]
    pub fn another(&self) -> Self {
        let Inner { address, channel, namespace, uploads, .. } = &*self.inner;
        Self::new(address.clone(), channel.clone(), namespace.clone(), uploads.clone())
    }

    fn new(address: String, channel: Channel, namespace: Namespace, uploads: Uploads) -> Self {
        let (leases, ingests) = (Mutex::default(), Arc::default());
        Self { inner: Arc::new(Inner { address, channel, namespace, leases, ingests, uploads }) }
    }

    /// The namespace of every call.
    pub fn namespace(&self) -> &Namespace {
        &self.inner.namespace
    }

    /// containerd's version, as in `1.6.20~ds1` or `v2.4.2`.
    pub async fn version(&self) -> Result<String, Error> {
        let mut client = VersionClient::new(self.wire());
        let reply = self.call(client.version(())).await.map_err(|status| self.refused("its version", status))?;
        Ok(reply.version)
    }

    /// Awaits one reply for as long as containerd is alive. A call that takes long is no error by itself: on 1.6 the smallest one
    /// waits behind another client's `fsync` of a large blob, and a commit hashes at the disk's pace. So every [`SILENCE`]
    /// containerd is asked for its version, which waits behind nothing, and given up only when that is not answered either.
    pub(crate) async fn call<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
        self.attend(call).await.map(Response::into_inner)
    }

    /// [`Session::call`] for anything that waits for containerd.
    pub(crate) async fn attend<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let mut call = std::pin::pin!(call);
        loop {
            if let Ok(done) = timeout(SILENCE, &mut call).await {
                return done;
            }
            let mut client = VersionClient::new(self.wire());
            match timeout(SILENCE, client.version(())).await {
                Ok(alive) => alive.map(drop)?,
                Err(_) => return Err(Status::deadline_exceeded("containerd does not answer")),
            }
        }
    }

    /// The error for a refusal that has nothing special about it; `what` completes "containerd refused …".
    pub(crate) fn refused(&self, what: impl Into<String>, status: Status) -> Error {
        let lease = self.leases().current().map(|lease| lease.id().to_owned());
        Error::refused(&self.inner.address, lease.as_deref(), what, status)
    }

    /// To be held as long as an ingest is open.
    pub(crate) async fn opening(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.inner.ingests).read_owned().await
    }

    /// Waits until no ingest of this session is open any more; none is opened before the guard is gone.
    pub(crate) async fn none_open(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.inner.ingests).write_owned().await
    }

    pub(crate) fn leases(&self) -> MutexGuard<'_, Leases> {
        self.inner.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn uploads(&self) -> &Uploads {
        &self.inner.uploads
    }

    pub(crate) fn content_client(&self) -> ContentClient<Wire> {
        ContentClient::new(self.wire()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(crate) fn snapshots_client(&self) -> SnapshotsClient<Wire> {
        SnapshotsClient::new(self.wire()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(crate) fn images_client(&self) -> ImagesClient<Wire> {
        ImagesClient::new(self.wire()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(crate) fn leases_client(&self) -> LeasesClient<Wire> {
        LeasesClient::new(self.wire()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(crate) fn introspection_client(&self) -> IntrospectionClient<Wire> {
        IntrospectionClient::new(self.wire()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(crate) fn diff_client(&self) -> DiffClient<Wire> {
        DiffClient::new(self.wire()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub(crate) fn namespaces_client(&self) -> NamespacesClient<Wire> {
        NamespacesClient::new(self.wire()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Content as another namespace sees it; no lease of ours is known there.
    pub(crate) fn content_client_of(&self, namespace: &Namespace) -> ContentClient<Wire> {
        ContentClient::new(self.wire_to(namespace, None)).max_decoding_message_size(MAX_MESSAGE)
    }

    fn wire(&self) -> Wire {
        let lease = self.leases().current().cloned();
        self.wire_to(&self.inner.namespace, lease)
    }

    fn wire_to(&self, namespace: &Namespace, lease: Option<Arc<Lease>>) -> Wire {
        let namespace = namespace.as_str().parse().expect("a namespace is letters, digits and .-_");
        InterceptedService::new(self.inner.channel.clone(), Headers { namespace, lease })
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("address", &self.inner.address)
            .field("namespace", &self.inner.namespace)
            .finish_non_exhaustive()
    }
}

async fn dial(address: &str) -> Result<Channel, tonic::transport::Error> {
    let path: Arc<Path> = Path::new(address).into();
    let connector = tower::service_fn(move |_| {
        let path = Arc::clone(&path);
        async move { Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(UnixStream::connect(path).await?)) }
    });
    // The URI is only the authority of the requests; the connector does not look at it.
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await
}

fn unusable(address: &str, error: io::Error) -> Error {
    let address = address.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => Error::SocketMissing { address },
        io::ErrorKind::PermissionDenied => Error::SocketDenied { address, source: error },
        _ => Error::Silent { address, source: Some(error.into()) },
    }
}
