//! Is a file that is there already the blob it should be? And memory of those that were not, so that they are hashed once only.

use std::{
    collections::HashMap,
    fs::Metadata,
    io::ErrorKind,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use oci::Digest;
use spool::{Identity, Verified};

/// Files of the content store whose bytes were found wrong. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rotten(Arc<Mutex<HashMap<Digest, Identity>>>);

/// What was found at a path.
#[derive(Debug)]
pub(crate) enum Found {
    /// The blob.
    Right(Verified),
    /// The blob, and it is not as long as was claimed.
    OtherSize(u64),
    /// Something else. `known`: it was found before.
    Rotten {
        /// Is this the same file that was found rotten before?
        known: bool,
    },
    /// Nothing.
    Nothing,
}

impl Rotten {
    /// Hashes the file at `path`, unless it is known to be rotten. Blocking.
    pub(crate) fn look(&self, path: &Path, digest: Digest, size: u64) -> Result<Found, spool::Error> {
        let identity = path.symlink_metadata().as_ref().map(Identity::from).ok();
        if identity.is_some() && self.files().get(&digest).copied() == identity {
            return Ok(Found::Rotten { known: true });
        }
        match Verified::of_file(path, digest, size) {
            Ok(verified) => Ok(Found::Right(verified)),
            Err(spool::Error::Size { actual, .. }) if actual > 0 && Verified::of_file(path, digest, actual).is_ok() => {
                Ok(Found::OtherSize(actual))
            }
            Err(error) if error.is_damage() => {
                self.files().extend(identity.map(|identity| (digest, identity)));
                Ok(Found::Rotten { known: false })
            }
            Err(error) if error.io_kind() == Some(ErrorKind::NotFound) => Ok(Found::Nothing),
            Err(error) => Err(error),
        }
    }

    fn files(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Identity>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Length of a regular file; `None` for anything else.
pub(crate) fn length(path: &Path) -> Option<u64> {
    path.symlink_metadata().ok().filter(Metadata::is_file).map(|found| found.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_judged_by_its_bytes_and_a_rotten_one_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blob");
        let digest = Digest::of(b"good");
        let rotten = Rotten::default();
        assert!(matches!(rotten.look(&path, digest, 4), Ok(Found::Nothing)));
        std::fs::write(&path, "evil").unwrap();
        assert!(matches!(rotten.look(&path, digest, 4), Ok(Found::Rotten { known: false })));
        assert!(matches!(rotten.clone().look(&path, digest, 4), Ok(Found::Rotten { known: true })));
        // Another file in its place is looked at anew.
        std::fs::write(dir.path().join("new"), "good").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert!(matches!(rotten.look(&path, digest, 4), Ok(Found::Right(_))));
        assert!(matches!(rotten.look(&path, digest, 5), Ok(Found::OtherSize(4))), "the claim is wrong, not the file");
    }
}
