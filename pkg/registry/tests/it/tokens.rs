//! Tokens: from whom, for whom, how often.

use std::time::Duration;

use registry::{Class, Credentials};
use testkit::secrets;

use crate::{
    asking::{BLOB, MANIFEST, TYPE, ann, blob, drain, part, plain, range, refresh, repository},
    server::{Server, answer, host_of},
};

/// A registry and its token server in one. Tokens are `issued-token-N`; the registry takes the newest only.
async fn token_registry() -> Server {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let (issued, own) = (AtomicUsize::new(0), std::sync::OnceLock::<String>::new());
    Server::start(move |_, request| {
        let lower = request.to_ascii_lowercase();
        let host = own.get_or_init(|| host_of(request));
        if request.starts_with("POST /token") {
            return answer("404 Not Found", &[], b"");
        }
        if request.starts_with("GET /token") {
            let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
            return answer("200 OK", &[], format!(r#"{{"token":"issued-token-{number}"}}"#).as_bytes());
        }
        let newest = issued.load(Ordering::SeqCst);
        if newest > 0 && lower.contains(&format!("authorization: bearer issued-token-{newest}\r\n")) {
            return if request.contains("/manifests/") { answer("200 OK", &[TYPE], MANIFEST) } else { part() };
        }
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="s",scope="repository:a/b:pull""#);
        answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=x"), ("WWW-Authenticate", &challenge)], b"")
    })
    .await
}

fn count(server: &Server, start: &str) -> usize {
    server.requests().iter().filter(|request| request.starts_with(start)).count()
}

#[tokio::test]
async fn one_token_serves_all_and_others_wait_for_it() {
    let server = token_registry().await;
    let repository = repository(&server.host, plain(), Credentials::Anonymous);
    let blob = blob();
    let asks = (0..8).map(|_| async { drain(repository.blob(0, &blob, Some(range())).await.unwrap()).await.unwrap() });
    for bytes in futures_util::future::join_all(asks).await {
        assert_eq!(bytes, &BLOB[2..6]);
    }
    assert_eq!(count(&server, "GET /token?service=s&scope=repository%3Aa%2Fb%3Apull "), 1, "{:#?}", server.requests());
}

#[tokio::test]
async fn credentials_are_posted_and_then_sent_as_basic_where_post_is_not_served() {
    let server = token_registry().await;
    repository(&server.host, plain(), ann("pa ss word")).resolve().await.unwrap();
    let requests = server.requests();
    let post = requests.iter().find(|request| request.starts_with("POST /token")).unwrap();
    assert!(post.contains("grant_type=password&username=ann&password=pa+ss+word"), "{post}");
    let get = requests.iter().find(|request| request.starts_with("GET /token")).unwrap();
    assert!(get.contains("Basic YW5uOnBhIHNzIHdvcmQ="), "{get}");
    assert!(!requests[0].to_ascii_lowercase().contains("authorization"), "offered before it was asked for");
}

#[tokio::test]
async fn a_token_refused_in_the_middle_is_renewed_once_for_all() {
    let server = token_registry().await;
    let first = repository(&server.host, plain(), Credentials::Anonymous);
    first.resolve().await.unwrap();
    // Another client's token makes the first one's old.
    repository(&server.host, plain(), Credentials::Anonymous).resolve().await.unwrap();
    let blob = blob();
    let asks = (0..6).map(|_| async { drain(first.blob(0, &blob, Some(range())).await.unwrap()).await.unwrap() });
    futures_util::future::join_all(asks).await;
    assert_eq!(count(&server, "GET /token"), 3, "{:#?}", server.requests());
}

#[tokio::test]
async fn a_token_server_that_fails_is_named_with_its_retry_after() {
    let server = Server::start(|_, request| {
        if request.starts_with("GET /token") {
            return answer("503 Service Unavailable", &[("Retry-After", "3")], b"");
        }
        let challenge = format!(r#"Bearer realm="http://{}/token""#, host_of(request));
        answer("401 Unauthorized", &[("WWW-Authenticate", &challenge)], b"")
    })
    .await;
    let fault = repository(&server.host, plain(), Credentials::Anonymous).resolve().await.unwrap_err();
    assert_eq!(fault.class, Class::Transient { after: Some(Duration::from_secs(3)) });
    assert!(fault.to_string().contains("token for manifest 1 of a/b: 503"), "{fault}");
}

/// A registry that takes the token `good`, and its token server, which gives what `token` says.
async fn registry_with(token: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Server {
    Server::start(move |_, request| {
        if request.contains(" /token") {
            return token(request);
        }
        if request.contains("Bearer good-token") {
            return answer("200 OK", &[TYPE], MANIFEST);
        }
        let challenge = format!(r#"Bearer realm="http://{}/token",service="s""#, host_of(request));
        answer("401 Unauthorized", &[("WWW-Authenticate", &challenge)], b"")
    })
    .await
}

/// As Quay, Docker Hub, GAR, Artifactory, Harbor and ACR word them.
#[tokio::test]
async fn the_answers_of_known_token_servers_are_taken() {
    for answered in [
        r#"{"token":"good-token"}"#,
        r#"{"token":"good-token","access_token":"good-token","expires_in":300,"issued_at":"2026-11-28T08:00:00Z"}"#,
        r#"{"token":"good-token","expires_in":3600,"issued_at":"2026-11-28T08:00:00.123456789Z"}"#,
        r#"{"token":"good-token","expires_in":3600}"#,
        r#"{"token":"good-token","access_token":"","expires_in":1800,"issued_at":"2026-11-28T08:00:00Z"}"#,
        r#"{"access_token":"good-token"}"#,
    ] {
        let server = registry_with(move |_| answer("200 OK", &[], answered.as_bytes())).await;
        let resolved = repository(&server.host, plain(), Credentials::Anonymous).resolve().await;
        assert!(resolved.is_ok(), "{answered}: {resolved:?}");
    }
}

#[tokio::test]
async fn a_refresh_token_is_posted_and_buys_an_access_token() {
    let server = registry_with(|request| {
        let right = request.starts_with("POST ") && request.ends_with("&grant_type=refresh_token&refresh_token=r%2Fefresh");
        if right { answer("200 OK", &[], br#"{"access_token":"good-token"}"#) } else { answer("401 x", &[], b"") }
    })
    .await;
    let ask = |token: &str| repository(&server.host, plain(), refresh(token));
    ask("r/efresh").resolve().await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 3, "challenge, token, manifest: {requests:#?}");
    assert!(requests[1].contains("scope=repository%3Aa%2Fb%3Apull&client_id=rpull&service=s"), "{}", requests[1]);
    assert!(requests[1].contains("content-type: application/x-www-form-urlencoded"), "{}", requests[1]);

    let fault = ask("stale-token").resolve().await.unwrap_err();
    assert_eq!(fault.class, Class::Denied);
    assert!(fault.hint().unwrap().contains("new refresh token"), "{fault:?}");
}

#[tokio::test]
async fn an_answer_without_a_usable_token_is_refused() {
    let long = format!(r#"{{"token":"good-token","padding":"{}"}}"#, "x".repeat(1 << 20)).into_bytes();
    for (body, words) in [
        (long, "answer is longer than 1048576 bytes"),
        (b"{}".to_vec(), "holds no token"),
        (br#"{"token":""}"#.to_vec(), "holds no token"),
        (format!("<html>{}", secrets::keep("s3cret-page")).into_bytes(), "holds no token"),
    ] {
        let server = registry_with(move |_| answer("200 OK", &[], &body)).await;
        let fault = repository(&server.host, plain(), Credentials::Anonymous).resolve().await.unwrap_err();
        assert_eq!(fault.class, Class::Fatal, "{fault}");
        assert!(fault.to_string().contains(words), "{fault}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_denied_by_name() {
    let server = registry_with(|_| answer("401 Unauthorized", &[], br#"{"details":"incorrect username or password"}"#)).await;
    let fault = repository(&server.host, plain(), ann("wr0ng-word")).resolve().await.unwrap_err();
    assert_eq!(fault.class, Class::Denied);
    let text = fault.to_string();
    assert!(text.contains("as user ann") && text.contains("incorrect username or password"), "{text}");
    assert!(fault.hint().unwrap().contains("--user ann"), "{fault:?}");
}

#[tokio::test]
async fn a_challenge_that_cannot_be_answered_says_what_could() {
    let known = "the registry must offer Basic or Bearer authentication";
    let basic = "log in with user and password: docker login HOST or --user";
    for (challenge, credentials, words, hint) in [
        ("Basic realm=x", Credentials::Anonymous, "without credentials", "log in with docker login or rpull --user NAME …"),
        ("Basic realm=x", refresh("r/efresh"), "not a refresh token", basic),
        ("Negotiate", ann("pass-word"), "without a challenge that is known", known),
        ("Bearer service=x", Credentials::Anonymous, "without a challenge that is known", known),
    ] {
        let server = Server::start(move |_, _| answer("401 x", &[("WWW-Authenticate", challenge)], b"")).await;
        let fault = repository(&server.host, plain(), credentials).resolve().await.unwrap_err();
        assert_eq!(fault.class, Class::Denied);
        let begins = fault.hint().unwrap().starts_with(&hint.replace("HOST", &server.host));
        assert!(fault.to_string().contains(words) && begins, "{challenge}: {fault:?}");
        assert!(server.requests().concat().matches("uthorization: ").count() == 0, "sent unasked");
    }
}
