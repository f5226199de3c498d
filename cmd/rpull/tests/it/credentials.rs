//! Every place for credentials, against real registries: one that wants user and password with each request, and those that want
//! a token.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use tempfile::TempDir;
use testkit::{
    Daemons, DistributionRegistry, Rules, TokenServer,
    image::{Blob, Image, Layer},
};

use crate::stage::{Output, Stage, finish, run, say, start};

const USER: &str = TokenServer::USER;
const PASSWORD: &str = TokenServer::PASSWORD;
const IDENTITY: &str = TokenServer::IDENTITY_TOKEN;

/// Directory for a case's files, what was written there, and the command to complete.
struct Case {
    home: TempDir,
    files: BTreeMap<PathBuf, String>,
    command: Command,
}

impl Case {
    fn new(stage: &Stage) -> Self {
        Self { home: tempfile::tempdir().unwrap(), files: BTreeMap::new(), command: stage.command::<&str>([]) }
    }

    fn write(&mut self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let written = path.to_str().unwrap().to_owned();
        self.files.insert(path, text.to_owned());
        written
    }

    /// Files with secrets are read and never written: no other is there now, and each is what it was.
    fn assert_untouched(&self) {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.home.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    found.insert(entry.path(), fs::read_to_string(entry.path()).unwrap());
                }
            }
        }
        // The helper's own.
        found.remove(&self.home.path().join("seen"));
        assert_eq!(found, self.files);
    }

    /// A `docker-credential-test` on PATH that notes how it was called and what it saw of other processes.
    fn helper(&mut self, script: &str) {
        let log = self.home.path().join("seen");
        let text = format!(
            "#!/bin/sh\nread asked\necho \"$0 $* for $asked\" >> {log}\ntr '\\0' ' ' < /proc/$$/cmdline >> {log}\n\
             tr '\\0' ' ' < /proc/$PPID/cmdline >> {log}\n{script}\n",
            log = log.display()
        );
        let path = self.write("bin/docker-credential-test", &text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let bin = Path::new(&path).parent().unwrap().display();
        self.command.env("PATH", format!("{bin}:/usr/bin:/bin"));
    }

    fn seen(&self) -> String {
        fs::read_to_string(self.home.path().join("seen")).unwrap_or_default()
    }

    fn pull(&mut self, reference: &str) -> Output {
        run(self.command.arg(reference))
    }

    fn pull_with_stdin(&mut self, reference: &str, input: &str) -> Output {
        let command = self.command.arg(reference);
        let mut child = start(command.stdin(Stdio::piped()));
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        finish(child)
    }
}

/// One user's entry, in docker's form.
fn auths(key: &str) -> String {
    // user:secret:with-colon
    format!(r#"{{"auths":{{"{key}":{{"auth":"dXNlcjpzZWNyZXQ6d2l0aC1jb2xvbg=="}}}}}}"#)
}

fn answers(user: &str, secret: &str) -> String {
    format!(r#"echo '{{"ServerURL":"","Username":"{user}","Secret":"{secret}"}}'"#)
}

/// A place for credentials, how it is filled, and whether it holds an identity token, which buys tokens only.
struct Place {
    name: &'static str,
    is_token: bool,
    pull: fn(&mut Case, host: &str, reference: &str) -> Output,
}

const PLACES: [Place; 12] = [
    Place {
        name: "--user",
        is_token: false,
        pull: |case, _, reference| {
            case.command.args(["--user", &format!("{USER}:{PASSWORD}")]);
            case.pull(reference)
        },
    },
    Place {
        name: "--password-stdin",
        is_token: false,
        pull: |case, _, reference| {
            case.command.args(["--user", USER, "--password-stdin"]);
            case.pull_with_stdin(reference, &format!("{PASSWORD}\n"))
        },
    },
    Place {
        name: "--refresh",
        is_token: true,
        pull: |case, _, reference| {
            case.command.args(["--refresh", IDENTITY]);
            case.pull(reference)
        },
    },
    Place {
        name: "DOCKER_AUTH_CONFIG",
        is_token: false,
        pull: |case, host, reference| {
            case.command.env("DOCKER_AUTH_CONFIG", auths(host));
            case.pull(reference)
        },
    },
    Place {
        name: "$DOCKER_CONFIG/config.json",
        is_token: false,
        pull: |case, host, reference| {
            case.write("config.json", &auths(&format!("https://{host}")));
            let folder = case.home.path().to_owned();
            case.command.env("DOCKER_CONFIG", folder);
            case.pull(reference)
        },
    },
    Place {
        name: "~/.docker/config.json",
        is_token: false,
        pull: |case, host, reference| {
            case.write(".docker/config.json", &auths(host));
            let home = case.home.path().to_owned();
            case.command.env("HOME", home);
            case.pull(reference)
        },
    },
    Place {
        name: "identitytoken",
        is_token: true,
        pull: |case, host, reference| {
            let text = format!(r#"{{"auths":{{"{host}":{{"auth":"MDAwMDA6","identitytoken":"{IDENTITY}"}}}}}}"#);
            case.command.env("DOCKER_AUTH_CONFIG", text);
            case.pull(reference)
        },
    },
    Place {
        name: "credsStore",
        is_token: false,
        pull: |case, _, reference| {
            case.helper(&answers(USER, PASSWORD));
            case.command.env("DOCKER_AUTH_CONFIG", r#"{"credsStore":"test"}"#);
            case.pull(reference)
        },
    },
    Place {
        name: "credHelpers",
        is_token: false,
        pull: |case, host, reference| {
            case.helper(&answers(USER, PASSWORD));
            case.command.env("DOCKER_AUTH_CONFIG", format!(r#"{{"credHelpers":{{"{host}":"test"}},"credsStore":"none"}}"#));
            case.pull(reference)
        },
    },
    Place {
        name: "a helper's identity token",
        is_token: true,
        pull: |case, _, reference| {
            case.helper(&answers("<token>", IDENTITY));
            case.command.env("DOCKER_AUTH_CONFIG", r#"{"credsStore":"test"}"#);
            case.pull(reference)
        },
    },
    Place {
        name: "REGISTRY_AUTH_FILE",
        is_token: false,
        pull: |case, host, reference| {
            let file = case.write("auth.json", &auths(host));
            case.command.env("REGISTRY_AUTH_FILE", file);
            case.pull(reference)
        },
    },
    Place {
        name: "REGISTRY_AUTH_FILE for a folder",
        is_token: false,
        pull: |case, host, reference| {
            let file = case.write("auth.json", &auths(&format!("{host}/team")));
            case.command.env("REGISTRY_AUTH_FILE", file);
            case.pull(reference)
        },
    },
];

fn push(registry: &DistributionRegistry, repository: &str, seed: u64) -> String {
    Image::new(vec![Layer::overlaybd(Blob { seed, data: 64 << 10 })]).push(registry, repository, "1")
}

#[test]
fn every_place_for_credentials_opens_every_kind_of_registry() {
    let stage = Stage::shared(&Daemons::available()[0], "credentials");
    let by_post = Arc::new(TokenServer::start(Rules::default()));
    let by_get = Arc::new(TokenServer::start(Rules { post: false, ..Rules::default() }));
    let kinds = [
        ("user and password", DistributionRegistry::start_protected(), None),
        ("tokens by POST", DistributionRegistry::start_with_tokens(&by_post), Some(&by_post)),
        ("tokens by GET", DistributionRegistry::start_with_tokens(&by_get), Some(&by_get)),
    ];
    let mut seed = 5000;
    for (kind, registry, tokens) in &kinds {
        // Without any of them there is no way in.
        let reference = push(registry, "team/closed", seed);
        Case::new(&stage).pull(&reference).fails_with(3);
        for place in &PLACES {
            say(&format!("{} at a registry with {kind}", place.name));
            seed += 1;
            let reference = push(registry, &format!("team/app-{seed}"), seed);
            let mut case = Case::new(&stage);
            let output = (place.pull)(&mut case, &registry.host(), &reference);
            if place.is_token && tokens.is_none() {
                assert!(output.fails_with(3).contains("user and password are wanted, not a refresh token"), "{output:#?}");
            } else {
                output.succeeds();
            }
            case.assert_untouched();
            let witnessed = case.seen();
            for secret in [PASSWORD, IDENTITY] {
                assert!(!output.stderr.contains(secret) && !witnessed.contains(secret), "{output:#?}\n{witnessed}");
            }
            if place.name.contains("cred") {
                assert!(witnessed.contains(&format!("docker-credential-test get for {}\n", registry.host())), "{witnessed}");
            }
        }
    }
    assert_eq!((by_post.issued().by_get, by_get.issued().by_post), (0, 0));
    // One token serves manifest, config and blobs of a pull.
    assert_eq!((by_post.issued().by_post, by_get.issued().by_get), (12, 12));
}

#[test]
fn a_public_image_behind_a_token_server_needs_no_credentials() {
    let stage = Stage::shared(&Daemons::available()[0], "anonymous");
    let tokens = Arc::new(TokenServer::start(Rules { anonymous: true, ..Rules::default() }));
    let registry = DistributionRegistry::start_with_tokens(&tokens);
    let reference = push(&registry, "public/app", 5900);
    Case::new(&stage).pull(&reference).succeeds();
    assert_eq!((tokens.issued().by_get, tokens.issued().by_post), (1, 0));
}

#[test]
fn tokens_are_shown_nowhere() {
    let stage = Stage::shared(&Daemons::available()[0], "shown-nowhere");
    let tokens = Arc::new(TokenServer::start(Rules::default()));
    let registry = DistributionRegistry::start_with_tokens(&tokens);
    let reference = push(&registry, "team/app", 5950);
    let mut case = Case::new(&stage);
    case.command.args(["--debug", "--http-dump", "--user", &format!("{USER}:{PASSWORD}")]);
    let output = case.pull(&reference);
    output.succeeds();
    assert!(output.stderr.contains("POST http://"), "{output:#?}");
    let issued = tokens.issued().tokens;
    assert_eq!(issued.len(), 1);
    for secret in [issued[0].as_str(), PASSWORD, "dXNlcjpzZWNyZXQ6d2l0aC1jb2xvbg", "secret%3Awith-colon"] {
        assert!(!output.stderr.contains(secret) && !output.stdout.contains(secret), "{output:#?}");
    }
}
