use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The text with `DIGEST` filled in.
fn fill(text: &str) -> String {
    text.replace("DIGEST", DIGEST)
}

fn parse(text: &str) -> Result<Reference, Error> {
    fill(text).parse()
}

#[test]
fn what_ctr_accepts_is_recorded_as_typed() {
    for (text, host, repository, object) in [
        ("docker.io/library/busybox:1.36", "docker.io", "library/busybox", ":1.36"),
        ("docker.io/busybox:1.36", "docker.io", "busybox", ":1.36"),
        ("index.docker.io/library/busybox:1", "index.docker.io", "library/busybox", ":1"),
        ("r:5000/a/b@DIGEST", "r:5000", "a/b", "@DIGEST"),
        ("r/a:t@DIGEST", "r", "a", ":t@DIGEST"),
        ("localhost/x:1", "localhost", "x", ":1"),
        ("localhost:5000/x:1", "localhost:5000", "x", ":1"),
        ("127.0.0.1:5000/t/obd:1", "127.0.0.1:5000", "t/obd", ":1"),
        ("[::1]:5000/x:1", "[::1]:5000", "x", ":1"),
        ("[2001:db8::1]/x:1", "[2001:db8::1]", "x", ":1"),
        ("my_registry:5000/x:1", "my_registry:5000", "x", ":1"),
        ("Registry.Example/x:Tag_1.0-x", "Registry.Example", "x", ":Tag_1.0-x"),
        ("r.io/a__b/c--d/e.f_g:_t", "r.io", "a__b/c--d/e.f_g", ":_t"),
    ] {
        let reference = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let digest = DIGEST.parse().unwrap();
        let expected = match object.split_once('@') {
            None => Object::Tag(object[1..].to_owned()),
            Some(("", _)) => Object::Digest(digest),
            Some((tag, _)) => Object::TagAndDigest(tag[1..].to_owned(), digest),
        };
        assert_eq!(reference.name(), fill(text));
        assert_eq!((reference.host(), reference.repository()), (host, repository), "{text}");
        assert_eq!(reference.object(), &expected, "{text}");
        assert_eq!(reference.digest().is_some(), object.contains('@'), "{text}");
    }
}

#[test]
fn what_ctr_refuses_is_normalised_as_docker_does() {
    for (text, name) in [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("busybox@DIGEST", "docker.io/library/busybox@DIGEST"),
        ("busybox:1@DIGEST", "docker.io/library/busybox:1@DIGEST"),
        ("user/app", "docker.io/user/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/user/app", "docker.io/user/app:latest"),
        ("ghcr.io/user/app", "ghcr.io/user/app:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("registry:5000/app", "registry:5000/app:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ("Registry/app", "Registry/app:latest"),
    ] {
        let reference = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(reference.name(), fill(name), "{text}");
        assert_eq!(reference, parse(name).unwrap(), "{text}");
    }
}

#[test]
fn the_kubelet_reads_every_name_as_docker_does_and_drops_the_tag_beside_a_digest() {
    for (text, name) in [
        ("busybox", "docker.io/library/busybox:latest"),
        ("docker.io/busybox:1", "docker.io/library/busybox:1"),
        ("index.docker.io/user/app:1", "docker.io/user/app:1"),
        ("user/app:1", "docker.io/user/app:1"),
        ("registry/team/app:1", "docker.io/registry/team/app:1"),
        ("localhost/app:1", "localhost/app:1"),
        ("registry:5000/app:1", "registry:5000/app:1"),
        ("[::1]:5000/app:1", "[::1]:5000/app:1"),
        ("Registry/app:1", "Registry/app:1"),
        ("r.io/app:1@DIGEST", "r.io/app@DIGEST"),
        ("busybox@DIGEST", "docker.io/library/busybox@DIGEST"),
    ] {
        let read = parse(text).unwrap().for_kubelet().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(read.name(), fill(name), "{text}");
        assert_eq!(read.for_kubelet().unwrap(), read, "{text}");
    }
    let refused = parse("my_registry:5000/x:1").unwrap().for_kubelet().unwrap_err();
    assert!(refused.to_string().contains("no registry with _"), "{refused}");
}

#[test]
fn invalid_references_are_refused_with_the_reason() {
    let hex63 = format!("r/a@sha256:{}", "0".repeat(63));
    let hex64 = "0".repeat(64);
    let long_repository = format!("r/{}:1", "a".repeat(256));
    let long_tag = format!("r/a:{}", "t".repeat(129));
    let long_host = format!("{}/a:1", "h.".repeat(200));
    for (text, why) in [
        ("", "empty"),
        ("https://r.io/a:1", "scheme"),
        ("://", "scheme"),
        (&hex63, "digest"),
        ("r/a@sha256:short", "digest"),
        ("r/a@", "digest"),
        ("r/a@e3b0c4", "digest"),
        (&hex64, "image id"),
        ("r.io/Upper/case:1", "lower case"),
        ("Busybox", "lower case"),
        ("r.io/:1", "no repository"),
        ("r.io/", "no repository"),
        ("/a:1", "repository"),
        ("r.io//a:1", "repository"),
        ("r.io/a/:1", "repository"),
        ("r.io/../a:1", "repository"),
        ("r.io/a___b:1", "repository"),
        ("r.io/a..b:1", "repository"),
        ("r.io/-a:1", "repository"),
        ("r.io/a b:1", "repository"),
        ("r.io/a?b:1", "repository"),
        ("r.io/\u{e4}:1", "repository"),
        (&long_repository, "longer"),
        ("r.io/a:", "tag"),
        ("r.io/a:-x", "tag"),
        ("r.io/a:x:y", "tag"),
        ("r.io/a:x\n", "tag"),
        (&long_tag, "tag"),
        ("-r.io/a:1", "host name"),
        ("r..io/a:1", "host name"),
        (&long_host, "host name"),
        ("r.io:/a:1", "port"),
        ("r.io:0/a:1", "port"),
        ("r.io:65536/a:1", "port"),
        ("r.io:+1/a:1", "port"),
        ("r.io:x/a:1", "port"),
        ("[::1/a:1", "bracket"),
        ("[::g]/a:1", "IPv6"),
        ("[::1%eth0]/a:1", "IPv6"),
        ("[::1]5000/a:1", "host name"),
    ] {
        match parse(text) {
            Err(Error::Reference { text: named, why: given }) => {
                assert!(given.contains(why), "{text}: {given}");
                assert_eq!(named, text);
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn a_password_in_front_of_the_host_is_refused_and_not_shown() {
    for (text, shown) in [
        ("alice:secret@r.io/a:1", "...@r.io/a:1"),
        ("https://alice:secret@r.io/a:1", "https://...@r.io/a:1"),
        ("alice:se@cret@r.io/a:1", "...@r.io/a:1"),
        ("user@r.io/a:1", "...@r.io/a:1"),
    ] {
        assert!(matches!(parse(text), Err(Error::Reference { text, .. }) if text == shown), "{text}");
    }
}

#[test]
fn another_digest_algorithm_is_refused_by_name() {
    let digest = format!("sha512:{}", "0".repeat(128));
    assert_eq!(parse(&format!("r/a@{digest}")), Err(Error::Algorithm { text: digest, algorithm: "sha512".to_owned() }));
}

proptest::proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC*") {
        let _ = text.parse::<Reference>();
    }

    #[test]
    fn what_is_shown_is_what_is_parsed(
        text in "([a-zA-Z0-9.-]{1,5}(:[0-9]{1,5})?/|\\[[0-9:]{2,5}\\](:[0-9]{1,5})?/)?[a-z0-9._/-]{1,9}(:[a-zA-Z0-9._-]{1,5})?(@DIGEST)?",
    ) {
        if let Ok(reference) = parse(&text) {
            proptest::prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference.clone());
            proptest::prop_assert!(!reference.host().is_empty() && !reference.repository().is_empty());
        }
    }
}
