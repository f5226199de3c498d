//! What breaks overlaybd's rules.

use std::{io, path::PathBuf};

use oci::Digest;

use super::blob::Fault;
use crate::Cause;

/// The text names the object, `source` the reason, [`Error::hint`] the cure.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum Error {
    /// What the manifest says of a layer does not fit together.
    #[error("layer {layer} contradicts itself: {why}")]
    Contradiction {
        /// The layer blob.
        layer: Digest,
        /// What does not fit.
        why: String,
    },
    /// A layer that needs an overlaybd layer below it stands on another kind, or on nothing.
    #[error("overlaybd layer {layer} cannot stand on {below}")]
    Parent {
        /// The layer blob.
        layer: Digest,
        /// What is below it.
        below: String,
    },
    /// A layer whose data stays in the registry, in a full pull.
    #[error("layer {layer} is a TurboOCI layer: its data stays in the registry and cannot be made whole here")]
    Turbo {
        /// The layer blob.
        layer: Digest,
    },
    /// The bytes have the right digest and are no overlaybd blob.
    #[error("layer {layer} is not an overlaybd blob")]
    Blob {
        /// The layer blob.
        layer: Digest,
        /// What is wrong with it.
        #[source]
        source: Fault,
    },
    /// A mount reply that does not name a snapshot's directory.
    #[error("the snapshotter's mounts name no snapshot directory: {why}")]
    Mounts {
        /// What was found instead.
        why: String,
    },
    /// A snapshotter that does not treat an overlaybd layer as one.
    #[error("the snapshotter made no block device configuration beside {}", fs.display())]
    NoConfig {
        /// The snapshot's `fs` directory.
        fs: PathBuf,
    },
    /// The same where the directory is out of reach, told by the snapshotter's reply.
    #[error("the snapshotter does not treat layer {layer} as a block device")]
    NoDevice {
        /// The layer blob.
        layer: Digest,
    },
    /// A directory that is not this layer's (safety 13).
    #[error("{} is not the directory of layer {layer}: {why}", fs.display())]
    Directory {
        /// The snapshot's `fs` directory.
        fs: PathBuf,
        /// The layer blob.
        layer: Digest,
        /// What shows it.
        why: String,
    },
    /// The blob's file was changed or replaced while it was in use.
    #[error("the file of blob {layer} is not the one that was proved: {why}")]
    Original {
        /// The layer blob.
        layer: Digest,
        /// What shows it.
        why: String,
    },
    /// A fresh copy does not have the blob's digest.
    #[error("the copy {} has digest {actual}, not {layer}", path.display())]
    Copy {
        /// The copy, removed again.
        path: PathBuf,
        /// The layer blob.
        layer: Digest,
        /// Digest of the copy.
        actual: Digest,
    },
    /// The local disk said no.
    #[error("cannot {doing} {}", path.display())]
    Disk {
        /// What was tried, as a verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Whose trouble it is.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Blob { source: Fault::Read(_), .. } | Self::Disk { .. } => Cause::Disk,
            Self::Contradiction { .. } | Self::Blob { .. } | Self::Original { .. } | Self::Copy { .. } => Cause::Corrupt,
            Self::Turbo { .. } => Cause::Usage,
            Self::Parent { .. } => Cause::Other,
            Self::Mounts { .. } | Self::NoConfig { .. } | Self::NoDevice { .. } | Self::Directory { .. } => Cause::Containerd,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(
            match self {
                Self::Contradiction { .. } => {
                    "a tool changed the layers without their annotations; copy the image with skopeo copy --preserve-digests"
                }
                Self::Parent { .. } => "convert the whole image to overlaybd, not only its upper layers",
                Self::Turbo { .. } => "convert the image to native overlaybd, or pull it with --lazy",
                Self::Blob { source: Fault::Read(_), .. } => return None,
                Self::Blob { .. } => "convert the image again and push it; this layer could never be mounted",
                Self::NoConfig { .. } | Self::NoDevice { .. } => "pull overlaybd images with --snapshotter overlaybd",
                Self::Mounts { .. } | Self::Directory { .. } => {
                    "check that rpull runs on the snapshotter's host and that --snapshotter names the overlaybd snapshotter"
                }
                Self::Original { .. } | Self::Copy { .. } => "look for a failing disk, then run rpull again",
                Self::Disk { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                    "run as root, the owner of the snapshotter's directories"
                }
                Self::Disk { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                    "free some space on the snapshotter's filesystem and run rpull again"
                }
                Self::Disk { .. } => return None,
            }
            .to_owned(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_that_can_be_cured_says_how() {
        let layer = Digest::of(b"x");
        let why = || "it is odd".to_owned();
        let fs = || PathBuf::from("/s/1/fs");
        let disk = |kind: io::ErrorKind| Error::Disk { doing: "link", path: fs(), source: kind.into() };
        for (error, told) in [
            (
                Error::Contradiction { layer, why: why() },
                "layer DIGEST contradicts itself: it is odd\n\
                 hint: a tool changed the layers without their annotations; copy the image with skopeo copy --preserve-digests",
            ),
            (
                Error::Parent { layer, below: "nothing".to_owned() },
                "overlaybd layer DIGEST cannot stand on nothing\n\
                 hint: convert the whole image to overlaybd, not only its upper layers",
            ),
            (
                Error::Turbo { layer },
                "layer DIGEST is a TurboOCI layer: its data stays in the registry and cannot be made whole here\n\
                 hint: convert the image to native overlaybd, or pull it with --lazy",
            ),
            (
                Error::Blob { layer, source: Fault::Read(io::ErrorKind::Interrupted.into()) },
                "layer DIGEST is not an overlaybd blob",
            ),
            (
                Error::Mounts { why: why() },
                "the snapshotter's mounts name no snapshot directory: it is odd\n\
                 hint: check that rpull runs on the snapshotter's host and that --snapshotter names the overlaybd snapshotter",
            ),
            (
                Error::Directory { fs: fs(), layer, why: why() },
                "/s/1/fs is not the directory of layer DIGEST: it is odd\n\
                 hint: check that rpull runs on the snapshotter's host and that --snapshotter names the overlaybd snapshotter",
            ),
            (
                Error::NoConfig { fs: fs() },
                "the snapshotter made no block device configuration beside /s/1/fs\n\
                 hint: pull overlaybd images with --snapshotter overlaybd",
            ),
            (
                Error::NoDevice { layer },
                "the snapshotter does not treat layer DIGEST as a block device\n\
                 hint: pull overlaybd images with --snapshotter overlaybd",
            ),
            (
                Error::Original { layer, why: why() },
                "the file of blob DIGEST is not the one that was proved: it is odd\n\
                 hint: look for a failing disk, then run rpull again",
            ),
            (
                Error::Copy { path: fs(), layer, actual: layer },
                "the copy /s/1/fs has digest DIGEST, not DIGEST\n\
                 hint: look for a failing disk, then run rpull again",
            ),
            (
                disk(io::ErrorKind::PermissionDenied),
                "cannot link /s/1/fs\nhint: run as root, the owner of the snapshotter's directories",
            ),
            (
                disk(io::ErrorKind::StorageFull),
                "cannot link /s/1/fs\nhint: free some space on the snapshotter's filesystem and run rpull again",
            ),
            (disk(io::ErrorKind::Interrupted), "cannot link /s/1/fs"),
        ] {
            let hint = error.hint().map_or_else(String::new, |hint| format!("\nhint: {hint}"));
            assert_eq!(format!("{error}{hint}"), told.replace("DIGEST", &layer.to_string()));
        }
    }
}
