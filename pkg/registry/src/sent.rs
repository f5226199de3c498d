//! The secrets that went out with requests. Some servers repeat what they refuse ("invalid token eyJ…"), so a server's own words
//! are shown without them.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Mutex, PoisonError},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::Request;
use url::form_urlencoded;

use crate::redact::{REDACTED, SHOWN_KEYS};

/// A shorter one would blot out the words around it, and gives nothing away there.
const SHORTEST: usize = 4;

/// Fields of a token request that are no secrets.
const SHOWN_FIELDS: [&str; 5] = ["grant_type", "username", "client_id", "service", "scope"];

/// What was sent so far. Never prints.
#[derive(Default)]
pub(crate) struct Sent(Mutex<BTreeSet<String>>);

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Sent {
    /// Remembers the secrets of a request: sensitive headers, the form of a token request, what a URL is signed with.
    pub(crate) fn note(&self, request: &Request) {
        let mut secrets = Vec::new();
        for value in request.headers().values().filter(|value| value.is_sensitive()) {
            let Ok(text) = value.to_str() else { continue };
            // `Bearer TOKEN`, `Basic BASE64`, or a header's whole value.
            let (_, bare) = text.split_once(' ').unwrap_or(("", text));
            let decoded = BASE64_STANDARD.decode(bare).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let password = decoded.as_deref().and_then(|login| login.split_once(':')).map(|(_, password)| password.to_owned());
            secrets.extend([text.to_owned(), bare.to_owned()].into_iter().chain(password));
        }
        let form = request.body().and_then(reqwest::Body::as_bytes).and_then(|form| std::str::from_utf8(form).ok());
        for (pairs, shown) in [(form, &SHOWN_FIELDS[..]), (request.url().query(), &SHOWN_KEYS[..])] {
            for pair in pairs.unwrap_or_default().split('&') {
                let Some((_, encoded)) = pair.split_once('=').filter(|(key, _)| !shown.contains(key)) else { continue };
                secrets.push(encoded.to_owned());
                secrets.extend(form_urlencoded::parse(pair.as_bytes()).map(|(_, value)| value.into_owned()));
            }
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(secrets.into_iter().filter(|secret| secret.len() >= SHORTEST));
    }

    /// A server's words without what was sent to it.
    pub(crate) fn blot(&self, words: Vec<u8>) -> Vec<u8> {
        let Ok(mut text) = String::from_utf8(words) else { return Vec::new() };
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Longest first: what holds another goes as a whole.
        let mut found: Vec<&String> = known.iter().filter(|secret| text.contains(secret.as_str())).collect();
        found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in found {
            text = text.replace(secret.as_str(), REDACTED);
        }
        text.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Method};

    use super::*;

    fn request(url: &str, header: &str, body: &str) -> Request {
        let mut request = Request::new(Method::POST, url.parse().unwrap());
        let mut value = HeaderValue::try_from(header).unwrap();
        value.set_sensitive(true);
        request.headers_mut().insert("authorization", value);
        request.headers_mut().insert("accept", HeaderValue::from_static("harmless"));
        *request.body_mut() = Some(body.to_owned().into());
        request
    }

    #[test]
    fn what_was_sent_is_blotted_out_and_nothing_else() {
        let sent = Sent::default();
        sent.note(&request("https://s/x?sig=s1gnature&ns=docker.io", "Bearer eyJ0b2tlbg", ""));
        sent.note(&request("https://s/token", "Basic YW5uOnBhc3N3b3Jk", "username=ann&refresh_token=r%2Fefresh&scope=repo"));
        for (said, shown) in [
            ("invalid token eyJ0b2tlbg", "invalid token REDACTED"),
            ("header was Bearer eyJ0b2tlbg", "header was REDACTED"),
            ("user ann has not password", "user ann has not REDACTED"),
            ("Basic YW5uOnBhc3N3b3Jk", "REDACTED"),
            ("r/efresh expired, s1gnature wrong", "REDACTED expired, REDACTED wrong"),
            ("refresh_token=r%2Fefresh&scope=repo", "refresh_token=REDACTED&scope=repo"),
            ("harmless docker.io repo", "harmless docker.io repo"),
        ] {
            assert_eq!(String::from_utf8(sent.blot(said.into())).unwrap(), shown);
        }
        assert_eq!(format!("{sent:?}"), "REDACTED");
    }
}
