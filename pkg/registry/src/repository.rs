//! The crate's door: a registry client, and one repository with the hosts that serve it.

use std::sync::Arc;

use oci::{ByteRange, Descriptor, Reference};

use crate::{
    Body, Error, Fault, Keychain, Options, Proved, Resolved, blob,
    credentials::{Offer, Whose},
    document,
    hosts::{self, Host, Relation},
    target::Targets,
    tls,
};

/// A client. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Setup>);

#[derive(Debug)]
struct Setup {
    options: Options,
    keychain: Arc<Keychain>,
}

impl Registry {
    /// Checks the files the options name. `keychain` may be [`crate::Credentials`] alone.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Pem`], [`Error::ClientCertificate`].
    pub fn new(options: Options, keychain: impl Into<Keychain>) -> Result<Self, Error> {
        let flags = tls::Settings {
            skip_verify: options.skip_verify,
            replace_roots: options.tls_ca.clone(),
            client: options.tls_cert.iter().cloned().collect(),
            ..tls::Settings::default()
        };
        if options.explicit_tls() {
            flags.config()?;
        }
        Ok(Self(Arc::new(Setup { options, keychain: Arc::new(keychain.into()) })))
    }

    /// The repository a reference names, with the hosts to try for it, in order. Nothing is asked yet.
    ///
    /// # Errors
    /// [`Error::HostsToml`] and what the files it names have, [`Error::NoHost`], [`Error::DockerConfig`].
    pub fn repository(&self, reference: &Reference) -> Result<Repository, Error> {
        let Setup { options, keychain } = &*self.0;
        let (registry, name) = (reference.host(), reference.repository());
        let entries: Vec<hosts::Entry> = hosts::entries(registry, options)?.into_iter().filter(|entry| entry.pull).collect();
        let files = keychain.read(entries.iter().any(|entry| entry.relation != Relation::Own))?;
        let hosts: Result<Vec<Host>, Error> = entries
            .into_iter()
            .map(|entry| {
                let authority = entry.name();
                let named = if entry.relation == Relation::Own { registry } else { &authority };
                let whose = Whose { url: &entry.base, registry: named, repository: name, relation: entry.relation };
                let offer = Offer::new(keychain, &files, whose);
                Host::new(entry, (registry, name), options, offer)
            })
            .collect();
        let hosts = hosts?;
        // A tag needs a host that may say what it means.
        let usable = if reference.digest().is_some() { !hosts.is_empty() } else { hosts.iter().any(|host| host.resolve) };
        if !usable {
            return Err(Error::NoHost { host: registry.to_owned() });
        }
        Ok(Repository(Arc::new(Inner { reference: reference.clone(), hosts, targets: Targets::default() })))
    }
}

/// One repository. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Repository(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    reference: Reference,
    /// Those that may be pulled from, in the order to try. Never empty.
    hosts: Vec<Host>,
    targets: Targets,
}

impl Repository {
    /// Resolves tag or digest to a verified document, trying the hosts in order (one attempt each).
    /// A digest alone decides where both are given.
    ///
    /// # Errors
    /// The fault that says most: wrong bytes before a status, a status before 404, 404 before no answer.
    pub async fn resolve(&self) -> Result<Resolved, Fault> {
        document::resolve(&self.0.hosts, &self.0.reference).await
    }

    /// A manifest, index or config, whole, at most [`crate::MAX_DOCUMENT`] bytes; its digest and size are compared before it is
    /// returned. Hosts in order, one attempt each.
    ///
    /// # Errors
    /// As [`Repository::resolve`]; [`crate::Class::Corrupt`] names both digests or both sizes.
    pub async fn document(&self, descriptor: &Descriptor) -> Result<Proved, Fault> {
        document::fetch(&self.0.hosts, self.0.reference.repository(), descriptor).await
    }

    /// How many hosts may serve blobs, at least 1; index 0 is preferred.
    pub fn hosts(&self) -> usize {
        self.0.hosts.len()
    }

    /// host:port of host `host`, for reports.
    ///
    /// # Panics
    /// When there is no such host.
    pub fn host_name(&self, host: usize) -> &str {
        &self.0.hosts[host].name
    }

    /// One GET of a blob on host `host`. `range: None` asks for the whole. Returns when the status line and headers are checked.
    ///
    /// # Errors
    /// Anything but 206 with exactly the range, or 200 with exactly the blob's length.
    ///
    /// # Panics
    /// When there is no such host.
    pub async fn blob(&self, host: usize, blob: &Descriptor, range: Option<ByteRange>) -> Result<Body, Fault> {
        let route = self.0.targets.route(host, blob.digest);
        blob::open(&self.0.hosts[host], (self.0.reference.repository(), &route), blob, range).await
    }
}
