//! Against real registries.

use oci::{ByteRange, Config, Document, Reference};
use registry::{Class, Credentials, Error, Names, Options, Registry, Repository, Secret, Span};

use crate::daemons::{docker_registry, image, tls_front};

fn repository(reference: &str, options: Options, credentials: Credentials) -> Repository {
    let reference: Reference = reference.parse().unwrap();
    Registry::new(options, credentials).unwrap().repository(&reference).unwrap()
}

fn ann(password: &str) -> Credentials {
    Credentials::Basic { user: "ann".to_owned(), password: Secret::new(password) }
}

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
    assert_eq!(repository.document(&resolved.descriptor).await.unwrap(), resolved.bytes);
    let config = repository.document(&manifest.config).await.unwrap();
    Config::parse(manifest.config.digest, &config).unwrap();

    let layer = &manifest.layers[0];
    let file = std::fs::read(image().join("blobs/sha256").join(layer.digest.hex())).unwrap();
    let range = ByteRange::new(100, layer.size().min(5000)).unwrap();
    for (asked, span, expected) in
        [(Some(range), Span::Range(range), &file[100..usize::try_from(range.end()).unwrap()]), (None, Span::Whole, &file[..])]
    {
        let mut body = repository.blob(0, layer, asked).await.unwrap();
        assert_eq!((body.span(), body.length()), (span, expected.len() as u64));
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await.unwrap() {
            bytes.extend_from_slice(&frame);
        }
        assert!(bytes == expected, "other bytes");
    }
}

#[tokio::test]
async fn a_missing_tag_or_repository_is_missing_in_the_registrys_own_words() {
    let daemon = docker_registry(None);
    // docker-registry 2.8 has the same words for both.
    for name in ["t/obd:2", "t/none:1"] {
        let options = Options { plain_http: true, ..Options::default() };
        let repository = repository(&format!("{}/{name}", daemon.host()), options, Credentials::Anonymous);
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
    let options = || Options { plain_http: true, ..Options::default() };
    let fault = repository(&reference, options(), Credentials::Anonymous).resolve().await.unwrap_err();
    assert_eq!(fault.class, Class::Denied);
    assert!(fault.hint().unwrap().contains("rpull --user"), "{fault:?}");
    let fault = repository(&reference, options(), ann("wr0ng-word")).resolve().await.unwrap_err();
    assert_eq!(fault.class, Class::Denied);
    assert!(fault.to_string().contains("as user ann") && fault.to_string().contains(&daemon.host()), "{fault}");
    assert!(!format!("{fault:?}").contains("wr0ng-word"));
    let repository = repository(&reference, options(), ann("s3cret-word"));
    let resolved = repository.resolve().await.unwrap();
    assert_eq!(repository.document(&resolved.descriptor).await.unwrap(), resolved.bytes);
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_only_when_given_and_only_for_its_names() {
    let upstream = docker_registry(None);
    let front = tls_front(&upstream.host());
    let certificate = front.directory.path().join("cert.pem");
    let names = || {
        let address = vec!["127.0.0.1".parse().unwrap()];
        Some(Names::new([("right.example".to_owned(), address.clone()), ("wrong.example".to_owned(), address)]))
    };
    for (host, ca, words) in [
        ("right.example", true, None),
        ("right.example", false, Some("certificate signed by an unknown authority")),
        ("wrong.example", true, Some("certificate is for another name")),
    ] {
        let options = Options { names: names(), tls_ca: ca.then(|| certificate.clone()), ..Options::default() };
        let reference = format!("{host}:{}/t/obd:1", front.port);
        let outcome = repository(&reference, options, Credentials::Anonymous).resolve().await;
        match (outcome, words) {
            (Ok(_), None) => {}
            (Err(fault), Some(words)) => {
                assert_eq!((fault.class, fault.connect), (Class::Fatal, false));
                assert!(fault.to_string().contains(words) && fault.hint().is_some(), "{fault}");
            }
            (outcome, words) => panic!("{host} {ca}: {outcome:?}, expected {words:?}"),
        }
    }
    let options = Options { names: names(), skip_verify: true, ..Options::default() };
    let reference = format!("wrong.example:{}/t/obd:1", front.port);
    repository(&reference, options, Credentials::Anonymous).resolve().await.unwrap();
}

#[tokio::test]
async fn https_to_a_host_without_tls_says_so() {
    let daemon = docker_registry(None);
    let names = Names::new([("plain.example".to_owned(), vec!["127.0.0.1".parse().unwrap()])]);
    let options = Options { names: Some(names), ..Options::default() };
    let reference = format!("plain.example:{}/t/obd:1", daemon.port);
    let fault = repository(&reference, options, Credentials::Anonymous).resolve().await.unwrap_err();
    assert!(fault.to_string().contains("http answered to https"), "{fault}");
    assert!(fault.hint().unwrap().contains("--plain-http"));
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
