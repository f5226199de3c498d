use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::*;

const ANSWER: &str = r#"echo '{"ServerURL":"r.example","Username":"ann","Secret":"w0rd"}'"#;

/// `docker-credential-x` as a shell script, in a directory of its own; `$HERE` in it is that directory.
fn script(text: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("docker-credential-x");
    let text = format!("#!/bin/sh\nHERE={}\n{text}\n", directory.path().display());
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    directory
}

fn helpers(directory: &Path, limit: Duration) -> Helpers {
    Helpers::new(limit, Some(format!("{}:/usr/bin:/bin", directory.display()).into()))
}

async fn ask(text: &str) -> Result<Option<Credentials>, Error> {
    let directory = script(text);
    helpers(directory.path(), Duration::from_secs(60)).ask("x", "r.example").await
}

/// The text of a file that a script writes by `echo`, as soon as its line is whole.
async fn written(path: PathBuf) -> String {
    loop {
        match fs::read_to_string(&path) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Waits until the process is gone, or dead and only not yet waited for by whoever inherited it.
async fn gone(id: &str) {
    let alive = || {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    };
    for _ in 0..2000 {
        if !alive() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("process {id} is left");
}

#[tokio::test]
async fn a_helper_is_asked_through_its_input_and_answers_through_its_output() {
    let directory = script(&format!(r#"echo "$# $1" > $HERE/arguments; cat > $HERE/input; echo a note >&2; {ANSWER}"#));
    let found = helpers(directory.path(), Duration::from_secs(60)).ask("x", "https://r.example:5000").await.unwrap();
    assert_eq!(found, Some(Credentials::Basic { user: "ann".to_owned(), password: Secret::new("w0rd") }));
    let read = |name| fs::read_to_string(directory.path().join(name)).unwrap();
    assert_eq!((read("arguments").as_str(), read("input").as_str()), ("1 get\n", "https://r.example:5000"));
    // It need not read what it is asked.
    assert!(ask(&format!("exec 0<&-; {ANSWER}")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_helper_may_know_a_token_or_nobody() {
    let token = |text: &str| Some(Credentials::Refresh(Secret::new(text)));
    for (text, expected) in [
        (r#"echo '{"Username":"<token>","Secret":"t"}'"#, token("t")),
        (r#"echo '{"Username":"","Secret":"t"}'"#, token("t")),
        (r#"echo '{"ServerURL":"","Username":"","Secret":""}'"#, None),
        ("echo credentials not found in native keychain; exit 1", None),
    ] {
        assert_eq!(ask(text).await.unwrap(), expected, "{text}");
    }
}

#[tokio::test]
async fn what_went_wrong_is_told_in_the_helpers_own_words_and_without_its_secrets() {
    for (text, expected) in [
        (
            "echo starting >&2; echo no permission >&2; exit 3",
            "credential helper docker-credential-x ended with exit status: 3: no permission",
        ),
        (
            "echo error getting credentials; exit 1",
            "credential helper docker-credential-x ended with exit status: 1: error getting credentials",
        ),
        (r#"echo '{"Secret":"s3 cret"}'; exit 1"#, "credential helper docker-credential-x ended with exit status: 1"),
        ("echo s3cret; exit 1", "credential helper docker-credential-x ended with exit status: 1"),
        ("kill -9 $$", "credential helper docker-credential-x ended with signal: 9 (SIGKILL)"),
        ("echo s3cret", "credential helper docker-credential-x printed something else than Username and Secret"),
        (
            r#"set -x; echo '{"Username":"ann","Secret":["s3cret"]}'"#,
            "credential helper docker-credential-x printed something else than Username and Secret",
        ),
        ("yes s3cret", "credential helper docker-credential-x printed more than 65536 bytes"),
        ("yes s3cret >&2", "credential helper docker-credential-x printed more than 65536 bytes"),
    ] {
        let error = ask(text).await.unwrap_err();
        assert_eq!(error.to_string(), expected, "{text}");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_refused_and_a_missing_helper_is_named() {
    let directory = script("echo run > $HERE/run");
    let helpers = helpers(directory.path(), Duration::from_secs(60));
    let inside = format!("x/../../{}/docker-credential-x", directory.path().display());
    for name in ["/x", "../x", &inside, "a\0b"] {
        let error = helpers.ask(name, "r.example").await.unwrap_err();
        assert!(error.to_string().ends_with("is not a program's"), "{error}");
    }
    assert!(!directory.path().join("run").exists());
    let error = helpers.ask("y", "r.example").await.unwrap_err();
    assert_eq!(error.to_string(), "credential helper docker-credential-y is not installed");
    assert!(error.hint("/c.json").contains("put docker-credential-y on PATH"), "{}", error.hint("/c.json"));
}

#[tokio::test]
async fn a_helper_that_hangs_is_killed_with_all_it_started_and_not_asked_again() {
    let text = "echo run >> $HERE/runs; sleep 1000 & echo $! > $HERE/child; echo $$ > $HERE/own; echo thinking >&2; wait";
    let directory = script(text);
    let helpers = helpers(directory.path(), Duration::from_secs(1));
    let error = helpers.ask("x", "r.example").await.unwrap_err();
    assert_eq!(error.to_string(), "credential helper docker-credential-x did not answer within 1s: thinking");
    for name in ["own", "child"] {
        gone(&written(directory.path().join(name)).await).await;
    }
    let error = helpers.ask("x", "https://r.example").await.unwrap_err();
    assert!(matches!(error, Error::Hung { .. }), "{error}");
    assert_eq!(fs::read_to_string(directory.path().join("runs")).unwrap(), "run\n");
}

#[tokio::test]
async fn what_a_helper_leaves_running_goes_with_it_and_holds_nobody_up() {
    // It holds the pipes open.
    let directory = script(&format!("sleep 1000 & echo $! > $HERE/child; {ANSWER}"));
    let found = helpers(directory.path(), Duration::from_secs(60)).ask("x", "r.example").await.unwrap();
    assert!(found.is_some());
    gone(&written(directory.path().join("child")).await).await;
}

#[tokio::test]
async fn a_daemon_that_left_the_group_does_not_hold_the_answer_up() {
    let directory = script(&format!("setsid sleep 1000 & echo $! > $HERE/child; sleep 0.2; {ANSWER}"));
    let found = helpers(directory.path(), Duration::from_secs(60)).ask("x", "r.example").await.unwrap();
    assert!(found.is_some());
    let id = written(directory.path().join("child")).await.parse().unwrap();
    // Such as gpg-agent: it is not ours to end.
    rustix::process::kill_process(Pid::from_raw(id).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_pull_that_is_given_up_leaves_no_helper() {
    let directory = script("sleep 1000 & echo $! > $HERE/child; echo $$ > $HERE/own; wait");
    let helpers = helpers(directory.path(), Duration::from_secs(600));
    let (own, child) = tokio::select! {
        answer = helpers.ask("x", "r.example") => panic!("{answer:?}"),
        own = written(directory.path().join("own")) => (own, written(directory.path().join("child")).await),
    };
    gone(&own).await;
    gone(&child).await;
}
