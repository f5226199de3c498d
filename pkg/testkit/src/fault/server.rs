//! Building, running and counting.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{net::TcpListener, runtime::Runtime};

use super::{
    connection::{self, Pace},
    content::Content,
    script::{Fault, Request},
};
use crate::image::{Image, Layer};

/// Another server may have taken the port on one of several addresses.
const PORTS_TRIED: u32 = 20;

type Script = Box<dyn FnMut(&mut Request<'_>) -> Option<Fault> + Send>;

/// What the server is to serve and how badly.
pub struct Builder {
    seed: u64,
    blobs: HashMap<String, Content>,
    manifests: HashMap<String, (String, Content)>,
    rate: Option<f64>,
    slow: Option<(u64, f64)>,
    latency: Duration,
    addresses: Vec<IpAddr>,
    empty_manifest: bool,
    script: Script,
}

/// A running server; ends when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

/// What happened so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests, of any kind.
    pub requests: u64,
    /// Blob body bytes handed to the kernel.
    pub body_bytes: u64,
    /// The same by the address they left from.
    pub bytes_by_address: BTreeMap<IpAddr, u64>,
    /// Connections accepted.
    pub connections: u64,
    /// Faults that took effect, by [`Fault::name`].
    pub faults: BTreeMap<&'static str, u64>,
}

pub(super) struct Shared {
    pub(super) address: SocketAddr,
    pub(super) blobs: HashMap<String, Content>,
    /// Media type and bytes by tag and by digest.
    pub(super) manifests: HashMap<String, (String, Content)>,
    pub(super) latency: Duration,
    /// The next manifest is answered with nothing.
    empty_manifest: AtomicBool,
    /// In the order in which the addresses were given.
    body_bytes: Vec<(IpAddr, AtomicU64)>,
    state: Mutex<State>,
}

struct State {
    script: Script,
    random: fastrand::Rng,
    count: Count,
    blob_requests: u64,
    /// Redirect targets not yet used.
    tickets: Vec<u64>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Builder {
    /// Serves a blob in every repository.
    #[must_use]
    pub fn blob(mut self, content: &Content) -> Self {
        self.blobs.insert(content.digest().to_string(), content.clone());
        self
    }

    /// Serves a manifest by its digest and by `tag`.
    #[must_use]
    pub fn manifest(mut self, tag: &str, media_type: &str, bytes: &[u8]) -> Self {
        let content = Content::bytes(bytes);
        for name in [tag.to_owned(), content.digest().to_string()] {
            self.manifests.insert(name, (media_type.to_owned(), content.clone()));
        }
        self
    }

    /// Serves an image: its manifest by its digest and by `tag`, its config and its layers.
    #[must_use]
    pub fn image(self, tag: &str, image: &Image) -> Self {
        let blobs = image.layers().iter().map(Layer::bytes).chain([image.config()]);
        let server = self.manifest(tag, image.media_type(), &image.manifest());
        blobs.fold(server, |server, bytes| server.blob(&Content::bytes(bytes)))
    }

    /// Seed of the script's dice.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Bytes per second of each accepted connection, across all its requests.
    #[must_use]
    pub fn rate(mut self, bytes_per_second: f64) -> Self {
        self.rate = Some(bytes_per_second);
        self
    }

    /// Every `one_in`-th accepted connection has that rate instead.
    #[must_use]
    pub fn slow(mut self, one_in: u64, bytes_per_second: f64) -> Self {
        self.slow = Some((one_in, bytes_per_second));
        self
    }

    /// Pause before each status line.
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Answers the first request for a manifest with 200 and no body.
    #[must_use]
    pub fn empty_manifest_once(mut self) -> Self {
        self.empty_manifest = true;
        self
    }

    /// Asked for every blob request, in order of arrival.
    #[must_use]
    pub fn faults(mut self, script: impl FnMut(&mut Request<'_>) -> Option<Fault> + Send + 'static) -> Self {
        self.script = Box::new(script);
        self
    }

    /// Listens there, on one port, instead of on 127.0.0.1; all of 127.0.0.0/8 is loopback.
    #[must_use]
    pub fn addresses(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.addresses = addresses.into_iter().collect();
        self
    }

    /// Listens on a free port.
    pub fn start(self) -> Server {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime for the fault server");
        // Bound without waiting, so that a server can be started from inside another runtime.
        let listeners = listen(&self.addresses);
        let address = listeners[0].local_addr().expect("a bound listener has an address");
        let state = State {
            script: self.script,
            random: fastrand::Rng::with_seed(self.seed),
            count: Count::default(),
            blob_requests: 0,
            tickets: Vec::new(),
        };
        let shared = Arc::new(Shared {
            address,
            blobs: self.blobs,
            manifests: self.manifests,
            latency: self.latency,
            empty_manifest: self.empty_manifest.into(),
            body_bytes: self.addresses.iter().map(|address| (*address, AtomicU64::new(0))).collect(),
            state: Mutex::new(state),
        });
        let (rate, slow) = (self.rate, self.slow);
        for listener in listeners {
            let accepting = shared.clone();
            runtime.spawn(async move {
                let listener = TcpListener::from_std(listener).expect("a listener of this runtime");
                while let Ok((stream, _)) = listener.accept().await {
                    let number = accepting.accepted();
                    let rate = slow.filter(|(one_in, _)| number % one_in == one_in - 1).map(|(_, rate)| rate).or(rate);
                    tokio::spawn(connection::serve(stream, accepting.clone(), number, Pace::new(rate)));
                }
            });
        }
        Server { address, shared, runtime: Some(runtime) }
    }
}

/// A listener an address, all on one port that is free on each.
fn listen(addresses: &[IpAddr]) -> Vec<std::net::TcpListener> {
    for _ in 0..PORTS_TRIED {
        let mut port = 0;
        let bound = addresses.iter().map(|address| {
            let listener = std::net::TcpListener::bind((*address, port))?;
            listener.set_nonblocking(true)?;
            port = listener.local_addr()?.port();
            Ok(listener)
        });
        if let Ok(listeners) = bound.collect::<std::io::Result<Vec<_>>>() {
            return listeners;
        }
    }
    panic!("no port is free on all of {addresses:?}");
}

impl Server {
    /// A server without blobs that does nothing wrong.
    pub fn builder() -> Builder {
        Builder {
            seed: 0,
            blobs: HashMap::new(),
            manifests: HashMap::new(),
            rate: None,
            slow: None,
            latency: Duration::ZERO,
            empty_manifest: false,
            addresses: vec![Ipv4Addr::LOCALHOST.into()],
            script: Box::new(|_| None),
        }
    }

    /// host:port, the first address's.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What happened so far.
    pub fn count(&self) -> Count {
        let by_address = self.shared.body_bytes.iter().map(|(address, bytes)| (*address, bytes.load(Relaxed)));
        let bytes_by_address: BTreeMap<_, _> = by_address.collect();
        let body_bytes = bytes_by_address.values().sum();
        Count { body_bytes, bytes_by_address, ..self.shared.state().count.clone() }
    }

    /// The port alone.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Also from inside another runtime, where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accepted(&self) -> u64 {
        let count = &mut self.state().count;
        count.connections += 1;
        count.connections - 1
    }

    /// `bytes` of a blob's body went out from `address`.
    pub(super) fn sent(&self, address: IpAddr, bytes: usize) {
        if let Some((_, sent)) = self.body_bytes.iter().find(|(known, _)| *known == address) {
            sent.fetch_add(bytes as u64, Relaxed);
        }
    }

    pub(super) fn answers_empty(&self) -> bool {
        self.empty_manifest.swap(false, Relaxed)
    }

    pub(super) fn requested(&self) {
        self.state().count.requests += 1;
    }

    pub(super) fn fired(&self, name: &'static str) {
        *self.state().count.faults.entry(name).or_default() += 1;
    }

    /// What the script says about a blob request.
    pub(super) fn fault(&self, connection: u64, size: u64, range: Option<(u64, u64)>) -> Option<Fault> {
        let State { script, random, blob_requests, .. } = &mut *self.state();
        let number = *blob_requests;
        *blob_requests += 1;
        script(&mut Request { number, connection, size, range, random })
    }

    /// A number that [`Shared::redeem`] accepts once.
    pub(super) fn ticket(&self) -> u64 {
        let state = &mut *self.state();
        let ticket = state.random.u64(..);
        state.tickets.push(ticket);
        ticket
    }

    pub(super) fn redeem(&self, ticket: u64) -> bool {
        let tickets = &mut self.state().tickets;
        let found = tickets.iter().position(|known| *known == ticket);
        found.map(|index| tickets.swap_remove(index)).is_some()
    }
}
