//! What went wrong with a request, in words and as a class.

use std::{
    error::Error as StdError,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};

use crate::{
    client::{BodyError, ProxyTrouble, SendError},
    redact,
};

/// Characters of a registry's own message that are shown.
pub(crate) const MAX_MESSAGE: usize = 300;

const UNRESOLVED: &str = "check the name and this machine's DNS; where only a proxy knows it, set HTTPS_PROXY";
const PROXY_LOGIN: &str = "give the proxy's user and password in HTTPS_PROXY or HTTP_PROXY: http://USER:PASSWORD@HOST:PORT";

/// How a failure is to be taken. Adapters classify, only `transfer::Schedule` decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class {
    /// May work the next time.
    Transient {
        /// `Retry-After`, turned into a span from now; how much of it is obeyed is not decided here.
        after: Option<Duration>,
    },
    /// Credentials missing, wrong or not sufficient.
    Denied,
    /// 404.
    Missing,
    /// The bytes are not what they should be (digest, size, Content-Range of another span). Another host may have the right ones.
    Corrupt,
    /// The server does not serve this range (416).
    NoRange,
    /// Will not work the next time either.
    Fatal,
}

/// A failed request: which host, what kind, what to do. Its side is always the registry's.
#[derive(Clone, Debug)]
pub struct Fault {
    /// How it is to be taken.
    pub class: Class,
    /// host:port as in [`crate::Repository::host_name`].
    pub host: String,
    /// The object and what happened to it.
    pub what: String,
    /// What the user can do about it.
    pub hint: Option<String>,
    /// There never was a connection: name unknown, refused, unreachable.
    pub connect: bool,
    /// The host pushes back: 429, 503, or any failure with a `Retry-After`. Fewer requests may get an answer.
    pub busy: bool,
    /// The cause, never repeated in `what`.
    pub source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Fault {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.host, self.what)
    }
}

impl StdError for Fault {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// What a request is about; makes its faults.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) host: String,
    /// `manifest t/obd:1`, `blob sha256:…`, `token for t/obd`.
    pub(crate) object: String,
}

impl About {
    pub(crate) fn fault(&self, class: Class, happened: impl fmt::Display) -> Fault {
        Fault {
            class,
            host: self.host.clone(),
            what: format!("{}: {happened}", self.object),
            hint: None,
            connect: false,
            busy: false,
            source: None,
        }
    }

    /// A request that got no answer. `server` is who should have answered: the host, its token realm or its storage.
    pub(crate) fn unanswered(&self, server: &str, error: SendError) -> Fault {
        let from = if server == self.host { String::new() } else { format!(" from {server}") };
        let transient = Class::Transient { after: None };
        match error {
            SendError::Timeout(after) => self.fault(transient, format_args!("no answer{from} within {} s", after.as_secs())),
            SendError::Http(error) => {
                if let Some(tls) = error.tls() {
                    let (class, words, hint) = tls_words(tls);
                    let mut fault = self.fault(class, format_args!("{words}{from}")).with_source(tls.clone());
                    fault.hint = hint.map(str::to_owned);
                    return fault;
                }
                if let Some(trouble) = error.proxy() {
                    let (class, words, hint) = proxy_words(trouble);
                    let fault = self.fault(class, format_args!("{words}{from}")).with_hint(hint).with_source(error);
                    return Fault { connect: true, ..fault };
                }
                let to = from.replacen(" from ", " to ", 1);
                let (words, connect) = match () {
                    () if error.is_unresolved() => ("no such host".to_owned(), true),
                    () if error.is_timeout() && error.is_connect() => (format!("no connection{to} in time"), true),
                    () if error.is_connect() => (format!("no connection{to}"), true),
                    () if error.is_body() => (format!("connection broken in the body{from}"), false),
                    () => (format!("connection broken{from}"), false),
                };
                let hint = error.is_unresolved().then(|| UNRESOLVED.to_owned());
                Fault { hint, connect, ..self.fault(transient, words).with_source(error) }
            }
        }
    }

    /// An answer whose body cannot be taken.
    pub(crate) fn untaken(&self, server: &str, error: BodyError) -> Fault {
        let from = if server == self.host { String::new() } else { format!(" from {server}") };
        let corrupt = |happened: fmt::Arguments<'_>| self.fault(Class::Corrupt, happened);
        match error {
            BodyError::Send(error) => self.unanswered(server, error),
            BodyError::Slow(time) => {
                let happened = format_args!("answer{from} did not end within {} s", time.as_secs());
                self.fault(Class::Transient { after: None }, happened)
            }
            BodyError::TooLong(limit) => corrupt(format_args!("answer{from} is longer than {limit} bytes")),
            BodyError::Encoded(name) => corrupt(format_args!("answer{from} is encoded ({name}) though that was not asked for")),
            BodyError::Garbled(encoding, error) => {
                corrupt(format_args!("answer{from} is not the {} its head says", encoding.name())).with_source(error)
            }
        }
    }

    /// An answer with a status that is not the one wanted.
    pub(crate) fn status(&self, server: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Fault {
        let after = headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now()));
        let class = match status.as_u16() {
            401 | 403 => Class::Denied,
            404 | 410 => Class::Missing,
            408 | 425 | 429 | 500 | 502..=504 | 506..=599 => Class::Transient { after },
            416 => Class::NoRange,
            _ => Class::Fatal,
        };
        let from = if server == self.host { String::new() } else { format!(" from {server}") };
        let said = message(body).map_or_else(String::new, |message| format!(" ({message})"));
        let reason = status.canonical_reason().map_or_else(String::new, |reason| format!(" {reason}"));
        let busy = matches!(status.as_u16(), 429 | 503) || matches!(class, Class::Transient { after: Some(_) });
        let fault = Fault { busy, ..self.fault(class, format_args!("{}{reason}{from}{said}", status.as_u16())) };
        if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED { fault.with_hint(PROXY_LOGIN) } else { fault }
    }
}

/// What of a TLS failure is worth another try, in words, with a cure.
fn tls_words(error: &rustls::Error) -> (Class, &'static str, Option<&'static str>) {
    use rustls::{AlertDescription as Alert, CertificateError as Bad, Error};
    let (words, hint) = match error {
        // A bad signature: another CA of the same name, as one that was made anew has it.
        Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => (
            "certificate signed by an unknown authority",
            "give its CA, or the certificate itself if it is self-signed, with --tlscacert or as ca in hosts.toml",
        ),
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            ("certificate has expired", "renew the registry's certificate, or check this machine's clock")
        }
        Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            ("certificate is not valid yet", "check this machine's clock")
        }
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            ("certificate is for another name", "use a name the certificate lists; --skip-verify checks nothing at all")
        }
        Error::InvalidCertificate(_) => {
            ("certificate cannot be accepted", "see it with openssl s_client -showcerts -connect HOST:PORT")
        }
        Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            ("http answered to https", "if the registry has no TLS, say --plain-http")
        }
        Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied,
        ) => CLIENT_CERTIFICATE,
        Error::AlertReceived(Alert::ProtocolVersion | Alert::HandshakeFailure | Alert::InsufficientSecurity)
        | Error::PeerIncompatible(_) => ("no TLS in common", "the registry must offer TLS 1.2 or 1.3 with current ciphers"),
        Error::AlertReceived(_) => ("TLS refused", "check the host's name: the server may have no certificate for it"),
        _ => return (Class::Transient { after: None }, "TLS connection broken", None),
    };
    (Class::Fatal, words, Some(hint))
}

fn proxy_words(trouble: ProxyTrouble) -> (Class, &'static str, &'static str) {
    let transient = Class::Transient { after: None };
    match trouble {
        ProxyTrouble::Password => (Class::Fatal, "the proxy wants a password", PROXY_LOGIN),
        ProxyTrouble::Unreachable => (transient, "no connection to the proxy", "check HTTPS_PROXY; NO_PROXY excepts hosts"),
        ProxyTrouble::Refused => (transient, "the proxy does not connect", "ask who runs the proxy; NO_PROXY excepts hosts"),
    }
}

/// Words and cure for a server that wants to know its clients. Few say whether one is missing or not good enough.
pub(crate) const CLIENT_CERTIFICATE: (&str, &str) =
    ("client certificate missing or not accepted", "give one with --tlscert and --tlskey or as client in hosts.toml");

/// `Retry-After` in seconds or as a date (RFC 9110 10.2.3).
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()),
    }
}

/// `errors[0]` of the distribution spec, `details` of a token server, or one line of plain text as Go's servers write it.
pub(crate) fn message(body: &[u8]) -> Option<String> {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else {
        let text = std::str::from_utf8(body).ok()?.trim();
        let is_line = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains(['\n', '<', '{']);
        return is_line.then(|| redact::line(text, MAX_MESSAGE));
    };
    let text = |value: &serde_json::Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let first = json.get("errors").and_then(|errors| errors.get(0));
    let said = match first {
        Some(error) => match (text(&error["code"]), text(&error["message"])) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (code, message) => code.or(message)?,
        },
        None => ["error_description", "details", "message", "error"].iter().find_map(|key| text(&json[*key]))?,
    };
    Some(redact::line(&said, MAX_MESSAGE))
}

/// The code of `errors[0]`, `MANIFEST_UNKNOWN` for example.
pub(crate) fn code(body: &[u8]) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(body).ok()?;
    json.get("errors")?.get(0)?.get("code")?.as_str().map(|code| redact::line(code, 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        About { host: "r.example".to_owned(), object: "manifest a/b:1".to_owned() }
    }

    #[test]
    fn trouble_with_tls_and_proxies_has_words_and_a_cure() {
        use rustls::{AlertDescription as Alert, CertificateError as Bad, Error, InvalidMessage};
        let bad = Error::InvalidCertificate;
        for (error, told) in [
            (
                bad(Bad::UnknownIssuer),
                "certificate signed by an unknown authority\n\
                 hint: give its CA, or the certificate itself if it is self-signed, with --tlscacert or as ca in hosts.toml",
            ),
            (bad(Bad::Expired), "certificate has expired\nhint: renew the registry's certificate, or check this machine's clock"),
            (bad(Bad::NotValidYet), "certificate is not valid yet\nhint: check this machine's clock"),
            (
                bad(Bad::NotValidForName),
                "certificate is for another name\n\
                 hint: use a name the certificate lists; --skip-verify checks nothing at all",
            ),
            (
                bad(Bad::Revoked),
                "certificate cannot be accepted\nhint: see it with openssl s_client -showcerts -connect HOST:PORT",
            ),
            (
                Error::InvalidMessage(InvalidMessage::InvalidContentType),
                "http answered to https\nhint: if the registry has no TLS, say --plain-http",
            ),
            (
                Error::AlertReceived(Alert::CertificateRequired),
                "client certificate missing or not accepted\n\
                 hint: give one with --tlscert and --tlskey or as client in hosts.toml",
            ),
            (
                Error::AlertReceived(Alert::ProtocolVersion),
                "no TLS in common\nhint: the registry must offer TLS 1.2 or 1.3 with current ciphers",
            ),
            (
                Error::AlertReceived(Alert::UnrecognisedName),
                "TLS refused\nhint: check the host's name: the server may have no certificate for it",
            ),
        ] {
            let (class, words, hint) = tls_words(&error);
            assert_eq!((class, format!("{words}\nhint: {}", hint.unwrap()).as_str()), (Class::Fatal, told));
        }
        let transient = Class::Transient { after: None };
        assert_eq!(tls_words(&Error::DecryptError), (transient, "TLS connection broken", None));
        for (trouble, told) in [
            (
                ProxyTrouble::Password,
                "the proxy wants a password\n\
                 hint: give the proxy's user and password in HTTPS_PROXY or HTTP_PROXY: http://USER:PASSWORD@HOST:PORT",
            ),
            (ProxyTrouble::Unreachable, "no connection to the proxy\nhint: check HTTPS_PROXY; NO_PROXY excepts hosts"),
            (ProxyTrouble::Refused, "the proxy does not connect\nhint: ask who runs the proxy; NO_PROXY excepts hosts"),
        ] {
            let (_, words, hint) = proxy_words(trouble);
            assert_eq!(format!("{words}\nhint: {hint}"), told);
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Tue, 24 Nov 2026 10:00:00 GMT").unwrap();
        let seconds = |text| retry_after(text, now).map(|after| after.as_secs());
        assert_eq!(seconds("7"), Some(7));
        assert_eq!(seconds(" 86400 "), Some(86400));
        assert_eq!(seconds("Tue, 24 Nov 2026 10:00:09 GMT"), Some(9));
        assert_eq!(seconds("Tue, 24 Nov 2026 09:00:00 GMT"), Some(0));
        assert_eq!(seconds("soon"), None);
    }

    #[test]
    fn a_status_has_its_class() {
        for (status, class) in [
            (401, Class::Denied),
            (403, Class::Denied),
            (404, Class::Missing),
            (416, Class::NoRange),
            (400, Class::Fatal),
            (501, Class::Fatal),
            (408, Class::Transient { after: None }),
            (429, Class::Transient { after: None }),
            (503, Class::Transient { after: None }),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(about().status("r.example", status, &HeaderMap::new(), b"").class, class, "{status}");
        }
    }

    #[test]
    fn a_host_pushes_back_with_429_503_or_a_retry_after() {
        let busy = |status: u16, after: Option<&'static str>| {
            let headers = after.map(|after| (RETRY_AFTER, after.parse().unwrap())).into_iter().collect();
            about().status("r.example", StatusCode::from_u16(status).unwrap(), &headers, b"").busy
        };
        assert!(busy(429, None) && busy(503, None) && busy(503, Some("7")) && busy(502, Some("7")));
        assert!(!busy(500, None) && !busy(408, None) && !busy(404, Some("7")) && !busy(502, Some("soon")));
    }

    #[test]
    fn a_fault_names_host_object_status_and_the_registrys_own_words() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest \u001b[1munknown"}]}"#;
        let fault = about().status("r.example", StatusCode::NOT_FOUND, &HeaderMap::new(), body);
        assert_eq!(fault.to_string(), "r.example: manifest a/b:1: 404 Not Found (MANIFEST_UNKNOWN: manifest  [1munknown)");
        assert_eq!(code(body).as_deref(), Some("MANIFEST_UNKNOWN"));
        let elsewhere = about().status("s.example", StatusCode::FORBIDDEN, &HeaderMap::new(), b"<html>");
        assert_eq!(elsewhere.to_string(), "r.example: manifest a/b:1: 403 Forbidden from s.example");
        let plain = about().status("r.example", StatusCode::BAD_REQUEST, &HeaderMap::new(), b"Client sent no TLS.\n");
        assert_eq!(plain.to_string(), "r.example: manifest a/b:1: 400 Bad Request (Client sent no TLS.)");
    }
}
