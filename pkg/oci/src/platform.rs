//! Platforms by containerd's rules (reference 5.5).

use std::{fmt, str::FromStr};

use crate::Error;

/// An operating system, an architecture and a variant, normalised: lower case, `x86_64` is `amd64`,
/// `aarch64` is `arm64`, `armhf` is `arm/v7`, … (containerd/platforms `database.go`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Platform {
    /// `linux`
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`, `v8`; empty where the architecture has a default.
    pub variant: String,
}

impl Platform {
    /// Normalises the three words.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let _ = (os, architecture, variant);
        todo!()
    }

    /// The machine this program runs on.
    pub fn host() -> Self {
        todo!()
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// `os/arch[/variant]`, and as containerd allows `arch` or `os` alone (platforms.Parse).
    fn from_str(_text: &str) -> Result<Self, Error> {
        todo!()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

/// `platforms.Only`: the platforms a machine of one platform runs, best first.
#[derive(Clone, Debug)]
pub struct PlatformMatcher {
    accepted: Vec<Platform>,
}

impl PlatformMatcher {
    /// Everything a machine of `platform` accepts, best first.
    pub fn only(platform: &Platform) -> Self {
        let _ = platform;
        todo!()
    }

    /// Position in the order of preference; `None` when not accepted.
    pub fn rank(&self, platform: &Platform) -> Option<usize> {
        self.accepted.iter().position(|accepted| accepted == platform)
    }

    /// The platform asked for.
    pub fn wanted(&self) -> &Platform {
        &self.accepted[0]
    }
}
