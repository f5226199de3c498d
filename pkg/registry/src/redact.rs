//! URLs and headers as they may be shown. An allow-list: what is not known to be harmless is hidden.

use http::HeaderMap;
use url::Url;

/// Query keys whose values are no secrets. Signatures, credentials and tokens have other names, and new ones every year.
pub(crate) const SHOWN_KEYS: [&str; 8] = ["ns", "scope", "service", "client_id", "n", "last", "X-Amz-Date", "X-Amz-Expires"];

/// Headers whose values are no secrets.
const SHOWN_HEADERS: [&str; 27] = [
    "accept",
    "accept-encoding",
    "accept-ranges",
    "age",
    "allow",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "docker-content-digest",
    "docker-distribution-api-version",
    "etag",
    "host",
    "last-modified",
    "oci-subject",
    "range",
    "ratelimit-limit",
    "ratelimit-remaining",
    "retry-after",
    "server",
    "transfer-encoding",
    "user-agent",
    "via",
    "www-authenticate",
];

pub(crate) const REDACTED: &str = "REDACTED";

/// The URL without user, password, fragment and the values of unknown query keys.
pub(crate) fn url(url: &Url) -> String {
    let mut shown = url.clone();
    // Both fail only for URLs without a host, which cannot carry any.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    if url.query().is_some() {
        shown.query_pairs_mut().clear().extend_pairs(url.query_pairs().map(|(key, value)| {
            let value = if SHOWN_KEYS.contains(&key.as_ref()) { value } else { REDACTED.into() };
            (key, value)
        }));
    }
    shown.into()
}

/// Headers one a line, `name: value`, for the dump.
pub(crate) fn headers(headers: &HeaderMap) -> String {
    let mut text = String::new();
    for (name, value) in headers {
        let value = match (name.as_str(), value.to_str()) {
            ("location", Ok(value)) => Url::parse(value).map_or_else(|_| REDACTED.to_owned(), |target| url(&target)),
            (name, Ok(value)) if SHOWN_HEADERS.contains(&name) => value.to_owned(),
            _ => REDACTED.to_owned(),
        };
        text.push_str("\n  ");
        text.push_str(name.as_str());
        text.push_str(": ");
        text.push_str(&value);
    }
    text
}

/// Text a server wrote, fit for one line of a terminal: no control characters, not longer than `limit` characters.
pub(crate) fn line(text: &str, limit: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(limit).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_shows_neither_signature_nor_password() {
        for (given, shown) in [
            ("https://r/v2/a/blobs/sha256:1?ns=docker.io", "https://r/v2/a/blobs/sha256:1?ns=docker.io"),
            ("https://u:p@s/x?sig=abc&se=2026#f", "https://s/x?sig=REDACTED&se=REDACTED"),
            ("https://s/x?X-Amz-Signature=abc&X-Amz-Expires=60", "https://s/x?X-Amz-Signature=REDACTED&X-Amz-Expires=60"),
            ("https://s/x?%74oken=abc", "https://s/x?token=REDACTED"),
        ] {
            assert_eq!(url(&Url::parse(given).unwrap()), shown);
        }
    }

    #[test]
    fn headers_show_only_what_is_known_to_be_harmless() {
        let mut map = HeaderMap::new();
        for (name, value) in
            [("authorization", "Basic c2VjcmV0"), ("set-cookie", "c2VjcmV0"), ("x-auth", "c2VjcmV0"), ("range", "bytes=0-1")]
        {
            map.insert(name, value.parse().unwrap());
        }
        map.insert("location", "https://s/x?sig=c2VjcmV0".parse().unwrap());
        let text = headers(&map);
        assert!(!text.contains("c2VjcmV0"), "{text}");
        assert!(text.contains("range: bytes=0-1") && text.contains("https://s/x?sig=REDACTED"), "{text}");
    }

    #[test]
    fn text_of_a_server_stays_on_one_line() {
        assert_eq!(line("\x1b[31mno\r\nway", 64), "[31mno  way");
        assert_eq!(line(&"a".repeat(100), 10).len(), 10);
    }
}
