//! The file that `docker login` writes, as data: `config.json`, the text of `DOCKER_AUTH_CONFIG`, podman's `auth.json`
//! (reference 8.8). Pure: bytes in, entries or the place of the fault out. Whose entry is taken is decided in
//! [`super::lookup`].

use std::collections::BTreeMap;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::error::Category;

use crate::{Credentials, Error, Secret};

/// Padded or not: docker writes the first, people who write the file by hand both.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

const NOT_AUTH: &str = "auth is not the base64 form of USER:PASSWORD";

/// Credentials by registry, and the helpers that keep the others.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct DockerConfig {
    /// `auths`, keys as written; entries that hold nothing (docker writes such beside a helper) are left out.
    pub(super) auths: BTreeMap<String, Credentials>,
    /// `credHelpers`: names without `docker-credential-`, by registry.
    pub(super) helpers: BTreeMap<String, String>,
    /// `credsStore`: the helper for all others.
    pub(super) store: Option<String>,
}

/// In Go's tolerance: `null` for anything, unknown keys.
#[derive(Deserialize, Default)]
#[serde(expecting = "an object")]
struct File {
    auths: Option<BTreeMap<String, Option<Entry>>>,
    #[serde(rename = "credHelpers")]
    helpers: Option<BTreeMap<String, Option<String>>>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Entry {
    auth: Option<Auth>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<IgnoredAny>,
}

/// The two halves of `auth`; `None` for an empty one.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Auth(Option<(String, String)>);

impl DockerConfig {
    /// Reads the text of `file`, a path or the name of a variable. An empty one holds nothing.
    ///
    /// # Errors
    /// [`Error::DockerConfig`] with line and column. It never quotes what it found there: that may be a password.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, Error> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let read: File = serde_json::from_slice(bytes).map_err(|error| Error::DockerConfig {
            file: file.to_owned(),
            line: error.line(),
            column: error.column(),
            message: message(&error),
        })?;
        let named = |name: &String| !name.is_empty();
        let auths = read.auths.unwrap_or_default().into_iter();
        let helpers = read.helpers.unwrap_or_default().into_iter();
        Ok(Self {
            auths: auths.filter_map(|(key, entry)| Some((key.clone(), entry?.credentials(file, &key)?))).collect(),
            helpers: helpers.filter_map(|(key, name)| Some((key, name.filter(named)?))).collect(),
            store: read.store.filter(named),
        })
    }
}

impl Entry {
    fn credentials(self, file: &str, key: &str) -> Option<Credentials> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = given(self.identitytoken) {
            return Some(Credentials::Refresh(Secret::new(token)));
        }
        let apart = || Some((given(self.username)?, self.password.unwrap_or_default()));
        if let Some((user, password)) = self.auth.and_then(|Auth(halves)| halves).or_else(apart) {
            return Some(Credentials::Basic { user, password: Secret::new(password) });
        }
        if self.registrytoken.is_some() {
            tracing::warn!("{file}: the registrytoken of {key} is not used; log in with user and password or identity token");
        }
        None
    }
}

impl TryFrom<String> for Auth {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        // Go's decoder passes over line breaks.
        let bytes = BASE64.decode(text.replace(['\r', '\n'], "")).map_err(|_| NOT_AUTH)?;
        let decoded = String::from_utf8(bytes).map_err(|_| NOT_AUTH)?;
        let (user, password) = decoded.split_once(':').filter(|(user, _)| !user.is_empty()).ok_or(NOT_AUTH)?;
        // Old versions of docker padded it.
        Ok(Self(Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))))
    }
}

/// What is wrong, without what was found: serde quotes it in front of the last `, expected `.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    match (error.classify(), text.rsplit_once(", expected ")) {
        (Category::Data, Some((_, expected))) => format!("expected {expected}"),
        (Category::Data, None) if text == NOT_AUTH || text.starts_with("duplicate field") => text.to_owned(),
        (Category::Data, None) => "not what a docker config holds here".to_owned(),
        _ => format!("no JSON: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> DockerConfig {
        DockerConfig::parse("config.json", text.as_bytes()).unwrap()
    }

    fn basic(user: &str, password: &str) -> Credentials {
        Credentials::Basic { user: user.to_owned(), password: Secret::new(password) }
    }

    #[test]
    fn an_entry_holds_what_docker_reads_from_it() {
        let refresh = |token: &str| Some(Credentials::Refresh(Secret::new(token)));
        for (entry, expected) in [
            (r#"{"auth":"YW5uOndvcmQ="}"#, Some(basic("ann", "word"))),
            (r#"{"auth":"YW5uOndvcmQ"}"#, Some(basic("ann", "word"))),
            (r#"{"auth":"YW5u\nOndvcmQ=\n"}"#, Some(basic("ann", "word"))),
            // ann:wo:rd and a zero byte
            (r#"{"auth":"YW5uOndvOnJkAA=="}"#, Some(basic("ann", "wo:rd"))),
            (r#"{"username":"ann","password":"word"}"#, Some(basic("ann", "word"))),
            (r#"{"auth":"YW5uOndvcmQ=","username":"bob","password":"x"}"#, Some(basic("ann", "word"))),
            (r#"{"auth":"","username":"bob","password":"x"}"#, Some(basic("bob", "x"))),
            // As Azure's registry has it: a user that is none, and the token.
            (r#"{"auth":"MDAwMDA6","identitytoken":"t/1"}"#, refresh("t/1")),
            (r#"{"auth":"YW5uOndvcmQ=","identitytoken":""}"#, Some(basic("ann", "word"))),
            (r#"{"registrytoken":"t","email":"a@b"}"#, None),
            ("{}", None),
            ("null", None),
        ] {
            let config = parse(&format!(r#"{{"auths":{{"r.example":{entry}}},"HttpHeaders":{{"a":"b"}}}}"#));
            assert_eq!(config.auths.get("r.example").cloned(), expected, "{entry}");
        }
    }

    #[test]
    fn helpers_are_named_for_one_registry_or_for_all() {
        let config = parse(r#"{"credsStore":"pass","credHelpers":{"a":"ecr-login","b":"","c":null},"auths":null}"#);
        assert_eq!(config.store.as_deref(), Some("pass"));
        assert_eq!(config.helpers, [("a".to_owned(), "ecr-login".to_owned())].into());
        for empty in ["", " \n", "{}", r#"{"credsStore":"","credHelpers":null}"#] {
            assert_eq!(parse(empty), DockerConfig::default(), "{empty}");
        }
    }

    #[test]
    fn a_broken_file_is_told_by_line_and_column_and_never_quoted() {
        let cases = [
            (
                "{\n  \"auths\": {\n    \"r.example\": {\"auth\": \"s3cret!!\"}\n",
                "3:37: auth is not the base64 form of USER:PASSWORD",
            ),
            (r#"{"auths":{"r":{"auth":"czNjcmV0"}}}"#, "1:33: auth is not the base64 form of USER:PASSWORD"),
            (r#"{"auths":{"r":"s3cret, expected s3cret"}}"#, "1:39: expected an object"),
            (r#"{"auths":{"r":{"password":{"s3cret":1}}}}"#, "1:26: expected a string"),
            (r#"{"auths":["s3cret"]}"#, "1:9: expected a map"),
            ("{\n\"auths\": {,}", "2:11: no JSON: key must be a string"),
            (r#"{"auths":{}"#, "1:11: no JSON: EOF while parsing an object"),
            ("s3cret", "1:1: no JSON: expected value"),
        ];
        let mut told = Vec::new();
        for (text, _) in cases {
            let error = DockerConfig::parse("/c.json", text.as_bytes()).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("s3cret") && error.hint().is_some(), "{shown}");
            told.push(error.to_string());
        }
        assert_eq!(told, cases.map(|(_, place)| format!("/c.json:{place}")));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = DockerConfig::parse("f", &bytes);
        }

        #[test]
        fn never_panics_near_the_grammar(text in r#"(\{|\}|"auths"|"r"|"auth"|"YTpi"|"credsStore"|"credHelpers"|:|,|null|\[|1){0,24}"#) {
            let _ = DockerConfig::parse("f", text.as_bytes());
        }

        #[test]
        fn any_user_and_password_come_back(user in "[^:\0]{1,20}", password in "[^\0]{0,20}") {
            let auth = BASE64_STANDARD.encode(format!("{user}:{password}"));
            let config = parse(&format!(r#"{{"auths":{{"r":{{"auth":"{auth}"}}}}}}"#));
            prop_assert_eq!(config.auths.get("r"), Some(&basic(&user, &password)));
        }
    }
}
