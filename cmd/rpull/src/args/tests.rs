use std::time::Duration;

use super::*;

fn parse(arguments: &[&str]) -> Result<Args, Refusal> {
    called(Name::Rpull, arguments, &[])
}

fn called(name: Name, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Args, Refusal> {
    let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
    let arguments = arguments.iter().map(OsString::from).collect();
    Args::read(Call { name, arguments }, &Surroundings::new(&variable, true))
}

fn good(arguments: &[&str]) -> Args {
    let all: Vec<&str> = arguments.iter().copied().chain(["r/a:1"]).collect();
    match parse(&all) {
        Ok(args) => args,
        Err(refusal) => panic!("{arguments:?}: {refusal:?}"),
    }
}

/// Message and hint.
fn usage(arguments: &[&str]) -> (String, String) {
    match parse(arguments) {
        Err(Refusal::Usage { message, hint }) => (message, hint),
        Err(Refusal::Information(text)) => panic!("{arguments:?}: {text}"),
        Ok(_) => panic!("{arguments:?} was accepted"),
    }
}

#[test]
fn the_definition_is_consistent() {
    Args::command().debug_assert();
}

#[test]
fn defaults_are_those_of_ctr_rpull() {
    let args = good(&[]);
    assert_eq!(args.address, "/run/containerd/containerd.sock");
    assert_eq!(args.namespace.as_str(), "default");
    assert_eq!(args.snapshotter, "overlaybd");
    assert_eq!((args.timeout(), args.connect_timeout()), (None, Duration::from_secs(10)));
    assert_eq!((args.max_connections.get(), args.range_size.get(), args.store), (32, 8 << 20, Store::Auto));
    assert_eq!((args.limit_rate(), args.keep_partial), (None, Duration::from_secs(7 * 24 * 3600)));
    assert!(args.labels().is_empty() && args.user.is_none() && args.refresh.is_none());
    assert_eq!(args.hosts_dirs, ["/etc/containerd/certs.d", "/etc/docker/certs.d"].map(PathBuf::from));
    assert!(args.platform.is_none() && args.spool_dir.is_none() && args.receipt.is_none());
    assert!(args.tlscacert.is_none() && args.client_certificate().is_none());
    assert!(!(args.skip_verify || args.plain_http || args.http_dump || args.lazy || args.debug || args.password_stdin));
    assert_eq!(args.references().unwrap()[0].name(), "r/a:1");
}

#[test]
fn every_flag_arrives() {
    let args = good(&[
        "-a=/c.sock",
        "-n",
        "k8s.io",
        "-timeout",
        "1h30m",
        "--connect-timeout=1.5s",
        "-debug",
        "-k",
        "--plain-http",
        "-u",
        "-x:y",
        "--refresh",
        "t",
        "--hosts-dir",
        "/h",
        "--tlscacert",
        "/ca",
        "--tlscert",
        "/c",
        "--tlskey",
        "/k",
        "--http-dump",
        "--http-trace",
        "--label",
        "a=1,b=2",
        "--label",
        "c",
        "--snapshotter",
        "s",
        "--download-blobs",
        "--platform",
        "linux/arm64/v8",
        "--store",
        "direct",
        "--max-connections",
        "1",
        "--range-size",
        "1M",
        "--limit-rate",
        "100M",
        "--keep-partial=1d12h",
        "--spool-dir",
        "/s",
        "--receipt",
        "/r",
    ]);
    assert_eq!((args.address.as_str(), args.namespace.as_str(), args.snapshotter.as_str()), ("/c.sock", "k8s.io", "s"));
    assert_eq!((args.timeout(), args.connect_timeout()), (Some(Duration::from_secs(5400)), Duration::from_millis(1500)));
    assert!(args.debug && args.skip_verify && args.plain_http && args.http_dump);
    assert_eq!((args.user.as_deref(), args.refresh.as_deref()), (Some("-x:y"), Some("t")));
    assert_eq!(args.labels(), [("a", "1,b=2"), ("c", "true")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    assert_eq!(args.client_certificate(), Some(("/c".into(), "/k".into())));
    assert_eq!((args.hosts_dirs, args.tlscacert), (vec!["/h".into()], Some("/ca".into())));
    assert_eq!((args.spool_dir, args.receipt), (Some("/s".into()), Some("/r".into())));
    assert_eq!(args.platform.unwrap().to_string(), "linux/arm64");
    assert_eq!((args.store, args.max_connections.get(), args.range_size.get()), (Store::Direct, 1, 1 << 20));
    assert_eq!((args.limit_rate, args.keep_partial), (100 << 20, Duration::from_secs(36 * 3600)));
    assert!(good(&["--lazy"]).lazy);
    assert!(
        good(&["--user", "a", "--password-stdin"]).password_stdin && good(&["--user", "a:", "--password-stdin"]).password_stdin
    );
}

#[test]
fn the_last_of_a_repeated_flag_wins() {
    assert_eq!(good(&["-n", "a", "--namespace=b", "-namespace", "c"]).namespace.as_str(), "c");
    assert!(!good(&["--debug", "--debug=false"]).debug);
    assert_eq!(good(&["--label", "a=1", "--label", "a=2"]).labels()["a"], "2");
}

#[test]
fn empty_values_count_as_not_given() {
    let args = good(&[
        "--user",
        "",
        "--refresh=",
        "--hosts-dir",
        "",
        "--tlscacert",
        "",
        "--tlscert",
        "",
        "--spool-dir",
        "",
        "--receipt",
        "",
    ]);
    assert!(args.user.is_none() && args.refresh.is_none() && args.hosts_dir.is_empty() && args.tlscacert.is_none());
    assert!(args.client_certificate().is_none() && args.spool_dir.is_none() && args.receipt.is_none());
    assert_eq!(good(&["--user", "alice:secret", "--user", ""]).user, None);
}

#[test]
fn a_flag_of_another_command_is_no_misspelling() {
    for (arguments, hint) in [
        (&["--deep", "r/a:1"][..], "--deep is a flag of rpull verify"),
        (&["verify", "r/a:1", "--receipt", "x"], "--receipt is a flag of a pull"),
        (&["-q", "verify", "r/a:1"], "--quiet is a flag of a pull"),
        (&["install", "--lazy"], "--lazy is a flag of a pull"),
        (&["uninstall", "--force"], "--force is a flag of rpull install"),
        (&["verify", "--repaired", "r/a:1"], "did you mean --repair?"),
    ] {
        assert_eq!(usage(arguments).1, hint, "{arguments:?}");
    }
}

#[test]
fn an_empty_snapshotter_is_containerds_default() {
    assert_eq!(good(&["--snapshotter", ""]).snapshotter, "overlayfs");
}

#[test]
fn flags_may_follow_the_reference() {
    let args = parse(&["r/a:1", "-n", "x", "--lazy"]).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    assert_eq!((args.namespace.as_str(), args.lazy), ("x", true));
}

#[test]
fn what_cannot_be_followed_is_refused_with_a_hint() {
    for (arguments, message, hint) in [
        (&[][..], "no image reference given", "rpull [FLAGS] REF"),
        (&["https://r/a:1"], "invalid reference \"https://r/a:1\": it starts with a scheme", "HOST[:PORT]/REPOSITORY"),
        (&["-n", "a/b", "r/a:1"], "invalid namespace \"a/b\"", "k8s.io"),
        (&["-n", "", "r/a:1"], "invalid namespace \"\"", "k8s.io"),
        (&["--platform", "beos", "r/a:1"], "invalid platform \"beos\"", "linux/arm64/v8"),
        (&["--timeout", "5", "r/a:1"], "invalid value '5' for '--timeout <DURATION>': no unit behind 5", "1h30m"),
        (&["--timeout", "-5s", "r/a:1"], "must not be negative", "1h30m"),
        (&["--range-size", "1", "r/a:1"], "not from 64K to 1G", "8M"),
        (&["--limit-rate", "1", "r/a:1"], "slower than 64K", "100M"),
        (&["--keep-partial", "week", "r/a:1"], "unknown unit", "7d"),
        (&["--max-connections", "0", "r/a:1"], "invalid value '0' for '--max-connections <N>'", "rpull --help"),
        (&["--store", "dirct", "r/a:1"], "invalid value 'dirct' for '--store <auto|direct|api>'", "did you mean direct?"),
        (&["--label", "=v", "r/a:1"], "no key", "KEY=VALUE"),
        (&["--debug=maybe", "r/a:1"], "invalid value \"maybe\" for --debug: not true or false", "--debug=false"),
        (&["--namespce", "x", "r/a:1"], "unexpected argument '--namespce' found", "did you mean --namespace?"),
        (&["-namespce", "x", "r/a:1"], "unexpected argument '--namespce' found", "did you mean --namespace?"),
        (&["---debug", "r/a:1"], "unexpected argument '---debug' found", ""),
        (&["r/a:1", "--user"], "a value is required for '--user <USER[:PASSWORD]>' but none was supplied", "rpull --help"),
        (&["--user", ":secret", "r/a:1"], "--user has no name before the colon", "NAME:PASSWORD"),
        (&["--password-stdin", "r/a:1"], "--password-stdin without --user", "--user NAME"),
        (&["--user", "a:secret", "--password-stdin", "r/a:1"], "--password-stdin beside --user", "leave out one"),
        (&["--address", "", "r/a:1"], "--address is empty", "/run/containerd/containerd.sock"),
        (&["--tlscert", "c", "r/a:1"], "--tlscert without --tlskey", "key"),
        (&["--tlskey", "k", "r/a:1"], "--tlskey without --tlscert", "certificate"),
        (&["--pin", "r/a:1"], "--pin without --cri", "add --cri"),
        (&["--cri", "-n", "moby", "r/a:1"], "--cri and --namespace moby contradict each other", "leave out --namespace"),
        (&["--cri", "my_registry:5000/a:1"], "the kubelet takes no registry with _", "HOST[:PORT]/REPOSITORY"),
        (&["--wait-for-containerd", "60", "r/a:1"], "no unit behind 60", "1h30m"),
        (&["--lazy", "--download-blobs", "r/a:1"], "--lazy and --download-blobs contradict each other", "leave one"),
    ] {
        let (said, hinted) = usage(arguments);
        assert!(said.contains(message), "{arguments:?}: {said}");
        assert!(hinted.contains(hint), "{arguments:?}: {hinted}");
        assert!(!said.contains("Usage:") && !said.contains("secret"), "{said}");
    }
}

#[test]
fn switches_that_are_off_contradict_nobody() {
    assert!(good(&["--lazy", "--download-blobs=false"]).lazy);
}

#[test]
fn an_image_for_the_kubelet_has_its_namespace_and_its_name() {
    let args = good(&[]);
    assert_eq!((args.node.cri(), args.node.wait_for_containerd), (None, Duration::ZERO));
    let args = good(&["--cri", "--wait-for-containerd", "60s"]);
    assert_eq!((args.namespace.as_str(), args.node.cri()), ("k8s.io", Some(pull::Cri { pinned: false })));
    assert_eq!(args.node.wait_for_containerd, Duration::from_secs(60));
    // `ctr` would ask a registry called r.
    assert_eq!(args.references().unwrap()[0].name(), "docker.io/r/a:1");
    let args = good(&["--cri", "--pin", "-n", "k8s.io"]);
    assert_eq!((args.namespace.as_str(), args.node.cri()), ("k8s.io", Some(pull::Cri { pinned: true })));
    assert_eq!(good(&["--cri=false", "-n", "moby"]).namespace.as_str(), "moby");
}

#[test]
fn verify_takes_several_images_and_the_flags_of_a_pull_that_it_needs() {
    for line in ["-n k8s.io verify --deep r/a:1 r/b:1", "verify r/a:1 -deep r/b:1 -namespace=k8s.io"] {
        let args = parse(&line.split(' ').collect::<Vec<_>>()).unwrap_or_else(|refusal| panic!("{line}: {refusal:?}"));
        let Some(Command::Verify(verify)) = &args.command else { panic!("{line}: a pull") };
        assert_eq!((args.namespace.as_str(), verify.deep, verify.repair), ("k8s.io", true, false), "{line}");
        let names: Vec<_> = verify.references().unwrap().iter().map(|reference| reference.name().to_owned()).collect();
        assert_eq!(names, ["r/a:1", "r/b:1"], "{line}");
    }
}

#[test]
fn an_image_called_verify_has_a_longer_name_too() {
    for arguments in [&["verify:latest"][..], &["docker.io/library/verify"], &["--", "verify"]] {
        let args = parse(arguments).unwrap_or_else(|refusal| panic!("{refusal:?}"));
        assert!(args.command.is_none());
        assert_eq!(args.references().unwrap()[0].name(), "docker.io/library/verify:latest");
    }
}

#[test]
fn verify_refuses_what_only_a_pull_has() {
    for arguments in [&["verify", "--lazy", "r/a:1"][..], &["verify", "--receipt", "f", "r/a:1"]] {
        assert!(usage(arguments).0.contains("unexpected argument"), "{arguments:?}");
    }
    assert_eq!(usage(&["verify"]).0, "no image reference given");
    assert!(usage(&["--deep", "r/a:1"]).0.contains("unexpected argument '--deep'"));
}

#[test]
fn as_ctr_the_first_reference_counts_and_the_others_draw_a_warning() {
    let args = called(Name::Ctr, &["-n", "x", "r/a:1", "r/b:1", "r/c:1"], &[]).unwrap_or_else(|refusal| panic!("{refusal:?}"));
    let names: Vec<_> = args.references().unwrap().iter().map(|reference| reference.name().to_owned()).collect();
    assert_eq!(names, ["r/a:1"]);
    assert_eq!(args.warnings, ["as ctr, rpull takes one reference; not pulled: r/b:1, r/c:1"]);
    assert!(args.hosts_dirs.is_empty());
    assert_eq!(called(Name::Ctr, &["verify", "r/a:1", "r/b:1"], &[]).unwrap_or_else(|_| panic!("refused")).warnings, [""; 0]);
}

#[test]
fn as_ctr_a_pull_is_full_unless_the_variable_keeps_upstreams_way() {
    let lazy = |name, arguments: &[&str], value: &str| {
        let args = called(name, arguments, &[("RPULL_LAZY_DEFAULT", value)]);
        args.unwrap_or_else(|refusal| panic!("{refusal:?}")).lazy
    };
    assert!(!lazy(Name::Ctr, &["r/a:1"], "") && !lazy(Name::Ctr, &["r/a:1"], "0"));
    assert!(lazy(Name::Ctr, &["r/a:1"], "1") && lazy(Name::Ctr, &["--lazy", "r/a:1"], ""));
    assert!(!lazy(Name::Ctr, &["--download-blobs", "r/a:1"], "true"));
    // By its own name rpull is whole or nothing.
    assert!(!lazy(Name::Rpull, &["r/a:1"], "1"));
    let refused = called(Name::Ctr, &["r/a:1"], &[("RPULL_LAZY_DEFAULT", "yes")]).map(|_| ());
    assert_eq!(
        refused,
        Err(Refusal::usage(
            "invalid value \"yes\" of RPULL_LAZY_DEFAULT: not true or false",
            "write RPULL_LAZY_DEFAULT=1 or RPULL_LAZY_DEFAULT=0",
        ))
    );
}
