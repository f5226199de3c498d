//! What must never be printed.

use std::fmt;

/// Text that never prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one header or form that carries it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("REDACTED")
    }
}

/// Who asks. Offered to a host only when it challenges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody: a token is still fetched where the registry wants one.
    #[default]
    Anonymous,
    /// `--user`
    Basic {
        /// User name.
        user: String,
        /// Password or access token.
        password: Secret,
    },
    /// `--refresh`: an identity token, good for a Bearer token only.
    Refresh(Secret),
}

impl Credentials {
    /// Is there nothing to show?
    pub(crate) fn is_anonymous(&self) -> bool {
        *self == Self::Anonymous
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints() {
        let credentials = Credentials::Basic { user: "ann".to_owned(), password: Secret::new("hunter2") };
        let text = format!("{credentials:?} {:?}", Credentials::Refresh(Secret::new("hunter2")));
        assert!(text.contains("ann") && !text.contains("hunter2"), "{text}");
    }
}
