//! Proxies out of the environment. That is the process's, so each case is a process of its own: this very binary, one test.

use std::path::Path;

use registry::{Credentials, Options};
use testkit::{
    Squid, TlsFront,
    certificates::{self, VALID},
    secrets,
};

use crate::{
    asking::{MANIFEST, TYPE, names, repository},
    server::{Server, answer},
};

/// Which host the child asks, and whether with `--plain-http`.
const HOST: &str = "TEST_PROXY_HOST";
const PLAIN: &str = "TEST_PROXY_PLAIN";
/// The CA file it trusts.
const CA: &str = "TEST_PROXY_CA";
/// What its fault says, if it is to fail.
const WORDS: &str = "TEST_PROXY_WORDS";

/// Does nothing unless one of the tests below starts it.
#[tokio::test]
async fn child() {
    let Ok(host) = std::env::var(HOST) else { return };
    for (_, url) in std::env::vars().filter(|(name, _)| name.to_ascii_lowercase().ends_with("_proxy")) {
        secrets::keep_in_proxy(&url);
    }
    let plain_http = std::env::var_os(PLAIN).is_some();
    let tls_ca = std::env::var_os(CA).map(Into::into);
    let options = Options { plain_http, tls_ca, names: Some(names(&["direct.example"])), ..Options::default() };
    let repository = repository(&host, options, Credentials::Anonymous);
    secrets::assert_none_in("the repository", &format!("{repository:?}"));
    let outcome = repository.resolve().await;
    match std::env::var(WORDS) {
        Ok(words) => {
            let fault = outcome.unwrap_err();
            let seen = format!("{:?} {fault} {}", fault.class, fault.hint().unwrap());
            assert!(words.split('|').all(|words| seen.contains(words)), "{seen}");
        }
        Err(_) => drop(outcome.unwrap()),
    }
}

async fn pull(host: &str, environment: &[(&str, &str)]) {
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "proxy::child", "--nocapture"]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD"] {
        command.env_remove(name).env_remove(name.to_ascii_lowercase());
    }
    let output = command.env(HOST, host).envs(environment.iter().copied()).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    secrets::assert_none_in("the child's output", &text);
    assert!(output.status.success() && text.contains("1 passed"), "{host} {environment:?}\n{text}");
}

async fn manifests() -> Server {
    Server::start(|_, _| answer("200 OK", &[TYPE], MANIFEST)).await
}

/// Nothing listens there.
const DEAD: &str = "http://127.0.0.1:9";

#[tokio::test]
async fn loopback_is_never_behind_a_proxy() {
    let server = manifests().await;
    let port = server.host.rsplit(':').next().unwrap();
    for host in [server.host.clone(), format!("localhost:{port}")] {
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            pull(&host, &[(name, DEAD), (PLAIN, "1")]).await;
        }
    }
    pull(&server.host, &[("HTTP_PROXY", DEAD), ("HTTPS_PROXY", DEAD)]).await;
    assert!(server.requests().len() > 12);
}

#[tokio::test]
async fn others_are_behind_the_proxy_with_its_password() {
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        let proxy = manifests().await;
        let url = format!("http://ann:pa%20ss%20word@{}", proxy.host);
        pull("far.example", &[(name, &url), (PLAIN, "1")]).await;
        let request = &proxy.requests()[0];
        assert!(request.starts_with("GET http://far.example/v2/a/b/manifests/1 HTTP/1.1\r\n"), "{request}");
        assert!(request.to_ascii_lowercase().contains("proxy-authorization: basic yw5uonbhihnzihdvcmq="), "{request}");
    }
}

#[tokio::test]
async fn a_real_proxy_is_spoken_to_in_http_and_tunnels_https() {
    let proxy = Squid::start();
    let (right, wrong) = (proxy.url(), proxy.url_for("ann:wrong-proxy"));
    let server = manifests().await;
    let make = |root: &Path| {
        certificates::authority(root);
        certificates::server(root, VALID);
    };
    let front = TlsFront::start(&server.host, make, "");
    let ca = front.file("ca.pem");
    let far = |port: &str| format!("{}:{port}", Squid::NAME);
    let (plain, tls) = (far(server.host.rsplit(':').next().unwrap()), far(&front.port().to_string()));
    let ca = [(CA, ca.to_str().unwrap())];
    pull(&plain, &[("HTTP_PROXY", &right), (PLAIN, "1")]).await;
    pull(&tls, &[("HTTPS_PROXY", &right), ca[0]]).await;
    pull(&plain, &[("HTTP_PROXY", &wrong), (PLAIN, "1"), (WORDS, "Fatal|407|USER:PASSWORD")]).await;
    pull(&tls, &[("HTTPS_PROXY", &wrong), ca[0], (WORDS, "Fatal|the proxy wants a password")]).await;
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn trouble_with_the_proxy_is_told_from_trouble_with_the_registry() {
    let proxy = |status: &'static str| Server::start(move |_, _| answer(status, &[("Proxy-Authenticate", "Basic realm=x")], b""));
    let (password, refusing) = (proxy("407 x").await, proxy("403 x").await);
    let (password, refusing) = (format!("http://{}", password.host), format!("http://{}", refusing.host));
    for (name, url, plain, words) in [
        ("HTTP_PROXY", password.as_str(), true, "Fatal|407 Proxy Authentication Required|USER:PASSWORD"),
        ("HTTPS_PROXY", &password, false, "Fatal|the proxy wants a password|USER:PASSWORD"),
        ("HTTPS_PROXY", &refusing, false, "Transient|the proxy does not connect|ask who runs the proxy; NO_PROXY excepts hosts"),
        (
            "HTTPS_PROXY",
            "http://ann:s3cret-proxy@127.0.0.1:9",
            false,
            "Transient|no connection to the proxy|check HTTPS_PROXY; NO_PROXY excepts hosts",
        ),
    ] {
        let mut environment = vec![(name, url), (WORDS, words)];
        environment.extend(plain.then_some((PLAIN, "1")));
        pull("far.example", &environment).await;
    }
}

#[tokio::test]
async fn no_proxy_excepts_names_and_suffixes() {
    // Whatever the list, the name leads to this server when no proxy is asked.
    let server = manifests().await;
    let host = format!("direct.example:{}", server.host.rsplit(':').next().unwrap());
    for list in ["direct.example", ".example", "example", "other, direct.example", "*", &host] {
        pull(&host, &[("HTTP_PROXY", DEAD), ("NO_PROXY", list), (PLAIN, "1")]).await;
        pull(&host, &[("http_proxy", DEAD), ("no_proxy", list), (PLAIN, "1")]).await;
    }
}
