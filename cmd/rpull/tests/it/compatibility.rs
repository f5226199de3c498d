//! What `docs/compatibility.md` says of `ctr rpull`, line by line, called by that name. Where `UPSTREAM_CTR` names upstream's program it
//! is asked the same.

mod document;

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use testkit::{
    TlsFront,
    certificates::{self, VALID},
    image::Image,
};

use crate::{
    door::Names,
    outcome,
    stage::{Stage, daemons, eventually, native, on_each_daemon, run, say},
};

const NO_SOCKET: &str = "/nonexistent/containerd.sock";

/// Upstream's program, where there is one.
fn upstream() -> Option<PathBuf> {
    let named = std::env::var_os("UPSTREAM_CTR").filter(|path| !path.is_empty()).map(PathBuf::from);
    if named.is_none() {
        say("UPSTREAM_CTR is not set: upstream's client is not asked");
    }
    named
}

/// Ours and, where it is there, upstream's.
fn both(names: &Names) -> Vec<(bool, Command)> {
    let theirs = upstream().map(|program| {
        let mut command = Command::new(program);
        command.env_clear();
        (false, command)
    });
    [(true, names.call("ctr"))].into_iter().chain(theirs).collect()
}

#[test]
fn every_flag_is_taken_in_each_of_gos_spellings() {
    let names = Names::new();
    let globals = [
        "--namespace=x",
        "-n x",
        "-namespace x",
        "--timeout 1m",
        "-timeout=1m",
        "--connect-timeout 1s",
        "--debug",
        "-debug=false",
    ];
    let flags = [
        "-k",
        "--skip-verify=true",
        "-plain-http",
        "--user ann:flag-w0rd",
        "-u=ann:flag-w0rd",
        "--refresh flag-t0ken",
        "--hosts-dir /x",
        "--tlscacert /ca",
        "--tlscert /c --tlskey /k",
        "--http-dump",
        "-http-trace",
        "--label a=b -label c",
        "--snapshotter s",
        "--download-blobs",
        "",
    ];
    let lines = flags.map(|flag| format!("-a {NO_SOCKET} rpull {flag} r/a:1"));
    let lines = lines.into_iter().chain(globals.map(|global| format!("{global} --address={NO_SOCKET} rpull r/a:1")));
    for line in lines {
        for (ours, mut command) in both(&names) {
            let (code, stdout, stderr) = outcome(command.args(line.split_whitespace()));
            // Each comes as far as the socket.
            assert_eq!((code, stdout.as_str()), (if ours { 7 } else { 1 }, ""), "{line}: {stderr}");
            assert!(stderr.contains(NO_SOCKET), "{line}: {stderr}");
        }
    }
}

#[test]
fn what_upstream_refuses_is_refused_with_2_for_usage() {
    let names = Names::new();
    for (line, message) in [
        ("rpull", "rpull: no image reference given\n"),
        ("rpull --no-such-flag r/a:1", "rpull: unexpected argument '--no-such-flag' found\n"),
        ("rpull --plain-http=perhaps r/a:1", "rpull: invalid value \"perhaps\" for --plain-http: not true or false\n"),
        ("rpull --user", "rpull: a value is required for '--user <USER[:PASSWORD]>' but none was supplied\n"),
    ] {
        for (ours, mut command) in both(&names) {
            let (code, stdout, stderr) = outcome(command.args(line.split_whitespace()));
            if ours {
                assert_eq!((code, stdout.as_str()), (2, ""), "{line}");
                assert!(stderr.starts_with(message) && stderr.contains("\nhint: "), "{stderr}");
            } else {
                assert_eq!(code, 1, "{line}");
                assert!(stderr.starts_with("ctr: "), "{stderr}");
            }
        }
    }
    // A duration is ours to read only where rpull is the command.
    let (code, _, stderr) = outcome(names.call("ctr").args(["--timeout", "1x", "rpull", "r/a:1"]));
    assert!(code == 2 && stderr.contains("unknown unit \"x\""), "{stderr}");
}

#[test]
fn a_socket_that_is_not_there_is_named() {
    let names = Names::new();
    for (ours, mut command) in both(&names) {
        let (code, _, stderr) = outcome(command.env("CONTAINERD_ADDRESS", NO_SOCKET).args(["rpull", "r/a:1"]));
        if ours {
            assert_eq!(code, 7);
            assert!(stderr.starts_with("rpull: ") && stderr.contains("\nhint: "), "{stderr}");
        } else {
            assert_eq!((code, stderr.starts_with(&format!("ctr: cannot access socket {NO_SOCKET}"))), (1, true), "{stderr}");
        }
        assert!(stderr.contains(NO_SOCKET), "{stderr}");
    }
}

#[test]
fn the_first_reference_is_pulled_and_the_others_are_named() {
    on_each_daemon("compat-first", |stage| {
        let names = Names::new();
        let (first, second) = (native(&[920]), native(&[921]));
        let one = first.push(stage.registry(), "compat-first", "1");
        let other = second.push(stage.registry(), "compat-first", "2");
        let output = run(&mut names.on("ctr", &stage, ["rpull", "--plain-http", &one, &other, "no such thing"]));
        output.succeeds();
        let warning = format!("rpull: warning: as ctr, rpull takes one reference; not pulled: {other}, no such thing\n");
        assert_eq!(output.stderr, warning);
        stage.assert_whole(&one, &first);
        assert_eq!(stage.images(), [one]);
    });
}

#[test]
fn flags_behind_the_reference_count() {
    on_each_daemon("compat-behind", |stage| {
        let names = Names::new();
        let image = native(&[922]);
        let reference = image.push(stage.registry(), "compat-behind", "1");
        run(&mut names.on("ctr", &stage, ["rpull", &reference, "--plain-http", "--label", "behind=1"])).succeeds();
        assert_eq!(stage.image(&reference).unwrap().labels["behind"], "1");
    });
}

#[test]
fn commas_do_not_separate_labels_and_one_without_a_value_is_true() {
    on_each_daemon("compat-labels", |stage| {
        let names = Names::new();
        let reference = native(&[923]).push(stage.registry(), "compat-labels", "1");
        for (_, mut command) in both(&names).into_iter().take(if stage.snapshotter().is_real() { 2 } else { 1 }) {
            command.arg("-a").arg(stage.containerd().address()).args(["-n", "compat-labels", "rpull", "--plain-http"]);
            command.args(["--label", "a=1,b=2", "--label", "flag", "--label", "twice=1", "--label", "twice=2", &reference]);
            assert_eq!(outcome(&mut command).0, 0);
            let mut labels = stage.image(&reference).unwrap().labels;
            // Which of our records are whole.
            labels.remove("rpull/complete");
            let expected = [("a", "1,b=2"), ("flag", "true"), ("twice", "2")];
            assert_eq!(labels, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
            stage.remove_image(&reference);
        }
    });
}

#[test]
fn progress_goes_to_stdout_without_escapes_and_its_last_line_is_done() {
    on_each_daemon("compat-streams", |stage| {
        let names = Names::new();
        let reference = native(&[924, 925]).push(stage.registry(), "compat-streams", "1");
        let output = run(&mut names.on("ctr", &stage, ["rpull", "--plain-http", &reference]));
        output.succeeds();
        assert_eq!(output.stderr, "");
        assert!(output.stdout.starts_with(&format!("{reference}: sha256:")), "{output:#?}");
        assert!(output.stdout.contains("\nlayer 2/2 ") && !output.stdout.contains('\x1b'), "{output:#?}");
    });
}

#[test]
fn a_closed_stdout_does_not_end_a_pull() {
    on_each_daemon("compat-closed", |stage| {
        let names = Names::new();
        let image = native(&[936, 937]);
        let reference = image.push(stage.registry(), "compat-closed", "1");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = names.on("ctr", &stage, ["rpull", "--plain-http", &reference]);
        assert!(command.stdout(writer).status().unwrap().success());
        stage.assert_whole(&reference, &image);
    });
}

#[test]
fn debug_tells_on_stderr_and_keeps_the_progress() {
    on_each_daemon("compat-debug", |stage| {
        let names = Names::new();
        let reference = native(&[926]).push(stage.registry(), "compat-debug", "1");
        let output = run(&mut names.on("ctr", &stage, ["--debug", "rpull", "--plain-http", &reference]));
        output.succeeds();
        assert!(output.stderr.contains("DEBUG") && !output.stdout.contains("DEBUG"), "{output:#?}");
        assert!(output.stdout.contains("\nlayer 1/1 "), "{output:#?}");
    });
}

#[test]
fn requests_are_dumped_to_stderr_and_http_trace_changes_nothing() {
    on_each_daemon("compat-dump", |stage| {
        let names = Names::new();
        let reference = native(&[927]).push(stage.registry(), "compat-dump", "1");
        let output = run(&mut names.on("ctr", &stage, ["rpull", "--plain-http", "--http-dump", &reference]));
        output.succeeds();
        assert!(output.stderr.contains("/v2/compat-dump/manifests/1"), "{output:#?}");
        let output = run(&mut names.on("ctr", &stage, ["rpull", "--plain-http", "--http-trace", &reference]));
        output.succeeds();
        assert_eq!(output.stderr, "");
    });
}

#[test]
fn variables_without_effect_on_a_pull_there_have_none_here() {
    on_each_daemon("compat-variables", |stage| {
        let names = Names::new();
        let reference = native(&[928]).push(stage.registry(), "compat-variables", "1");
        let mut command = names.on("ctr", &stage, ["rpull", "--plain-http", &reference]);
        command.env("SOURCE_DATE_EPOCH", "1").env("CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS", "true");
        let output = run(&mut command);
        output.succeeds();
        assert_eq!(output.stderr, "");
    });
}

#[test]
fn a_pull_is_full_unless_the_variable_keeps_it_lazy() {
    on_each_daemon("compat-lazy", |stage| {
        let names = Names::new();
        let image = native(&[929, 930]);
        let reference = image.push(stage.registry(), "compat-lazy", "1");
        let files = || image.layers().iter().filter(|layer| stage.commit_file(layer).exists()).count();
        let pull = |flags: &[&str]| {
            let mut command = names.on("ctr", &stage, ["rpull", "--plain-http"]);
            run(command.env("RPULL_LAZY_DEFAULT", "1").args(flags).arg(&reference)).succeeds();
        };
        pull(&[]);
        assert_eq!(files(), 0);
        pull(&["--download-blobs"]);
        assert_eq!(files(), 2);
        stage.assert_whole(&reference, &image);
        stage.remove_image(&reference);

        run(&mut names.on("ctr", &stage, ["rpull", "--plain-http", &reference])).succeeds();
        stage.assert_whole(&reference, &image);
    });
}

#[test]
fn the_exit_code_tells_the_cause_where_upstreams_is_1() {
    on_each_daemon("compat-codes", |stage| {
        let names = Names::new();
        let missing = stage.registry().reference("compat-codes", "missing");
        for (ours, mut command) in both(&names) {
            command.arg("-a").arg(stage.containerd().address()).args(["-n", "compat-codes", "rpull", "--plain-http", &missing]);
            assert_eq!(outcome(&mut command).0, if ours { 4 } else { 1 });
        }
    });
}

/// It expires a day after it was taken, as upstream's.
#[test]
fn the_lease_goes_with_success_and_stays_a_day_after_a_failure() {
    on_each_daemon("compat-lease", |stage| {
        let names = Names::new();
        let image = native(&[931, 932]);
        let reference = image.push(stage.registry(), "compat-lease", "1");
        let pull = || run(&mut names.on("ctr", &stage, ["rpull", "--plain-http", &reference]));
        fs::remove_file(stage.registry().blob_path(&image.layers()[1].digest)).unwrap();
        assert_ne!(pull().code, 0);
        let listed = stage.ctr(["leases", "ls"]);
        let expiry =
            listed.split("containerd.io/gc.expire=").nth(1).expect("a lease that expires").split([',', '\n']).next().unwrap();
        let seconds = |date: &str| -> i64 {
            let said = Command::new("date").args(["+%s", "-d", date.trim()]).output().unwrap();
            String::from_utf8(said.stdout).unwrap().trim().parse().unwrap()
        };
        let hours = (seconds(expiry) - seconds("now") + 1800) / 3600;
        assert_eq!(hours, 24, "{listed}");
        image.push(stage.registry(), "compat-lease", "1");
        pull().succeeds();
        assert_eq!(stage.leases(), [""; 0]);
    });
}

#[test]
fn certificates_are_checked_and_shown_as_the_flags_say() {
    let stage = Stage::shared(&daemons().pop().expect("there is a containerd"), "compat-tls");
    let names = Names::new();
    let image = native(&[933]);
    image.push(stage.registry(), "compat-tls", "1");
    let make = |root: &std::path::Path| {
        certificates::authority(root);
        certificates::server(root, VALID);
        certificates::client(root);
    };
    let open = TlsFront::start(&stage.registry().host(), make, "");
    let closed = TlsFront::start(&stage.registry().host(), make, "ssl_verify_client on; ssl_client_certificate ROOT/ca.pem;");
    let pull = |front: &TlsFront, flags: &[String]| {
        let reference = format!("{}/compat-tls:1", front.host());
        run(&mut names.on("ctr", &stage, ["rpull".to_owned()].iter().chain(flags).chain([&reference])))
    };
    let file = |front: &TlsFront, name: &str| front.file(name).display().to_string();
    let ca = |front: &TlsFront| ["--tlscacert".to_owned(), file(front, "ca.pem")];
    let client =
        |front: &TlsFront| ["--tlscert".to_owned(), file(front, "client.pem"), "--tlskey".to_owned(), file(front, "client.key")];
    pull(&open, &ca(&open)).succeeds();
    // Instead of the system's, and of the leniency on this machine.
    assert!(pull(&open, &ca(&closed)).fails_with(5).contains("unknown authority"));
    pull(&open, &[&ca(&closed)[..], &["-k".to_owned()]].concat()).succeeds();
    pull(&closed, &[ca(&closed).to_vec(), client(&closed).to_vec()].concat()).succeeds();
    assert!(pull(&closed, &ca(&closed)).fails_with(5).contains("hint: "));
}

/// What a garbage collector, CRI and the snapshotter read: upstream's full pull and ours leave the same.
#[test]
fn the_records_are_those_that_upstream_makes() {
    let Some(upstream) = upstream() else { return };
    for daemon in daemons() {
        let stage = Stage::shared(&daemon, "compat-ours");
        if !stage.snapshotter().is_real() {
            say("the snapshotter is the stand-in: upstream's client is left out");
            return;
        }
        let names = Names::new();
        let theirs = stage.in_namespace("compat-theirs");
        let image = native(&[934, 935]);
        let reference = image.push(stage.registry(), "compat-records", "1");
        run(&mut names.on("ctr", &stage, ["rpull", "--plain-http", "--label", "mine=1", &reference])).succeeds();
        let mut command = Command::new(&upstream);
        command.arg("-a").arg(theirs.containerd().address()).args(["-n", theirs.namespace(), "rpull", "--plain-http"]);
        let output = command.args(["--download-blobs", "--label", "mine=1", &reference]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // A frame of its progress may come behind it.
        assert!(String::from_utf8_lossy(&output.stdout).lines().any(|line| line == "done"));

        let [ours, theirs] = [&stage, &theirs].map(|stage| records(stage, &reference, &image));
        assert_eq!(ours, theirs);
    }
}

/// What containerd's client 2.2 and later writes for its erofs snapshotter, and its client before and rpull do not.
const OF_NEWER_CLIENTS: [&str; 2] = ["containerd.io/snapshot/diff-id", "containerd.io/snapshot/parent-chain-id"];

/// Labels by what they are of, without rpull's own.
fn records(stage: &Stage, reference: &str, image: &Image) -> BTreeMap<String, BTreeMap<String, String>> {
    // Upstream's command returns before its lease is gone.
    eventually(|| stage.leases().is_empty().then_some(())).expect("no lease is left");
    let record = stage.image(reference).expect("the image has a record");
    let target = record.target.expect("a record has a target");
    assert_eq!(target.digest, image.digest().to_string());
    let contents = stage.contents().into_iter().map(|digest| {
        let labels = stage.content(&digest).expect("listed").labels;
        (digest, labels)
    });
    let snapshots = stage.snapshots().into_iter().map(|info| (format!("{} over {:?}", info.name, info.parent), info.labels));
    let all = contents.chain(snapshots).chain([(target.media_type, record.labels)]);
    let compared = |key: &str| !key.starts_with("rpull/") && !OF_NEWER_CLIENTS.contains(&key);
    all.map(|(of, labels)| (of, labels.into_iter().filter(|(key, _)| compared(key)).collect())).collect()
}
