//! What containerd would not do, by whose trouble it is.

use std::{error::Error as _, io, path::PathBuf, time::Duration};

use oci::{Digest, Namespace};
use tonic::{Code, Status};

/// Each variant names the object; [`Error::hint`] says what to do.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum Error {
    /// No file at the address.
    #[error("containerd socket {address} is not there")]
    SocketMissing {
        /// Path of the socket.
        address: String,
    },
    /// The socket is there and we may not use it.
    #[error("containerd socket {address} may not be used by this user")]
    SocketDenied {
        /// Path of the socket.
        address: String,
        /// As the kernel said it.
        source: io::Error,
    },
    /// Nobody answers at the address, or nobody answers any more.
    #[error("containerd at {address} does not answer")]
    Silent {
        /// Path of the socket.
        address: String,
        /// What was seen; `None` when a time limit passed.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// containerd has no snapshotter of that name, or could not start it.
    #[error("containerd has no snapshotter {name}")]
    NoSnapshotter {
        /// Its name.
        name: String,
        /// As containerd said it.
        source: Said,
    },
    /// The snapshotter is a process of its own, and it is not there.
    #[error("snapshotter {name} does not answer containerd")]
    SnapshotterDown {
        /// Its name.
        name: String,
        /// As containerd said it.
        source: Said,
    },
    /// The snapshotter took a call and does not answer it.
    #[error("snapshotter {name} has not answered the call {what} for {} seconds", waited.as_secs())]
    SnapshotterSilent {
        /// Its name.
        name: String,
        /// What was asked, as in "to prepare sha256:…".
        what: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The lease this session works under was deleted by somebody.
    #[error("lease {id} is gone")]
    LeaseGone {
        /// Its id.
        id: String,
    },
    /// Something that has to be there is not.
    #[error("{what} is not there")]
    Gone {
        /// What.
        what: String,
    },
    /// containerd hashed what it was given, and it is not what it should be.
    #[error("containerd did not take {digest}")]
    Mismatch {
        /// The digest expected.
        digest: Digest,
        /// As containerd said it.
        source: Said,
    },
    /// A descriptor lies about the size of a blob that is right.
    #[error("the image says that {digest} has {claimed} bytes, it has {actual}")]
    WrongSize {
        /// The blob.
        digest: Digest,
        /// Size in the descriptor, in bytes.
        claimed: u64,
        /// Size in the content store, in bytes.
        actual: u64,
    },
    /// The content store holds other bytes than the digest says.
    #[error("{place} is damaged: its bytes are not those of {digest}")]
    Damaged {
        /// The digest it is kept under.
        digest: Digest,
        /// The file, or the store where no file is in reach.
        place: String,
    },
    /// A damaged blob cannot be put right through the api store while others hold it.
    #[error(
        "{digest} cannot be put right through containerd: it would bring the damaged file back, for other namespaces hold it ({})",
        list(namespaces)
    )]
    Held {
        /// The blob.
        digest: Digest,
        /// Who holds it.
        namespaces: Vec<Namespace>,
    },
    /// The direct store was asked for, and its conditions do not hold.
    #[error("the direct store cannot be used: {why}")]
    NoDirect {
        /// The first condition that does not hold.
        why: String,
    },
    /// The spool could not be used, or a file could not be proved.
    #[error(transparent)]
    Spool(#[from] spool::Error),
    /// A file or directory beside the content store.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// containerd answered something that makes no sense.
    #[error("containerd's answer about {what} cannot be used: {why}")]
    Answer {
        /// What was asked about.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Any other refusal.
    #[error("containerd refused {what}")]
    Refused {
        /// What was asked, as in "to commit sha256:…".
        what: String,
        /// As containerd said it.
        source: Said,
    },
}

/// A refusal in containerd's own words, without what gRPC wraps around them.
#[derive(Debug)]
pub struct Said(Status);

impl Said {
    pub(crate) fn code(&self) -> Code {
        self.0.code()
    }

    pub(crate) fn message(&self) -> &str {
        self.0.message()
    }
}

impl From<Status> for Said {
    fn from(status: Status) -> Self {
        Self(status)
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.message() {
            "" => f.write_str(self.code().description()),
            message => f.write_str(message),
        }
    }
}

impl std::error::Error for Said {}

impl Error {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::SocketMissing { .. } => {
                "is containerd running? name its socket with --address or CONTAINERD_ADDRESS".to_owned()
            }
            Self::SocketDenied { .. } => "run rpull as root, or as a member of the group that owns the socket".to_owned(),
            Self::Silent { address, .. } => {
                format!("see whether containerd is alive (`systemctl status containerd`) and listens at {address}")
            }
            Self::NoSnapshotter { name, .. } => format!(
                "add [proxy_plugins.{name}] to containerd's config.toml and restart it, or choose one of `ctr plugins ls` with --snapshotter"
            ),
            Self::SnapshotterDown { name, .. } => {
                format!("start the snapshotter's own service (`systemctl status {name}-snapshotter`)")
            }
            Self::SnapshotterSilent { name, .. } => {
                format!(
                    "see what the snapshotter waits for (`journalctl -u {name}-snapshotter`) or restart it, then run rpull again"
                )
            }
            Self::WrongSize { .. } => "the image is broken in the registry; build and push it again".to_owned(),
            Self::LeaseGone { .. } | Self::Gone { .. } => {
                "another client changed containerd meanwhile; run rpull again, finished layers are kept".to_owned()
            }
            Self::Mismatch { .. } => {
                "run rpull again; if it happens again the disk or the memory of this host is suspect".to_owned()
            }
            Self::Damaged { digest, .. } => format!(
                "another namespace may hold it: find it with `ctr -n NAMESPACE content ls | grep {digest}`, delete it in all of them, pull again"
            ),
            Self::Held { digest, namespaces } => format!(
                "run it where the direct store works (--store direct says why it does not), or delete {digest} there too: {}",
                namespaces.iter().map(|name| format!("ctr -n {name} content rm {digest}")).collect::<Vec<_>>().join("; ")
            ),
            Self::NoDirect { .. } => "use --store auto or --store api".to_owned(),
            Self::Spool(error) => return error.hint(),
            Self::File { .. } | Self::Answer { .. } => return None,
            Self::Refused { source, .. } => match source.code() {
                Code::Unimplemented => "this containerd is too old; 1.6 is the oldest that works".to_owned(),
                Code::PermissionDenied => "run rpull as root".to_owned(),
                _ if self.is_no_space() => {
                    "free some space on the disk of containerd and its snapshotter, and run rpull again: what is there is kept"
                        .to_owned()
                }
                _ => return None,
            },
        })
    }

    /// containerd, or the snapshotter's own process, is not up: what may pass by itself when the machine has just booted.
    pub fn is_down(&self) -> bool {
        matches!(self, Self::SocketMissing { .. } | Self::Silent { .. } | Self::SnapshotterDown { .. })
    }

    /// Damage was found and could not be mended.
    pub fn is_beyond_repair(&self) -> bool {
        matches!(self, Self::Held { .. })
    }

    /// Bytes on this machine, or a word about them, that are not what their digest says.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Mismatch { .. } | Self::Damaged { .. } | Self::WrongSize { .. })
    }

    /// Is a disk full, containerd's or ours? containerd has no code for it, only Go's words.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Spool(error) => error.is_no_space(),
            Self::Refused { source, .. } => {
                ["no space left on device", "disk quota exceeded"].iter().any(|words| source.message().contains(words))
            }
            _ => false,
        }
    }

    /// The command line asks for what cannot be.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NoDirect { .. })
    }

    /// Something that has to be there is not: another client removed it.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::LeaseGone { .. } | Self::Gone { .. })
    }

    /// Sorts a refusal that has nothing special about it.
    pub(crate) fn refused(address: &str, lease: Option<&str>, what: impl Into<String>, status: Status) -> Self {
        // tonic gives a status a source only when it made it itself out of a broken connection.
        if status.source().is_some() || status.code() == Code::DeadlineExceeded {
            let source = status.source().map(|cause| cause.to_string().into());
            return Self::Silent { address: address.to_owned(), source };
        }
        let what = what.into();
        match (status.code(), lease) {
            // "lease does not exist", "lease \"…\": not found": worded differently from version to version.
            (Code::NotFound, Some(lease)) if status.message().contains("lease") => Self::LeaseGone { id: lease.to_owned() },
            _ => Self::Refused { what, source: status.into() },
        }
    }
}

fn list(namespaces: &[Namespace]) -> String {
    namespaces.iter().map(Namespace::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
