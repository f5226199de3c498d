//! Everything that can be set from outside.

use std::{path::PathBuf, time::Duration};

use crate::Names;

/// Client options. The defaults are containerd's (reference 8.2).
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of a command line")]
pub struct Options {
    /// `--skip-verify`: no certificate of any host is checked.
    pub skip_verify: bool,
    /// `--plain-http`: http where nothing else says https.
    pub plain_http: bool,
    /// nerdctl's `--insecure-registry`: http where a registry's own host answers https with http, or not at all on https's port.
    pub http_fallback: bool,
    /// Roots that may hold a directory with `hosts.toml` for the registry; the first root that has one wins.
    pub hosts_dirs: Vec<PathBuf>,
    /// `--tlscacert`: replaces the system's roots.
    pub tls_ca: Option<PathBuf>,
    /// `--tlscert` and `--tlskey`.
    pub tls_cert: Option<(PathBuf, PathBuf)>,
    /// `--http-dump`: requests and answers go to tracing (target `http`, level debug), secrets redacted.
    pub http_dump: bool,
    /// How long a connection may take to stand, TLS included. A host's `dial_timeout` goes before.
    pub connect_timeout: Duration,
    /// How long a host may take to answer a request it has got.
    pub header_timeout: Duration,
    /// How long the body of a manifest, config, token or error may take as a whole. Blobs have no such limit.
    pub document_timeout: Duration,
    /// Addresses for names that only a test knows.
    pub names: Option<Names>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            skip_verify: false,
            plain_http: false,
            http_fallback: false,
            hosts_dirs: Vec::new(),
            tls_ca: None,
            tls_cert: None,
            http_dump: false,
            // Both as containerd has them (reference 8.2, "Transport").
            connect_timeout: Duration::from_secs(30),
            header_timeout: Duration::from_secs(30),
            // A document of some kilobytes takes a second on the slowest line; the longest allowed needs 140 KB/s.
            document_timeout: Duration::from_secs(60),
            names: None,
        }
    }
}

impl Options {
    /// Are there flags that make sense over TLS only?
    pub(crate) fn explicit_tls(&self) -> bool {
        self.skip_verify || self.tls_ca.is_some() || self.tls_cert.is_some()
    }
}
