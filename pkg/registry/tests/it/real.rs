//! Against real registries.

use oci::{ByteRange, Config, Document};
use registry::{Class, Credentials, Error, Options, Registry, Span};

use crate::{
    asking::{ann, drain, plain, repository_of as repository},
    daemons::{docker_registry, image},
};

#[tokio::test]
async fn pulls_documents_and_ranges_from_docker_registry_over_http_on_loopback() {
    let daemon = docker_registry(None);
    // Not told --plain-http: https is tried first, as containerd does.
    let repository = repository(&format!("{}/t/obd:1", daemon.host()), Options::default(), Credentials::Anonymous);
    let resolved = repository.resolve().await.unwrap();
    assert_eq!((resolved.host.as_str(), resolved.warnings.len()), (daemon.host().as_str(), 0));
    let Document::Manifest(manifest) = Document::parse(&resolved.descriptor, &resolved.bytes).unwrap() else {
        panic!("a manifest was pushed");
    };
    assert_eq!(repository.document(&resolved.descriptor).await.unwrap().bytes, resolved.bytes);
    let config = repository.document(&manifest.config).await.unwrap().bytes;
    Config::parse(manifest.config.digest, &config).unwrap();

    let layer = &manifest.layers[0];
    let file = std::fs::read(image().join("blobs/sha256").join(layer.digest.hex())).unwrap();
    let range = ByteRange::new(100, layer.size().min(5000)).unwrap();
    for (asked, span, expected) in
        [(Some(range), Span::Range(range), &file[100..usize::try_from(range.end()).unwrap()]), (None, Span::Whole, &file[..])]
    {
        let body = repository.blob(0, layer, asked).await.unwrap();
        assert_eq!((body.span(), body.length()), (span, expected.len() as u64));
        assert!(drain(body).await.unwrap() == expected, "other bytes");
    }
}

#[tokio::test]
async fn a_missing_tag_or_repository_is_missing_in_the_registrys_own_words() {
    let daemon = docker_registry(None);
    // docker-registry 2.8 has the same words for both.
    for name in ["t/obd:2", "t/none:1"] {
        let repository = repository(&format!("{}/{name}", daemon.host()), plain(), Credentials::Anonymous);
        let fault = repository.resolve().await.unwrap_err();
        assert_eq!(fault.class, Class::Missing);
        assert!(fault.to_string().contains("404 Not Found"), "{fault}");
        assert!(fault.to_string().contains("MANIFEST_UNKNOWN"), "{fault}");
        assert!(fault.hint().unwrap().contains("check"));
    }
}

#[tokio::test]
async fn basic_authentication_wants_the_right_password() {
    let daemon = docker_registry(Some(("ann", "s3cret-word")));
    let reference = format!("{}/t/obd:1", daemon.host());
    let fault = repository(&reference, plain(), Credentials::Anonymous).resolve().await.unwrap_err();
    assert_eq!(fault.class, Class::Denied);
    assert!(fault.hint().unwrap().contains("rpull --user"), "{fault:?}");
    let fault = repository(&reference, plain(), ann("wr0ng-word")).resolve().await.unwrap_err();
    assert_eq!(fault.class, Class::Denied);
    assert!(fault.to_string().contains("as user ann") && fault.to_string().contains(&daemon.host()), "{fault}");
    let repository = repository(&reference, plain(), ann("s3cret-word"));
    let resolved = repository.resolve().await.unwrap();
    assert_eq!(repository.document(&resolved.descriptor).await.unwrap().bytes, resolved.bytes);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let new = || Registry::new(Options { tls_ca: Some(file.clone()), ..Options::default() }, Credentials::Anonymous);
    assert!(matches!(new(), Err(Error::Read { .. })));
    std::fs::write(&file, "no pem").unwrap();
    let error = new().unwrap_err();
    assert!(matches!(error, Error::Pem { .. }) && error.to_string().contains("ca.pem"), "{error}");
}
