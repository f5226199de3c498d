//! Help, version, and every way to get the command line wrong.

use std::process::Stdio;

use crate::{golden, outcome, rpull};

#[test]
fn help_lists_flags_and_exit_codes_on_stdout() {
    for flag in ["--help", "-h", "-help"] {
        assert_eq!(outcome(rpull().arg(flag)), (0, golden("help.txt"), String::new()), "{flag}");
    }
}

#[test]
fn version_goes_to_stdout() {
    for flag in ["--version", "-v", "-V", "-version"] {
        let version = format!("rpull {}\n", env!("RPULL_VERSION"));
        assert_eq!(outcome(rpull().arg(flag)), (0, version, String::new()), "{flag}");
    }
}

#[test]
fn nobody_need_read_the_help() {
    let mut child = rpull().arg("--help").stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Arguments and what stderr says about them; exit code 2 and nothing on stdout.
#[test]
fn a_command_line_that_cannot_be_followed_is_a_usage_error() {
    let digest63 = format!("r/a@sha256:{}", "0".repeat(63));
    for (arguments, stderr) in [
        (&[][..], "rpull: no image reference given\nhint: rpull [FLAGS] REF..., for example rpull registry.example/app:1\n"),
        (&["--namespce", "k8s.io", "r/a:1"], "rpull: unexpected argument '--namespce' found\nhint: did you mean --namespace?\n"),
        (&["-kn", "k8s.io", "r/a:1"], "rpull: unexpected argument '--kn' found\nhint: rpull --help lists all flags\n"),
        (
            &["--store", "dirct", "r/a:1"],
            "rpull: invalid value 'dirct' for '--store <auto|direct|api>' [possible values: auto, direct, api]\n\
             hint: did you mean direct?\n",
        ),
        (
            &["https://r.io/a:1"],
            "rpull: invalid reference \"https://r.io/a:1\": it starts with a scheme; leave out everything up to ://\n\
             hint: a reference is HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]\n",
        ),
        (
            &["r.io/Upper/case:1"],
            "rpull: invalid reference \"r.io/Upper/case:1\": the repository must be lower case\n\
             hint: a reference is HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]\n",
        ),
        (
            &[&digest63],
            "rpull: invalid reference \"DIGEST63\": the digest must be sha256: followed by 64 lower-case hex digits\n\
             hint: a reference is HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]\n",
        ),
        (
            &[""],
            "rpull: invalid reference \"\": it is empty\n\
             hint: a reference is HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]\n",
        ),
        (
            &["-n", "../x", "r/a:1"],
            "rpull: invalid namespace \"../x\"\n\
             hint: a namespace is up to 76 letters and digits with single . _ - between them, for example k8s.io\n",
        ),
        (
            &["--platform", "linux/", "r/a:1"],
            "rpull: invalid platform \"linux/\"\nhint: a platform is OS/ARCH[/VARIANT], for example linux/arm64/v8\n",
        ),
        (&["--tlscert", "c", "r/a:1"], "rpull: --tlscert without --tlskey\nhint: give the key of the certificate too\n"),
        (&["--tlskey", "k", "r/a:1"], "rpull: --tlskey without --tlscert\nhint: give the certificate of the key too\n"),
        (&["--address", "", "r/a:1"], "rpull: --address is empty\nhint: leave it out for /run/containerd/containerd.sock\n"),
        (&["--user", ":pass-word", "r/a:1"], "rpull: --user has no name before the colon\nhint: write --user NAME:PASSWORD\n"),
        (&["--password-stdin", "r/a:1"], "rpull: --password-stdin without --user\nhint: say whose password it is: --user NAME\n"),
        (
            &["--user", "ann:pass-word", "--password-stdin", "r/a:1"],
            "rpull: --password-stdin beside --user NAME:PASSWORD\nhint: leave out one of the passwords\n",
        ),
        (
            &["--user", "ann", "--password-stdin", "r/a:1"],
            "rpull: no password of ann on standard input: nothing there\n\
             hint: rpull --user ann --password-stdin … <FILE, with the password in it\n",
        ),
        (&["--pin", "r/a:1"], "rpull: --pin without --cri\nhint: only the kubelet knows pinned images: add --cri\n"),
        (
            &["--cri", "--namespace", "default", "r/a:1"],
            "rpull: --cri and --namespace default contradict each other\n\
             hint: the kubelet's images are in k8s.io: leave out --namespace\n",
        ),
        (
            &["--lazy", "--download-blobs", "r/a:1"],
            "rpull: --lazy and --download-blobs contradict each other\nhint: leave one of them out\n",
        ),
        (
            &["r/a:1", "--user"],
            "rpull: a value is required for '--user <USER[:PASSWORD]>' but none was supplied\n\
             hint: rpull --help lists all flags\n",
        ),
    ] {
        assert_refused(arguments, &stderr.replace("DIGEST63", &digest63));
    }
}

#[test]
fn a_value_that_cannot_be_read_is_a_usage_error() {
    for (arguments, stderr) in [
        (
            &["--timeout", "1x", "r/a:1"][..],
            "rpull: invalid value '1x' for '--timeout <DURATION>': unknown unit \"x\"\n\
             hint: durations are written as 90s, 1.5s, 1h30m, 100ms, or 0 for none\n",
        ),
        (
            &["--connect-timeout=-1s", "r/a:1"],
            "rpull: invalid value '-1s' for '--connect-timeout <DURATION>': must not be negative\n\
             hint: durations are written as 90s, 1.5s, 1h30m, 100ms, or 0 for none\n",
        ),
        (
            &["--range-size", "8MB", "r/a:1"],
            "rpull: invalid value '8MB' for '--range-size <SIZE>': not a size\n\
             hint: sizes are bytes with an optional suffix K, M or G, from 64K to 1G, for example 8M\n",
        ),
        (
            &["--debug=yes", "r/a:1"],
            "rpull: invalid value \"yes\" for --debug: not true or false\nhint: write --debug or --debug=false\n",
        ),
        (
            &["--tune", "stal=1m", "r/a:1"],
            "rpull: invalid value 'stal=1m' for '--tune <KEY=VALUE>': no such key: stal\n\
             hint: docs/tuning.md lists the keys and their defaults, for example --tune stall=1m,attempts=20\n",
        ),
        (
            &["--label", "=x", "r/a:1"],
            "rpull: invalid value '=x' for '--label <LABEL>': no key\n\
             hint: labels are written as KEY=VALUE, or KEY for KEY=true\n",
        ),
        (
            &["--limit-rate", "1MB", "r/a:1"],
            "rpull: invalid value '1MB' for '--limit-rate <RATE>': not a rate\n\
             hint: rates are bytes per second with an optional suffix K, M or G, for example 100M, or 0 for no limit\n",
        ),
        (
            &["--keep-partial", "7", "r/a:1"],
            "rpull: invalid value '7' for '--keep-partial <DURATION>': no unit behind 7\n\
             hint: durations are written as 7d, 36h, 1d12h, or 0 to keep nothing\n",
        ),
    ] {
        assert_refused(arguments, stderr);
    }
}

/// Exit code 2, nothing on stdout, all of stderr.
#[track_caller]
fn assert_refused(arguments: &[&str], stderr: &str) {
    assert_eq!(outcome(rpull().args(arguments)), (2, String::new(), stderr.to_owned()), "{arguments:?}");
}

#[test]
fn variables_count_unless_they_are_empty() {
    let (code, _, stderr) = outcome(rpull().args(["--tlskey", "k", "r/a:1"]).env("CONTAINERD_NAMESPACE", "a/b"));
    assert_eq!((code, stderr.lines().next()), (2, Some("rpull: invalid namespace \"a/b\"")));
    // The empty one is no invalid namespace: the next fault is told.
    let (code, _, stderr) = outcome(rpull().args(["--tlskey", "k", "r/a:1"]).env("CONTAINERD_NAMESPACE", ""));
    assert_eq!((code, stderr.lines().next()), (2, Some("rpull: --tlskey without --tlscert")));
    // A flag goes before the variable.
    let mut command = rpull();
    command.args(["-n", "k8s.io", "--tlskey", "k", "r/a:1"]).env("CONTAINERD_NAMESPACE", "a/b");
    assert_eq!(outcome(&mut command).2.lines().next(), Some("rpull: --tlskey without --tlscert"));
}

#[test]
fn passwords_are_not_shown_when_the_command_line_is_wrong() {
    for arguments in [
        &["-ualice:secret", "r/a:1"][..],
        &["--usr=alice:secret", "r/a:1"],
        &["--usr", "alice:secret-word", "r/a:1"],
        &["--user", ":secret-word", "r/a:1"],
        &["--user", "alice:secret-word"],
        &["https://alice:secret@r.io/a:1"],
        &["--refresh", "secret-word"],
    ] {
        let (code, stdout, stderr) = outcome(rpull().args(arguments));
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(!stderr.contains("secret"), "{stderr}");
    }
}

#[test]
fn the_pages_of_a_package_say_what_the_help_says() {
    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("pages");
    assert_eq!(outcome(rpull().arg("--pages").arg(&pages)), (0, String::new(), String::new()));
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    // roff writes a hyphen as \-.
    let manual = page("rpull.1").replace("\\-", "-");
    let help = golden("help.txt");
    let flags = help.split_whitespace().filter(|word| word.starts_with("--"));
    let mut count = 0;
    for flag in flags.map(|flag| flag.split(['[', '=', ',', ':', ';', '.', ')']).next().unwrap_or_default()) {
        assert!(manual.contains(flag), "the manual does not know {flag}");
        assert!(["rpull.bash", "_rpull"].iter().all(|name| page(name).contains(flag)), "the completions do not know {flag}");
        assert!(page("rpull.fish").contains(flag.trim_start_matches("--")), "fish does not know {flag}");
        count += 1;
    }
    assert!(count > 30, "{count} flags");
    assert!(page("rpull-verify.1").contains("repair"));
}

#[test]
fn the_version_names_the_commit_where_there_is_one() {
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (_, version, _) = outcome(rpull().arg("--version"));
    let head = std::process::Command::new("git").arg("-C").arg(&top).args(["rev-parse", "--short=12", "HEAD"]).output();
    // In a source archive there is no git to ask.
    let head = head.ok().filter(|output| output.status.success() && top.join(".git").exists());
    if let Some(head) = head.filter(|_| option_env!("RPULL_COMMIT").is_none()) {
        let commit = String::from_utf8(head.stdout).unwrap();
        assert_eq!(version, format!("rpull {} ({})\n", env!("CARGO_PKG_VERSION"), commit.trim()));
    }
}
