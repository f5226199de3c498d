//! What real registries are like: other versions, caches, addresses, and answers that are not quite by the book.

use std::time::Duration;

use oci::{ByteRange, Digest};
use registry::{Class, Credentials, Options, Span};
use testkit::{
    DistributionRegistry, RegistryOptions,
    image::{Blob, Image, Layer},
};

use crate::{
    asking::{BLOB, MANIFEST, TYPE, blob, drain, plain, repository, repository_of},
    server::{Server, answer, host_of},
};

fn image() -> Image {
    Image::new(vec![Layer::overlaybd(Blob { seed: 5, data: 64 << 10 })])
}

#[tokio::test]
async fn registries_of_either_version_and_on_either_loopback_serve() {
    for (version_3, ipv6) in [(false, false), (true, false), (false, true), (true, true)] {
        let registry = DistributionRegistry::with(RegistryOptions { version_3, ipv6, ..RegistryOptions::default() });
        let image = image();
        let reference = image.push(&registry, "t/obd", "1");
        for options in [plain(), Options::default()] {
            let repository = repository_of(&reference, options, Credentials::Anonymous);
            let resolved = repository.resolve().await.unwrap();
            assert_eq!((resolved.host, resolved.warnings.len()), (registry.host(), 0));
            let layer = &image.layers()[0];
            let layer = oci::Descriptor::new(resolved.descriptor.media_type, layer.digest, layer.size).unwrap();
            let range = ByteRange::new(7, 5000).unwrap();
            let body = repository.blob(0, &layer, Some(range)).await.unwrap();
            assert_eq!(body.span(), Span::Range(range));
            assert_eq!(drain(body).await.unwrap().len(), 4993);
        }
    }
}

#[tokio::test]
async fn a_directory_for_an_ipv6_address_is_found() {
    let server = Server::start(|_, _| answer("200 OK", &[TYPE], MANIFEST)).await;
    for name in ["[::1]_5000_", "[::1]:5000"] {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(name)).unwrap();
        std::fs::write(root.path().join(name).join("hosts.toml"), format!("[host.\"http://{}\"]\n", server.host)).unwrap();
        let options = Options { hosts_dirs: vec![root.path().to_owned()], ..Options::default() };
        let resolved = repository("[::1]:5000", options, Credentials::Anonymous).resolve().await.unwrap();
        assert_eq!(resolved.host, server.host, "{name}");
    }
    assert!(server.requests().iter().all(|request| request.contains("?ns=%5B%3A%3A1%5D%3A5000 ")), "{:?}", server.requests());
}

#[tokio::test]
async fn a_cold_cache_sends_whole_blobs_and_a_warm_one_ranges() {
    let origin = DistributionRegistry::start();
    let image = image();
    image.push(&origin, "t/obd", "1");
    for version_3 in [false, true] {
        let upstream = Some(format!("http://{}", origin.host()));
        let cache = DistributionRegistry::with(RegistryOptions { version_3, upstream, ..RegistryOptions::default() });
        let repository = repository_of(&cache.reference("t/obd", "1"), plain(), Credentials::Anonymous);
        let resolved = repository.resolve().await.unwrap();
        let layer = &image.layers()[0];
        let descriptor = oci::Descriptor::new(resolved.descriptor.media_type, layer.digest, layer.size).unwrap();
        let range = ByteRange::new(10, 1000).unwrap();
        let body = repository.blob(0, &descriptor, Some(range)).await.unwrap();
        let whole = body.span() == Span::Whole;
        let bytes = drain(body).await.unwrap();
        let all = layer.bytes();
        assert!(if whole { bytes == all } else { bytes == all[10..1000] }, "version 3: {version_3}");
        // Kept in the background; until then each answer is the whole.
        for _ in 0..200 {
            let body = repository.blob(0, &descriptor, Some(range)).await.unwrap();
            if body.span() == Span::Range(range) {
                assert!(drain(body).await.unwrap() == all[10..1000]);
                break;
            }
            drain(body).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn a_manifest_is_known_by_its_bytes_however_it_is_sent() {
    let chunked = format!("HTTP/1.1 200 OK\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\n\r\n", TYPE.1);
    let chunked = [chunked.as_bytes(), format!("{:x}\r\n", MANIFEST.len()).as_bytes(), MANIFEST, b"\r\n0\r\n\r\n"].concat();
    let endless = format!("HTTP/1.1 200 OK\r\nContent-Type: {}\r\n\r\n", TYPE.1);
    let endless = [endless.as_bytes(), MANIFEST].concat();
    let empty_header = answer("200 OK", &[TYPE, ("Docker-Content-Digest", "")], MANIFEST);
    for response in [chunked, endless, empty_header, answer("200 OK", &[TYPE], MANIFEST)] {
        let server = Server::start(move |_, _| response.clone()).await;
        let resolved = repository(&server.host, plain(), Credentials::Anonymous).resolve().await.unwrap();
        assert_eq!((resolved.descriptor.digest, resolved.warnings.len()), (Digest::of(MANIFEST), 0));
    }
}

#[tokio::test]
async fn a_blob_may_come_in_chunks() {
    let head =
        "HTTP/1.1 206 x\r\nContent-Range: bytes 2-5/10\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n2\r\n3\r\n345\r\n0\r\n\r\n";
    let server = Server::start(move |_, _| head.as_bytes().to_vec()).await;
    let repository = repository(&server.host, plain(), Credentials::Anonymous);
    let body = repository.blob(0, &blob(), ByteRange::new(2, 6)).await.unwrap();
    assert_eq!(drain(body).await.unwrap(), &BLOB[2..6]);
}

#[tokio::test]
async fn manifest_and_token_server_may_ask_for_a_pause() {
    let after = Class::Transient { after: Some(Duration::from_secs(3)) };
    let server = Server::start(|_, _| answer("429 x", &[("Retry-After", "3")], b"")).await;
    assert_eq!(repository(&server.host, plain(), Credentials::Anonymous).resolve().await.unwrap_err().class, after);
    let server = Server::start(|_, request| {
        if request.contains(" /token") {
            return answer("503 x", &[("Retry-After", "3")], b"");
        }
        let challenge = format!(r#"Bearer realm="http://{}/token""#, host_of(request));
        answer("401 x", &[("WWW-Authenticate", &challenge)], b"")
    })
    .await;
    assert_eq!(repository(&server.host, plain(), Credentials::Anonymous).resolve().await.unwrap_err().class, after);
}

#[tokio::test]
async fn docker_hubs_names_lead_to_one_place() {
    let mirror = Server::start(|_, _| answer("200 OK", &[TYPE], MANIFEST)).await;
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("docker.io")).unwrap();
    std::fs::write(root.path().join("docker.io/hosts.toml"), format!("server = \"http://{}\"\n", mirror.host)).unwrap();
    for (name, path) in [
        ("alpine", "library/alpine/manifests/latest"),
        ("alpine:3", "library/alpine/manifests/3"),
        ("docker.io/grafana/loki:3", "grafana/loki/manifests/3"),
    ] {
        let options = Options { hosts_dirs: vec![root.path().to_owned()], ..Options::default() };
        repository_of(name, options, Credentials::Anonymous).resolve().await.unwrap();
        let request = mirror.requests().pop().unwrap();
        assert!(request.starts_with(&format!("GET /v2/{path}?ns=docker.io ")), "{name}: {request}");
    }
}
