//! What is wrong with something that came in.

use crate::Digest;

/// Each variant names the object; [`Error::hint`] says what to do.
#[derive(thiserror::Error, Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// Not `sha256:` and 64 lower-case hex digits.
    #[error("{text:?} is not a digest")]
    Digest {
        /// As given.
        text: String,
    },
    /// A digest algorithm other than sha256.
    #[error("digest algorithm {algorithm} is not supported: {text}")]
    Algorithm {
        /// The digest as given.
        text: String,
        /// Its name.
        algorithm: String,
    },
    /// A size no blob can have.
    #[error("size {size} of {digest} is out of bounds")]
    Size {
        /// Whose size.
        digest: Digest,
        /// As written.
        size: String,
    },
    /// One digest with two sizes in one manifest (safety 20).
    #[error("{digest} is listed with two sizes, {first} and {second}")]
    TwoSizes {
        /// The digest listed twice.
        digest: Digest,
        /// First size in bytes.
        first: u64,
        /// Second size in bytes.
        second: u64,
    },
    /// Not an image reference.
    #[error("invalid reference {text:?}: {why}")]
    Reference {
        /// As given.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Not a containerd namespace.
    #[error("invalid namespace {text:?}")]
    Namespace {
        /// As given.
        text: String,
    },
    /// Not a platform.
    #[error("invalid platform {text:?}")]
    Platform {
        /// As given.
        text: String,
    },
    /// A manifest, index or config that is not what it says.
    #[error("{what} {digest} is not valid: {why}")]
    Document {
        /// `manifest`, `index` or `config`.
        what: &'static str,
        /// Which one.
        digest: Digest,
        /// What is wrong.
        why: String,
    },
    /// No manifest of the index fits.
    #[error("no manifest for platform {wanted} in {digest}")]
    NoPlatform {
        /// The platform asked for.
        wanted: String,
        /// The index, or the only manifest.
        digest: Digest,
        /// Those it offers.
        offered: Vec<String>,
    },
    /// `rootfs.diff_ids` and layers do not pair (reference 6.1).
    #[error("manifest {manifest} has {layers} layers and its config {diff_ids} diff ids")]
    DiffIds {
        /// The manifest.
        manifest: Digest,
        /// Number of layers.
        layers: usize,
        /// Number of diff ids.
        diff_ids: usize,
    },
}

impl Error {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Digest { .. } => "a digest is sha256: followed by 64 lower-case hex digits".to_owned(),
            Self::Algorithm { .. } => "rpull proves blobs by sha256 only; push the image with sha256 digests".to_owned(),
            Self::Size { .. } | Self::TwoSizes { .. } | Self::Document { .. } | Self::DiffIds { .. } => {
                "the image is broken in the registry; build and push it again".to_owned()
            }
            Self::Reference { .. } => "a reference is HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]".to_owned(),
            Self::Namespace { .. } => {
                "a namespace is up to 76 letters and digits with single . _ - between them, for example k8s.io".to_owned()
            }
            Self::Platform { .. } => "a platform is OS/ARCH[/VARIANT], for example linux/arm64/v8".to_owned(),
            Self::NoPlatform { offered, .. } if offered.is_empty() => {
                "the index offers none at all; build and push it again".to_owned()
            }
            Self::NoPlatform { offered, .. } => format!("choose one with --platform: {}", offered.join(", ")),
        })
    }

    /// Is the thing asked for not there (rather than broken)?
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::NoPlatform { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_says_what_to_do() {
        let digest = Digest::of(b"x");
        let broken = "the image is broken in the registry; build and push it again";
        let text = || "x".to_owned();
        let offered = |offered: &[&str]| Error::NoPlatform {
            wanted: "linux/amd64".to_owned(),
            digest,
            offered: offered.iter().map(|&platform| platform.to_owned()).collect(),
        };
        for (error, hint) in [
            (Error::Digest { text: text() }, "a digest is sha256: followed by 64 lower-case hex digits"),
            (
                Error::Algorithm { text: text(), algorithm: text() },
                "rpull proves blobs by sha256 only; push the image with sha256 digests",
            ),
            (Error::Size { digest, size: text() }, broken),
            (Error::TwoSizes { digest, first: 1, second: 2 }, broken),
            (Error::Document { what: "index", digest, why: text() }, broken),
            (Error::DiffIds { manifest: digest, layers: 1, diff_ids: 2 }, broken),
            (Error::Reference { text: text(), why: "x" }, "a reference is HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]"),
            (
                Error::Namespace { text: text() },
                "a namespace is up to 76 letters and digits with single . _ - between them, for example k8s.io",
            ),
            (Error::Platform { text: text() }, "a platform is OS/ARCH[/VARIANT], for example linux/arm64/v8"),
            (offered(&[]), "the index offers none at all; build and push it again"),
            (offered(&["linux/arm64", "linux/386"]), "choose one with --platform: linux/arm64, linux/386"),
        ] {
            assert_eq!(error.hint().as_deref(), Some(hint), "{error}");
        }
    }
}
