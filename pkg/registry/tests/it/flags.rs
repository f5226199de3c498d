//! To whom the credentials of the command line go, and to whom never. Every server here would take them.

use std::path::Path;

use registry::{Class, Credentials, Keychain, Options, Source};
use testkit::{
    TlsFront,
    certificates::{self, VALID},
};

use crate::{
    asking::{BLOB, MANIFEST, TYPE, ann, blob, drain, names, plain, repository},
    server::{Server, answer, host_of},
    watched::Repository,
};

/// `ann:pass-word` as Basic authentication has it.
const ANN: &str = "Basic YW5uOnBhc3Mtd29yZA==";
/// `mia:mirror-word`, likewise.
const MIA: &str = "Basic bWlhOm1pcnJvci13b3Jk";

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
    mirrored_in(&format!("r.example:{}", port(own)), root, mirror, own, keychain)
}

/// The same where that file stands in `directory`.
fn mirrored_in(directory: &str, root: &Path, mirror: &str, own: &Server, keychain: impl Into<Keychain>) -> Repository {
    let registry = format!("r.example:{}", port(own));
    std::fs::create_dir(root.join(directory)).unwrap();
    let ca = if root.join("ca.pem").exists() { "ca = \"../ca.pem\"" } else { "" };
    let text = format!("server = \"http://{registry}\"\n[host.\"{mirror}\"]\n{ca}\n");
    std::fs::write(root.join(directory).join("hosts.toml"), text).unwrap();
    let names = Some(names(&["r.example", "mirror.example", "right.example", "auth.example"]));
    let options = Options { hosts_dirs: vec![root.to_owned()], names, ..Options::default() };
    repository(&registry, options, keychain)
}

fn with_file(given: Credentials, root: &Path, host: &str) -> Keychain {
    let file = root.join("config.json");
    std::fs::write(&file, format!(r#"{{"auths":{{"{host}":{{"username":"mia","password":"mirror-word"}}}}}}"#)).unwrap();
    Keychain { given, sources: vec![Source::Docker(file)], ..Keychain::default() }
}

#[tokio::test]
async fn the_registrys_own_host_gets_them_when_it_asks() {
    let own = basic().await;
    repository(&own.host, plain(), ann("pass-word")).resolve().await.unwrap();
    assert_eq!(shown(&own), [None, Some(ANN.to_owned())]);
    let open = Server::start(|_, _| answer("200 OK", &[TYPE], MANIFEST)).await;
    repository(&open.host, plain(), ann("pass-word")).resolve().await.unwrap();
    assert_eq!(shown(&open), [None]);
}

#[tokio::test]
async fn they_go_before_a_file_at_the_registrys_own_host() {
    let (own, root) = (basic().await, tempfile::tempdir().unwrap());
    repository(&own.host, plain(), with_file(ann("pass-word"), root.path(), &own.host)).resolve().await.unwrap();
    assert_eq!(shown(&own), [None, Some(ANN.to_owned())]);
}

#[tokio::test]
async fn the_own_hosts_realm_gets_them() {
    let realm = Server::start(|_, _| answer("200 OK", &[], br#"{"token":"good-token"}"#)).await;
    let challenge = format!(r#"Bearer realm="http://auth.example:{}/token""#, port(&realm));
    let own = Server::start(move |_, request| match authorization(request) {
        Some("Bearer good-token") => answer("200 OK", &[TYPE], MANIFEST),
        _ => answer("401 Unauthorized", &[("WWW-Authenticate", &challenge)], b""),
    })
    .await;
    let options = Options { names: Some(names(&["auth.example"])), ..plain() };
    repository(&own.host, options, ann("pass-word")).resolve().await.unwrap();
    assert!(realm.requests()[0].ends_with("&grant_type=password&username=ann&password=pass-word"), "{:?}", realm.requests());
}

#[tokio::test]
async fn a_mirror_on_this_machine_gets_them_when_it_asks() {
    let (mirror, own, root) = (basic().await, nothing_here().await, tempfile::tempdir().unwrap());
    let repository = mirrored(root.path(), &format!("http://{}", mirror.host), &own, ann("pass-word"));
    assert_eq!(repository.resolve().await.unwrap().host, mirror.host);
    assert_eq!(shown(&mirror), [None, Some(ANN.to_owned())]);
    // It did not ask.
    let (mirror, root) = (nothing_here().await, tempfile::tempdir().unwrap());
    mirrored(root.path(), &format!("http://{}", mirror.host), &own, ann("pass-word")).resolve().await.unwrap_err();
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
    let repository = mirrored(root.path(), &format!("https://right.example:{}", front.port()), &own, ann("pass-word"));
    repository.resolve().await.unwrap();
    assert_eq!(shown(&mirror).last(), Some(&Some(ANN.to_owned())));
}

#[tokio::test]
async fn a_mirror_without_tls_elsewhere_does_not_get_them() {
    let (mirror, own, root) = (basic().await, nothing_here().await, tempfile::tempdir().unwrap());
    let host = format!("mirror.example:{}", port(&mirror));
    let fault = mirrored(root.path(), &format!("http://{host}"), &own, ann("pass-word")).resolve().await.unwrap_err();
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
        let keychain = with_file(ann("pass-word"), root.path(), &host);
        let repository = mirrored(root.path(), &format!("http://{host}"), &own, keychain);
        repository.resolve().await.unwrap();
        assert_eq!(shown(&mirror), [None, Some(MIA.to_owned())]);
    }
}

/// Whoever gives a password for one registry need not know of a host for all.
#[tokio::test]
async fn a_mirror_for_all_registries_gets_its_own_entry_and_never_them() {
    let (mirror, own, root) = (basic().await, nothing_here().await, tempfile::tempdir().unwrap());
    let url = format!("http://{}", mirror.host);
    let fault = mirrored_in("_default", root.path(), &url, &own, ann("pass-word")).resolve().await.unwrap_err();
    assert_eq!(fault.class, Class::Denied);
    assert!(fault.hint().unwrap().contains(&format!("{} is a host of _default/hosts.toml", mirror.host)), "{fault:?}");
    assert_eq!(shown(&mirror), [None]);
    // The registry itself is asked as ever.
    let (own, root) = (basic().await, tempfile::tempdir().unwrap());
    let resolved = mirrored_in("_default", root.path(), &url, &own, ann("pass-word")).resolve().await.unwrap();
    assert_eq!(resolved.host, format!("r.example:{}", port(&own)));
    assert_eq!((shown(&own).last(), shown(&mirror)), (Some(&Some(ANN.to_owned())), vec![None, None]));
    let root = tempfile::tempdir().unwrap();
    let keychain = with_file(ann("pass-word"), root.path(), &mirror.host);
    assert_eq!(mirrored_in("_default", root.path(), &url, &own, keychain).resolve().await.unwrap().host, mirror.host);
    assert_eq!(shown(&mirror).last(), Some(&Some(MIA.to_owned())));
}

#[tokio::test]
async fn a_token_server_that_a_mirror_for_all_registries_names_does_not_get_them() {
    let realm = Server::start(|_, _| answer("401 Unauthorized", &[], b"")).await;
    let challenge = format!(r#"Bearer realm="http://{}/token""#, realm.host);
    let mirror = Server::start(move |_, _| answer("401 Unauthorized", &[("WWW-Authenticate", &challenge)], b"")).await;
    let (own, root) = (nothing_here().await, tempfile::tempdir().unwrap());
    let url = format!("http://{}", mirror.host);
    mirrored_in("_default", root.path(), &url, &own, ann("pass-word")).resolve().await.unwrap_err();
    let asked = realm.requests().concat();
    assert!(asked.starts_with("GET /token") && !asked.contains("pass-word") && !asked.contains("YW5u"), "{asked}");
}

#[tokio::test]
async fn a_mirrors_realm_without_tls_elsewhere_does_not_get_them() {
    let realm = Server::start(|_, _| answer("200 OK", &[], br#"{"token":"good-token"}"#)).await;
    for (host, gets) in [("auth.example", false), ("127.0.0.1", true)] {
        let challenge = format!(r#"Bearer realm="http://{host}:{}/token""#, port(&realm));
        let mirror = Server::start(move |_, request| match authorization(request) {
            Some("Bearer good-token") => answer("200 OK", &[TYPE], MANIFEST),
            _ => answer("401 Unauthorized", &[("WWW-Authenticate", &challenge)], b""),
        })
        .await;
        let (own, root) = (nothing_here().await, tempfile::tempdir().unwrap());
        let before = realm.requests().len();
        let repository = mirrored(root.path(), &format!("http://{}", mirror.host), &own, ann("pass-word"));
        repository.resolve().await.unwrap();
        let asked = realm.requests()[before..].concat();
        assert_eq!(asked.contains("pass-word") || asked.contains("YW5u"), gets, "{asked}");
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
    for keychain in [Keychain::from(ann("pass-word")), with_file(ann("pass-word"), root.path(), &storage.host)] {
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
    let body = repository(&own.host, plain(), ann("pass-word")).blob(0, &blob(), None).await.unwrap();
    assert_eq!(drain(body).await.unwrap(), BLOB);
}
