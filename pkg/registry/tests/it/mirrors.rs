//! `hosts.toml` word by word, against servers that see what they are asked.

use std::{path::Path, time::Duration};

use oci::Digest;
use registry::{Class, Credentials, Error, Options};
use testkit::{TlsFront, certificates};
use tokio::net::{TcpSocket, TcpStream};

use crate::{
    asking::{BLOB, MANIFEST, TYPE, ann, blob, drain, manifest, names, repository},
    daemons::free_port,
    server::{Server, answer, host_of},
    watched::Repository,
};

/// A registry that only its `hosts.toml` knows the way to.
const NAME: &str = "r.example";

/// Writes the file for [`NAME`] and opens the repository.
fn with_hosts(root: &Path, text: &str, credentials: Credentials) -> Repository {
    let directory = root.join(NAME);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("hosts.toml"), text).unwrap();
    repository(NAME, Options { hosts_dirs: vec![root.to_owned()], ..Options::default() }, credentials)
}

async fn upstream() -> Server {
    Server::start(
        |_, request| if request.contains("/blobs/") { answer("200 OK", &[], BLOB) } else { answer("200 OK", &[TYPE], MANIFEST) },
    )
    .await
}

async fn saying(response: Vec<u8>) -> Server {
    Server::start(move |_, _| response.clone()).await
}

#[tokio::test]
async fn a_resolve_falls_through_the_hosts_in_order_and_tells_whom_it_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let closed = format!("127.0.0.1:{}", free_port());
    let missing = saying(answer("404 Not Found", &[], b"")).await;
    let failing = saying(answer("500 x", &[], b"")).await;
    let denying = saying(answer("403 x", &[], b"")).await;
    let page = saying(answer("200 OK", &[("Content-Type", "text/html")], b"<html>")).await;
    let upstream = upstream().await;
    let mirrors = [&closed, &missing.host, &failing.host, &denying.host, &page.host];
    let tables = mirrors.map(|host| format!("[host.\"http://{host}\"]\n")).concat();
    let repository = with_hosts(root.path(), &format!("server = \"http://{}\"\n{tables}", upstream.host), Credentials::Anonymous);
    let resolved = repository.resolve().await.unwrap();
    assert_eq!(resolved.host, upstream.host);
    // Not to have it is no fault; everything else is.
    let told =
        [(&closed, "Connection refused"), (&failing.host, "500"), (&denying.host, "403"), (&page.host, "no image manifest")];
    assert_eq!(resolved.warnings.len(), told.len(), "{:?}", resolved.warnings);
    for (warning, (host, words)) in resolved.warnings.iter().zip(told) {
        assert!(warning.starts_with(host.as_str()) && warning.contains(words), "{warning}");
    }
    for server in [&missing, &failing, &denying, &page, &upstream] {
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn wrong_bytes_of_a_mirror_are_passed_over_and_told() {
    let root = tempfile::tempdir().unwrap();
    let mirror = saying(answer("200 OK", &[TYPE], &MANIFEST.to_ascii_uppercase())).await;
    let upstream = upstream().await;
    let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", upstream.host, mirror.host);
    let proved = with_hosts(root.path(), &text, Credentials::Anonymous).document(&manifest()).await.unwrap();
    assert_eq!(proved.bytes, MANIFEST);
    let [warning] = proved.warnings.as_slice() else { panic!("{:?}", proved.warnings) };
    assert!(warning.starts_with(&mirror.host) && warning.contains("digest mismatch"), "{warning}");
}

#[tokio::test]
async fn when_no_host_has_it_each_is_named_with_its_cause() {
    let root = tempfile::tempdir().unwrap();
    let closed = format!("127.0.0.1:{}", free_port());
    let failing = saying(answer("502 Bad Gateway", &[], b"")).await;
    let unknown = "no-such-mirror.invalid";
    let text = format!("server = \"http://{closed}\"\n[host.\"http://{}\"]\n[host.\"http://{unknown}\"]\n", failing.host);
    let fault = with_hosts(root.path(), &text, Credentials::Anonymous).resolve().await.unwrap_err();
    let text = fault.to_string();
    for words in [closed.as_str(), "Connection refused", &failing.host, "502 Bad Gateway", unknown, "no such host"] {
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[tokio::test]
async fn a_mirror_without_the_right_is_not_asked() {
    let root = tempfile::tempdir().unwrap();
    let (no_resolve, push_only, upstream) = (upstream().await, upstream().await, upstream().await);
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"push\"]\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n",
        upstream.host, push_only.host, no_resolve.host
    );
    let repository = with_hosts(root.path(), &text, Credentials::Anonymous);
    assert_eq!(repository.resolve().await.unwrap().host, upstream.host);
    assert_eq!((repository.hosts(), repository.host_name(0)), (2, no_resolve.host.as_str()));
    repository.document(&manifest()).await.unwrap();
    drain(repository.blob(0, &blob(), None).await.unwrap()).await.unwrap();
    assert_eq!((push_only.connections(), no_resolve.requests().len()), (0, 2));
}

#[tokio::test]
async fn headers_of_a_host_go_to_it_and_to_its_token_server_and_nowhere_else() {
    let storage = saying(answer("200 OK", &[], BLOB)).await;
    let location = format!("http://{}/data", storage.host);
    let server = Server::start(move |_, request| {
        if request.contains(" /token") {
            return answer("200 OK", &[], br#"{"token":"good-token"}"#);
        }
        if !request.contains("Bearer good-token") {
            let challenge = format!(r#"Bearer realm="http://{}/token""#, host_of(request));
            return answer("401 x", &[("WWW-Authenticate", &challenge)], b"");
        }
        if request.contains("/blobs/") {
            answer("307 x", &[("Location", &location)], b"")
        } else {
            answer("200 OK", &[TYPE], MANIFEST)
        }
    })
    .await;
    let root = tempfile::tempdir().unwrap();
    let text = format!("server = \"http://{}\"\n[header]\nx-one = \"a\"\nx-two = [\"b\", \"c\"]\n", server.host);
    let repository = with_hosts(root.path(), &text, Credentials::Anonymous);
    repository.resolve().await.unwrap();
    drain(repository.blob(0, &blob(), None).await.unwrap()).await.unwrap();
    assert!(server.requests().iter().any(|request| request.contains(" /token")));
    for request in server.requests() {
        assert!(["x-one: a\r\n", "x-two: b\r\n", "x-two: c\r\n"].iter().all(|line| request.contains(line)), "{request}");
    }
    assert!(storage.requests().iter().all(|request| !request.contains("x-one") && !request.contains("x-two")));
}

#[tokio::test]
async fn a_path_is_taken_as_it_is_or_completed() {
    let root = tempfile::tempdir().unwrap();
    for (path, keys, asked) in [
        ("", "", "/v2/a/b/manifests/1"),
        ("/v2", "", "/v2/a/b/manifests/1"),
        ("/artifactory/api/docker/hub", "", "/artifactory/api/docker/hub/v2/a/b/manifests/1"),
        ("/v2/proxy", "override_path = true\n", "/v2/proxy/a/b/manifests/1"),
    ] {
        let server = upstream().await;
        with_hosts(root.path(), &format!("[host.\"http://{}{path}\"]\n{keys}", server.host), Credentials::Anonymous)
            .resolve()
            .await
            .unwrap();
        let request = &server.requests()[0];
        assert!(request.starts_with(&format!("GET {asked}?ns={NAME} HTTP/1.1\r\n")), "{request}");
    }
}

/// Spegel knows the image by `ns`, Dragonfly by a header; both have what they have and 404 for the rest.
#[tokio::test]
async fn a_peer_to_peer_mirror_is_a_host_like_any_other() {
    let peer = Server::start(|_, request| {
        let meant = request.contains("ns=r.example ") && request.contains("x-dragonfly-registry: https://r.example\r\n");
        match () {
            () if !meant => answer("400 x", &[], b""),
            () if request.contains("/blobs/") => answer("200 OK", &[], BLOB),
            () => answer("404 x", &[], b""),
        }
    })
    .await;
    let upstream = upstream().await;
    let root = tempfile::tempdir().unwrap();
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\ndial_timeout = \"200ms\"\n\
         [host.\"http://{}\".header]\nX-Dragonfly-Registry = [\"https://r.example\"]\n",
        upstream.host, peer.host, peer.host
    );
    let repository = with_hosts(root.path(), &text, Credentials::Anonymous);
    let resolved = repository.resolve().await.unwrap();
    assert_eq!((resolved.host, resolved.warnings.len()), (upstream.host.clone(), 0));
    assert_eq!(drain(repository.blob(0, &blob(), None).await.unwrap()).await.unwrap(), BLOB);
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn dial_timeout_ends_the_wait_for_a_mirror_that_does_not_take_the_connection() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // Its queue is full: the next hello gets no answer.
    let mut queue = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        queue.push(stream);
    }
    let upstream = upstream().await;
    let root = tempfile::tempdir().unwrap();
    let text = format!("server = \"http://{}\"\n[host.\"http://{address}\"]\ndial_timeout = \"100ms\"\n", upstream.host);
    let repository = with_hosts(root.path(), &text, Credentials::Anonymous);
    // Without it the wait is half a minute.
    let resolved = tokio::time::timeout(Duration::from_secs(15), repository.resolve()).await.expect("in time").unwrap();
    assert_eq!(resolved.host, upstream.host);
    assert!(resolved.warnings[0].contains("no connection in time"), "{:?}", resolved.warnings);
}

#[tokio::test]
async fn files_of_other_hosts_do_not_matter() {
    let root = tempfile::tempdir().unwrap();
    let upstream = upstream().await;
    for other in ["other.example", "_default", "r.example_443_"] {
        std::fs::create_dir(root.path().join(other)).unwrap();
        std::fs::write(root.path().join(other).join("hosts.toml"), "server = \n[[[").unwrap();
    }
    let text = format!("server = \"http://{}\"\n", upstream.host);
    with_hosts(root.path(), &text, Credentials::Anonymous).resolve().await.unwrap();
    let reference = "other.example/a/b:1".parse().unwrap();
    let options = Options { hosts_dirs: vec![root.path().to_owned()], ..Options::default() };
    let error = registry::Registry::new(options, Credentials::Anonymous).unwrap().repository(&reference).unwrap_err();
    assert!(matches!(&error, Error::HostsToml { line: 1, column: 10, .. }), "{error:?}");
}

#[tokio::test]
async fn a_directory_of_certificates_is_all_a_registry_with_known_clients_needs() {
    let upstream = upstream().await;
    let make = |root: &Path| {
        certificates::authority(root);
        certificates::server(root, certificates::VALID);
        certificates::client(root);
    };
    let front = TlsFront::start(&upstream.host, make, "ssl_verify_client on; ssl_client_certificate ROOT/ca.pem;");
    let host = format!("right.example:{}", front.port());
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join(format!("right.example_{}_", front.port()));
    std::fs::create_dir(&directory).unwrap();
    for (from, to) in [("ca.pem", "ca.crt"), ("client.pem", "me.cert"), ("client.key", "me.key")] {
        std::fs::copy(front.file(from), directory.join(to)).unwrap();
    }
    let options =
        || Options { hosts_dirs: vec![root.path().to_owned()], names: Some(names(&["right.example"])), ..Options::default() };
    repository(&host, options(), Credentials::Anonymous).resolve().await.unwrap();
    std::fs::remove_file(directory.join("me.key")).unwrap();
    let reference = format!("{host}/a/b:1").parse().unwrap();
    let error = registry::Registry::new(options(), Credentials::Anonymous).unwrap().repository(&reference).unwrap_err();
    assert!(matches!(&error, Error::Read { path, .. } if path.ends_with("me.key")), "{error:?}");
}

#[tokio::test]
async fn a_registry_that_hides_what_one_may_not_see_is_asked_again_with_the_login() {
    let server = Server::start(|_, request| {
        let known = request.contains("Basic ");
        if request.starts_with("GET /v2/ ") {
            return answer("401 x", &[("WWW-Authenticate", "Basic realm=x")], b"");
        }
        if known { answer("200 OK", &[TYPE], MANIFEST) } else { answer("404 Not Found", &[], b"") }
    })
    .await;
    let options = || Options { plain_http: true, ..Options::default() };
    let fault = repository(&server.host, options(), Credentials::Anonymous).resolve().await.unwrap_err();
    assert_eq!(fault.class, Class::Missing);
    assert!(fault.hint().unwrap().contains("where a right is missing"), "{fault:?}");
    let known = repository(&server.host, options(), ann("pass-word"));
    assert_eq!(known.resolve().await.unwrap().descriptor.digest, Digest::of(MANIFEST));
    // From then on the login goes along.
    known.document(&manifest()).await.unwrap();
    assert_eq!(server.requests().len(), 1 + 3 + 1);
}
