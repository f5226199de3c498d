//! Who we are for the registry, from the flags; asks for a password where one is missing, as `ctr` does.

mod terminal;

use std::io;

/// Credentials of the command line. Not `Debug`: nothing may print them.
pub(crate) enum Login {
    /// None given.
    Anonymous,
    /// `--user`.
    Password {
        /// Name, never empty.
        user: String,
        /// Given or asked for.
        password: String,
    },
    /// `--refresh`: an identity or refresh token.
    Refresh(String),
}

/// The password could not be asked for.
#[derive(Debug)]
pub(crate) struct NoTerminal {
    user: String,
    source: io::Error,
}

impl NoTerminal {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> String {
        format!("without a terminal give the password with the name: --user {}:PASSWORD", self.user)
    }
}

impl std::fmt::Display for NoTerminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no terminal to ask for the password of {}", self.user)
    }
}

impl std::error::Error for NoTerminal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Login {
    /// `--user NAME[:PASSWORD]` goes before `--refresh TOKEN` (reference 1.2); an empty password counts as missing and is
    /// asked for on the terminal without echo.
    pub(crate) fn new(user: Option<&str>, refresh: Option<&str>) -> Result<Self, NoTerminal> {
        Self::asking(user, refresh, || terminal::ask("Password: "))
    }

    fn asking(user: Option<&str>, refresh: Option<&str>, ask: impl FnOnce() -> io::Result<String>) -> Result<Self, NoTerminal> {
        let Some(user) = user else {
            return Ok(refresh.map_or(Self::Anonymous, |token| Self::Refresh(token.to_owned())));
        };
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        let user = name.to_owned();
        if password.is_empty() {
            match ask() {
                Ok(password) => Ok(Self::Password { user, password }),
                Err(source) => Err(NoTerminal { user, source }),
            }
        } else {
            Ok(Self::Password { user, password: password.to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// User and password, or `refresh` and token.
    fn login(user: Option<&str>, refresh: Option<&str>) -> Option<(String, String)> {
        match Login::asking(user, refresh, || Ok("typed".to_owned())) {
            Ok(Login::Anonymous) => None,
            Ok(Login::Password { user, password }) => Some((user, password)),
            Ok(Login::Refresh(token)) => Some(("refresh".to_owned(), token)),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn the_password_is_given_or_asked_for() {
        for (user, refresh, expected) in [
            (None, None, None),
            (Some("alice:secret"), None, Some(("alice", "secret"))),
            (Some("alice:se:cret"), None, Some(("alice", "se:cret"))),
            (Some("alice"), None, Some(("alice", "typed"))),
            (Some("alice:"), None, Some(("alice", "typed"))),
            (Some("-x:y"), None, Some(("-x", "y"))),
            (None, Some("token"), Some(("refresh", "token"))),
            (Some("alice:secret"), Some("token"), Some(("alice", "secret"))),
        ] {
            let expected = expected.map(|(user, password)| (user.to_owned(), password.to_owned()));
            assert_eq!(login(user, refresh), expected, "{user:?} {refresh:?}");
        }
    }

    #[test]
    fn without_a_terminal_the_hint_says_how() {
        let error = Login::asking(Some("alice"), None, || Err(io::ErrorKind::NotFound.into())).err().unwrap();
        assert_eq!(error.to_string(), "no terminal to ask for the password of alice");
        assert!(error.hint().contains("--user alice:PASSWORD"));
    }
}
