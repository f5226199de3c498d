//! The password of `--user`: behind the name, from standard input, or asked for on the terminal without echo (reference 1.2).

use std::{
    fmt,
    io::{self, Read},
};

use super::terminal;

/// Of standard input; key files that serve as passwords have some kilobytes.
const MAX_PASSWORD: u64 = 64 << 10;

/// The password could not be had.
#[derive(Debug)]
pub(crate) enum NoPassword {
    /// There is nobody to ask.
    Terminal {
        /// Whose it is.
        user: String,
        source: io::Error,
    },
    /// Standard input does not hold one.
    Stdin {
        /// Whose it is.
        user: String,
        source: io::Error,
    },
}

/// Name and password. An empty password counts as missing.
pub(super) fn of(user: &str, from_stdin: bool) -> Result<(String, String), NoPassword> {
    asking(user, if from_stdin { Some(io::stdin()) } else { None }, || terminal::ask("Password: "))
}

fn asking(
    user: &str,
    stdin: Option<impl Read>,
    ask: impl FnOnce() -> io::Result<String>,
) -> Result<(String, String), NoPassword> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let user = name.to_owned();
    let password = match stdin {
        Some(stdin) => match read(stdin) {
            Ok(password) => password,
            Err(source) => return Err(NoPassword::Stdin { user, source }),
        },
        None if password.is_empty() => match ask() {
            Ok(password) => password,
            Err(source) => return Err(NoPassword::Terminal { user, source }),
        },
        None => password.to_owned(),
    };
    Ok((user, password))
}

/// All of it but the end of the last line, as `docker login` takes it.
fn read(stdin: impl Read) -> io::Result<String> {
    let mut text = String::new();
    stdin.take(MAX_PASSWORD + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_PASSWORD {
        return Err(io::Error::other(format!("longer than {MAX_PASSWORD} bytes")));
    }
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() { Err(io::Error::other("nothing there")) } else { Ok(password.to_owned()) }
}

impl NoPassword {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Terminal { user, .. } => {
                format!("without a terminal give it on standard input: --user {user} --password-stdin")
            }
            Self::Stdin { user, .. } => format!("rpull --user {user} --password-stdin … <FILE, with the password in it"),
        }
    }
}

impl fmt::Display for NoPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Terminal { user, .. } => write!(f, "no terminal to ask for the password of {user}"),
            Self::Stdin { user, .. } => write!(f, "no password of {user} on standard input"),
        }
    }
}

impl std::error::Error for NoPassword {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Terminal { source, .. } | Self::Stdin { source, .. } => Some(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: &str, stdin: Option<&str>) -> Result<(String, String), NoPassword> {
        asking(user, stdin.map(str::as_bytes), || Ok("typed".to_owned()))
    }

    #[test]
    fn the_password_is_given_or_asked_for() {
        for (user, stdin, expected) in [
            ("alice:secret", None, ("alice", "secret")),
            ("alice:se:cret", None, ("alice", "se:cret")),
            ("alice", None, ("alice", "typed")),
            ("alice:", None, ("alice", "typed")),
            ("-x:y", None, ("-x", "y")),
            ("alice", Some("secret\n"), ("alice", "secret")),
            ("alice:", Some("secret\r\n"), ("alice", "secret")),
            ("_json_key", Some("{\n  \"key\": 1\n}\n"), ("_json_key", "{\n  \"key\": 1\n}")),
            ("alice", Some(" secret \n\n"), ("alice", " secret \n")),
        ] {
            let (name, password) = login(user, stdin).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((name.as_str(), password.as_str()), expected, "{user:?} {stdin:?}");
        }
    }

    #[test]
    fn what_holds_no_password_is_told() {
        for (stdin, why) in [("", "nothing there"), ("\n", "nothing there"), (&"x".repeat(65_537), "longer than 65536 bytes")] {
            let error = login("alice", Some(stdin)).unwrap_err();
            assert_eq!(error.to_string(), "no password of alice on standard input");
            assert_eq!(std::error::Error::source(&error).unwrap().to_string(), why);
        }
    }

    #[test]
    fn without_a_terminal_the_hint_says_how() {
        let error = asking("alice", None::<&[u8]>, || Err(io::ErrorKind::NotFound.into())).unwrap_err();
        assert_eq!(error.to_string(), "no terminal to ask for the password of alice");
        assert!(error.hint().contains("--user alice --password-stdin"));
    }
}
