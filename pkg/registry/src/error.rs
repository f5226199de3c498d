//! Options and files that cannot be used, found before the first request.

use std::path::PathBuf;

/// Each variant names the file or the host; [`Error::hint`] says what to do.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum Error {
    /// A file that a flag or `hosts.toml` names cannot be read.
    #[error("{what} {} cannot be read", path.display())]
    Read {
        /// `CA file`, `hosts.toml`, …
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A PEM file without what it should hold.
    #[error("{} holds no {what} that can be used", path.display())]
    Pem {
        /// `certificate` or `private key`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the parser said, if it said anything.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A client certificate and its key that do not fit.
    #[error("client certificate {} and its key do not fit", path.display())]
    ClientCertificate {
        /// The certificate file.
        path: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
    /// A broken `hosts.toml`.
    #[error("{}:{line}:{column}: {message}", path.display())]
    HostsToml {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// A broken docker config or podman auth file.
    #[error("{file}:{line}:{column}: {message}")]
    DockerConfig {
        /// Which file, or the variable that holds the text.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there; nothing of the file itself.
        message: String,
    },
    /// `hosts.toml` leaves no host that may be pulled from.
    #[error("no host for {host} may be pulled from")]
    NoHost {
        /// Registry of the reference.
        host: String,
    },
    /// A registry name that makes no URL.
    #[error("{host:?} is not a registry host")]
    Host {
        /// As written.
        host: String,
        /// What the URL parser said.
        source: url::ParseError,
    },
    /// A proxy variable that names no proxy that can be used. Nothing is asked past a proxy.
    #[error("{variable} names no proxy that can be used: {why}")]
    Proxy {
        /// Which variable. Its value may hold a password and is not shown.
        variable: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The HTTP client could not be built.
    #[error("the http client cannot be set up")]
    Client {
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Read { path, .. } => format!("check that {} exists and may be read", path.display()),
            Self::Pem { what, path, .. } => {
                format!("{} must be PEM text with a -----BEGIN line for the {what}", path.display())
            }
            Self::ClientCertificate { .. } => "give certificate and key of one pair, both as PEM".to_owned(),
            Self::HostsToml { .. } => {
                "docs/registries.md of rpull shows a hosts.toml; containerd's docs/hosts.md has all its keys".to_owned()
            }
            Self::DockerConfig { file, .. } => format!("correct {file}, or let docker login write it anew"),
            Self::NoHost { .. } => "give a host in hosts.toml the capability \"pull\"".to_owned(),
            Self::Host { .. } => "a registry is HOST or HOST:PORT".to_owned(),
            Self::Proxy { .. } => {
                "a proxy is http://[USER:PASSWORD@]HOST:PORT; in a password write %40 for @, %2F for /, %3A for :".to_owned()
            }
            Self::Client { .. } => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_that_can_be_cured_says_how() {
        let path = || PathBuf::from("/etc/ca.pem");
        let message = || "unknown key".to_owned();
        for (error, told) in [
            (
                Error::Read { what: "CA file", path: path(), source: std::io::ErrorKind::NotFound.into() },
                "CA file /etc/ca.pem cannot be read\nhint: check that /etc/ca.pem exists and may be read",
            ),
            (
                Error::Pem { what: "certificate", path: path(), source: None },
                "/etc/ca.pem holds no certificate that can be used\n\
                 hint: /etc/ca.pem must be PEM text with a -----BEGIN line for the certificate",
            ),
            (
                Error::ClientCertificate { path: path(), source: rustls::Error::General(String::new()) },
                "client certificate /etc/ca.pem and its key do not fit\n\
                 hint: give certificate and key of one pair, both as PEM",
            ),
            (
                Error::HostsToml { path: "hosts.toml".into(), line: 1, column: 2, message: message() },
                "hosts.toml:1:2: unknown key\n\
                 hint: docs/registries.md of rpull shows a hosts.toml; containerd's docs/hosts.md has all its keys",
            ),
            (
                Error::DockerConfig { file: "config.json".to_owned(), line: 1, column: 2, message: message() },
                "config.json:1:2: unknown key\nhint: correct config.json, or let docker login write it anew",
            ),
            (
                Error::NoHost { host: "r.example".to_owned() },
                "no host for r.example may be pulled from\nhint: give a host in hosts.toml the capability \"pull\"",
            ),
            (
                Error::Host { host: "r:x".to_owned(), source: url::ParseError::InvalidPort },
                "\"r:x\" is not a registry host\nhint: a registry is HOST or HOST:PORT",
            ),
            (
                Error::Proxy { variable: "HTTP_PROXY", why: "empty host".to_owned() },
                "HTTP_PROXY names no proxy that can be used: empty host\n\
                 hint: a proxy is http://[USER:PASSWORD@]HOST:PORT; in a password write %40 for @, %2F for /, %3A for :",
            ),
        ] {
            assert_eq!(format!("{error}\nhint: {}", error.hint().unwrap()), told);
        }
    }
}
