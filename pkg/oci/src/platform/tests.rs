use super::*;

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

fn accepted(text: &str) -> Vec<String> {
    PlatformMatcher::only(&platform(text)).accepted.iter().map(ToString::to_string).collect()
}

#[test]
fn names_are_normalised_as_containerd_does() {
    for (given, normal) in [
        ("linux/amd64", "linux/amd64"),
        ("Linux/X86_64", "linux/amd64"),
        ("linux/x86-64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/i386", "linux/386"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/v8.0", "linux/arm64"),
        ("linux/arm64/v8.2", "linux/arm64/v8.2"),
        ("linux/arm64/9", "linux/arm64/v9"),
        ("linux/arm64/v9.0", "linux/arm64/v9"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/arm/v5", "linux/arm/v5"),
        ("linux/arm/8", "linux/arm/v8"),
        ("macos/arm64", "darwin/arm64"),
        ("linux/s390x", "linux/s390x"),
        ("linux/unheard-of", "linux/unheard-of"),
    ] {
        assert_eq!(platform(given).to_string(), normal, "{given}");
    }
}

#[test]
fn one_word_is_a_system_or_a_machine() {
    let host = Platform::host();
    assert_eq!(platform("linux"), Platform::new("linux", &host.architecture, ""));
    assert_eq!(platform("arm64"), Platform::new(&host.os, "arm64", ""));
    assert_eq!(platform("armhf"), Platform::new(&host.os, "arm", "v7"));
}

#[test]
fn an_image_without_a_system_is_for_this_one() {
    assert_eq!(Platform::new("", "amd64", "").os, Platform::host().os);
}

#[test]
fn rubbish_is_refused() {
    for text in ["", "/", "linux/", "/amd64", "beos", "linux/amd64/v1/x", "linux/*", "li nux/amd64", "linux(5)/amd64", "ä"] {
        assert!(matches!(text.parse::<Platform>(), Err(Error::Platform { .. })), "{text}");
    }
}

#[test]
fn a_machine_accepts_what_it_runs_best_first() {
    for (machine, rest) in [
        ("linux/amd64", vec!["linux/386"]),
        ("linux/amd64/v3", vec!["linux/amd64/v2", "linux/amd64", "linux/386"]),
        ("linux/386", vec![]),
        ("linux/arm", vec!["linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm64", vec!["linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm64/v8.1", vec!["linux/arm64", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/riscv64", vec![]),
        ("linux/arm64/v7", vec![]),
        ("linux/amd64/v99999999999", vec!["linux/386"]),
    ] {
        let mut expected = vec![machine.to_owned()];
        expected.extend(rest.into_iter().map(str::to_owned));
        if machine == "linux/arm" {
            "linux/arm/v7".clone_into(&mut expected[0]);
        }
        assert_eq!(accepted(machine), expected, "{machine}");
    }
}

#[test]
fn armv9_accepts_the_armv8_it_contains() {
    let all = accepted("linux/arm64/v9.1").join(" ").replace("linux/", "");
    assert_eq!(
        all,
        "arm64/v9.1 arm64/v9 arm64/v8.6 arm64/v8.5 arm64/v8.4 arm64/v8.3 arm64/v8.2 arm64/v8.1 arm64 \
         arm/v8 arm/v7 arm/v6 arm/v5"
    );
    assert!(accepted("linux/arm64/v9.7").contains(&"linux/arm64/v8.9".to_owned()));
}

#[test]
fn another_system_is_never_accepted() {
    let matcher = PlatformMatcher::only(&platform("linux/amd64"));
    assert_eq!(matcher.rank(&platform("linux/386")), Some(1));
    assert_eq!(matcher.rank(&platform("windows/amd64")), None);
    assert_eq!(matcher.wanted().to_string(), "linux/amd64");
}

proptest::proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC*") {
        let _ = text.parse::<Platform>();
    }

    #[test]
    fn what_is_shown_is_what_is_parsed(text in "[a-zA-Z0-9_.-]{1,9}(/[a-zA-Z0-9_.-]{1,9}){0,3}") {
        if let Ok(platform) = text.parse::<Platform>() {
            proptest::prop_assert_eq!(platform.to_string().parse::<Platform>().unwrap(), platform.clone());
            proptest::prop_assert_eq!(PlatformMatcher::only(&platform).rank(&platform), Some(0));
        }
    }
}
