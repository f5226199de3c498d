//! Servers that are slow, endless or talk too much; bodies in another form than asked for.

use std::{io::Write as _, net::TcpListener, time::Duration};

use registry::{Class, Credentials, Fault, Options};

use crate::{
    asking::{MANIFEST, TYPE, blob, manifest, plain, repository},
    server::{Reply, Server, answer, host_of},
};

const TRANSIENT: Class = Class::Transient { after: None };

const SHORT: Duration = Duration::from_millis(500);

async fn fault(options: Options, script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Fault {
    let server = Server::start(move |_, request| script(request)).await;
    repository(&server.host, options, Credentials::Anonymous).resolve().await.unwrap_err()
}

/// Waits half a second for bodies.
fn hurried() -> Options {
    Options { document_timeout: SHORT, ..plain() }
}

fn chunked(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFF\r\n", TYPE.1)
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = silent.local_addr().unwrap().to_string();
    let options = || Options { connect_timeout: SHORT, header_timeout: SHORT, ..plain() };
    for fault in [
        repository(&host, options(), Credentials::Anonymous).resolve().await.unwrap_err(),
        fault(options(), |_| Reply::dripping("HTTP/1.1 200 OK\r\nX: ")).await,
    ] {
        assert_eq!((fault.class, fault.connect), (TRANSIENT, false), "{fault:?}");
        assert!(fault.to_string().contains("no answer within"), "{fault}");
    }
}

#[tokio::test]
async fn a_document_that_drips_ends() {
    let fault = fault(hurried(), |_| Reply::dripping(chunked("200 OK"))).await;
    assert_eq!(fault.class, TRANSIENT);
    assert!(fault.to_string().contains("did not end within"), "{fault}");
}

#[tokio::test]
async fn a_token_that_drips_ends() {
    let fault = fault(hurried(), |request| {
        if request.starts_with("GET /token") {
            return Reply::dripping(chunked("200 OK"));
        }
        let challenge = format!(r#"Bearer realm="http://{}/token""#, host_of(request));
        answer("401 x", &[("WWW-Authenticate", &challenge)], b"").into()
    })
    .await;
    assert_eq!(fault.class, TRANSIENT);
    assert!(fault.to_string().contains("token for manifest 1 of a/b: answer did not end within"), "{fault}");
}

#[tokio::test]
async fn an_error_says_its_status_whatever_its_body_does() {
    for body in ["Content-Length: 99999999999999\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nFFFFFFF\r\n"] {
        let server = Server::start(move |_, _| Reply::dripping(format!("HTTP/1.1 404 Not Found\r\n{body}"))).await;
        let repository = repository(&server.host, hurried(), Credentials::Anonymous);
        for fault in [repository.resolve().await.unwrap_err(), repository.blob(0, &blob(), None).await.unwrap_err()] {
            assert_eq!(fault.class, Class::Missing, "{fault:?}");
        }
    }
    let long = vec![b'x'; 1 << 20];
    let fault = fault(plain(), move |_| answer("503 x", &[], &long).into()).await;
    assert_eq!(fault.class, TRANSIENT);
    assert!(fault.to_string().len() < 400, "{fault}");
}

#[tokio::test]
async fn a_redirects_own_body_is_not_waited_for() {
    let server = Server::start(|number, _| match number {
        0 => Reply::dripping("HTTP/1.1 302 x\r\nLocation: /there\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFF\r\n"),
        _ => answer("200 OK", &[TYPE], MANIFEST).into(),
    })
    .await;
    repository(&server.host, hurried(), Credentials::Anonymous).resolve().await.unwrap();
}

#[tokio::test]
async fn a_document_longer_than_allowed_is_refused_with_and_without_its_length() {
    let announced = answer("200 OK", &[TYPE, ("Content-Length", "9000000")], b"");
    let announced = String::from_utf8(announced).unwrap().replace("Content-Length: 0\r\n", "").into_bytes();
    let mut endless = chunked("200 OK").into_bytes();
    endless.resize(endless.len() + (9 << 20), b' ');
    for response in [announced, endless] {
        let server = Server::start(move |_, _| response.clone()).await;
        let fault = repository(&server.host, plain(), Credentials::Anonymous).resolve().await.unwrap_err();
        assert_eq!(fault.class, Class::Corrupt);
        assert!(fault.to_string().contains("longer than 8388608 bytes"), "{fault}");
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_document_sent_compressed_is_known_by_its_own_bytes() {
    for (encoding, body) in [("gzip", gzip(MANIFEST)), ("zstd", zstd::encode_all(MANIFEST, 3).unwrap())] {
        let server = Server::start(move |_, _| answer("200 OK", &[TYPE, ("Content-Encoding", encoding)], &body)).await;
        let repository = repository(&server.host, plain(), Credentials::Anonymous);
        let resolved = repository.resolve().await.unwrap();
        assert_eq!((resolved.bytes.as_slice(), resolved.descriptor.digest), (MANIFEST, manifest().digest));
        assert_eq!(repository.document(&manifest()).await.unwrap().bytes, MANIFEST);
        assert!(server.requests()[0].contains("accept-encoding: identity\r\n"));
    }
}

#[tokio::test]
async fn a_compressed_document_that_is_wrong_is_refused() {
    let cut = gzip(MANIFEST);
    let bomb = gzip(&vec![b' '; 64 << 20]);
    for (encoding, body, words) in [
        ("gzip", MANIFEST.to_vec(), "answer is not the gzip its head says"),
        ("gzip", cut[..cut.len() - 3].to_vec(), "answer is not the gzip its head says"),
        ("gzip", bomb, "longer than 8388608 bytes"),
        ("br", MANIFEST.to_vec(), "encoded (br)"),
        ("gzip, gzip", gzip(&gzip(MANIFEST)), "encoded (gzip, gzip)"),
    ] {
        let fault = fault(plain(), move |_| answer("200 OK", &[TYPE, ("Content-Encoding", encoding)], &body).into()).await;
        assert_eq!(fault.class, Class::Corrupt, "{fault:?}");
        assert!(fault.to_string().contains(words), "{fault}");
    }
}

#[tokio::test]
async fn a_head_of_too_many_or_too_long_headers_is_refused() {
    let head = |headers: String| format!("HTTP/1.1 200 OK\r\n{headers}\r\n").into_bytes();
    let many = head("X-Header: x\r\n".repeat(101));
    let long = head(format!("X-Header: {}\r\n", "x".repeat(1 << 20)));
    let endless = format!("HTTP/1.1 200 OK\r\nX-Header: {}", "x".repeat(32 << 20)).into_bytes();
    for head in [many, long, endless] {
        let fault = fault(plain(), move |_| Reply::from(head.clone())).await;
        assert_eq!(fault.class, TRANSIENT);
        let cause = std::error::Error::source(&fault).map(ToString::to_string).unwrap_or_default();
        assert!(cause.contains("too large"), "{fault}: {cause}");
    }
}

/// A registry whose token server, at `/token`, answers as `script` says.
async fn token_fault(script: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Result<(), Fault> {
    let server = Server::start(move |_, request| {
        if request.contains(" /token") {
            return script(request);
        }
        if request.contains("Bearer t0ken") {
            return answer("200 OK", &[TYPE], MANIFEST);
        }
        let challenge = format!(r#"Bearer realm="http://{}/token""#, host_of(request));
        answer("401 x", &[("WWW-Authenticate", &challenge)], b"")
    })
    .await;
    repository(&server.host, plain(), Credentials::Anonymous).resolve().await.map(drop)
}

#[tokio::test]
async fn a_token_server_cannot_send_us_around_without_end() {
    let fault = token_fault(|_| answer("307 x", &[("Location", "/token")], b"")).await.unwrap_err();
    assert_eq!(fault.class, Class::Fatal);
    assert!(fault.to_string().contains("more than 10 redirects"), "{fault}");
}

#[tokio::test]
async fn a_token_for_longer_than_time_itself_is_a_token() {
    for lifetime in [u64::MAX, u64::MAX / 9, i64::MAX.cast_unsigned()] {
        let body = format!(r#"{{"token":"t0ken-of-old","expires_in":{lifetime}}}"#);
        token_fault(move |_| answer("200 OK", &[], body.as_bytes())).await.unwrap();
    }
}
