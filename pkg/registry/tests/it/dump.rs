//! `--http-dump` end to end: what a reader of the log sees, and what nobody may.

use std::{
    io,
    sync::{Arc, Mutex},
};

use registry::{Options, Registry, Span};
use tracing_subscriber::fmt::MakeWriter;

use crate::{
    asking::{BLOB, MANIFEST, TYPE, ann, blob, plain, repository},
    server::{Server, answer, host_of},
};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Password, its Basic form and its form form, token, signature, cookie, key of a header.
const SECRETS: [&str; 7] =
    ["pa ss/w0rd", "YW5uOnBhIHNzL3cwcmQ=", "pa+ss%2Fw0rd", "t0ken-issued", "s1gnature", "c00kie-value", "k3y-of-header"];

#[tokio::test]
async fn a_dump_shows_the_way_and_no_secret() {
    let storage = Server::start(|_, _| answer("200 OK", &[("Set-Cookie", "id=c00kie-value")], BLOB)).await;
    let location = format!("http://{}/data?X-Amz-Signature=s1gnature&ns=a", storage.host);
    let server = Server::start(move |_, request| {
        if request.starts_with("POST /token") {
            return answer("405 x", &[("Set-Cookie", "id=c00kie-value")], b"");
        }
        if request.starts_with("GET /token") {
            return answer("200 OK", &[], br#"{"token":"t0ken-issued"}"#);
        }
        if !request.contains("Bearer t0ken-issued") {
            let challenge = format!(r#"Bearer realm="http://{}/token""#, host_of(request));
            return answer("401 x", &[("WWW-Authenticate", &challenge)], b"");
        }
        if request.contains("/manifests/") {
            return answer("200 OK", &[TYPE], MANIFEST);
        }
        answer("307 Temporary Redirect", &[("Location", &location)], b"")
    })
    .await;
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join(&server.host)).unwrap();
    let text = format!("server = \"http://{}\"\n[header]\nx-key = \"k3y-of-header\"\n", server.host);
    std::fs::write(root.path().join(&server.host).join("hosts.toml"), text).unwrap();

    let pull = |http_dump| {
        let options = Options { http_dump, hosts_dirs: vec![root.path().to_owned()], ..plain() };
        let reference: oci::Reference = format!("{}/a/b:1", server.host).parse().unwrap();
        let repository = Registry::new(options, ann("pa ss/w0rd")).unwrap().repository(&reference).unwrap();
        async move {
            repository.resolve().await.unwrap();
            let mut body = repository.blob(0, &blob(), None).await.unwrap();
            assert_eq!(body.span(), Span::Whole);
            while body.frame().await.unwrap().is_some() {}
            // As `{:?}` in somebody's log line.
            tracing::debug!("{repository:?} {body:?}");
        }
    };
    let mut logs = Vec::new();
    for dump in [true, false] {
        let log = Log::default();
        let subscriber =
            tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(log.clone()).finish();
        let guard = tracing::subscriber::set_default(subscriber);
        pull(dump).await;
        drop(guard);
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} in\n{text}");
        }
        logs.push(text);
    }
    let sent = server.requests().concat() + &storage.requests().concat();
    for secret in ["YW5uOnBhIHNzL3cwcmQ=", "pa+ss%2Fw0rd", "t0ken-issued", "s1gnature", "k3y-of-header"] {
        assert!(sent.contains(secret), "{secret} was never used");
    }
    let host = &server.host;
    for words in [
        format!("> GET http://{host}/v2/a/b/manifests/1"),
        format!("< GET http://{host}/v2/a/b/manifests/1: 401 Unauthorized"),
        format!("> POST http://{host}/token"),
        "authorization: REDACTED".to_owned(),
        "x-key: REDACTED".to_owned(),
        "set-cookie: REDACTED".to_owned(),
        format!("> GET http://{}/data?X-Amz-Signature=REDACTED&ns=a", storage.host),
        "200 OK".to_owned(),
    ] {
        assert!(logs[0].contains(&words), "no {words} in\n{}", logs[0]);
        assert!(!logs[1].contains(&words), "{words} though nothing was to be dumped");
    }
}

/// Artifactory for one repeats the token that it refuses.
#[tokio::test]
async fn a_server_that_repeats_a_secret_is_quoted_without_it() {
    let repeating = |status: &'static str, request: &str| {
        let header = request.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or("nothing");
        let form = request.split("\r\n\r\n").nth(1).unwrap_or_default();
        let message = format!("{header} ({form}, pa ss/w0rd) is no good");
        answer(status, &[], format!(r#"{{"errors":[{{"code":"DENIED","message":"{message}"}}]}}"#).as_bytes())
    };
    let server = Server::start(move |_, request| {
        if request.starts_with("POST /token") {
            return repeating("403 x", request);
        }
        if request.contains("/blobs/") {
            if request.contains("authorization: Basic") {
                return repeating("403 x", request);
            }
            return answer("401 x", &[("WWW-Authenticate", "Basic realm=x")], b"");
        }
        let challenge = format!(r#"Bearer realm="http://{}/token""#, host_of(request));
        answer("401 x", &[("WWW-Authenticate", &challenge)], b"")
    })
    .await;
    let repository = repository(&server.host, plain(), ann("pa ss/w0rd"));
    for fault in [repository.resolve().await.unwrap_err(), repository.blob(0, &blob(), None).await.unwrap_err()] {
        let said = format!("{fault:?}");
        assert!(said.contains("REDACTED") && said.contains("is no good"), "{said}");
        for secret in SECRETS {
            assert!(!said.contains(secret), "{secret} in {said}");
        }
    }
}
