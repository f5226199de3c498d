//! What servers do that no proper registry does, or does only once a month.

use std::time::Duration;

use oci::{ByteRange, Descriptor, Digest, MediaType};
use registry::{Class, Credentials, Fault, Options, Span};

use crate::{
    asking::{BLOB, MANIFEST, TYPE, ann, blob, drain, part, plain, range, repository},
    daemons::free_port,
    server::{Reply, Server, answer},
};

async fn blob_fault(response: Vec<u8>) -> Fault {
    let server = Server::start(move |_, _| response.clone()).await;
    let repository = repository(&server.host, plain(), Credentials::Anonymous);
    match repository.blob(0, &blob(), Some(range())).await {
        Ok(body) => drain(body).await.unwrap_err(),
        Err(fault) => fault,
    }
}

#[tokio::test]
async fn faults_have_the_class_of_their_cause() {
    let short = b"HTTP/1.1 206 x\r\nContent-Range: bytes 2-5/10\r\nContent-Length: 4\r\n\r\n23".to_vec();
    let chunked = b"HTTP/1.1 206 x\r\nContent-Range: bytes 2-5/10\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let long = [&chunked[..], b"5\r\n23456\r\n0\r\n\r\n"].concat();
    let ended = [&chunked[..], b"2\r\n23\r\n0\r\n\r\n"].concat();
    let after = |seconds| Class::Transient { after: Some(Duration::from_secs(seconds)) };
    for (response, class) in [
        (short, Class::Transient { after: None }),
        (ended, Class::Transient { after: None }),
        (long, Class::Corrupt),
        (answer("206 x", &[("Content-Range", "bytes 0-3/10")], b"0123"), Class::Corrupt),
        (answer("206 x", &[("Content-Type", "multipart/byteranges; boundary=x")], b"--x"), Class::Corrupt),
        (answer("416 x", &[], b""), Class::NoRange),
        (answer("503 x", &[("Retry-After", "7")], b""), after(7)),
        (answer("429 x", &[("Retry-After", "9000")], b""), after(9000)),
        (answer("404 x", &[], b""), Class::Missing),
        (answer("403 x", &[], b""), Class::Denied),
        (answer("302 x", &[("Location", "ftp://x/")], b""), Class::Fatal),
        (answer("302 x", &[("Location", "/again")], b""), Class::Fatal),
        (b"rubbish\r\n\r\n".to_vec(), Class::Transient { after: None }),
        (Vec::new(), Class::Transient { after: None }),
    ] {
        let shown = String::from_utf8_lossy(&response).into_owned();
        let fault = blob_fault(response).await;
        assert_eq!((fault.class, fault.connect), (class, false), "{shown}\n{fault:?}");
    }
}

#[tokio::test]
async fn a_host_that_is_not_there_is_known_as_such() {
    let host = format!("127.0.0.1:{}", free_port());
    for options in [plain(), Options::default()] {
        let fault = repository(&host, options, Credentials::Anonymous).resolve().await.unwrap_err();
        assert_eq!((fault.class, fault.connect), (Class::Transient { after: None }, true), "{fault:?}");
        assert_eq!(fault.host, host);
    }
}

#[tokio::test]
async fn a_name_without_an_address_is_told() {
    let table = registry::Names::new([("empty.example".to_owned(), Vec::new())]);
    // RFC 6761: `.invalid` is in no DNS.
    for host in ["empty.example", "nowhere.invalid"] {
        let options = Options { names: Some(table.clone()), ..Options::default() };
        let fault = repository(host, options, Credentials::Anonymous).resolve().await.unwrap_err();
        assert_eq!((fault.class, fault.connect), (Class::Transient { after: None }, true), "{fault:?}");
        assert!(fault.to_string().ends_with("no such host") && fault.hint().unwrap().contains("DNS"), "{fault:?}");
        assert!(fault.source.unwrap().to_string().starts_with(&format!("{host}: ")));
    }
}

#[tokio::test]
async fn the_whole_blob_is_taken_where_ranges_are_ignored() {
    let server = Server::start(|_, _| answer("200 OK", &[], BLOB)).await;
    let repository = repository(&server.host, plain(), Credentials::Anonymous);
    let body = repository.blob(0, &blob(), Some(range())).await.unwrap();
    assert_eq!(body.span(), Span::Whole);
    assert_eq!(drain(body).await.unwrap(), BLOB);
    let request = server.requests()[0].to_ascii_lowercase();
    assert!(request.contains("range: bytes=2-5\r\n") && request.contains("accept-encoding: identity\r\n"), "{request}");
    assert!(request.contains("user-agent: rpull/"), "{request}");
}

#[tokio::test]
async fn documents_are_compared_with_their_digest() {
    let wanted = Digest::of(MANIFEST);
    let descriptor = |size| Descriptor::new(MediaType::new(MediaType::OCI_MANIFEST), wanted, size).unwrap();
    let other = MANIFEST.to_ascii_uppercase();
    let got = Digest::of(&other);
    let server = Server::start(move |_, _| answer("200 OK", &[TYPE], &other)).await;
    let repository = repository(&server.host, plain(), Credentials::Anonymous);
    let size = MANIFEST.len() as u64;
    let fault = repository.document(&descriptor(size)).await.unwrap_err();
    assert_eq!(fault.class, Class::Corrupt);
    assert!(fault.to_string().contains(&wanted.to_string()) && fault.to_string().contains(&got.to_string()), "{fault}");
    for size in [size - 1, size + 1] {
        assert_eq!(repository.document(&descriptor(size)).await.unwrap_err().class, Class::Corrupt);
    }
}

#[tokio::test]
async fn a_contradicting_header_is_a_warning_and_the_body_decides() {
    let wrong = Digest::of(b"other").to_string();
    let server = Server::start(move |_, _| answer("200 OK", &[TYPE, ("Docker-Content-Digest", &wrong)], MANIFEST)).await;
    let resolved = repository(&server.host, plain(), Credentials::Anonymous).resolve().await.unwrap();
    assert_eq!(resolved.descriptor.digest, Digest::of(MANIFEST));
    assert_eq!(resolved.warnings.len(), 1);
}

#[tokio::test]
async fn an_unknown_repository_is_told_from_an_unknown_tag_and_from_too_many_requests() {
    for (status, code, hint) in [
        (
            "404 x",
            "NAME_UNKNOWN",
            "there is no repository a/b at HOST; check the name. a registry may answer so where a right is missing",
        ),
        ("404 x", "MANIFEST_UNKNOWN", "check that 1 exists in a/b; a registry may answer so where a right is missing"),
        ("429 x", "TOOMANYREQUESTS", "the registry limits requests; logged-in users get more"),
    ] {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"unknown"}}]}}"#);
        let server = Server::start(move |_, _| answer(status, &[], body.as_bytes())).await;
        let fault = repository(&server.host, plain(), Credentials::Anonymous).resolve().await.unwrap_err();
        assert_eq!(fault.class == Class::Missing, status == "404 x", "{fault:?}");
        assert_eq!(fault.hint(), Some(hint.replace("HOST", &server.host).as_str()));
    }
}

#[tokio::test]
async fn an_empty_answer_may_be_better_the_next_time() {
    let server = Server::start(|number, _| answer("200 OK", &[TYPE], if number == 0 { b"" } else { MANIFEST })).await;
    let repository = repository(&server.host, plain(), Credentials::Anonymous);
    assert_eq!(repository.resolve().await.unwrap_err().class, Class::Transient { after: None });
    repository.resolve().await.unwrap();
}

#[test]
fn a_request_may_move_between_threads() {
    fn sendable<T: Send>(_: &T) {}
    let repository = repository("127.0.0.1:9", plain(), Credentials::Anonymous);
    let blob = blob();
    sendable(&repository.blob(0, &blob, None));
    sendable(&repository.resolve());
}

#[tokio::test]
async fn a_redirects_target_is_kept_renewed_when_refused_and_learns_no_credentials() {
    let storage = Server::start(|_, request| {
        if request.starts_with("GET /old") && request.contains("bytes=2-5") {
            part()
        } else if request.starts_with("GET /new") {
            answer("206 x", &[("Content-Range", "bytes 0-1/10")], &BLOB[..2])
        } else {
            answer("403 Forbidden", &[], b"")
        }
    })
    .await;
    let target = storage.host.clone();
    let server = Server::start(move |_, request| {
        if !request.contains("Basic ") {
            return answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=x")], b"");
        }
        let path = if request.contains("bytes=2-5") { "old" } else { "new" };
        let location = format!("http://{target}/{path}?sig=signature-1");
        answer("307 Temporary Redirect", &[("Location", &location)], b"")
    })
    .await;
    let repository = repository(&server.host, plain(), ann("pass-word"));
    for _ in 0..2 {
        assert_eq!(drain(repository.blob(0, &blob(), Some(range())).await.unwrap()).await.unwrap(), &BLOB[2..6]);
    }
    assert_eq!(server.requests().len(), 2, "401, then one redirect for both");
    // The old target refuses this range: the registry is asked once more.
    let other = ByteRange::new(0, 2).unwrap();
    assert_eq!(drain(repository.blob(0, &blob(), Some(other)).await.unwrap()).await.unwrap(), &BLOB[..2]);
    assert_eq!(server.requests().len(), 3);
    assert!(storage.requests().iter().all(|request| !request.to_ascii_lowercase().contains("authorization")));
}

#[tokio::test]
async fn a_mirror_that_has_it_not_is_left_for_the_next_and_told_the_registry() {
    let mirror = Server::start(|_, _| answer("404 Not Found", &[], b"")).await;
    let upstream = Server::start(|_, _| answer("200 OK", &[TYPE], MANIFEST)).await;
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("r.example");
    std::fs::create_dir(&directory).unwrap();
    let text = format!("server = \"http://{}\"\n[host.\"http://{}\".header]\nx-key = \"k\"\n", upstream.host, mirror.host);
    std::fs::write(directory.join("hosts.toml"), text).unwrap();
    let options = Options { hosts_dirs: vec![root.path().to_owned()], ..Options::default() };
    let repository = repository("r.example", options, Credentials::Anonymous);
    assert_eq!((repository.hosts(), repository.host_name(0)), (2, mirror.host.as_str()));
    assert_eq!(repository.resolve().await.unwrap().host, upstream.host);
    let request = &mirror.requests()[0];
    assert!(request.starts_with("GET /v2/a/b/manifests/1?ns=r.example ") && request.contains("x-key: k"), "{request}");
    assert!(!upstream.requests()[0].contains("x-key"));
}

#[tokio::test]
async fn a_redirect_loop_ends_after_ten() {
    let server = Server::start(|_, _| answer("302 Found", &[("Location", "/again")], b"")).await;
    let fault = repository(&server.host, plain(), Credentials::Anonymous).resolve().await.unwrap_err();
    assert_eq!(fault.class, Class::Fatal);
    assert!(fault.to_string().contains("more than 10 redirects"), "{fault}");
    assert_eq!(server.requests().len(), 11);
}

#[tokio::test]
async fn a_connection_read_to_its_end_serves_again() {
    let server = Server::start(|_, _| Reply::kept("206 x", &[("Content-Range", "bytes 2-5/10")], &BLOB[2..6])).await;
    let repository = repository(&server.host, plain(), Credentials::Anonymous);
    for _ in 0..3 {
        assert_eq!(drain(repository.blob(0, &blob(), Some(range())).await.unwrap()).await.unwrap(), &BLOB[2..6]);
    }
    assert_eq!((server.requests().len(), server.connections()), (3, 1));
}

#[tokio::test]
async fn a_connection_survives_an_error_that_is_short() {
    let server = Server::start(|number, _| match number {
        0 => Reply::kept("503 x", &[], br#"{"errors":[{"code":"UNAVAILABLE","message":"later"}]}"#),
        _ => Reply::kept("200 OK", &[TYPE], MANIFEST),
    })
    .await;
    let repository = repository(&server.host, plain(), Credentials::Anonymous);
    let fault = repository.resolve().await.unwrap_err();
    assert!(fault.to_string().contains("UNAVAILABLE: later"), "{fault}");
    repository.resolve().await.unwrap();
    assert_eq!((server.requests().len(), server.connections()), (2, 1));
}
