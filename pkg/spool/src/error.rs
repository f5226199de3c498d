//! What can go wrong with a file of the spool.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use oci::{ByteRange, Digest};

/// Each variant names the file or the blob; [`Error::hint`] says what to do.
///
/// It can be cloned, because one failure of an entry is told to everyone who waits for it.
#[derive(thiserror::Error, Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The filesystem said no.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the filesystem said.
        source: Arc<io::Error>,
    },
    /// Others could change what lies in this directory (safety 5).
    #[error("spool directory {path} is not safe: {why}")]
    Insecure {
        /// The directory, or one above it.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A blob was expected, something else is there: a directory, a symbolic link, a device.
    #[error("{path} is not a regular file")]
    NotRegular {
        /// Where it is.
        path: PathBuf,
    },
    /// A file of another size than the blob.
    #[error("{path} has {actual} bytes instead of {expected}")]
    Size {
        /// The file.
        path: PathBuf,
        /// Size of the blob in bytes.
        expected: u64,
        /// Size of the file in bytes.
        actual: u64,
    },
    /// The bytes are not those of the digest.
    #[error("the bytes received for {expected} have digest {actual}")]
    Mismatch {
        /// The digest asked for.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
    },
    /// Some of these bytes are written already, or granted to another writer, or outside the blob (safety 2).
    #[error("bytes {range} of {digest} are not free to be written")]
    Taken {
        /// The blob.
        digest: Digest,
        /// What was asked for.
        range: ByteRange,
    },
    /// Outside what this grant still has to write (safety 2).
    #[error("offset {offset} of {digest} is outside the granted range")]
    Outside {
        /// The blob.
        digest: Digest,
        /// Where the write would have ended, or where the grant was to be cut.
        offset: u64,
    },
    /// An entry cannot start over or go away while someone writes it, or after its proof.
    #[error("the spool entry of {digest} is in use")]
    Busy {
        /// The blob.
        digest: Digest,
    },
    /// The entry started over; what was read of it before is void.
    #[error("the spool entry of {digest} started over")]
    Restarted {
        /// The blob.
        digest: Digest,
    },
    /// The file is no longer the one that was proved (safety 4).
    #[error("{path} changed after its proof")]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.as_ref().to_owned(), source: Arc::new(source.into()) }
    }

    /// The filesystem's answer, where it was one: `AlreadyExists`, `CrossesDevices`, `TooManyLinks`, `PermissionDenied`…
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }

    /// Is the disk, or the quota on it, full?
    pub fn is_no_space(&self) -> bool {
        matches!(self.io_kind(), Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// Is a file there that does not hold the blob it should?
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::NotRegular { .. } | Self::Size { .. } | Self::Mismatch { .. })
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { path, .. } if self.is_no_space() => {
                let directory = path.parent().unwrap_or(path).display();
                format!("free space on the filesystem of {directory} and run again: what is there is kept")
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run as a user who may write there, or name another directory with --spool-dir".to_owned()
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "name a directory with --spool-dir in one that exists".to_owned()
            }
            Self::Insecure { .. } => {
                "name a directory with --spool-dir that nobody else can write to; rpull makes it if it is missing".to_owned()
            }
            Self::Mismatch { .. } => "the registry or something on the way changes bytes; pull from another source".to_owned(),
            Self::Changed { .. } => "something else writes into the spool; find out what, then run again".to_owned(),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_that_can_be_cured_says_how() {
        let io = |kind: io::ErrorKind| Error::io("write", "/spool/blob", io::Error::from(kind));
        let digest = Digest::of(b"x");
        let (path, why) = (PathBuf::from("/spool"), "others have access to it, its mode must be 0700");
        for (error, told) in [
            (
                io(io::ErrorKind::StorageFull),
                "cannot write /spool/blob\n\
                 hint: free space on the filesystem of /spool and run again: what is there is kept",
            ),
            (
                io(io::ErrorKind::PermissionDenied),
                "cannot write /spool/blob\n\
                 hint: run as a user who may write there, or name another directory with --spool-dir",
            ),
            (io(io::ErrorKind::NotFound), "cannot write /spool/blob\nhint: name a directory with --spool-dir in one that exists"),
            (io(io::ErrorKind::Interrupted), "cannot write /spool/blob"),
            (
                Error::Insecure { path, why },
                "spool directory /spool is not safe: others have access to it, its mode must be 0700\n\
                 hint: name a directory with --spool-dir that nobody else can write to; rpull makes it if it is missing",
            ),
            (
                Error::Mismatch { expected: digest, actual: digest },
                "the bytes received for DIGEST have digest DIGEST\n\
                 hint: the registry or something on the way changes bytes; pull from another source",
            ),
            (
                Error::Changed { path: "/spool/blob".into() },
                "/spool/blob changed after its proof\n\
                 hint: something else writes into the spool; find out what, then run again",
            ),
        ] {
            let hint = error.hint().map_or_else(String::new, |hint| format!("\nhint: {hint}"));
            assert_eq!(format!("{error}{hint}"), told.replace("DIGEST", &digest.to_string()));
        }
    }
}
