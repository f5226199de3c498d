//! `host:port` in `NO_PROXY`, which Go's clients know and reqwest does not. Names, suffixes and networks are left to reqwest.

use url::Url;

/// Hosts that are asked directly at one port.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Exceptions(Vec<Exception>);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Exception {
    /// Lower case; with a dot in front it means the names below it only.
    host: String,
    port: u16,
}

impl Exceptions {
    /// The variable reqwest reads, in the same order.
    pub(crate) fn from_environment() -> Self {
        let text = std::env::var("NO_PROXY").or_else(|_| std::env::var("no_proxy"));
        Self::parse(&text.unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let exception = |entry: &str| {
            let (host, port) = entry.trim().rsplit_once(':')?;
            let host = host.strip_prefix('*').unwrap_or(host).to_ascii_lowercase();
            (!host.is_empty()).then_some(Exception { host, port: port.parse().ok()? })
        };
        Self(text.split(',').filter_map(exception).collect())
    }

    pub(crate) fn holds(&self, url: &Url) -> bool {
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return false };
        self.0.iter().any(|exception| exception.port == port && exception.names(host))
    }
}

impl Exception {
    fn names(&self, host: &str) -> bool {
        let Some(above) = host.strip_suffix(&self.host) else { return false };
        above.is_empty() || self.host.starts_with('.') || above.ends_with('.')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_excepted_at_its_port_as_in_go() {
        let exceptions =
            Exceptions::parse("a.example:5000, .b.example:443,*.c.example:80,10.0.0.1:5000,[fd00::1]:5000,d.example,::1");
        for (url, expected) in [
            ("http://a.example:5000/v2", true),
            ("http://x.a.example:5000/v2", true),
            ("http://xa.example:5000/v2", false),
            ("http://a.example:5001/v2", false),
            ("https://x.b.example/v2", true),
            ("https://b.example/v2", false),
            ("http://x.b.example/v2", false),
            ("http://x.c.example/v2", true),
            ("http://c.example/v2", false),
            ("http://10.0.0.1:5000/v2", true),
            ("http://[fd00::1]:5000/v2", true),
            ("http://d.example/v2", false),
        ] {
            assert_eq!(exceptions.holds(&Url::parse(url).unwrap()), expected, "{url}");
        }
        assert_eq!(Exceptions::parse(""), Exceptions::default());
    }
}
