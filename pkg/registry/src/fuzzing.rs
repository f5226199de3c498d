//! What must hold for the parsers here, whatever they are given. For the fuzz targets of `hack/fuzz`, and for the tests, which
//! run it over the corpus of those targets; in no other build.

use std::path::Path;

use url::Url;

use crate::{
    DockerConfig, Error, Options,
    challenge::{self, Challenge},
    content_range::{self, ContentRange},
    fault, hosts, redact, target,
};

/// `WWW-Authenticate`, one header a line: a Bearer challenge has a realm, which reads back as it is when it is quoted.
///
/// # Panics
/// When that does not hold.
pub fn challenge(text: &str) {
    let Some(Challenge::Bearer { realm, .. }) = challenge::choose(text.lines()) else { return };
    assert!(!realm.is_empty());
    let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
    let again = challenge::choose([format!("Bearer realm=\"{quoted}\"").as_str()]);
    assert_eq!(again, Some(Challenge::Bearer { realm, service: None, scope: None }));
}

/// `Content-Range`: what is accepted lies within the whole and reads back as it is written.
///
/// # Panics
/// When that does not hold.
pub fn content_range(text: &str) {
    let Some(parsed) = content_range::parse(text) else { return };
    let written = match parsed {
        ContentRange::Bytes { range, total: Some(total) } => {
            assert!(range.end() <= total);
            format!("bytes {range}/{total}")
        }
        ContentRange::Bytes { range, total: None } => format!("bytes {range}/*"),
        ContentRange::Unsatisfied { total } => format!("bytes */{total}"),
    };
    assert_eq!(content_range::parse(&written), Some(parsed), "{written}");
}

/// `hosts.toml`: every host it gives can be asked over http or https and shows no user; every fault has its place in the file.
///
/// # Panics
/// When that does not hold.
pub fn hosts_toml(text: &str) {
    match hosts::parse_file(Path::new("/hosts/r.example/hosts.toml"), text, "r.example:5000", &Options::default()) {
        Ok(entries) => {
            assert!(!entries.is_empty());
            for entry in entries {
                assert!(matches!(entry.base.scheme(), "http" | "https") && !entry.name().is_empty(), "{entry:?}");
                assert!(entry.base.username().is_empty() && entry.base.password().is_none() && entry.base.query().is_none());
            }
        }
        Err(Error::HostsToml { line, column, message, .. }) => {
            assert!(line >= 1 && line <= text.lines().count() + 1, "line {line}");
            assert!(column >= 1 && !message.is_empty() && !message.contains('\n'), "column {column}: {message:?}");
        }
        Err(error) => panic!("no fault of the file: {error}"),
    }
}

/// A docker config: a fault has its place in the file and is one line.
///
/// # Panics
/// When that does not hold.
pub fn docker_config(bytes: &[u8]) {
    match DockerConfig::parse("config.json", bytes) {
        Ok(config) => assert!(!format!("{config:?}").is_empty()),
        Err(Error::DockerConfig { line, message, .. }) => {
            assert!(line >= 1 && !message.is_empty() && !message.contains('\n'), "line {line}: {message:?}");
        }
        Err(error) => panic!("no fault of the file: {error}"),
    }
}

/// A URL of storage: its expiry can be asked for, and shown it has no user and no value of an unknown key.
///
/// # Panics
/// When that does not hold.
pub fn url(text: &str) {
    let Ok(url) = Url::parse(text) else { return };
    let _ = target::expiry(&url);
    let shown = redact::url(&url);
    let shown = Url::parse(&shown).unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert!(shown.username().is_empty() && shown.password().is_none() && shown.fragment().is_none(), "{shown}");
    for (key, value) in shown.query_pairs() {
        assert!(value == redact::REDACTED || redact::SHOWN_KEYS.contains(&key.as_ref()), "{shown}");
    }
}

/// The body of an error: what is shown of it is one short line.
///
/// # Panics
/// When that does not hold.
pub fn error_body(bytes: &[u8]) {
    for shown in [fault::message(bytes), fault::code(bytes)].into_iter().flatten() {
        assert!(!shown.contains(char::is_control) && shown.chars().count() <= fault::MAX_MESSAGE, "{shown:?}");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn corpus(target: &str) -> impl Iterator<Item = Vec<u8>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/fuzz").join(target);
        let files = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        files.map(|file| fs::read(file.unwrap().path()).unwrap())
    }

    #[test]
    fn what_fuzzing_found_stays_found() {
        let texts = |target| corpus(target).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        texts("challenge").for_each(|text| challenge(&text));
        texts("content_range").for_each(|text| content_range(&text));
        texts("hosts_toml").for_each(|text| hosts_toml(&text));
        texts("url").for_each(|text| url(&text));
        corpus("docker_config").for_each(|bytes| docker_config(&bytes));
        corpus("error_body").for_each(|bytes| error_body(&bytes));
    }

    proptest! {
        #[test]
        fn any_challenge_holds(text in r#"([Bb]earer|Basic|realm|scope|service|=|"|\\|,| |x|é|\n|\PC){0,32}"#) {
            challenge(&text);
        }

        #[test]
        fn any_content_range_holds(text in r"(bytes|Bytes| |-|/|\*|[0-9]|18446744073709551615|\PC){0,10}") {
            content_range(&text);
        }

        #[test]
        fn any_hosts_toml_holds(text in r#"(server|\[host\."https://|\[host\.|"\]|ca|client|header|capabilities|dial_timeout|override_path|skip_verify| = |"x"|"pull"|"http://u:p@h:1/v2\?q"|"1h"|true|\[|\]|,|\{|\}|\n|é|\PC){0,32}"#) {
            hosts_toml(&text);
        }

        #[test]
        fn any_docker_config_holds(text in r#"\{("auths"|"credHelpers"|"credsStore"|"r"|"auth"|"YTpi"|"identitytoken"|"username"|:|,|\{|\}|null|\[|1|\n|\PC){0,24}"#) {
            docker_config(text.as_bytes());
        }

        #[test]
        fn any_url_holds(text in r"https?://(u:p@)?h(:[0-9]{1,5})?/(\?|&|=|X-Amz-Date|X-Amz-Expires|Expires|se|sig|20261124T100000Z|[0-9]{1,20}|%|#|\PC){0,16}") {
            url(&text);
        }

        #[test]
        fn any_error_body_holds(text in r#"(\{|\}|\[|\]|"errors"|"code"|"message"|"details"|:|,|"x"|"\\u001b"|\n|<|\PC){0,24}"#) {
            error_body(text.as_bytes());
        }
    }
}
