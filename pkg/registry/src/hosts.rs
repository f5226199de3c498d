//! Which hosts serve a registry's repositories, in which order, and how each is spoken to (reference 8.1, 8.2).

use std::{path::PathBuf, time::Duration};

use http::HeaderMap;
use url::{Host as UrlHost, Url};

use crate::{Error, Options, tls};

mod directory;
mod duration;
mod file;
mod host;

pub(crate) use directory::entries;
#[cfg(any(test, fuzzing))]
pub(crate) use file::parse as parse_file;
pub(crate) use host::Host;

/// Docker Hub's name and the host that speaks for it.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// One host as the rules or `hosts.toml` describe it; nothing is opened yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Scheme, host, port and path; the path ends before `/<repository>`.
    pub(crate) base: Url,
    /// Begin with https and fall to http when the host does not speak TLS.
    pub(crate) fallback: bool,
    pub(crate) relation: Relation,
    pub(crate) pull: bool,
    pub(crate) resolve: bool,
    pub(crate) tls: tls::Settings,
    pub(crate) headers: HeaderMap,
    pub(crate) dial_timeout: Option<Duration>,
}

/// Whose host it is for the registry that is meant: on this depends what it may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// The registry itself.
    Own,
    /// The registry's `hosts.toml` names it.
    Named,
    /// The `hosts.toml` of `_default` names it, for every registry that has none: a user who gives a password for one of them
    /// need not know of it.
    Default,
}

/// What `hosts.toml` or a legacy certificate directory adds to a host's TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ExtraTls {
    ca: Vec<PathBuf>,
    client: Vec<tls::Pair>,
    skip_verify: Option<bool>,
}

impl ExtraTls {
    fn is_explicit(&self) -> bool {
        !self.ca.is_empty() || !self.client.is_empty() || self.skip_verify.is_some()
    }
}

/// The default entry of a registry (8.2).
fn default_entry(registry: &str, options: &Options, extra: &ExtraTls) -> Result<Entry, Error> {
    let authority = if registry == HUB.0 { HUB.1 } else { registry };
    let https = parse(&format!("https://{authority}/v2"), registry)?;
    let (loopback, port) = (is_loopback(&https), explicit_port(authority));
    let local = loopback && !options.plain_http;
    let plain = if local { !matches!(port, None | Some(443)) } else { options.plain_http };
    let base = if plain { parse(&format!("http://{authority}/v2"), registry)? } else { https };
    let mut entry = entry(base, port, options, extra);
    if local && plain && port != Some(80) {
        // containerd counts its "no verification on loopback" as an explicit TLS setting: https is tried first.
        entry.set_https_first();
    }
    // A CA or an explicit word goes before the leniency.
    if local && port != Some(80) && !options.explicit_tls() && !extra.is_explicit() {
        entry.tls.skip_verify = true;
    }
    entry.fallback |= options.http_fallback && entry.base.scheme() == "https";
    entry.relation = Relation::Own;
    Ok(entry)
}

/// An entry for `base` with flags and extra settings merged.
fn entry(base: Url, port: Option<u16>, options: &Options, extra: &ExtraTls) -> Entry {
    let tls = tls::Settings {
        skip_verify: extra.skip_verify.unwrap_or(options.skip_verify),
        replace_roots: options.tls_ca.clone(),
        more_roots: extra.ca.clone(),
        client: if extra.client.is_empty() { options.tls_cert.iter().cloned().collect() } else { extra.client.clone() },
    };
    let explicit = options.explicit_tls() || extra.is_explicit();
    let mut entry = Entry {
        base,
        fallback: false,
        relation: Relation::Named,
        pull: true,
        resolve: true,
        tls,
        headers: HeaderMap::new(),
        dial_timeout: None,
    };
    if entry.base.scheme() == "http" && explicit && port != Some(80) {
        entry.set_https_first();
    }
    entry
}

impl Entry {
    fn set_https_first(&mut self) {
        // `http` to `https` is a change `Url` allows; an explicit port stays.
        if self.base.set_scheme("https").is_ok() {
            self.fallback = true;
        }
    }

    /// `host:port` as people write it.
    pub(crate) fn name(&self) -> String {
        authority(&self.base)
    }
}

/// Host and, where it is not the scheme's own, port.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Does the URL name this machine? Such a host may be spoken to without TLS, and never through a proxy.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(UrlHost::Domain(name)) => name == "localhost",
        Some(UrlHost::Ipv4(address)) => address.is_loopback(),
        Some(UrlHost::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

/// The `ns` query: tells a mirror which registry is meant.
fn namespace(registry: &str, name: &str) -> Option<String> {
    (name != registry && (registry, name) != HUB).then(|| registry.to_owned())
}

/// The port as written: `Url` drops it when it is the scheme's own.
fn explicit_port(authority: &str) -> Option<u16> {
    let (_, port) = authority.rsplit_once(':')?;
    port.parse().ok()
}

fn parse(text: &str, registry: &str) -> Result<Url, Error> {
    Url::parse(text).map_err(|source| Error::Host { host: registry.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_spoken_to_as_containerd_does() {
        let flags = |plain_http, skip_verify| Options { skip_verify, plain_http, ..Options::default() };
        // registry, --plain-http, -k: base, falls to http, verifies
        for (registry, plain, skip, base, fallback, verified) in [
            ("docker.io", false, false, "https://registry-1.docker.io/v2", false, true),
            ("r.example", false, false, "https://r.example/v2", false, true),
            ("r.example:5000", false, true, "https://r.example:5000/v2", false, false),
            ("r.example:5000", true, false, "http://r.example:5000/v2", false, true),
            ("r.example:5000", true, true, "https://r.example:5000/v2", true, false),
            ("r.example:80", true, true, "http://r.example/v2", false, false),
            ("localhost", false, false, "https://localhost/v2", false, false),
            ("localhost:443", false, false, "https://localhost/v2", false, false),
            ("localhost:80", false, false, "http://localhost/v2", false, true),
            ("localhost:5000", false, false, "https://localhost:5000/v2", true, false),
            ("127.0.0.9:5000", false, false, "https://127.0.0.9:5000/v2", true, false),
            ("[::1]:5000", false, false, "https://[::1]:5000/v2", true, false),
            ("localhost:5000", true, false, "http://localhost:5000/v2", false, true),
            ("128.0.0.1:5000", false, false, "https://128.0.0.1:5000/v2", false, true),
        ] {
            let entry = default_entry(registry, &flags(plain, skip), &ExtraTls::default()).unwrap();
            let seen = (entry.base.as_str(), entry.fallback, !entry.tls.skip_verify);
            assert_eq!(seen, (base, fallback, verified), "{registry} {plain} {skip}");
        }
    }

    #[test]
    fn an_insecure_registry_may_speak_http_and_a_host_of_hosts_toml_only_what_is_written_there() {
        let options = Options { skip_verify: true, http_fallback: true, ..Options::default() };
        for (registry, base) in [("r.example", "https://r.example/v2"), ("r.example:5000", "https://r.example:5000/v2")] {
            let entry = default_entry(registry, &options, &ExtraTls::default()).unwrap();
            assert_eq!((entry.base.as_str(), entry.fallback, entry.tls.skip_verify), (base, true, true));
        }
        let mirror = entry(Url::parse("https://m.example/v2").unwrap(), None, &options, &ExtraTls::default());
        assert!(!mirror.fallback && mirror.tls.skip_verify);
    }

    #[test]
    fn a_mirror_is_told_the_registry() {
        assert_eq!(namespace("docker.io", "registry-1.docker.io"), None);
        assert_eq!(namespace("docker.io", "mirror:5000").as_deref(), Some("docker.io"));
        assert_eq!(namespace("r.example:5000", "r.example:5000"), None);
    }
}
