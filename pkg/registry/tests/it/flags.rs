//! To whom the credentials of the command line go, and to whom never. Every server here would take them.

use std::path::Path;

use registry::{Class, Credentials, Keychain, Options, Repository, Source};
use testkit::{
    TlsFront,
    certificates::{self, VALID},
};

use crate::{
    asking::{BLOB, MANIFEST, TYPE, ann, blob, drain, names, plain, repository},
    server::{Server, answer, host_of},
};

/// `ann:word` as Basic authentication has it.
const ANN: &str = "Basic YW5uOndvcmQ=";
/// `mia:mirror`, likewise.
const MIA: &str = "Basic bWlhOm1pcnJvcg==";

/// Asks for Basic authentication, and takes any.
async fn basic() -> Server {
    Server::start(|_, request| match authorization(request) {
        Some(_) => answer("200 OK", &[TYPE], MANIFEST),
        None => answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=x")], b""),
    })
    .await
}

async fn nothing_here() -> Server {
    Server::start(|_, _| answer("404 Not Found", &[], b"")).await
}

fn authorization(request: &str) -> Option<&str> {
    request.lines().find_map(|line| line.strip_prefix("authorization: "))
}

/// What a server was shown, request by request.
fn shown(server: &Server) -> Vec<Option<String>> {
    server.requests().iter().map(|request| authorization(request).map(str::to_owned)).collect()
}

fn port(server: &Server) -> &str {
    server.host.rsplit(':').next().unwrap()
}

/// `a/b:1` of `r.example`, whose hosts.toml names `mirror` and then `own` as the registry itself. A `ca.pem` in `root` is the mirror's.
fn mirrored(root: &Path, mirror: &str, own: &Server, keychain: impl Into<Keychain>) -> Repository {
    let registry = format!("r.example:{}", port(own));
    std::fs::create_dir(root.join(&registry)).unwrap();
    let ca = if root.join("ca.pem").exists() { "ca = \"../ca.pem\"" } else { "" };
    let text = format!("server = \"http://{registry}\"\n[host.\"{mirror}\"]\n{ca}\n");
    std::fs::write(root.join(&registry).join("hosts.toml"), text).unwrap();
    let names = Some(names(&["r.example", "mirror.example", "right.example", "auth.example"]));
    let options = Options { hosts_dirs: vec![root.to_owned()], names, ..Options::default() };
    repository(&registry, options, keychain)
}

fn with_file(given: Credentials, root: &Path, host: &str) -> Keychain {
    let file = root.join("config.json");
    std::fs::write(&file, format!(r#"{{"auths":{{"{host}":{{"username":"mia","password":"mirror"}}}}}}"#)).unwrap();
    Keychain { given, sources: vec![Source::Docker(file)], ..Keychain::default() }
}

#[tokio::test]
async fn the_registrys_own_host_gets_them_when_it_asks() {
    let own = basic().await;
    repository(&own.host, plain(), ann("word")).resolve().await.unwrap();
    assert_eq!(shown(&own), [None, Some(ANN.to_owned())]);
    let open = Server::start(|_, _| answer("200 OK", &[TYPE], MANIFEST)).await;
    repository(&open.host, plain(), ann("word")).resolve().await.unwrap();
    assert_eq!(shown(&open), [None]);
}

#[tokio::test]
async fn they_go_before_a_file_at_the_registrys_own_host() {
    let (own, root) = (basic().await, tempfile::tempdir().unwrap());
    repository(&own.host, plain(), with_file(ann("word"), root.path(), &own.host)).resolve().await.unwrap();
    assert_eq!(shown(&own), [None, Some(ANN.to_owned())]);
}

#[tokio::test]
async fn the_own_hosts_realm_gets_them() {
    let realm = Server::start(|_, _| answer("200 OK", &[], br#"{"token":"good"}"#)).await;
    let challenge = format!(r#"Bearer realm="http://auth.example:{}/token""#, port(&realm));
    let own = Server::start(move |_, request| match authorization(request) {
        Some("Bearer good") => answer("200 OK", &[TYPE], MANIFEST),
        _ => answer("401 Unauthorized", &[("WWW-Authenticate", &challenge)], b""),
    })
    .await;
    let options = Options { names: Some(names(&["auth.example"])), ..plain() };
    repository(&own.host, options, ann("word")).resolve().await.unwrap();
    assert!(realm.requests()[0].ends_with("&grant_type=password&username=ann&password=word"), "{:?}", realm.requests());
}

#[tokio::test]
async fn a_mirror_on_this_machine_gets_them_when_it_asks() {
    let (mirror, own, root) = (basic().await, nothing_here().await, tempfile::tempdir().unwrap());
    let repository = mirrored(root.path(), &format!("http://{}", mirror.host), &own, ann("word"));
    assert_eq!(repository.resolve().await.unwrap().host, mirror.host);
    assert_eq!(shown(&mirror), [None, Some(ANN.to_owned())]);
    // It did not ask.
    let (mirror, root) = (nothing_here().await, tempfile::tempdir().unwrap());
    mirrored(root.path(), &format!("http://{}", mirror.host), &own, ann("word")).resolve().await.unwrap_err();
    assert!(mirror.connections() > 0 && shown(&mirror).iter().all(Option::is_none), "{:?}", mirror.requests());
}

#[tokio::test]
async fn a_mirror_behind_tls_gets_them_when_it_asks() {
    let (mirror, own, root) = (basic().await, nothing_here().await, tempfile::tempdir().unwrap());
    let make = |directory: &Path| {
        certificates::authority(directory);
        certificates::server(directory, VALID);
    };
    let front = TlsFront::start(&mirror.host, make, "");
    std::fs::copy(front.file("ca.pem"), root.path().join("ca.pem")).unwrap();
    let repository = mirrored(root.path(), &format!("https://right.example:{}", front.port()), &own, ann("word"));
    repository.resolve().await.unwrap();
    assert_eq!(shown(&mirror).last(), Some(&Some(ANN.to_owned())));
}

#[tokio::test]
async fn a_mirror_without_tls_elsewhere_does_not_get_them() {
    let (mirror, own, root) = (basic().await, nothing_here().await, tempfile::tempdir().unwrap());
    let host = format!("mirror.example:{}", port(&mirror));
    let fault = mirrored(root.path(), &format!("http://{host}"), &own, ann("word")).resolve().await.unwrap_err();
    assert_eq!(fault.class, Class::Denied);
    assert!(fault.hint().unwrap().contains(&format!("go to {host} only over TLS")), "{fault:?}");
    assert_eq!(shown(&mirror), [None]);
}

#[tokio::test]
async fn a_mirror_with_an_entry_of_its_own_gets_that_and_not_them() {
    for own_too in [false, true] {
        let (mirror, root) = (basic().await, tempfile::tempdir().unwrap());
        let own = if own_too { basic().await } else { nothing_here().await };
        let host = format!("mirror.example:{}", port(&mirror));
        let keychain = with_file(ann("word"), root.path(), &host);
        let repository = mirrored(root.path(), &format!("http://{host}"), &own, keychain);
        repository.resolve().await.unwrap();
        assert_eq!(shown(&mirror), [None, Some(MIA.to_owned())]);
    }
}

#[tokio::test]
async fn a_mirrors_realm_without_tls_elsewhere_does_not_get_them() {
    let realm = Server::start(|_, _| answer("200 OK", &[], br#"{"token":"good"}"#)).await;
    for (host, gets) in [("auth.example", false), ("127.0.0.1", true)] {
        let challenge = format!(r#"Bearer realm="http://{host}:{}/token""#, port(&realm));
        let mirror = Server::start(move |_, request| match authorization(request) {
            Some("Bearer good") => answer("200 OK", &[TYPE], MANIFEST),
            _ => answer("401 Unauthorized", &[("WWW-Authenticate", &challenge)], b""),
        })
        .await;
        let (own, root) = (nothing_here().await, tempfile::tempdir().unwrap());
        let before = realm.requests().len();
        let repository = mirrored(root.path(), &format!("http://{}", mirror.host), &own, ann("word"));
        repository.resolve().await.unwrap();
        let asked = realm.requests()[before..].concat();
        assert_eq!(asked.contains("word") || asked.contains("YW5u"), gets, "{asked}");
    }
}

#[tokio::test]
async fn a_redirects_target_never_gets_them() {
    // It asks for them, is on this machine, and has an entry in the file too.
    let storage = Server::start(|_, request| match authorization(request) {
        Some(_) => answer("200 OK", &[], BLOB),
        None => answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=x")], b""),
    })
    .await;
    let location = format!("http://{}/data", storage.host);
    let own = Server::start(move |_, request| match authorization(request) {
        Some(_) => answer("307 Temporary Redirect", &[("Location", &location)], b""),
        None => answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=x")], b""),
    })
    .await;
    let root = tempfile::tempdir().unwrap();
    for keychain in [Keychain::from(ann("word")), with_file(ann("word"), root.path(), &storage.host)] {
        let repository = repository(&own.host, plain(), keychain);
        let fault = repository.blob(0, &blob(), None).await.unwrap_err();
        assert_eq!(fault.class, Class::Denied, "{fault:?}");
        assert!(fault.to_string().contains(&storage.host), "{fault}");
    }
    assert!(storage.requests().len() >= 2 && shown(&storage).iter().all(Option::is_none), "{:?}", storage.requests());
}

#[tokio::test]
async fn a_redirect_back_to_the_host_itself_is_answered_as_the_host() {
    let own = Server::start(|_, request| {
        if authorization(request).is_none() {
            return answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=x")], b"");
        }
        if request.contains("/moved") {
            return answer("200 OK", &[], BLOB);
        }
        answer("307 x", &[("Location", &format!("http://{}/moved", host_of(request)))], b"")
    })
    .await;
    let body = repository(&own.host, plain(), ann("word")).blob(0, &blob(), None).await.unwrap();
    assert_eq!(drain(body).await.unwrap(), BLOB);
}
