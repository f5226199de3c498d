//! Credentials that are wrong, or cannot be had.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, sync::Arc, time::Duration};

use testkit::{
    DistributionRegistry, Rules, TokenServer,
    image::{Blob, Image, Layer},
    secrets,
};

use super::{assert_failed, blob, layer};
use crate::stage::{Stage, eventually, finish, on_each_daemon, run, start};

const DENIED: i32 = 3;

/// A folder with `docker-credential-test`, which is this script, to be found first.
fn helper(command: &mut Command, script: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    secrets::keep("s3cret-of-helper");
    let program = directory.path().join("docker-credential-test");
    fs::write(&program, format!("#!/bin/sh\nHERE={}\n{script}\n", directory.path().display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    command.env("PATH", format!("{}:/usr/bin:/bin", directory.path().display()));
    command.env("DOCKER_AUTH_CONFIG", r#"{"credsStore":"test"}"#);
    directory
}

fn pushed(stage: &Stage, registry: &DistributionRegistry) -> String {
    Image::new(vec![layer(stage, "a")]).push(registry, "t/secret", "1")
}

/// Nothing of it is to be seen in containerd.
#[track_caller]
fn assert_untouched(stage: &Stage) {
    assert_eq!((stage.images(), stage.leases()), (Vec::new(), Vec::new()));
    stage.assert_nothing_unfinished();
}

#[test]
fn a_wrong_password_is_denied_with_user_host_and_place() {
    let basic = DistributionRegistry::start_protected();
    let server = Arc::new(TokenServer::start(Rules::default()));
    let tokens = DistributionRegistry::start_with_tokens(&server);
    on_each_daemon("wrong-password", |stage| {
        for (registry, happened) in [
            (&basic, "manifest 1 of t/secret: 401 Unauthorized as user bob".to_owned()),
            (
                &tokens,
                format!(
                    "token for manifest 1 of t/secret: 401 Unauthorized from {} (incorrect username or password) as user bob",
                    server.host()
                ),
            ),
        ] {
            let (host, reference) = (registry.host(), pushed(&stage, registry));
            let output = stage.rpull(["--user", "bob:wr0ng-word", &reference]);
            assert_failed(
                &output,
                DENIED,
                &format!(
                    "rpull: {host}: {happened}\n\
                     hint: check the password of bob at {host} and the right to pull; then rpull --user bob …\n"
                ),
            );
            // bob:wr0ng-word
            let text = format!(r#"{{"auths":{{"{host}":{{"auth":"Ym9iOndyMG5nLXdvcmQ="}}}}}}"#);
            let output = run(stage.command([&reference]).env("DOCKER_AUTH_CONFIG", text));
            assert_failed(
                &output,
                DENIED,
                &format!(
                    "rpull: {host}: {happened} of DOCKER_AUTH_CONFIG\n\
                     hint: log in again with docker login {host}, or give --user\n"
                ),
            );
        }
        assert_untouched(&stage);
    });
}

#[test]
fn a_helper_of_no_use_is_named_with_its_own_words() {
    let registry = DistributionRegistry::start_protected();
    let host = registry.host();
    on_each_daemon("bad-helper", |stage| {
        let reference = pushed(&stage, &registry);
        let about = format!("rpull: {host}: manifest 1 of t/secret: credential helper docker-credential-test");
        for (script, said) in [
            ("echo s3cret-of-helper", "printed something else than Username and Secret"),
            ("echo the keyring is locked >&2; exit 2", "ended with exit status: 2: the keyring is locked"),
            ("yes s3cret-of-helper", "printed more than 65536 bytes"),
        ] {
            let mut command = stage.command([&reference]);
            let _directory = helper(&mut command, script);
            let output = run(&mut command);
            let hint = "DOCKER_AUTH_CONFIG names it: try it by hand, or give --user";
            assert_failed(&output, DENIED, &format!("{about} {said}\nhint: {hint}\n"));
        }
        let output = run(stage.command([&reference]).env("DOCKER_AUTH_CONFIG", r#"{"credsStore":"test"}"#));
        let hint = "DOCKER_AUTH_CONFIG names it: put docker-credential-test on PATH, or take the entry out";
        assert_failed(&output, DENIED, &format!("{about} is not installed\nhint: {hint}\n"));
        let output = run(stage.command([&reference]).env("DOCKER_AUTH_CONFIG", r#"{"credsStore":"/../../bin/sh"}"#));
        assert_failed(
            &output,
            DENIED,
            &format!(
                "rpull: {host}: manifest 1 of t/secret: the name of credential helper \"/../../bin/sh\" is not a program's\n\
                 hint: correct credsStore or credHelpers in DOCKER_AUTH_CONFIG\n"
            ),
        );
        assert_untouched(&stage);
    });
}

/// The time limit itself is tested with a shorter one, in `registry`; all of its 30 seconds only with `RPULL_LONG=1`.
#[test]
fn a_helper_that_hangs_goes_with_the_pull() {
    let registry = DistributionRegistry::start_protected();
    let stage = Stage::shared(&testkit::Daemons::available()[0], "hanging-helper");
    let reference = pushed(&stage, &registry);
    let mut command = stage.command([&reference]);
    let directory = helper(&mut command, "sleep 1000 & echo $$ $! > $HERE/ids; wait");
    let child = start(&mut command);
    let ids = eventually(|| fs::read_to_string(directory.path().join("ids")).ok().filter(|ids| ids.ends_with('\n'))).unwrap();
    if std::env::var_os("RPULL_LONG").is_some() {
        let said = "credential helper docker-credential-test did not answer within 30s";
        let output = finish(child);
        assert!(output.fails_with(DENIED).contains(said), "{output:#?}");
    } else {
        let signalled = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(signalled.success());
        assert_eq!(finish(child).code, 130);
    }
    for id in ids.split_whitespace() {
        let dead = || {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])).then_some(())
        };
        assert!(eventually(dead).is_some(), "process {id} is left");
    }
}

#[test]
fn a_broken_credentials_file_is_told_by_line_and_column() {
    on_each_daemon("broken-config", |stage| {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("config.json");
        fs::write(&file, "{\n  \"auths\": {\n    \"r.example\": { \"auth\": \"s3cret-auth!\" }\n  }\n}\n").unwrap();
        let reference = Image::new(vec![layer(&stage, "a")]).push(stage.registry(), "t/broken-config", "1");
        let output = run(stage.command([&reference]).env("DOCKER_CONFIG", home.path()));
        let file = file.display();
        assert_failed(
            &output,
            2,
            &format!(
                "rpull: {file}:3:…: auth is not the base64 form of USER:PASSWORD\n\
                 hint: correct {file}, or let docker login write it anew\n"
            ),
        );
        assert_untouched(&stage);
        // The flags leave nothing to look for.
        run(stage.command(["--user", "a:pass-word", &reference]).env("DOCKER_CONFIG", home.path())).succeeds();
    });
}

#[test]
fn a_token_server_that_is_not_there_is_named() {
    let server = Arc::new(TokenServer::start(Rules::default()));
    let registry = DistributionRegistry::start_with_tokens(&server);
    let realm = server.host();
    on_each_daemon("no-realm", |stage| {
        let reference = pushed(&stage, &registry);
        let host = registry.host();
        server.close();
        let output = stage.rpull([&reference]);
        assert_failed(
            &output,
            5,
            &format!(
                "rpull: {host}: token for manifest 1 of t/secret: no connection to {realm}, tried … times: …Connection refused (os error 111)\n\
                 hint: {host} sends its clients to {realm} for a token; check that this machine reaches it\n"
            ),
        );
        assert_untouched(&stage);
    });
}

/// A layer that takes some seconds at the rate of [`at_leisure`], and so several of [`short_lived`]'s tokens.
fn large(stage: &Stage, name: &str) -> Layer {
    Layer::overlaybd(Blob { data: 16 << 20, ..blob(stage, name) })
}

fn short_lived(most: Option<u64>) -> Arc<TokenServer> {
    // The answer does not say that they end so soon.
    let rules = Rules { announced: None, good_for: Duration::from_secs(2), most, ..Rules::default() };
    Arc::new(TokenServer::start(rules))
}

/// In ranges small enough that some begin when the first token has ended.
fn at_leisure(reference: &str) -> [String; 7] {
    let user = format!("{}:{}", TokenServer::USER, TokenServer::PASSWORD);
    ["--limit-rate", "3M", "--range-size", "256K", "--user", &user, reference].map(str::to_owned)
}

#[test]
fn a_token_that_ends_in_the_middle_of_a_layer_is_renewed_and_one_that_is_not_renewed_is_told() {
    let stage = Stage::shared(&testkit::Daemons::available()[0], "expired-token");
    let server = short_lived(Some(1));
    let registry = DistributionRegistry::start_with_tokens(&server);
    let layer = large(&stage, "a");
    let reference = Image::new(vec![layer.clone()]).push(&registry, "t/large", "1");
    let output = stage.rpull(at_leisure(&reference));
    let (host, realm) = (registry.host(), server.host());
    assert_failed(
        &output,
        DENIED,
        &format!(
            "rpull: {host}: token for blob {}: 401 Unauthorized from {realm} (incorrect username or password) as user user; \
             the token so far has expired\n\
             hint: check the password of user at {host} and the right to pull; then rpull --user user …\n",
            layer.digest
        ),
    );
    assert_eq!(stage.images(), Vec::<String>::new());
    stage.assert_nothing_unfinished();

    let server = short_lived(None);
    let registry = DistributionRegistry::start_with_tokens(&server);
    let reference = Image::new(vec![large(&stage, "b")]).push(&registry, "t/large", "1");
    stage.rpull(at_leisure(&reference)).succeeds();
    assert!(server.issued().count() >= 2, "no token ended: {:?}", server.issued().count());
}
