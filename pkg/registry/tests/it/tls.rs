//! Live TLS: whom the client trusts, what it shows, and what it will not leave TLS for.

use std::path::Path;

use registry::{Class, Credentials, Fault, Options, Resolved};
use testkit::{
    TlsFront,
    certificates::{self, Dates, EXPIRED, FUTURE, VALID},
};

use crate::{
    asking::{MANIFEST, TYPE, ann, blob, names, plain, repository, repository_of},
    daemons::{docker_registry, docker_registry_for_known_clients},
    server::{Server, answer, host_of},
};

const UNKNOWN: &str = "certificate signed by an unknown authority";
const OTHER_NAME: &str = "certificate is for another name";

/// How the client learns of a CA.
#[derive(Clone, Copy, Debug)]
enum Given {
    Nothing,
    Flag,
    HostsToml,
}

/// Asks `name` at the daemon's port. `file` of its directory is the CA.
async fn resolve(front: &TlsFront, name: &str, given: Given, file: &str) -> Result<Resolved, Fault> {
    let root = tempfile::tempdir().unwrap();
    let file = front.file(file);
    let host = format!("{name}:{}", front.port());
    let mut options = Options { names: Some(names(&["right.example", "wrong.example"])), ..Options::default() };
    match given {
        Given::Nothing => {}
        Given::Flag => options.tls_ca = Some(file),
        Given::HostsToml => {
            hosts_toml(root.path(), &host, &format!("ca = {:?}", file.display().to_string()));
            options.hosts_dirs = vec![root.path().to_owned()];
        }
    }
    repository(&host, options, Credentials::Anonymous).resolve().await
}

fn hosts_toml(root: &Path, host: &str, lines: &str) {
    let directory = root.join(host);
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("hosts.toml"), format!("server = \"https://{host}\"\n{lines}\n")).unwrap();
}

async fn upstream() -> Server {
    Server::start(|_, _| answer("200 OK", &[TYPE], MANIFEST)).await
}

fn signed(dates: Dates) -> impl FnOnce(&Path) {
    move |root| {
        certificates::authority(root);
        certificates::server(root, dates);
    }
}

fn judge(outcome: Result<Resolved, Fault>, words: Option<&str>, case: &str) {
    match (outcome, words) {
        (Ok(_), None) => {}
        (Err(fault), Some(words)) => {
            assert_eq!((fault.class, fault.connect), (Class::Fatal, false), "{case}: {fault:?}");
            assert!(fault.to_string().contains(words) && fault.hint().is_some(), "{case}: {fault:?}");
        }
        (outcome, words) => panic!("{case}: {outcome:?}, expected {words:?}"),
    }
}

#[tokio::test]
async fn a_ca_is_trusted_where_it_is_given_and_for_the_names_and_dates_of_its_certificates() {
    let upstream = upstream().await;
    for (dates, wrong_date) in
        [(VALID, None), (EXPIRED, Some("certificate has expired")), (FUTURE, Some("certificate is not valid yet"))]
    {
        let front = TlsFront::start(&upstream.host, signed(dates), "");
        for (name, given, words) in [
            ("right.example", Given::Flag, wrong_date),
            ("right.example", Given::HostsToml, wrong_date),
            ("right.example", Given::Nothing, Some(UNKNOWN)),
            ("wrong.example", Given::Flag, wrong_date.or(Some(OTHER_NAME))),
            ("wrong.example", Given::HostsToml, wrong_date.or(Some(OTHER_NAME))),
        ] {
            // An unknown one with a wrong date may be told by either.
            if wrong_date.is_some() && matches!(given, Given::Nothing) {
                continue;
            }
            let outcome = resolve(&front, name, given, "ca.pem").await;
            judge(outcome, words, &format!("{dates:?} {name} {given:?}"));
        }
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_where_it_is_given_and_for_its_names_and_dates() {
    let upstream = upstream().await;
    for (dates, wrong_date) in
        [(VALID, None), (EXPIRED, Some("certificate has expired")), (FUTURE, Some("certificate is not valid yet"))]
    {
        let front = TlsFront::start(&upstream.host, |root| certificates::self_signed(root, dates), "");
        for (name, given, words) in [
            ("right.example", Given::Flag, wrong_date),
            ("right.example", Given::HostsToml, wrong_date),
            ("wrong.example", Given::Flag, wrong_date.or(Some(OTHER_NAME))),
            ("right.example", Given::Nothing, wrong_date.or(Some(UNKNOWN))),
        ] {
            let outcome = resolve(&front, name, given, "server.pem").await;
            judge(outcome, words, &format!("{dates:?} {name} {given:?}"));
        }
    }
}

#[tokio::test]
async fn a_real_registry_behind_tls_is_pulled_from_with_either_version_and_unchecked_when_told() {
    let registry = docker_registry(None);
    for version in ["TLSv1.2", "TLSv1.3"] {
        let front = TlsFront::start(&registry.host(), signed(VALID), &format!("ssl_protocols {version};"));
        let reference = |name: &str| format!("{name}:{}/t/obd:1", front.port());
        let names = || names(&["right.example", "wrong.example"]);
        let ca = Some(front.file("ca.pem"));
        let options = Options { names: Some(names()), tls_ca: ca, ..Options::default() };
        let known = repository_of(&reference("right.example"), options, Credentials::Anonymous);
        let resolved = known.resolve().await.unwrap();
        assert_eq!(known.document(&resolved.descriptor).await.unwrap().bytes, resolved.bytes);
        let options = Options { names: Some(names()), skip_verify: true, ..Options::default() };
        repository_of(&reference("wrong.example"), options, Credentials::Anonymous).resolve().await.unwrap();
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_those_who_want_one() {
    let upstream = upstream().await;
    let make = |root: &Path| {
        signed(VALID)(root);
        certificates::client(root);
    };
    let nginx = TlsFront::start(&upstream.host, make, "ssl_verify_client on; ssl_client_certificate ROOT/ca.pem;");
    // nginx breaks the connection off in HTTP, Go's server in TLS. The registry is empty: 404 comes from inside.
    let registry = docker_registry_for_known_clients();
    for (port, ca) in [(nginx.port(), nginx.file("ca.pem")), (registry.port, registry.directory.path().join("ca.pem"))] {
        let root = ca.parent().unwrap();
        let host = format!("right.example:{port}");
        let base = || Options { names: Some(names(&["right.example"])), tls_ca: Some(ca.clone()), ..Options::default() };
        let resolve = |options| {
            let repository = repository(&host, options, Credentials::Anonymous);
            async move { repository.resolve().await }
        };
        let inside = |outcome: Result<Resolved, Fault>| match outcome {
            Ok(_) => {}
            Err(fault) => assert_eq!(fault.class, Class::Missing, "{fault:?}"),
        };
        let fault = resolve(base()).await.unwrap_err();
        assert_eq!(fault.class, Class::Fatal, "{fault:?}");
        assert!(fault.hint().is_some_and(|hint| hint.contains("--tlscert")), "{fault:?}");

        let pair = (root.join("client.pem"), root.join("client.key"));
        inside(resolve(Options { tls_cert: Some(pair), ..base() }).await);

        let hosts = tempfile::tempdir().unwrap();
        let client = format!("client = [[\"{0}/client.pem\", \"{0}/client.key\"]]", root.display());
        hosts_toml(hosts.path(), &host, &client);
        inside(resolve(Options { hosts_dirs: vec![hosts.path().to_owned()], ..base() }).await);

        // One of another CA.
        let stranger = tempfile::tempdir().unwrap();
        certificates::authority(stranger.path());
        certificates::client(stranger.path());
        let pair = (stranger.path().join("client.pem"), stranger.path().join("client.key"));
        let fault = resolve(Options { tls_cert: Some(pair), ..base() }).await.unwrap_err();
        assert_eq!(fault.class, Class::Fatal, "{fault:?}");
        assert!(fault.hint().is_some_and(|hint| hint.contains("--tlscert")), "{fault:?}");
    }
}

/// Behind TLS; everything else about it is scripted.
async fn behind_tls(script: impl Fn(usize, &str) -> Vec<u8> + Send + Sync + 'static) -> (Server, TlsFront, Options) {
    let upstream = Server::start(script).await;
    let front = TlsFront::start(&upstream.host, signed(VALID), "");
    let ca = Some(front.file("ca.pem"));
    let options = Options { names: Some(names(&["right.example"])), tls_ca: ca, ..Options::default() };
    (upstream, front, options)
}

#[tokio::test]
async fn https_never_leads_to_http() {
    let listener = Server::start(|_, _| answer("200 OK", &[TYPE], MANIFEST)).await;
    let location = format!("http://{}/m?sig=s3cret-signature", listener.host);
    let script = move |_: usize, _: &str| answer("307 x", &[("Location", &location)], b"");
    let (_upstream, front, options) = behind_tls(script).await;
    let repository = repository(&format!("right.example:{}", front.port()), options, Credentials::Anonymous);
    for fault in [repository.resolve().await.unwrap_err(), repository.blob(0, &blob(), None).await.unwrap_err()] {
        assert_eq!(fault.class, Class::Fatal);
        assert!(fault.to_string().contains("redirect from https to http"), "{fault}");
    }
    assert_eq!(listener.connections(), 0);
}

#[tokio::test]
async fn a_password_never_goes_to_a_token_server_without_tls() {
    let listener = Server::start(|_, _| answer("200 OK", &[], br#"{"token":"t"}"#)).await;
    let challenge = format!(r#"Bearer realm="http://{}/token""#, listener.host);
    let script = move |_: usize, _: &str| answer("401 x", &[("WWW-Authenticate", &challenge)], b"");
    let (_upstream, front, options) = behind_tls(script).await;
    let fault = repository(&format!("right.example:{}", front.port()), options, ann("pass-word")).resolve().await.unwrap_err();
    assert_eq!(fault.class, Class::Fatal);
    assert!(fault.to_string().contains("is http, not https"), "{fault:?}");
    assert_eq!(fault.hint(), Some("a registry spoken to over TLS must have its token server behind TLS too"));
    assert_eq!(listener.connections(), 0);
}

#[tokio::test]
async fn a_token_servers_redirect_takes_the_password_nowhere_else() {
    let elsewhere = Server::start(|_, _| answer("200 OK", &[], br#"{"token":"good-token"}"#)).await;
    let location = format!("http://{}/token", elsewhere.host);
    let server = Server::start(move |_, request| {
        if request.contains(" /token") {
            return answer("307 x", &[("Location", &location)], b"");
        }
        if request.contains("Bearer good-token") {
            return answer("200 OK", &[TYPE], MANIFEST);
        }
        let challenge = format!(r#"Bearer realm="http://{}/token""#, host_of(request));
        answer("401 x", &[("WWW-Authenticate", &challenge)], b"")
    })
    .await;
    repository(&server.host, plain(), ann("pass-word")).resolve().await.unwrap();
    let request = elsewhere.requests().concat().to_ascii_lowercase();
    assert!(request.starts_with("get /token") && !request.contains("authorization"), "{request}");
}

#[tokio::test]
async fn http_and_https_mistaken_for_each_other_are_told() {
    let registry = docker_registry(None);
    let reference = format!("right.example:{}/t/obd:1", registry.port);
    let options = || Options { names: Some(names(&["right.example"])), ..Options::default() };
    let fault = repository_of(&reference, options(), Credentials::Anonymous).resolve().await.unwrap_err();
    assert!(fault.to_string().contains("http answered to https"), "{fault}");
    assert!(fault.hint().unwrap().contains("--plain-http"));

    let nginx = TlsFront::start(&registry.host(), signed(VALID), "");
    let known_only = docker_registry_for_known_clients();
    for port in [nginx.port(), known_only.port] {
        let reference = format!("right.example:{port}/t/obd:1");
        let options = Options { plain_http: true, ..options() };
        let fault = repository_of(&reference, options, Credentials::Anonymous).resolve().await.unwrap_err();
        assert_eq!(fault.class, Class::Fatal);
        assert!(fault.hint().unwrap().contains("https"), "{fault:?}");
    }
}
