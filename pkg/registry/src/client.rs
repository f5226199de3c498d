//! One HTTP exchange: no redirect, no retry, HTTP/1.1 only; the answer's head and a small answer's body within time limits.

use std::{error::Error as StdError, fmt, io, iter, sync::Arc, time::Duration};

use http::HeaderMap;
use reqwest::{Request, Response, redirect::Policy, retry};
use url::Url;

use crate::{
    Error, Options,
    addresses::Book,
    dial::{Dialling, Left},
    encoding::{DecodeError, Encoding},
    names::{Resolver, Unresolved},
    proxy::Proxies,
    redact,
    sent::Sent,
};

/// As containerd has it (reference 8.2, "Transport").
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// An error's body is read no further.
const MAX_ERROR_BODY: u64 = 64 << 10;
/// Nor longer: the status is known, its words are not worth a wait.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// An encoding's own headers and block framing, on top of a body that it could not make shorter.
const ENCODING_OVERHEAD: u64 = 64 << 10;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    direct: reqwest::Client,
    /// Different in nothing but the proxy; none without a proxy.
    proxied: Option<reqwest::Client>,
    proxies: Proxies,
    sent: Arc<Sent>,
    dial_timeout: Duration,
    header_timeout: Duration,
    document_timeout: Duration,
    dump: bool,
}

/// No answer.
#[derive(Debug)]
pub(crate) enum SendError {
    /// No head of an answer within this time.
    Timeout(Duration),
    /// Anything below HTTP, or an answer that is not HTTP.
    Http(HttpError),
}

/// A `reqwest::Error` that cannot show its URL, in which a signature may stand.
#[derive(Debug)]
pub(crate) struct HttpError(reqwest::Error);

/// Why a proxy gave no way to an https host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ProxyTrouble {
    Password,
    Unreachable,
    Refused,
}

/// Why a body could not be taken in whole.
#[derive(Debug)]
pub(crate) enum BodyError {
    Send(SendError),
    /// Not at its end within this time.
    Slow(Duration),
    /// Longer than this many bytes.
    TooLong(u64),
    /// In an encoding of this name, which cannot be undone.
    Encoded(String),
    /// It is not in the encoding its header names.
    Garbled(Encoding, io::Error),
}

impl Client {
    pub(crate) fn new(options: &Options, tls: &rustls::ClientConfig, dial_timeout: Option<Duration>) -> Result<Self, Error> {
        let dial_timeout = dial_timeout.unwrap_or(options.connect_timeout);
        let book = Arc::new(Book::default());
        let names = Arc::new(Resolver::new(options.names.clone().unwrap_or_default(), Arc::clone(&book)));
        let builder = || {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .http1_only()
                .redirect(Policy::none())
                .referer(false)
                .retry(retry::never())
                .connect_timeout(dial_timeout)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .dns_resolver(Arc::clone(&names))
                .connector_layer(Dialling(Arc::clone(&book)))
                .user_agent(concat!("rpull/", env!("CARGO_PKG_VERSION")))
        };
        let built = |builder: reqwest::ClientBuilder| builder.build().map_err(|error| Error::Client { source: Box::new(error) });
        let proxies = Proxies::from_environment()?;
        let rules = proxies.rules()?;
        let through = (!rules.is_empty()).then(|| built(rules.into_iter().fold(builder(), reqwest::ClientBuilder::proxy)));
        Ok(Self {
            direct: built(builder().no_proxy())?,
            proxied: through.transpose()?,
            proxies,
            sent: Arc::default(),
            dial_timeout,
            header_timeout: options.header_timeout,
            document_timeout: options.document_timeout,
            dump: options.http_dump,
        })
    }

    /// A request for this client's [`Client::send`].
    pub(crate) fn get(url: &Url, headers: &HeaderMap) -> Request {
        let mut request = Request::new(http::Method::GET, url.clone());
        *request.headers_mut() = headers.clone();
        request
    }

    /// Sends and waits for the head of the answer.
    pub(crate) async fn send(&self, request: Request) -> Result<Response, SendError> {
        let client = self.proxied.as_ref().filter(|_| !self.proxies.are_passed_by(request.url())).unwrap_or(&self.direct);
        self.sent.note(&request);
        let shown = self.dump.then(|| format!("{} {}", request.method(), redact::url(request.url())));
        if let Some(shown) = &shown {
            tracing::debug!(target: "http", "> {shown}{}", redact::headers(request.headers()));
        }
        // Whether a connection must be made first cannot be seen from here, so its time is allowed for.
        let limit = self.dial_timeout + self.header_timeout;
        let answer = match tokio::time::timeout(limit, execute(client, request)).await {
            Ok(answer) => answer.map_err(SendError::from),
            Err(_) => Err(SendError::Timeout(limit)),
        };
        if let Some(shown) = &shown {
            match &answer {
                Ok(answer) => tracing::debug!(
                    target: "http", "< {shown}: {}{}", answer.status(), redact::headers(answer.headers())
                ),
                Err(error) => tracing::debug!(target: "http", "< {shown}: {error:?}"),
            }
        }
        answer
    }

    /// The body, decoded, if it is at most `limit` bytes long and all there within the time of a document.
    pub(crate) async fn body(&self, answer: Response, limit: u64) -> Result<Vec<u8>, BodyError> {
        let encoding = Encoding::of(answer.headers()).map_err(BodyError::Encoded)?;
        let sent = if encoding == Encoding::Identity { limit } else { limit + ENCODING_OVERHEAD };
        let body = within(self.document_timeout, answer, sent).await?;
        encoding.decode(body, limit).map_err(|error| match error {
            DecodeError::TooLong => BodyError::TooLong(limit),
            DecodeError::Broken(error) => BodyError::Garbled(encoding, error),
        })
    }

    /// What an error's body says, without what we have sent; what cannot be read says nothing. A body read to its end lets the
    /// connection serve again.
    pub(crate) async fn error_body(&self, answer: Response) -> Vec<u8> {
        let Ok(encoding) = Encoding::of(answer.headers()) else { return Vec::new() };
        let body = within(self.document_timeout.min(ERROR_BODY_TIMEOUT), answer, MAX_ERROR_BODY).await.unwrap_or_default();
        self.sent.blot(encoding.decode(body, MAX_ERROR_BODY).unwrap_or_default())
    }
}

/// Dials until an address answers: each that did not is known by then and not chosen again.
async fn execute(client: &reqwest::Client, request: Request) -> Result<Response, reqwest::Error> {
    loop {
        let again = request.try_clone().expect("a request without a body can be made again");
        match client.execute(again).await {
            Err(error) if causes(&error).any(<dyn StdError>::is::<Left>) => {
                tracing::debug!(cause = %HttpError(error.without_url()), "another address");
            }
            answer => return answer,
        }
    }
}

/// The body as sent. The time is for the whole: one that drips must end too.
async fn within(time: Duration, mut answer: Response, limit: u64) -> Result<Vec<u8>, BodyError> {
    if answer.content_length().is_some_and(|length| length > limit) {
        return Err(BodyError::TooLong(limit));
    }
    let all = async {
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| BodyError::Send(error.into()))? {
            if body.len() as u64 + piece.len() as u64 > limit {
                return Err(BodyError::TooLong(limit));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    };
    tokio::time::timeout(time, all).await.unwrap_or(Err(BodyError::Slow(time)))
}

impl From<reqwest::Error> for SendError {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(HttpError(error.without_url()))
    }
}

impl HttpError {
    pub(crate) fn is_connect(&self) -> bool {
        self.0.is_connect()
    }

    pub(crate) fn is_timeout(&self) -> bool {
        self.0.is_timeout()
    }

    pub(crate) fn is_body(&self) -> bool {
        self.0.is_body() || self.0.is_decode()
    }

    /// The TLS failure at the bottom of it.
    pub(crate) fn tls(&self) -> Option<&rustls::Error> {
        self.causes().find_map(|cause| cause.downcast_ref())
    }

    /// Did the other side refuse the connection, as one does where nothing listens?
    pub(crate) fn is_refused(&self) -> bool {
        let refused = |io: &io::Error| io.kind() == io::ErrorKind::ConnectionRefused;
        self.causes().any(|cause| cause.downcast_ref().is_some_and(refused))
    }

    /// Is there no address for the host's name, or its proxy's?
    pub(crate) fn is_unresolved(&self) -> bool {
        self.causes().any(<dyn StdError + 'static>::is::<Unresolved>)
    }

    /// What went wrong between us and a proxy. That error is not part of reqwest's interface, only its words show.
    pub(crate) fn proxy(&self) -> Option<ProxyTrouble> {
        let words = self.causes().find_map(|cause| cause.to_string().strip_prefix("tunnel error: ").map(str::to_owned))?;
        Some(match words.as_str() {
            "proxy authorization required" => ProxyTrouble::Password,
            "failed to create underlying connection" => ProxyTrouble::Unreachable,
            _ => ProxyTrouble::Refused,
        })
    }

    fn causes(&self) -> impl Iterator<Item = &(dyn StdError + 'static)> {
        causes(&self.0)
    }
}

/// An error and what is below it. `io::Error` hides what it holds from `source`.
pub(crate) fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    iter::successors(Some(error), |&error| {
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        held.map(|held| held as _).or_else(|| error.source())
    })
}

/// The innermost cause only: what reqwest and hyper say above it names nothing.
impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut innermost: &dyn StdError = &self.0;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        fmt::Display::fmt(innermost, f)
    }
}

impl StdError for HttpError {}
