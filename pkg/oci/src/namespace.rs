//! containerd namespace names.

use std::{fmt, str::FromStr};

use crate::Error;

/// A containerd namespace: at most 76 characters, alphanumerics with single `.`, `_`, `-` between them
/// (containerd `pkg/identifiers/validate.go`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Namespace(String);

impl Namespace {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Namespace {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let part = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if text.len() <= 76 && text.split(['.', '_', '-']).all(part) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::Namespace { text: text.to_owned() })
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_containerd() {
        for good in ["default", "k8s.io", "a_b-c.d", "moby"] {
            assert!(good.parse::<Namespace>().is_ok(), "{good}");
        }
        let long = "a".repeat(77);
        for bad in ["", "a..b", "-a", "a-", "a/b", "a b", "ä", "../x", &long] {
            assert!(bad.parse::<Namespace>().is_err(), "{bad}");
        }
    }
}
