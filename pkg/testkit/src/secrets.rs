//! Every secret that a test uses, so that nothing that a user sees can hold one unnoticed.
//!
//! A password, token, signature or cookie is [kept](keep) where it comes into being, by who sets the stage and not by the test
//! ([`keep_in_http`], [`keep_in_command`]); whoever catches what the program under test
//! says hands it to [`assert_none_in`]. Found are also the forms that derive from a secret: percent-encoded, escaped, and in
//! base64 whatever stands before it (`user:password`).
//!
//! A test process knows its own secrets only, and only those so far. So `hack/test` names a directory in `RPULL_LEAK_CHECK`: all
//! forms of all secrets, one a line, are gathered in its file `secrets`, all that was checked in `output`, and one is searched
//! for the other when the suite is over.

mod places;

use std::{
    collections::BTreeMap,
    env,
    fs::File,
    io::Write as _,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD as BASE64};

pub(crate) use self::places::unescape;
pub use self::places::{keep_in_command, keep_in_http, keep_in_logins, keep_in_proxy};

/// A shorter secret would be found where it is none.
const SHORTEST: usize = 8;

/// Forms to look for, each with what it is.
static KNOWN: Mutex<BTreeMap<String, &'static str>> = Mutex::new(BTreeMap::new());

/// Enters a secret, and gives it back.
///
/// # Panics
/// When it is too short to be told from other text, or longer than a line.
pub fn keep<T: AsRef<str>>(secret: T) -> T {
    let text = secret.as_ref();
    assert!(text.len() >= SHORTEST && text.lines().count() == 1, "{text:?} cannot be told from other text");
    let mut known = known();
    for (form, what) in forms(text) {
        known.entry(form).or_insert_with_key(|form| {
            record("secrets", form);
            what
        });
    }
    secret
}

/// What of a secret is in the text: the name of the form.
pub fn found_in(text: &str) -> Option<&'static str> {
    known().iter().find(|(form, _)| text.contains(form.as_str())).map(|(_, what)| *what)
}

/// Asserts that a text holds no secret of this process. `place` says where it comes from.
///
/// # Panics
/// When there is one.
#[track_caller]
pub fn assert_none_in(place: &str, text: &str) {
    if let Some(what) = found_in(text) {
        panic!("{place} shows {what}:\n{text}");
    }
    record("output", text);
}

fn known() -> MutexGuard<'static, BTreeMap<String, &'static str>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The secret as it is, and as others write it.
fn forms(secret: &str) -> Vec<(String, &'static str)> {
    let percent = |kept: &str, upper: bool| -> String {
        let escaped = |byte: u8| if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte);
        secret.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { escaped(byte) }).collect()
    };
    let mut forms = vec![(secret.to_owned(), "a secret as it is")];
    for upper in [true, false] {
        for kept in ["-._~", "-._~!$&'()*+,;=", "*-._", ""] {
            let encoded = percent(kept, upper);
            forms.push((encoded.replace("%20", "+"), "a secret in a form"));
            forms.push((encoded, "a secret in a URL"));
        }
    }
    forms.push((secret.escape_debug().to_string(), "a secret with escapes"));
    for before in 0..3 {
        let standard = inside_base64(before, secret);
        forms.push((standard.replace('+', "-").replace('/', "_"), "a secret in base64 for URLs"));
        forms.push((standard, "a secret in base64"));
    }
    forms
}

/// What a secret looks like inside base64 with `before` bytes in front of it (modulo 3), without the characters that it shares
/// with its neighbours.
fn inside_base64(before: usize, secret: &str) -> String {
    let bytes = [&vec![0; before], secret.as_bytes()].concat();
    let text = BASE64.encode(&bytes);
    let start = [0, 2, 3][before];
    let end = bytes.len() * 8 / 6;
    text[start..end].to_owned()
}

/// Adds a line to a file of the directory that `hack/test` names, if it does.
fn record(file: &str, line: &str) {
    let Some(directory) = env::var_os("RPULL_LEAK_CHECK") else { return };
    let path = PathBuf::from(directory).join(file);
    // One write, so that the lines of two processes do not mix.
    let written =
        File::options().create(true).append(true).open(&path).and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};

    use super::*;

    #[test]
    fn a_planted_secret_is_found_in_every_form() {
        let secret = keep("pl4nted s/cret+ü\"");
        for seen in [
            "wrong password pl4nted s/cret+ü\" for ann".to_owned(),
            "https://s.example/?sig=pl4nted%20s%2Fcret%2B%C3%BC%22&x=1".to_owned(),
            "password=pl4nted+s%2fcret%2b%c3%bc%22".to_owned(),
            r#"Text("pl4nted s/cret+ü\"")"#.to_owned(),
            format!("Basic {}", BASE64_STANDARD.encode(format!("ann:{secret}"))),
            BASE64_STANDARD.encode(format!(":{secret}")),
            BASE64_URL_SAFE.encode(format!("someone:{secret}:and more")),
        ] {
            assert!(found_in(&seen).is_some(), "not found in {seen}");
        }
        for other in ["pl4nted", "Basic YW5uOg==", "sig=REDACTED"] {
            assert_eq!(found_in(other), None, "{other}");
        }
    }

    #[test]
    #[should_panic(expected = "stderr shows a secret as it is")]
    fn a_leak_ends_the_test() {
        let secret = keep("a planted one");
        assert_none_in("stderr", &format!("rpull: denied with {secret}"));
    }

    #[test]
    #[should_panic(expected = "cannot be told")]
    fn a_secret_that_is_everywhere_is_refused() {
        keep("secret");
    }
}
