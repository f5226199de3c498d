//! nerdctl's insecure registries: TLS unverified where there is TLS, http where there is none.

use oci::ByteRange;
use registry::{Class, Credentials, Options};
use testkit::{
    TlsFront,
    certificates::{self, EXPIRED},
};

use crate::{
    asking::{MANIFEST, TYPE, drain, names, repository, repository_of},
    daemons::docker_registry,
    server::{Server, answer},
};

/// A name that is not this machine's for the client.
const NAME: &str = "r.example";

fn insecure() -> Options {
    Options { skip_verify: true, http_fallback: true, names: Some(names(&[NAME])), ..Options::default() }
}

#[tokio::test]
async fn a_registry_without_tls_is_spoken_to_over_http() {
    let daemon = docker_registry(None);
    let reference = format!("{}/t/obd:1", daemon.host().replace("127.0.0.1", NAME));
    let strict = Options { http_fallback: false, ..insecure() };
    let fault = repository_of(&reference, strict, Credentials::Anonymous).resolve().await.unwrap_err();
    assert!(fault.to_string().contains(NAME), "{fault}");

    let repository = repository_of(&reference, insecure(), Credentials::Anonymous);
    let resolved = repository.resolve().await.unwrap();
    let range = ByteRange::new(2, 6).unwrap();
    let oci::Document::Manifest(manifest) = oci::Document::parse(&resolved.descriptor, &resolved.bytes).unwrap() else {
        panic!("a manifest was pushed");
    };
    let part = drain(repository.blob(0, &manifest.layers[0], Some(range)).await.unwrap()).await.unwrap();
    assert_eq!(part.len(), 4);
}

#[tokio::test]
async fn a_registry_with_tls_keeps_it_whatever_its_certificate() {
    let upstream = Server::start(|_, _| answer("200 OK", &[TYPE], MANIFEST)).await;
    let front = TlsFront::start(&upstream.host, |root| certificates::self_signed(root, EXPIRED), "");
    let host = format!("{NAME}:{}", front.port());
    repository(&host, insecure(), Credentials::Anonymous).resolve().await.unwrap();
    let strict = Options { names: Some(names(&[NAME])), ..Options::default() };
    assert_eq!(repository(&host, strict, Credentials::Anonymous).resolve().await.unwrap_err().class, Class::Fatal);
}
