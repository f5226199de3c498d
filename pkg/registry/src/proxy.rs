//! Proxies out of the environment, read as Go's clients do (`golang.org/x/net/http/httpproxy`), and `ALL_PROXY` as curl does.
//!
//! All of it is decided here and nothing left to the HTTP library, whose rules for `NO_PROXY` are curl's, and which goes past a
//! proxy that it cannot read.

use std::{env, fmt};

use url::Url;

use crate::{Error, hosts, no_proxy::Exceptions};

/// Which proxy for which scheme, and for whom none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exceptions: Exceptions,
}

/// A proxy's URL, with the user and password that it wants. Shown without them.
#[derive(Clone, PartialEq, Eq)]
struct Proxy(Url);

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hosts::authority(&self.0))
    }
}

impl Proxies {
    /// From the variables of this process.
    ///
    /// # Errors
    /// [`Error::Proxy`]: a proxy that cannot be used is never gone past.
    pub(crate) fn from_environment() -> Result<Self, Error> {
        Self::from(|name| env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        // The first that is not empty; upper case goes before lower case.
        let first = |names: &[&'static str]| {
            names.iter().find_map(|name| Some((*name, variable(name).filter(|value| !value.is_empty())?)))
        };
        let proxy = |names| first(names).map(|(name, value)| Proxy::parse(name, &value)).transpose();
        let all = proxy(&["ALL_PROXY", "all_proxy"])?;
        // In a CGI program `HTTP_PROXY` is what a client sent as header `Proxy`.
        let is_cgi = variable("REQUEST_METHOD").is_some();
        let http = proxy(if is_cgi { &["http_proxy"] } else { &["HTTP_PROXY", "http_proxy"] })?;
        let https = proxy(&["HTTPS_PROXY", "https_proxy"])?;
        let exceptions = first(&["NO_PROXY", "no_proxy"]).map_or_else(Exceptions::default, |(_, list)| Exceptions::parse(&list));
        Ok(Self { http: http.or_else(|| all.clone()), https: https.or(all), exceptions })
    }

    /// For the HTTP library: what to use for those who are not asked directly. Empty when there is no proxy at all.
    ///
    /// # Errors
    /// [`Error::Client`].
    pub(crate) fn rules(&self) -> Result<Vec<reqwest::Proxy>, Error> {
        let http = self.http.iter().map(|Proxy(url)| reqwest::Proxy::http(url.clone()));
        let https = self.https.iter().map(|Proxy(url)| reqwest::Proxy::https(url.clone()));
        let rules: Result<Vec<_>, reqwest::Error> = http.chain(https).collect();
        rules.map_err(|error| Error::Client { source: Box::new(error.without_url()) })
    }

    /// Is no proxy to be used for this URL? Loopback is never behind one.
    pub(crate) fn are_passed_by(&self, url: &Url) -> bool {
        hosts::is_loopback(url) || self.exceptions.hold(url)
    }
}

impl Proxy {
    /// Without a scheme it is http.
    fn parse(variable: &'static str, value: &str) -> Result<Self, Error> {
        let value = value.trim();
        let parsed = if value.contains("://") { Url::parse(value) } else { Url::parse(&format!("http://{value}")) };
        // The parser's error names no part of the value, in which a password may stand.
        let unusable = |why: String| Error::Proxy { variable, why };
        let url = parsed.map_err(|error| unusable(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(unusable(format!("a {} proxy is not supported", url.scheme())));
        }
        // The HTTP library would drop what it cannot read, and the proxy with it.
        url.as_str().parse::<http::Uri>().map_err(|error| unusable(error.to_string()))?;
        Ok(Self(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, String> {
        let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Proxies::from(value).map_err(|error| error.to_string())
    }

    #[test]
    fn each_scheme_has_its_variable_in_either_case_and_all_is_for_both() {
        for (variables, http, https) in [
            (&[][..], None, None),
            (&[("HTTP_PROXY", "http://a:1")], Some("a:1"), None),
            (&[("https_proxy", "http://a:1")], None, Some("a:1")),
            (&[("HTTP_PROXY", "http://a:1"), ("http_proxy", "http://b:1")], Some("a:1"), None),
            (&[("HTTP_PROXY", ""), ("http_proxy", "http://b:1")], Some("b:1"), None),
            (&[("ALL_PROXY", "http://a:1")], Some("a:1"), Some("a:1")),
            (&[("all_proxy", "http://a:1"), ("HTTPS_PROXY", "https://b:1")], Some("a:1"), Some("b:1")),
            (&[("HTTP_PROXY", "a:1")], Some("a:1"), None),
            (&[("HTTP_PROXY", " squid ")], Some("squid"), None),
            (&[("HTTP_PROXY", "http://ann:pa%40ss@[fd00::1]:3128")], Some("[fd00::1]:3128"), None),
            (&[("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "a:1"), ("HTTPS_PROXY", "b:1")], None, Some("b:1")),
            (&[("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "a:1"), ("http_proxy", "b:1")], Some("b:1"), None),
        ] {
            let found = proxies(variables).unwrap();
            let shown = |proxy: &Option<Proxy>| proxy.as_ref().map(|proxy| format!("{proxy:?}"));
            assert_eq!((shown(&found.http).as_deref(), shown(&found.https).as_deref()), (http, https), "{variables:?}");
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_used_is_an_error_without_its_password() {
        for (value, words) in [
            ("socks5://ann:s3cret@a:1080", "a socks5 proxy is not supported"),
            ("http://ann:s3cret/more@a:1", "invalid port number"),
            ("http://", "empty host"),
        ] {
            let error = proxies(&[("HTTPS_PROXY", value)]).unwrap_err();
            assert!(error.starts_with("HTTPS_PROXY ") && error.contains(words) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_password_is_for_the_proxy_only() {
        let found = proxies(&[("ALL_PROXY", "http://ann:s3cret-word@a:1")]).unwrap();
        let rules = found.rules().unwrap();
        assert_eq!(rules.len(), 2);
        assert!(!format!("{found:?}").contains("s3cret-word"));
    }
}
