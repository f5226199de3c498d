//! The `WWW-Authenticate` header (RFC 9110 11.6.1): several challenges in one header, several headers.

/// A challenge this client can answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Challenge {
    /// A token from `realm`.
    Bearer {
        /// URL of the token endpoint, as written.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
        /// Space-separated, as written.
        scope: Option<String>,
    },
    /// User and password with every request.
    Basic,
}

/// The best challenge of all headers, Bearer before Basic as containerd has it; others (Digest, Negotiate) cannot be answered.
/// A Bearer challenge without realm is none.
pub(crate) fn choose<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Challenge> {
    let challenges: Vec<Challenge> = headers.into_iter().flat_map(parse).collect();
    let bearer = challenges.iter().position(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    challenges.into_iter().nth(bearer.unwrap_or(0))
}

/// All challenges of one header that can be answered, in order. What cannot be read ends the list.
fn parse(header: &str) -> Vec<Challenge> {
    let mut rest = header;
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((word, after)) = token(rest) else { break };
        let value = after.trim_start();
        // A word before `=` is a parameter of the challenge before, any other a new scheme. (A token68, which no scheme of
        // ours has, may end in `=`: it then reads as a parameter with an empty value.)
        if let Some(value) = value.strip_prefix('=') {
            let Some((text, after)) = parameter_value(value.trim_start()) else { break };
            if let Some((_, parameters)) = found.last_mut() {
                parameters.push((word.to_ascii_lowercase(), text));
            }
            rest = after;
        } else {
            found.push((word.to_ascii_lowercase(), Vec::new()));
            rest = after;
        }
    }
    found.into_iter().filter_map(|(scheme, parameters)| challenge(&scheme, &parameters)).collect()
}

fn challenge(scheme: &str, parameters: &[(String, String)]) -> Option<Challenge> {
    let parameter = |name: &str| {
        let (_, value) = parameters.iter().find(|(key, _)| key == name)?;
        (!value.is_empty()).then(|| value.clone())
    };
    match scheme {
        "bearer" => {
            Some(Challenge::Bearer { realm: parameter("realm")?, service: parameter("service"), scope: parameter("scope") })
        }
        "basic" => Some(Challenge::Basic),
        _ => None,
    }
}

/// The longest token (RFC 9110 5.6.2) at the front and what is behind it.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A quoted string, or unquoted text up to the next comma or space: realms are sent unquoted too.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: &str, scope: &str) -> Challenge {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Challenge::Bearer { realm: realm.to_owned(), service: some(service), scope: some(scope) }
    }

    #[test]
    fn reads_what_registries_send() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#;
        for (header, expected) in [
            (hub, vec![bearer("https://auth.docker.io/token", "registry.docker.io", "repository:a/b:pull")]),
            (r#"Basic realm="Registry""#, vec![Challenge::Basic]),
            ("Basic", vec![Challenge::Basic]),
            ("bearer REALM = \"https://t\" , scope=\"a,b c\"", vec![bearer("https://t", "", "a,b c")]),
            ("Bearer realm=https://t/x?y=1,service=s", vec![bearer("https://t/x?y=1", "s", "")]),
            (r#"Bearer realm="https://t", Basic realm="x""#, vec![bearer("https://t", "", ""), Challenge::Basic]),
            (
                r#"Basic realm="a\"b, Bearer realm=c", Bearer realm="https://t""#,
                vec![Challenge::Basic, bearer("https://t", "", "")],
            ),
            (r#"Digest realm="x", nonce="y", Basic realm="z""#, vec![Challenge::Basic]),
            ("Negotiate dG9rZW4=, Basic realm=x", vec![Challenge::Basic]),
            (r#"Bearer service="no realm""#, vec![]),
            (r#"Bearer realm="never closed"#, vec![]),
            ("", vec![]),
        ] {
            assert_eq!(parse(header), expected, "{header}");
        }
    }

    #[test]
    fn bearer_goes_before_basic_across_headers() {
        let headers = [r#"Basic realm="x""#, r#"Bearer realm="https://t""#];
        assert_eq!(choose(headers), Some(bearer("https://t", "", "")));
        assert_eq!(choose(["Basic"]), Some(Challenge::Basic));
        assert_eq!(choose(["Negotiate"]), None);
        assert_eq!(choose([]), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn never_panics_near_the_grammar(text in r#"([Bb]earer|Basic|realm|scope|=|"|\\|,| |x|é){0,24}"#) {
            let _ = parse(&text);
        }

        #[test]
        fn any_realm_survives_quoting(realm in "\\PC{1,30}") {
            let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
            prop_assert_eq!(parse(&format!("Bearer realm=\"{quoted}\"")), vec![bearer(&realm, "", "")]);
        }
    }
}
