//! The client under test, and what is asked of it.

use oci::{ByteRange, Descriptor, Digest, MediaType, Reference};
use registry::{Body, Credentials, Fault, Keychain, Names, Options, Registry, Secret};
use testkit::secrets;

use crate::{
    server::answer,
    watched::{self, Repository},
};

pub(crate) const MANIFEST: &[u8] = br#"{"schemaVersion":2,"config":{}}"#;
pub(crate) const BLOB: &[u8] = b"0123456789";
pub(crate) const TYPE: (&str, &str) = ("Content-Type", MediaType::OCI_MANIFEST);

pub(crate) fn plain() -> Options {
    Options { plain_http: true, ..Options::default() }
}

/// `a/b:1` at the host.
pub(crate) fn repository(host: &str, options: Options, keychain: impl Into<Keychain>) -> Repository {
    repository_of(&format!("{host}/a/b:1"), options, keychain)
}

pub(crate) fn repository_of(reference: &str, options: Options, keychain: impl Into<Keychain>) -> Repository {
    let reference: Reference = reference.parse().unwrap();
    Repository::of(options, keychain.into(), |options, keychain| {
        Registry::new(options, keychain).unwrap().repository(&reference).unwrap()
    })
}

/// The user `ann`.
pub(crate) fn ann(password: &str) -> Credentials {
    Credentials::Basic { user: "ann".to_owned(), password: Secret::new(secrets::keep(password)) }
}

/// An identity token.
pub(crate) fn refresh(token: &str) -> Credentials {
    Credentials::Refresh(Secret::new(secrets::keep(token)))
}

/// Names that lead here.
pub(crate) fn names(names: &[&str]) -> Names {
    let address = vec!["127.0.0.1".parse().unwrap()];
    Names::new(names.iter().map(|name| ((*name).to_owned(), address.clone())))
}

pub(crate) fn blob() -> Descriptor {
    Descriptor::new(MediaType::new(MediaType::OCI_LAYER), Digest::of(BLOB), BLOB.len() as u64).unwrap()
}

pub(crate) fn manifest() -> Descriptor {
    Descriptor::new(MediaType::new(MediaType::OCI_MANIFEST), Digest::of(MANIFEST), MANIFEST.len() as u64).unwrap()
}

pub(crate) fn range() -> ByteRange {
    ByteRange::new(2, 6).unwrap()
}

/// The answer to `range`.
pub(crate) fn part() -> Vec<u8> {
    answer("206 Partial Content", &[("Content-Range", "bytes 2-5/10")], &BLOB[2..6])
}

pub(crate) async fn drain(mut body: Body) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await.map_err(watched::fault)? {
        bytes.extend_from_slice(&frame);
    }
    Ok(bytes)
}
