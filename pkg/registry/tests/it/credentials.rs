//! Where credentials are found when the command line has none: files in order, helpers, and what is told when they are of no use.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use registry::{Class, Credentials, Fault, Helpers, Keychain, Source};
use testkit::secrets;

use crate::{
    asking::{MANIFEST, TYPE, ann, plain, repository},
    server::{Server, answer, host_of},
};

/// Takes Basic authentication as any of these users.
async fn basic(known: &'static [&'static str]) -> Server {
    Server::start(move |_, request| {
        if known.iter().any(|known| request.contains(&format!("authorization: Basic {known}\r\n"))) {
            return answer("200 OK", &[TYPE], MANIFEST);
        }
        answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=x")], b"")
    })
    .await
}

/// `ann`, `bob` and `cid`, each with `pass-word`.
const USERS: [&str; 3] = ["YW5uOnBhc3Mtd29yZA==", "Ym9iOnBhc3Mtd29yZA==", "Y2lkOnBhc3Mtd29yZA=="];

fn entry(host: &str, user: &str) -> String {
    format!(r#"{{"auths":{{"{host}":{{"username":"{user}","password":"{}"}}}}}}"#, secrets::keep("pass-word"))
}

fn file(directory: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path
}

fn keychain(sources: Vec<Source>) -> Keychain {
    Keychain { sources, ..Keychain::default() }
}

/// A config that names the helper `x`, which is this script.
fn helped(directory: &Path, script: &str, limit: Duration) -> Keychain {
    let program = file(directory, "docker-credential-x", &format!("#!/bin/sh\nHERE={}\n{script}\n", directory.display()));
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    let source = Source::Docker(file(directory, "config.json", r#"{"credsStore":"x"}"#));
    let path = format!("{}:/usr/bin:/bin", directory.display());
    Keychain { helpers: Helpers::new(limit, Some(path.into())), ..keychain(vec![source]) }
}

async fn resolve(host: &str, keychain: Keychain) -> Result<(), Fault> {
    repository(host, plain(), keychain).resolve().await.map(drop)
}

#[tokio::test]
async fn the_first_place_with_an_entry_for_the_host_wins() {
    let server = basic(&USERS).await;
    let directory = tempfile::tempdir().unwrap();
    let host = &server.host;
    let text = |user| Source::Text { name: "DOCKER_AUTH_CONFIG", text: entry(user, "ann").into() };
    let docker = |host| Source::Docker(file(directory.path(), "config.json", &entry(host, "bob")));
    let podman = |host: &str| Source::Podman(file(directory.path(), "auth.json", &entry(host, "cid")));
    let other = "other.example";
    for (sources, user) in [
        (vec![text(host), docker(host), podman(host)], USERS[0]),
        (vec![text(other), docker(host), podman(host)], USERS[1]),
        (vec![text(other), Source::Docker("/nonexistent/config.json".into()), podman(host)], USERS[2]),
        (vec![podman(&format!("{host}/a"))], USERS[2]),
        (vec![podman(&format!("{host}/a/b"))], USERS[2]),
    ] {
        resolve(host, keychain(sources)).await.unwrap();
        assert!(server.requests().last().unwrap().contains(user), "{user}: {:?}", server.requests());
    }
    let fault = resolve(host, keychain(vec![podman(&format!("{host}/c"))])).await.unwrap_err();
    assert!(fault.to_string().contains("401 Unauthorized without credentials"), "{fault}");
}

#[tokio::test]
async fn a_refused_entry_is_told_with_its_file_and_how_to_log_in_anew() {
    let server = basic(&[]).await;
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "config.json", &entry(&server.host, "ann"));
    let fault = resolve(&server.host, keychain(vec![Source::Docker(path.clone())])).await.unwrap_err();
    assert_eq!(fault.class, Class::Denied);
    assert!(fault.to_string().ends_with(&format!("401 Unauthorized as user ann of {}", path.display())), "{fault}");
    assert!(fault.hint().unwrap().contains(&format!("docker login {}", server.host)), "{fault:?}");
}

#[tokio::test]
async fn a_broken_file_is_told_before_anyone_is_asked() {
    let server = basic(&USERS).await;
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "config.json", "{\n  \"auths\": {\n    x\n");
    let ask = |given: Credentials| {
        let keychain = Keychain { given, ..keychain(vec![Source::Docker(path.clone())]) };
        let reference = format!("{}/a/b:1", server.host).parse().unwrap();
        registry::Registry::new(plain(), keychain).unwrap().repository(&reference)
    };
    let error = ask(Credentials::Anonymous).unwrap_err();
    assert!(error.to_string().starts_with(&format!("{}:3:5: no JSON: ", path.display())), "{error}");
    assert!(error.hint().unwrap().contains("docker login"));
    assert_eq!(server.connections(), 0);
    // Nobody needs it.
    ask(ann("pass-word")).unwrap().resolve().await.unwrap();
}

#[tokio::test]
async fn what_is_no_file_is_no_wait() {
    let directory = tempfile::tempdir().unwrap();
    let reference = "r.example/a/b:1".parse().unwrap();
    let pipe = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let long = file(directory.path(), "long", &" ".repeat((1 << 20) + 1));
    for path in [directory.path().to_owned(), pipe, long] {
        let registry = registry::Registry::new(plain(), keychain(vec![Source::Podman(path.clone())])).unwrap();
        let error = registry.repository(&reference).unwrap_err();
        assert_eq!(error.to_string(), format!("credentials file {} cannot be read", path.display()));
    }
}

#[tokio::test]
async fn a_helper_is_asked_for_the_host_and_once_more_when_its_answer_is_refused() {
    // The password changes each time, as that of a cloud's registry does; the server takes the second and what follows it.
    let server = Server::start(|_, request| {
        let shown = request.lines().find_map(|line| line.strip_prefix("authorization: Basic "));
        match shown {
            // ann:pass-number-1
            None | Some("YW5uOnBhc3MtbnVtYmVyLTE=") => answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=x")], b""),
            Some(_) => answer("200 OK", &[TYPE], MANIFEST),
        }
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let script = r#"cat > $HERE/asked; echo run >> $HERE/runs
        echo "{\"Username\":\"ann\",\"Secret\":\"pass-number-$(wc -l < $HERE/runs)\"}""#;
    let repository = repository(&server.host, plain(), helped(directory.path(), script, Duration::from_secs(60)));
    let fault = repository.resolve().await.unwrap_err();
    assert!(fault.to_string().ends_with("401 Unauthorized as user ann of docker-credential-x"), "{fault}");
    assert_eq!(fs::read_to_string(directory.path().join("asked")).unwrap(), server.host);
    repository.resolve().await.unwrap();
    repository.resolve().await.unwrap();
    assert_eq!(fs::read_to_string(directory.path().join("runs")).unwrap().lines().count(), 2);
}

#[tokio::test]
async fn a_helpers_identity_token_buys_an_access_token() {
    let server = Server::start(|_, request| {
        if request.starts_with("POST /token") && request.ends_with("&grant_type=refresh_token&refresh_token=i%2Fdentity") {
            return answer("200 OK", &[], br#"{"access_token":"good-token"}"#);
        }
        if request.contains("Bearer good-token") {
            return answer("200 OK", &[TYPE], MANIFEST);
        }
        let challenge = format!(r#"Bearer realm="http://{}/token",service="s""#, host_of(request));
        answer("401 Unauthorized", &[("WWW-Authenticate", &challenge)], b"")
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let script = r#"echo '{"ServerURL":"x","Username":"<token>","Secret":"i/dentity"}'"#;
    resolve(&server.host, helped(directory.path(), script, Duration::from_secs(60))).await.unwrap();
}

#[tokio::test]
async fn a_helper_that_knows_nobody_leaves_it_to_the_next_place() {
    let server = basic(&USERS).await;
    let directory = tempfile::tempdir().unwrap();
    let script = "echo run >> $HERE/runs; echo credentials not found in native keychain; exit 1";
    let mut keychain = helped(directory.path(), script, Duration::from_secs(60));
    keychain.sources.push(Source::Podman(file(directory.path(), "auth.json", &entry(&server.host, "cid"))));
    resolve(&server.host, keychain).await.unwrap();
    // host:port, and with either scheme.
    assert_eq!(fs::read_to_string(directory.path().join("runs")).unwrap().lines().count(), 3);
}

#[tokio::test]
async fn a_helper_of_no_use_ends_the_pull_and_names_itself() {
    let server = basic(&USERS).await;
    for (script, limit, words) in [
        ("echo rubbish", 60_000, "printed something else than Username and Secret"),
        ("echo the keyring is locked >&2; exit 1", 60_000, "ended with exit status: 1: the keyring is locked"),
        ("sleep 1000", 300, "did not answer within 300ms"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let keychain = helped(directory.path(), script, Duration::from_millis(limit));
        let fault = resolve(&server.host, keychain).await.unwrap_err();
        assert_eq!(fault.class, Class::Denied);
        assert!(fault.to_string().ends_with(&format!("credential helper docker-credential-x {words}")), "{fault}");
        let config = directory.path().join("config.json").display().to_string();
        assert!(fault.hint().unwrap().contains(&config), "{fault:?}");
    }
}
