//! Platforms by containerd's rules (reference 5.5).

use std::{env::consts, fmt, str::FromStr};

use crate::Error;

/// An operating system, an architecture and a variant, normalised: lower case, `x86_64` is `amd64`,
/// `aarch64` is `arm64`, `armhf` is `arm/v7`, … (containerd/platforms `database.go`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Platform {
    /// `linux`
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`, `v9`; empty where the architecture has a default.
    pub variant: String,
}

impl Platform {
    /// Normalises the three words. An empty operating system is this machine's, as containerd has it.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "" => host_os().to_owned(),
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let (architecture, variant) = (architecture.to_ascii_lowercase(), variant.to_ascii_lowercase());
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
            ("aarch64" | "arm64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            (architecture, variant) => (architecture, variant),
        };
        Self { os, architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// The machine this program runs on. A 32-bit arm program counts as `v7`: it is not built for less.
    pub fn host() -> Self {
        Self::new(host_os(), host_architecture(), "")
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// `os/arch[/variant]`, and as containerd allows `arch` or `os` alone (platforms.Parse).
    fn from_str(text: &str) -> Result<Self, Error> {
        let malformed = || Error::Platform { text: text.to_owned() };
        let parts: Vec<&str> = text.split('/').collect();
        // Variants such as `v8.2` have a dot, which containerd's own pattern forgets.
        let word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if !parts.iter().all(word) {
            return Err(malformed());
        }
        match parts[..] {
            [word] => {
                let system = Self::new(word, host_architecture(), "");
                let machine = Self::new("", word, "");
                if OPERATING_SYSTEMS.contains(&system.os.as_str()) {
                    Ok(system)
                } else if ARCHITECTURES.contains(&machine.architecture.as_str()) {
                    Ok(machine)
                } else {
                    Err(malformed())
                }
            }
            [os, architecture] => Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant)),
            _ => Err(malformed()),
        }
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
    /// Never empty: the first is the one asked for.
    accepted: Vec<Platform>,
}

impl PlatformMatcher {
    /// Everything a machine of `platform` accepts, best first.
    pub fn only(platform: &Platform) -> Self {
        let mut accepted = vec![platform.clone()];
        accepted.extend(lesser(platform));
        Self { accepted }
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

/// What a machine of `platform` runs besides its own, best first (platforms `platformVector`).
fn lesser(platform: &Platform) -> Vec<Platform> {
    let of = |architecture: &str, variant: &str| Platform::new(&platform.os, architecture, variant);
    match platform.architecture.as_str() {
        "amd64" => {
            let version = major(&platform.variant).unwrap_or(1);
            let lower = (1..version).rev().map(|version| of("amd64", &format!("v{version}")));
            lower.chain([of("386", "")]).collect()
        }
        "arm" => {
            let version = major(&platform.variant).unwrap_or(5);
            (5..version).rev().map(|version| of("arm", &format!("v{version}"))).collect()
        }
        "arm64" => {
            let Some((major, minor)) = arm64_version(&platform.variant) else { return Vec::new() };
            let mut all: Vec<Platform> = (0..minor).rev().map(|minor| of("arm64", &format!("v{major}.{minor}"))).collect();
            if major == 9 {
                // Armv9.n contains Armv8.(n + 5); 8.9 is the last of its line.
                let newest = (minor + 5).min(9);
                all.extend((0..=newest).rev().map(|minor| of("arm64", &format!("v8.{minor}"))));
            }
            all.extend((5..=8).rev().map(|version| of("arm", &format!("v{version}"))));
            all
        }
        _ => Vec::new(),
    }
}

/// `v3` is 3. A byte is enough for any real one and keeps the list of a hostile variant short.
fn major(variant: &str) -> Option<u8> {
    variant.strip_prefix('v').unwrap_or(variant).parse().ok()
}

/// The versions `platforms.arm64variantToVersion` knows; an empty variant is `v8`.
fn arm64_version(variant: &str) -> Option<(u8, u8)> {
    let text = if variant.is_empty() { "8" } else { variant.strip_prefix('v')? };
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    match (major.parse().ok()?, minor.parse().ok()?) {
        (8, minor @ 0..=9) => Some((8, minor)),
        (9, minor @ 0..=7) => Some((9, minor)),
        _ => None,
    }
}

/// `GOOS` of this machine.
fn host_os() -> &'static str {
    match consts::OS {
        "macos" => "darwin",
        os => os,
    }
}

/// `GOARCH` of this machine, where it differs from Rust's name for it.
fn host_architecture() -> &'static str {
    match consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "loongarch64" => "loong64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        architecture => architecture,
    }
}

/// Known to containerd (`isKnownOS`), needed to tell `linux` from `amd64` when one word stands alone.
const OPERATING_SYSTEMS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

/// Known to containerd (`isKnownArch`).
const ARCHITECTURES: [&str; 24] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

#[cfg(test)]
mod tests;
