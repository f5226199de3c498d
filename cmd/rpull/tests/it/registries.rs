//! Every registry a node meets, as one table: setup × login × outcome. The real binary, a real containerd, real registries.

mod mirrors;
mod own_directories;
mod scenes;

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::Value;
use testkit::{DistributionRegistry, Signature, TokenServer, fault::Fault};

use self::{
    Login::{DockerConfig, IdentityToken, Nobody, PodmanFile, User, WrongPassword},
    Outcome::{Fails, Pulled, Warned},
    mirrors::Peers,
    scenes::{Given, Scene, Way},
};
use crate::stage::{Output, Stage, daemons, network, run, say, size_of};

/// Who is at the door.
#[derive(Clone, Copy, Debug)]
enum Login {
    Nobody,
    /// `--user`, as the registries of testkit have it.
    User,
    WrongPassword,
    /// `--refresh`
    IdentityToken,
    /// User and password for every host of the scene in `$DOCKER_CONFIG/config.json`.
    DockerConfig,
    /// The same in `REGISTRY_AUTH_FILE`.
    PodmanFile,
}

/// How the pull ends.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// Whole, every byte from the hosts the scene names, nothing to say about it.
    Pulled,
    /// The same, and the receipt says this.
    Warned(&'static str),
    /// Exit code, what the error says (all of the parts between `…`), what the hint says.
    Fails(i32, &'static str, &'static str),
}

type Row = (&'static str, fn(&str) -> Scene, Login, Outcome);

const UNKNOWN: Outcome = Fails(
    5,
    "certificate signed by an unknown authority",
    "give its CA, or the certificate itself if it is self-signed, with --tlscacert or as ca in hosts.toml",
);
const NO_LOGIN: Outcome = Fails(3, "401 Unauthorized", "rpull --user");
const BAD_LOGIN: Outcome = Fails(3, "401 Unauthorized as user user", "password of user at 127.0.0.1:");
const NO_CLIENT: Outcome =
    Fails(5, "client certificate missing or not accepted", "give one with --tlscert and --tlskey or as client in hosts.toml");

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // The plain ones.
    ("docker-registry 2.8", |n| scenes::registry(n, |_| ()), Nobody, Pulled),
    ("registry 3.0", |n| scenes::registry(n, |o| o.version_3 = true), Nobody, Pulled),
    ("docker-registry on ::1", |n| scenes::registry(n, |o| o.ipv6 = true), Nobody, Pulled),
    ("registry 3.0 on ::1", |n| scenes::registry(n, |o| (o.version_3, o.ipv6) = (true, true)), Nobody, Pulled),
    ("--plain-http", |n| scenes::registry(n, |_| ()).with(&["--plain-http"]), Nobody, Pulled),
    // A password.
    ("htpasswd, docker-registry 2.8", |n| scenes::registry(n, |o| o.protected = true), User, Pulled),
    ("htpasswd, registry 3.0", |n| scenes::registry(n, |o| (o.protected, o.version_3) = (true, true)), User, Pulled),
    ("htpasswd, no login", |n| scenes::registry(n, |o| o.protected = true), Nobody, NO_LOGIN),
    ("htpasswd, no login, registry 3.0", |n| scenes::registry(n, |o| (o.protected, o.version_3) = (true, true)), Nobody, NO_LOGIN),
    ("htpasswd, wrong password", |n| scenes::registry(n, |o| o.protected = true), WrongPassword, BAD_LOGIN),
    ("htpasswd, docker's file", |n| scenes::registry(n, |o| o.protected = true), DockerConfig, Pulled),
    ("htpasswd, podman's file, registry 3.0", |n| scenes::registry(n, |o| (o.protected, o.version_3) = (true, true)), PodmanFile, Pulled),
    // Tokens.
    ("tokens, docker-registry 2.8", |n| scenes::tokens(n, false, false), User, Pulled),
    ("tokens, registry 3.0", |n| scenes::tokens(n, true, false), User, Pulled),
    ("tokens, identity token", |n| scenes::tokens(n, false, false), IdentityToken, Pulled),
    ("tokens, identity token, registry 3.0", |n| scenes::tokens(n, true, false), IdentityToken, Pulled),
    ("tokens, docker's file", |n| scenes::tokens(n, true, false), DockerConfig, Pulled),
    ("tokens, podman's file", |n| scenes::tokens(n, false, false), PodmanFile, Pulled),
    ("tokens for everybody", |n| scenes::tokens(n, false, true), Nobody, Pulled),
    ("tokens for everybody, registry 3.0", |n| scenes::tokens(n, true, true), Nobody, Pulled),
    ("tokens, no login", |n| scenes::tokens(n, false, false), Nobody, Fails(3, "token for manifest 1 of t/obd", "")),
    ("tokens, wrong password", |n| scenes::tokens(n, true, false), WrongPassword, Fails(3, "as user user", "password of user at 127.0.0.1:")),
    // A pull-through cache, by its own name and as a mirror.
    ("pull-through cache 2.8", |n| scenes::cache(n, false), Nobody, Pulled),
    ("pull-through cache 3.0", |n| scenes::cache(n, true), Nobody, Pulled),
    ("pull-through cache 2.8 as mirror", |n| scenes::cache_as_mirror(n, false), Nobody, Pulled),
    ("pull-through cache 3.0 as mirror", |n| scenes::cache_as_mirror(n, true), Nobody, Pulled),
    ("Docker Hub's name, by a mirror", scenes::hub, Nobody, Pulled),
    ("cache that sends an empty blob once", |n| scenes::odd(n, |first| first.then(|| scenes::status(200, None))), Nobody, Pulled),
    ("cache that sends an empty manifest once", scenes::empty_manifest_once, Nobody, Pulled),
    ("manifests as gzip", scenes::gzipped, Nobody, Pulled),
    ("404 for a missing right, no login", scenes::hidden, Nobody, Fails(4, "404 Not Found", "check that 1 exists in t/obd; a registry may answer so where a right is missing")),
    ("404 for a missing right", scenes::hidden, User, Pulled),
    ("404 for a missing right, docker's file", scenes::hidden, DockerConfig, Pulled),
    ("Retry-After", |n| scenes::odd(n, |first| first.then(|| scenes::status(503, Some("1")))), Nobody, Pulled),
    ("bodies without a length", |n| scenes::odd(n, |_| Some(Fault::NoContentLength)), Nobody, Pulled),
    ("no ranges", |n| scenes::odd(n, |_| Some(Fault::WholeForRange)), Nobody, Pulled),
    // TLS: whom to trust.
    ("TLS 1.2, --tlscacert", |n| scenes::tls(n, Way::SignedByCa, "ssl_protocols TLSv1.2;", Given::Flag), Nobody, Pulled),
    ("TLS 1.3, --tlscacert", |n| scenes::tls(n, Way::SignedByCa, "ssl_protocols TLSv1.3;", Given::Flag), Nobody, Pulled),
    ("TLS, ca in hosts.toml", |n| scenes::tls(n, Way::SignedByCa, "", Given::HostsToml), Nobody, Pulled),
    ("TLS, certificate directory", |n| scenes::tls(n, Way::SignedByCa, "", Given::Directory), Nobody, Pulled),
    ("TLS, system's roots", |n| scenes::tls(n, Way::SignedByCa, "", Given::System), Nobody, Pulled),
    ("TLS, system's roots and another ca", |n| scenes::tls(n, Way::SignedByCa, "", Given::SystemAndOther), Nobody, Pulled),
    ("TLS, --tlscacert in place of roots", |n| scenes::tls(n, Way::SignedByCa, "", Given::OtherForSystem), Nobody, UNKNOWN),
    ("TLS, unknown CA", |n| scenes::tls(n, Way::SignedByCa, "", Given::Nothing), Nobody, UNKNOWN),
    ("TLS, unknown CA, --skip-verify", |n| scenes::tls(n, Way::SignedByCa, "", Given::SkipVerify), Nobody, Pulled),
    ("TLS, unknown CA on loopback", |n| scenes::tls(n, Way::SignedByCa, "", Given::Loopback), Nobody, Pulled),
    ("TLS, self-signed, --tlscacert", |n| scenes::tls(n, Way::SelfSigned, "", Given::Flag), Nobody, Pulled),
    ("TLS, self-signed, ca in hosts.toml", |n| scenes::tls(n, Way::SelfSigned, "", Given::HostsToml), Nobody, Pulled),
    ("TLS, self-signed, unknown", |n| scenes::tls(n, Way::SelfSigned, "", Given::Nothing), Nobody, UNKNOWN),
    ("TLS, expired", |n| scenes::tls(n, Way::Expired, "", Given::Flag), Nobody, Fails(5, "certificate has expired", "renew the registry's certificate, or check this machine's clock")),
    ("TLS, another name", |n| scenes::tls(n, Way::OtherName, "", Given::Flag), Nobody, Fails(5, "certificate is for another name", "use a name the certificate lists; --skip-verify checks nothing at all")),
    ("TLS, another name, --skip-verify", |n| scenes::tls(n, Way::OtherName, "", Given::SkipVerify), Nobody, Pulled),
    ("TLS 1.1 only", |n| scenes::tls(n, Way::SignedByCa, "ssl_protocols TLSv1.1; ssl_ciphers ALL:@SECLEVEL=0;", Given::Flag), Nobody, Fails(5, "no TLS in common", "the registry must offer TLS 1.2 or 1.3 with current ciphers")),
    ("http answered to https", scenes::http_for_https, Nobody, Fails(5, "http answered to https", "if the registry has no TLS, say --plain-http")),
    ("https answered to http", |n| scenes::tls(n, Way::SignedByCa, "", Given::PlainHttp), Nobody, Fails(5, "400 Bad Request", "the registry may speak https only: leave out --plain-http")),
    ("TLS and htpasswd", scenes::tls_with_password, User, Pulled),
    ("TLS and htpasswd, podman's file", scenes::tls_with_password, PodmanFile, Pulled),
    // Client certificates.
    ("client certificate, flags", |n| scenes::known_clients(n, Given::Flag), Nobody, Pulled),
    ("client certificate, hosts.toml", |n| scenes::known_clients(n, Given::HostsToml), Nobody, Pulled),
    ("client certificate, certificate directory", |n| scenes::known_clients(n, Given::Directory), Nobody, Pulled),
    ("client certificate missing", |n| scenes::known_clients(n, Given::Nothing), Nobody, NO_CLIENT),
    // Redirects to storage.
    ("signed URLs, X-Amz", |n| scenes::signed(n, Signature::Amazon), User, Pulled),
    ("signed URLs, Expires", |n| scenes::signed(n, Signature::Expires), User, Pulled),
    ("signed URLs, se", |n| scenes::signed(n, Signature::Azure), User, Pulled),
    ("signed URLs, docker's file", |n| scenes::signed(n, Signature::Amazon), DockerConfig, Pulled),
    ("redirect loop", |n| scenes::tls(n, Way::SignedByCa, "location /v2/ { return 307 /v2/again; }", Given::Flag), Nobody, Fails(5, "more than 10 redirects", "the registry or a proxy before it sends its clients in circles or nowhere: ask who runs it")),
    ("redirect loop of blobs", |n| scenes::tls(n, Way::SignedByCa, "location ~ /blobs/ { return 307 $request_uri; }", Given::Flag), Nobody, Fails(5, "more than 10 redirects", "the registry or a proxy before it sends its clients in circles or nowhere: ask who runs it")),
    ("https to http", scenes::downgrade, User, Fails(5, "redirect from https to http", "the registry must send its clients to https; see its settings for redirects and storage")),
    // Mirrors.
    ("mirror that has it", |n| mirrors::mirror(n, Peers::HasIt), Nobody, Pulled),
    ("mirror that has it not", |n| mirrors::mirror(n, Peers::Empty), Nobody, Pulled),
    ("mirror that is down", |n| mirrors::mirror(n, Peers::Down), Nobody, Warned("Connection refused")),
    ("mirror that wants a password", |n| mirrors::mirror(n, Peers::Protected), Nobody, Warned("401 Unauthorized")),
    ("mirror that wants a password, --user", |n| mirrors::mirror(n, Peers::ProtectedHasIt), User, Pulled),
    ("mirror that wants a password, docker's file", |n| mirrors::mirror(n, Peers::ProtectedHasIt), DockerConfig, Pulled),
    ("mirror with another certificate", |n| mirrors::mirror(n, Peers::UnknownCa), Nobody, Warned("unknown authority")),
    ("mirror with a wrong blob", |n| mirrors::mirror(n, Peers::Lies), Nobody, Warned("left for the next host")),
    ("mirror that breaks off", |n| mirrors::mirror(n, Peers::BreaksOff), Nobody, Pulled),
    ("mirror that hangs", |n| mirrors::mirror(n, Peers::Hangs), Nobody, Pulled),
    ("mirror that asks for a long pause", |n| mirrors::mirror(n, Peers::Busy), Nobody, Pulled),
    ("mirror that never stands, dial_timeout", mirrors::never_stands, Nobody, Warned("no connection")),
    ("peer-to-peer mirror that has it", |n| mirrors::peer_to_peer(n, true), Nobody, Pulled),
    ("peer-to-peer mirror that has nothing", |n| mirrors::peer_to_peer(n, false), Nobody, Pulled),
    ("mirror below a path", |n| mirrors::below_a_path(n, false), Nobody, Pulled),
    ("mirror below a path, override_path", |n| mirrors::below_a_path(n, true), Nobody, Pulled),
    ("mirror that wants a header", mirrors::with_header, Nobody, Pulled),
    ("all mirrors down", mirrors::all_down, Nobody, Fails(5, "Connection refused…502 Bad Gateway", "")),
    ("broken hosts.toml", scenes::broken_hosts_toml, Nobody, Fails(2, "hosts.toml:2:17: unknown capability \"pul\"", "docs/registries.md of rpull shows a hosts.toml; containerd's docs/hosts.md has all its keys")),
];

/// Rows at once; each has processes of its own, the machine few cores.
const WORKERS: usize = 3;

#[test]
fn every_registry_of_the_table_is_pulled_from_as_it_says() {
    let daemon = daemons().pop().expect("there is a containerd");
    let stage = Stage::shared(&daemon, "registries");
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((index, row)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|n| Some((n, TABLE.get(n)?))) {
                    if let Err(why) = judge(&stage, index, row) {
                        say(&format!("{}: {why}", row.0));
                        failed.lock().unwrap().push(row.0);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {} rows: {failed:#?}", failed.len(), TABLE.len());
}

/// What is not as the row says.
fn judge(stage: &Stage, index: usize, &(_, setup, login, outcome): &Row) -> Result<(), String> {
    let stage = stage.in_namespace(&format!("registries-{index}"));
    let scene = setup(stage.namespace());
    let scratch = tempfile::tempdir().expect("a temporary directory can be made");
    let receipt = scratch.path().join("receipt.json");
    // Not over http just because the stage says so.
    let mut command = stage.command(["--plain-http=false", "--range-size", "256K", "--receipt"]);
    let left =
        ["trace", "waterfall", "metrics"].map(|file| [format!("--{file}").into(), scratch.path().join(file).into_os_string()]);
    command
        .arg(&receipt)
        .args(left.as_flattened())
        .args(&scene.args)
        .envs(scene.environment.iter().map(|(name, value)| (name, value)));
    let password = DistributionRegistry::PASSWORD;
    match login {
        Nobody => &mut command,
        User => command.args(["--user", &format!("{}:{password}", DistributionRegistry::USER)]),
        WrongPassword => command.args(["--user", &format!("{}:not-{password}", DistributionRegistry::USER)]),
        IdentityToken => command.args(["--refresh", TokenServer::IDENTITY_TOKEN]),
        DockerConfig | PodmanFile => {
            let file = scratch.path().join("config.json");
            std::fs::write(&file, scene.logins()).expect("a file can be written to our own directory");
            if matches!(login, DockerConfig) {
                command.env("DOCKER_CONFIG", scratch.path())
            } else {
                command.env("REGISTRY_AUTH_FILE", &file)
            }
        }
    };
    let output = run(command.arg(&scene.reference));
    match outcome {
        Pulled => pulled(&stage, &scene, &receipt, &output, None),
        Warned(words) => pulled(&stage, &scene, &receipt, &output, Some(words)),
        Fails(code, words, hint) => {
            let line = |prefix| output.stderr.lines().find_map(|line| line.strip_prefix(prefix)).unwrap_or_default();
            let (said, hinted) = (line("rpull: "), line("hint: "));
            let fits = output.code == code && words.split('…').all(|words| said.contains(words)) && hinted.contains(hint);
            if fits && !hinted.is_empty() && stage.images().is_empty() { Ok(()) } else { Err(format!("{output:#?}")) }
        }
    }
}

fn pulled(stage: &Stage, scene: &Scene, receipt: &std::path::Path, output: &Output, warned: Option<&str>) -> Result<(), String> {
    if output.code != 0 {
        return Err(format!("{output:#?}"));
    }
    stage.assert_layers(&scene.image);
    let receipt: Value = serde_json::from_slice(&std::fs::read(receipt).expect("a receipt")).expect("a receipt is JSON");
    let by_host = receipt["bytes"]["network"].as_object().expect("bytes by host");
    let mut from: Vec<&str> = by_host.iter().filter(|(_, bytes)| **bytes != 0).map(|(host, _)| host.as_str()).collect();
    from.sort_unstable();
    let mut expected: Vec<&str> = scene.from.iter().map(String::as_str).collect();
    expected.sort_unstable();
    let warnings = receipt["warnings"].as_array().expect("a list").iter().filter_map(Value::as_str).collect::<Vec<_>>();
    let told = warned.map_or(warnings.is_empty(), |words| warnings.iter().any(|warning| warning.contains(words)));
    // A whole blob that was wrong came beside the right one.
    let once = network(&receipt) == size_of(&scene.image) || warned.is_some();
    if from == expected && told && once {
        (scene.check)().map_err(|why| format!("{why}\n{receipt:#}"))
    } else {
        Err(format!("{receipt:#}"))
    }
}
