//! Why a pull did not become `done`, by cause.

use std::path::PathBuf;

use oci::Digest;

use crate::overlaybd;

/// Whose trouble it is; `cmd/rpull` turns it into an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The command line asks for something that cannot be.
    Usage,
    /// Credentials missing, wrong or not sufficient.
    Denied,
    /// No such reference or platform.
    NotFound,
    /// Registry unreachable or failing after retries.
    Registry,
    /// Bytes that are not what they should be.
    Corrupt,
    /// containerd or a snapshotter.
    Containerd,
    /// Local disk.
    Disk,
    /// Damage on this machine that could not be mended.
    Damaged,
    /// None of these.
    Other,
}

/// A failed pull. The text names the object, `source` the reason, [`Error::hint`] the cure.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum Error {
    /// A document, reference or platform is not acceptable.
    #[error(transparent)]
    Input(#[from] oci::Error),
    /// The registry's configuration cannot be used.
    #[error(transparent)]
    Hosts(#[from] registry::Error),
    /// Fetching failed for good.
    #[error(transparent)]
    Transfer(#[from] transfer::Error),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] spool::Error),
    /// containerd said no.
    #[error(transparent)]
    Containerd(#[from] containerd::Error),
    /// A layer, directory or file breaks overlaybd's rules.
    #[error(transparent)]
    Overlaybd(#[from] overlaybd::Error),
    /// Not enough room for what is still to come.
    #[error("{} needs {needed} bytes more, {free} are free", dir.display())]
    NoSpace {
        /// A directory on the filesystem that is too small.
        dir: PathBuf,
        /// Is it the spool, which can be put elsewhere?
        in_spool: bool,
        /// Bytes still to be written.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// Diff.Apply gave other contents than the config promises.
    #[error("layer {layer} unpacks to {actual}, its config says {expected}")]
    DiffId {
        /// The layer blob.
        layer: Digest,
        /// As the config has it.
        expected: Digest,
        /// As containerd's differ computed it.
        actual: Digest,
    },
    /// Something that was there is gone: another client removed it.
    #[error("{what} disappeared during the pull")]
    Gone {
        /// What.
        what: String,
    },
    /// A committed snapshot that cannot be made whole, and may not be touched because others may use it as it is.
    #[error("snapshot {chain_id} of layer {layer} cannot be used: {why}")]
    Unusable {
        /// Its name.
        chain_id: Digest,
        /// The layer blob.
        layer: Digest,
        /// What is wrong with it.
        why: String,
    },
    /// Asked again, containerd or the disk tells something else than it should.
    #[error("{what} is not as it should be: {why}")]
    Unproved {
        /// What.
        what: String,
        /// What was found.
        why: String,
    },
    /// There is no such image to look at.
    #[error("there is no image {name} in namespace {namespace}")]
    NoImage {
        /// Name of its record.
        name: String,
        /// containerd namespace.
        namespace: String,
    },
    /// A snapshot has to be made anew, and something stands on it.
    #[error("snapshot {chain_id} of layer {layer} has to be made anew, and is in use")]
    InUse {
        /// Its name.
        chain_id: Digest,
        /// The layer blob.
        layer: Digest,
        /// As containerd said it.
        source: Box<containerd::Error>,
    },
    /// Other code of this process died.
    #[error("an internal task of the pull ended unexpectedly")]
    Task(#[from] tokio::task::JoinError),
}

impl Error {
    /// Whose trouble it is.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Input(error) if error.is_missing() => Cause::NotFound,
            Self::NoImage { .. } => Cause::NotFound,
            Self::InUse { .. } => Cause::Damaged,
            Self::Containerd(error) if error.is_beyond_repair() => Cause::Damaged,
            Self::Containerd(error) if error.is_damage() => Cause::Corrupt,
            Self::Spool(error) | Self::Containerd(containerd::Error::Spool(error)) if error.is_damage() => Cause::Corrupt,
            Self::Input(_) | Self::DiffId { .. } => Cause::Corrupt,
            Self::Hosts(_) => Cause::Usage,
            Self::Transfer(error) => match error.class() {
                transfer::Class::Denied => Cause::Denied,
                transfer::Class::Missing => Cause::NotFound,
                transfer::Class::Corrupt => Cause::Corrupt,
                transfer::Class::Disk => Cause::Disk,
                transfer::Class::Unavailable => Cause::Registry,
                _ => Cause::Other,
            },
            Self::Containerd(error) if error.is_usage() => Cause::Usage,
            Self::Containerd(error) if error.is_no_space() => Cause::Disk,
            Self::Spool(_)
            | Self::NoSpace { .. }
            | Self::Containerd(containerd::Error::Spool(_) | containerd::Error::File { .. }) => Cause::Disk,
            Self::Overlaybd(error) => error.cause(),
            Self::Containerd(_) | Self::Gone { .. } | Self::Unproved { .. } | Self::Unusable { .. } => Cause::Containerd,
            Self::Task(_) => Cause::Other,
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Input(error) => error.hint(),
            Self::Hosts(error) => error.hint(),
            Self::Transfer(error) => error.hint(),
            Self::Spool(error) => error.hint(),
            Self::Containerd(error) => error.hint(),
            Self::Overlaybd(error) => error.hint(),
            Self::NoSpace { in_spool: true, .. } => {
                Some("free some space or point --spool-dir at a larger filesystem".to_owned())
            }
            Self::NoSpace { in_spool: false, .. } => Some("free some space on that filesystem".to_owned()),
            Self::DiffId { .. } => Some("the image is broken in the registry; build and push it again".to_owned()),
            Self::Gone { .. } | Self::Unproved { .. } => {
                Some("another client changed the image meanwhile; run rpull again, finished layers are kept".to_owned())
            }
            Self::Unusable { chain_id, .. } => Some(format!(
                "remove every image that uses it, or the snapshot itself (ctr snapshots --snapshotter NAME rm {chain_id}), and run rpull again"
            )),
            Self::NoImage { name, .. } => Some(format!(
                "rpull {name} pulls it; if another namespace or another name has it, see `ctr namespaces ls` and `ctr images ls`"
            )),
            Self::InUse { .. } => {
                Some("stop the containers of this image and remove the images that are built on it, then run rpull verify --repair again".to_owned())
            }
            Self::Task(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_that_can_be_cured_says_how() {
        let digest = Digest::of(b"x");
        let room = |in_spool| Error::NoSpace { dir: "/var/lib".into(), in_spool, needed: 2, free: 1 };
        let in_use = containerd::Error::Gone { what: "x".to_owned() };
        for (error, told) in [
            (
                room(true),
                "/var/lib needs 2 bytes more, 1 are free\n\
                 hint: free some space or point --spool-dir at a larger filesystem",
            ),
            (room(false), "/var/lib needs 2 bytes more, 1 are free\nhint: free some space on that filesystem"),
            (
                Error::DiffId { layer: digest, expected: digest, actual: digest },
                "layer DIGEST unpacks to DIGEST, its config says DIGEST\n\
                 hint: the image is broken in the registry; build and push it again",
            ),
            (
                Error::Gone { what: "snapshot x".to_owned() },
                "snapshot x disappeared during the pull\n\
                 hint: another client changed the image meanwhile; run rpull again, finished layers are kept",
            ),
            (
                Error::Unproved { what: "snapshot x".to_owned(), why: "it is lazy".to_owned() },
                "snapshot x is not as it should be: it is lazy\n\
                 hint: another client changed the image meanwhile; run rpull again, finished layers are kept",
            ),
            (
                Error::Unusable { chain_id: digest, layer: digest, why: "it is empty".to_owned() },
                "snapshot DIGEST of layer DIGEST cannot be used: it is empty\n\
                 hint: remove every image that uses it, or the snapshot itself (ctr snapshots --snapshotter NAME rm DIGEST), \
                 and run rpull again",
            ),
            (
                Error::NoImage { name: "r/a:1".to_owned(), namespace: "default".to_owned() },
                "there is no image r/a:1 in namespace default\n\
                 hint: rpull r/a:1 pulls it; if another namespace or another name has it, see `ctr namespaces ls` and `ctr images ls`",
            ),
            (
                Error::InUse { chain_id: digest, layer: digest, source: Box::new(in_use) },
                "snapshot DIGEST of layer DIGEST has to be made anew, and is in use\n\
                 hint: stop the containers of this image and remove the images that are built on it, \
                 then run rpull verify --repair again",
            ),
        ] {
            let hint = error.hint().map_or_else(String::new, |hint| format!("\nhint: {hint}"));
            assert_eq!(format!("{error}{hint}"), told.replace("DIGEST", &digest.to_string()));
        }
    }
}
