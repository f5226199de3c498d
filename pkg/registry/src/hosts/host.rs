//! One host, ready to be asked.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http::{HeaderMap, HeaderValue};
use reqwest::Response;
use rustls::Error as TlsError;
use url::Url;

use super::{Entry, authority, is_loopback, namespace};
use crate::{
    Error, Options,
    auth::Auth,
    client::{Client, HttpError, SendError},
    credentials::Offer,
};

/// A host that takes the connection and never answers the TLS hello speaks something else (containerd's handshake time).
const FALLBACK_DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A host of one repository, with its connections and its token.
#[derive(Debug)]
pub(crate) struct Host {
    /// host:port, for reports.
    pub(crate) name: String,
    /// May tags be asked for here?
    pub(crate) resolve: bool,
    pub(crate) client: Client,
    pub(crate) auth: Auth,
    /// Sent with registry and token requests, never to a redirect's target.
    pub(crate) headers: HeaderMap,
    base: Url,
    namespace: Option<String>,
    fallback: bool,
    /// The fall to http has happened.
    plain: AtomicBool,
}

impl Host {
    pub(crate) fn new(
        entry: Entry,
        (registry, repository): (&str, &str),
        options: &Options,
        offer: Offer,
    ) -> Result<Self, Error> {
        let name = entry.name();
        let dial_timeout = entry.dial_timeout.or(entry.fallback.then_some(options.connect_timeout.min(FALLBACK_DIAL_TIMEOUT)));
        Ok(Self {
            client: Client::new(options, &entry.tls.config()?, dial_timeout)?,
            auth: Auth::new(repository, offer),
            namespace: namespace(registry, &name),
            name,
            resolve: entry.resolve,
            headers: entry.headers,
            base: entry.base,
            fallback: entry.fallback,
            plain: AtomicBool::new(false),
        })
    }

    /// `<base>/<repository>/<kind>/<object>[?ns=<registry>]` (reference 8.3).
    pub(crate) fn url(&self, repository: &str, kind: &str, object: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/{repository}/{kind}/{object}", self.base.path().trim_end_matches('/')));
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        self.actual(&url)
    }

    /// `<base>/`, which says whether a login is wanted.
    pub(crate) fn door(&self) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/", self.base.path().trim_end_matches('/')));
        self.actual(&url)
    }

    /// Is the host spoken to without TLS?
    pub(crate) fn is_plain(&self) -> bool {
        self.base.scheme() == "http" || self.plain.load(Ordering::Relaxed)
    }

    /// Can nobody read what is sent here on its way?
    pub(crate) fn is_private(&self) -> bool {
        !self.is_plain() || is_loopback(&self.base)
    }

    /// Is it the same scheme, host and port?
    pub(crate) fn is_origin_of(&self, url: &Url) -> bool {
        self.actual(&self.base).origin() == url.origin()
    }

    /// GET to this host itself, with its extra headers; falls to http where the rules allow it.
    pub(crate) async fn get(
        &self,
        url: &Url,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, SendError> {
        let mut all = headers.clone();
        for (name, value) in &self.headers {
            all.append(name, value.clone());
        }
        if let Some(value) = authorization {
            all.insert(http::header::AUTHORIZATION, value.clone());
        }
        let url = self.actual(url);
        match self.client.send(Client::get(&url, &all)).await {
            Err(error) if self.fallback && url.scheme() == "https" && self.speaks_no_tls(&error) => {
                tracing::debug!(host = self.name, "no TLS there, falling to http");
                self.plain.store(true, Ordering::Relaxed);
                self.client.send(Client::get(&self.actual(&url), &all)).await
            }
            answer => answer,
        }
    }

    /// The URL with the scheme that works.
    pub(crate) fn actual(&self, url: &Url) -> Url {
        let mut url = url.clone();
        if self.plain.load(Ordering::Relaxed) && authority(&url) == self.name {
            // `https` to `http` is a change `Url` allows.
            let _ = url.set_scheme("http");
        }
        url
    }

    /// containerd's signs (reference 8.2). On loopback, where falling costs no safety, any end of the handshake that is not
    /// about certificates counts.
    fn speaks_no_tls(&self, error: &SendError) -> bool {
        let no_port = self.base.port().is_none();
        match error {
            SendError::Timeout(_) => no_port || is_loopback(&self.base),
            SendError::Http(error) => match error.tls() {
                Some(TlsError::InvalidMessage(_)) => true,
                Some(_) => false,
                None => error.is_connect() && (error.is_timeout() || no_port || self.loopback_hung_up(error)),
            },
        }
    }

    fn loopback_hung_up(&self, error: &HttpError) -> bool {
        is_loopback(&self.base) && !error.is_refused()
    }
}
