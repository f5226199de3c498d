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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Credentials;

    #[test]
    fn a_secret_never_prints() {
        let credentials = Credentials::Basic { user: "ann".to_owned(), password: Secret::new("hunter2") };
        let text = format!("{credentials:?} {:?}", Credentials::Refresh(Secret::new("hunter2")));
        assert!(text.contains("ann") && !text.contains("hunter2"), "{text}");
    }
}
