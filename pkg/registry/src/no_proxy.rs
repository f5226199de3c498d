//! `NO_PROXY` as Go's clients read it: who is asked directly.

use std::net::IpAddr;

use url::{Host, Url};

/// The list. Empty: nobody.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Exceptions(Vec<Exception>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Exception {
    /// `*`
    Everyone,
    /// `10.0.0.0/8`, at any port.
    Network { address: IpAddr, prefix: u8 },
    /// `10.0.0.1`, `10.0.0.1:5000`, `[fd00::1]:5000`
    Address { address: IpAddr, port: Option<u16> },
    /// `r.example` and the names below it; `.r.example` and `*.r.example` are only those.
    Domain { name: String, itself: bool, port: Option<u16> },
}

impl Exceptions {
    /// Entries between commas; one that says nothing counts for nothing.
    pub(crate) fn parse(list: &str) -> Self {
        Self(list.split(',').filter_map(|entry| Exception::parse(&entry.trim().to_ascii_lowercase())).collect())
    }

    pub(crate) fn hold(&self, url: &Url) -> bool {
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else { return false };
        self.0.iter().any(|exception| exception.holds(&host, port))
    }
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::Everyone);
        }
        if let Some(network) = network(entry) {
            return Some(network);
        }
        let (host, port) = match address(entry) {
            Some(address) => return Some(Self::Address { address, port: None }),
            None => match entry.rsplit_once(':') {
                Some((host, port)) => (host, Some(port.parse().ok()?)),
                None => (entry, None),
            },
        };
        if let Some(address) = address(host) {
            return Some(Self::Address { address, port });
        }
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        let (name, itself) = host.strip_prefix('.').map_or((host, true), |name| (name, false));
        (!name.is_empty()).then(|| Self::Domain { name: name.to_owned(), itself, port })
    }

    fn holds(&self, host: &Host<&str>, at: u16) -> bool {
        let asked = match host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(IpAddr::from(*address)),
            Host::Ipv6(address) => Some(address.to_canonical()),
        };
        let fits = |port: &Option<u16>| port.is_none_or(|port| port == at);
        match self {
            Self::Everyone => true,
            Self::Network { address, prefix } => asked.is_some_and(|asked| is_in(asked, *address, *prefix)),
            Self::Address { address, port } => asked == Some(*address) && fits(port),
            Self::Domain { name, itself, port } => {
                let Host::Domain(host) = host else { return false };
                let above = host.strip_suffix(name.as_str());
                above.is_some_and(|above| if above.is_empty() { *itself } else { above.ends_with('.') }) && fits(port)
            }
        }
    }
}

/// With or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    inner.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn network(entry: &str) -> Option<Exception> {
    let (address, prefix) = entry.split_once('/')?;
    let (address, prefix): (IpAddr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (prefix <= longest).then_some(Exception::Network { address, prefix })
}

fn is_in(asked: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (asked, network) {
        (IpAddr::V4(asked), IpAddr::V4(network)) => {
            let differing = asked.to_bits() ^ network.to_bits();
            differing.leading_zeros() >= u32::from(prefix)
        }
        (IpAddr::V6(asked), IpAddr::V6(network)) => {
            let differing = asked.to_bits() ^ network.to_bits();
            differing.leading_zeros() >= u32::from(prefix)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(list: &str, url: &str) -> bool {
        Exceptions::parse(list).hold(&Url::parse(url).unwrap())
    }

    /// What Go's `httpproxy.Config` answers, but for the brackets without a port, which it does not know.
    #[test]
    fn the_list_is_read_as_go_reads_it() {
        for (list, held, others) in [
            ("", &[][..], &["http://a.example/"][..]),
            (" , ,:80", &[], &["http://a.example/"]),
            ("*", &["http://a.example/", "https://10.0.0.1:5000/", "https://[fd00::1]/"], &[]),
            ("a.example", &["http://a.example/", "https://A.example:5000/", "http://x.a.example/"], &["http://xa.example/"]),
            (".a.example", &["http://x.a.example/"], &["http://a.example/", "http://xa.example/"]),
            ("*.a.example", &["http://x.y.a.example/"], &["http://a.example/"]),
            ("example", &["http://a.example/", "http://example/"], &["http://example.org/"]),
            ("b.example, A.Example:5000", &["http://a.example:5000/", "http://x.a.example:5000/"], &["http://a.example/"]),
            ("a.example:443", &["https://a.example/"], &["http://a.example/", "https://a.example:444/"]),
            (".a.example:443", &["https://x.a.example/"], &["https://a.example/"]),
            ("a.example:https", &[], &["https://a.example/"]),
            ("10.0.0.1", &["http://10.0.0.1/", "http://10.0.0.1:5000/"], &["http://10.0.0.11/", "http://110.0.0.1/"]),
            ("10.0.0.1:5000", &["http://10.0.0.1:5000/"], &["http://10.0.0.1/"]),
            ("10.0.0.0/8", &["http://10.255.0.1:5000/"], &["http://11.0.0.1/", "http://10.example/", "http://[fd00::1]/"]),
            ("10.1.2.3/32", &["http://10.1.2.3/"], &["http://10.1.2.2/"]),
            ("0.0.0.0/0", &["http://10.1.2.3/"], &["http://[fd00::1]/", "http://a.example/"]),
            ("10.0.0.0/33,10.0.0.0/x", &[], &["http://10.0.0.1/"]),
            ("fd00::/16", &["http://[fd00:1::1]:5000/"], &["http://[fd01::1]/", "http://10.0.0.1/"]),
            ("fd00::1", &["http://[fd00::1]/", "https://[fd00::1]:5000/"], &["http://[fd00::2]/"]),
            ("[fd00::1]", &["http://[fd00::1]:5000/"], &["http://[fd00::2]/"]),
            ("[fd00::1]:5000", &["http://[fd00::1]:5000/"], &["http://[fd00::1]/"]),
            ("10.0.0.1", &["http://[::ffff:10.0.0.1]/"], &[]),
        ] {
            for url in held {
                assert!(holds(list, url), "{list:?} leaves out {url}");
            }
            for url in others {
                assert!(!holds(list, url), "{list:?} holds {url}");
            }
        }
    }
}
