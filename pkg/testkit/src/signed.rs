//! A registry in front of object storage, as the large clouds run theirs: a blob is answered with a redirect to a signed URL that
//! expires. Two ports, so that front and storage are two hosts; both read from a real registry behind them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

use crate::{
    DistributionRegistry,
    http::{self, Body, Response},
    secrets,
};

/// How a signed URL says when it ends.
#[derive(Clone, Copy, Debug)]
pub enum Signature {
    /// `X-Amz-Date` and `X-Amz-Expires`: S3 and what speaks like it.
    Amazon,
    /// `Expires`, seconds since 1970: `CloudFront`, older S3.
    Expires,
    /// `se`: Azure.
    Azure,
    /// Not at all.
    Silent,
}

/// What the storage does and says.
#[derive(Clone, Copy, Debug)]
pub struct SignedOptions {
    /// Form of the URL.
    pub signature: Signature,
    /// What the URL says of its life, and how long the storage takes it.
    pub lifetime: Duration,
    /// Status for a signature that is not good any more, 403 or 400.
    pub refusal: u16,
}

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub struct SignedCount {
    /// Signed URLs given out, by blob digest.
    pub signed: BTreeMap<String, u64>,
    /// Requests the storage has answered with bytes.
    pub served: u64,
    /// Requests the storage has refused because of their signature.
    pub refused: u64,
    /// Requests at the storage that carried an `Authorization`, which it refuses as well.
    pub with_authorization: u64,
}

/// Front and storage; they end when dropped.
#[derive(Debug)]
pub struct SignedFront {
    front: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Shared {
    registry: String,
    storage: SocketAddr,
    options: SignedOptions,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    count: SignedCount,
    /// When each signature ends.
    good: BTreeMap<u64, SystemTime>,
    next: u64,
}

struct Head {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
}

impl SignedFront {
    /// Starts both before a registry, which may be protected.
    pub fn start(registry: &DistributionRegistry, options: SignedOptions) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime for the front");
        let bound = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
            listener.set_nonblocking(true).expect("a listener for the runtime");
            (listener.local_addr().expect("a bound listener has an address"), listener)
        };
        let ((front, front_listener), (storage, storage_listener)) = (bound(), bound());
        let shared = Shared { registry: registry.host(), storage, options, state: Mutex::default() };
        let shared = Arc::new(shared);
        for (listener, is_storage) in [(front_listener, false), (storage_listener, true)] {
            let shared = shared.clone();
            runtime.spawn(async move {
                let listener = TcpListener::from_std(listener).expect("a listener of this runtime");
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, shared.clone(), is_storage));
                }
            });
        }
        Self { front, shared, runtime: Some(runtime) }
    }

    /// host:port of the front, the host part of a reference.
    pub fn host(&self) -> String {
        self.front.to_string()
    }

    /// What was seen so far.
    pub fn count(&self) -> SignedCount {
        self.shared.state().count.clone()
    }

    /// From now on the storage takes none of the signatures given out so far.
    pub fn revoke(&self) {
        self.shared.state().good.clear();
    }
}

impl Drop for SignedFront {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Also from inside another runtime, where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>, is_storage: bool) {
    let Some(head) = read_head(&mut stream).await else { return };
    let answer = move || if is_storage { shared.stored(&head) } else { shared.fronted(&head) };
    // The registry behind is asked in the blocking way.
    let Ok(bytes) = tokio::task::spawn_blocking(answer).await else { return };
    // A client that goes away in the middle is its own business.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
}

async fn read_head(stream: &mut TcpStream) -> Option<Head> {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        if bytes.first() == Some(&0x16) || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let header = |line: &str| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    Some(Head { method, target, headers: lines.map_while(header).collect() })
}

impl Head {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Those that the registry behind must see.
    fn passed_on(&self) -> Vec<(&str, &str)> {
        ["accept", "authorization", "range"].into_iter().filter_map(|name| Some((name, self.header(name)?))).collect()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fronted(&self, head: &Head) -> Vec<u8> {
        let blob = head.target.split('?').next().and_then(|path| path.rsplit_once("/blobs/"));
        let method = if blob.is_some() { "HEAD" } else { head.method.as_str() };
        let mut headers = head.passed_on();
        // The storage cuts the range out.
        headers.retain(|(name, _)| *name != "range");
        let Ok(answer) = http::request(&self.registry, method, &head.target, &headers, Body::Bytes(b"")) else {
            return plain(502, "the registry behind does not answer");
        };
        match blob {
            Some((path, digest)) if answer.status == 200 => {
                let location = self.sign(&format!("{path}/blobs/{digest}"), digest);
                format!("HTTP/1.1 307 x\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
            }
            _ => relayed(&answer),
        }
    }

    fn sign(&self, path: &str, digest: &str) -> String {
        let Self { storage, options, .. } = self;
        let now = jiff::Timestamp::now();
        let end = now + jiff::SignedDuration::try_from(options.lifetime).expect("tests think in minutes");
        let number = {
            let state = &mut *self.state();
            state.next += 1;
            state.good.insert(state.next, SystemTime::now() + options.lifetime);
            *state.count.signed.entry(digest.to_owned()).or_default() += 1;
            state.next
        };
        let life = match options.signature {
            Signature::Amazon => {
                format!("X-Amz-Date={}&X-Amz-Expires={}&", now.strftime("%Y%m%dT%H%M%SZ"), options.lifetime.as_secs())
            }
            Signature::Expires => format!("Expires={}&", end.as_second()),
            Signature::Azure => format!("se={}&", end.strftime("%Y-%m-%dT%H%%3A%M%%3A%SZ")),
            Signature::Silent => String::new(),
        };
        format!("http://{storage}{path}?{life}sig={}", secrets::keep(format!("signature-{number:016x}")))
    }

    fn stored(&self, head: &Head) -> Vec<u8> {
        if head.header("authorization").is_some() {
            self.state().count.with_authorization += 1;
            return plain(400, "Only one auth mechanism allowed");
        }
        let (path, query) = head.target.split_once('?').unwrap_or((&head.target, ""));
        let signature = query.split('&').find_map(|pair| pair.strip_prefix("sig=signature-"));
        let number = signature.and_then(|number| u64::from_str_radix(number, 16).ok());
        let good = number.and_then(|number| self.state().good.get(&number).copied());
        if good.is_none_or(|until| SystemTime::now() > until) {
            self.state().count.refused += 1;
            return plain(self.options.refusal, "Request has expired");
        }
        let mut headers = head.passed_on();
        headers.push(("Authorization", DistributionRegistry::BASIC));
        match http::request(&self.registry, &head.method, path, &headers, Body::Bytes(b"")) {
            Ok(answer) => {
                self.state().count.served += 1;
                relayed(&answer)
            }
            Err(_) => plain(502, "the registry behind does not answer"),
        }
    }
}

fn relayed(answer: &Response) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} x\r\n", answer.status);
    for (name, value) in &answer.headers {
        if !matches!(name.as_str(), "connection" | "content-length" | "transfer-encoding") {
            write!(head, "{name}: {value}\r\n").expect("writing to a string does not fail");
        }
    }
    write!(head, "Content-Length: {}\r\nConnection: close\r\n\r\n", answer.body.len()).expect("as above");
    [head.as_bytes(), &answer.body].concat()
}

fn plain(status: u16, words: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{words}", words.len()).into_bytes()
}
