//! Where the directories of committed snapshots are (reference 7.9).
//!
//! containerd never names them. A labelled View on the deepest committed snapshot answers with every ancestor's `fs`;
//! it works on lazy and on whole layers, without any device. The paths are the snapshotter's: they are believed only after a
//! second View's new directory was seen to appear beside them from here (safety 13). That a View's directory goes with its
//! Remove shows nothing in time: containerd takes it at its next garbage collection.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use containerd::{Mount, Prepared, Session};
use oci::Digest;

use crate::{Error, blocking, overlaybd, scratch::Scratch};

/// `fs` directory of each snapshot of a chain, by chain id. Empty when they cannot be reached from here.
pub(crate) type Directories = BTreeMap<Digest, PathBuf>;

/// Asks one snapshotter for directories. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Probe {
    session: Session,
    scratch: Scratch,
    snapshotter: String,
    /// The directory of all snapshots, once it was proved to be the one seen from here.
    proved: Arc<OnceLock<PathBuf>>,
}

impl Probe {
    pub(crate) fn new(session: Session, scratch: Scratch, snapshotter: String) -> Self {
        Self { session, scratch, snapshotter, proved: Arc::default() }
    }

    /// Does the snapshotter answer? Asked before a long fetch. containerd itself knows what there is, so that only a snapshot to be
    /// made gets through to the snapshotter. Answers with the directory of all snapshots where one is to be seen from here: good
    /// enough to ask for its free space, no more.
    pub(crate) async fn answers(&self) -> Result<Option<PathBuf>, Error> {
        let key = unique_key();
        let labels = overlaybd::probe_labels(&key);
        let (session, snapshotter, name) = (self.session.clone(), self.snapshotter.clone(), key.clone());
        let made = self.scratch.make(&key, async move { session.prepare(&snapshotter, &name, None, &labels).await }).await?;
        let snapshots = match made {
            Prepared::Active(mounts) => overlaybd::active_directory(&mounts).ok().filter(|fs| fs.is_dir()),
            Prepared::Exists => None,
        };
        self.scratch.remove(&key).await?;
        Ok(snapshots.and_then(|fs| fs.ancestors().nth(2).map(Path::to_owned)))
    }

    /// The directories of `chain` (chain ids, bottom first), all of them committed.
    pub(crate) async fn directories(&self, chain: &[Digest]) -> Result<Directories, Error> {
        let Some(top) = chain.last().copied() else {
            return Ok(Directories::new());
        };
        let key = unique_key();
        let mounts = self.view(&key, top).await?;
        let mut directories = overlaybd::view_directories(&mounts)?;
        directories.reverse();
        let reached = self.is_reached(&directories, top).await;
        self.scratch.remove(&key).await?;
        if !reached? {
            tracing::debug!(%top, "the snapshotter's directories are not to be seen from here");
            return Ok(Directories::new());
        }
        if directories.len() != chain.len() {
            return Err(Error::Unproved {
                what: format!("snapshot {top}"),
                why: format!("its view names {} directories, the chain has {} layers", directories.len(), chain.len()),
            });
        }
        Ok(chain.iter().copied().zip(directories).collect())
    }

    /// Are these directories, seen from here, the snapshotter's own?
    async fn is_reached(&self, directories: &[PathBuf], top: Digest) -> Result<bool, Error> {
        let snapshots = |fs: &Path| fs.ancestors().nth(2).map(Path::to_owned);
        let Some(common) = directories.first().and_then(|fs| snapshots(fs)) else { return Ok(false) };
        if !directories.iter().all(|fs| snapshots(fs).as_ref() == Some(&common) && fs.is_dir()) {
            return Ok(false);
        }
        if self.proved.get() == Some(&common) {
            return Ok(true);
        }
        let lowest = directories[0].clone();
        let ids = move || Ok(overlaybd::snapshot_ids(&lowest)?);
        let Ok(before) = blocking(ids.clone()).await else { return Ok(false) };
        let key = unique_key();
        self.view(&key, top).await?;
        let after = blocking(ids).await;
        self.scratch.remove(&key).await?;
        let appeared = after.is_ok_and(|after| !after.is_subset(&before));
        if appeared {
            // Another probe of this pull may have been first; it proved the same.
            let _ = self.proved.set(common);
        }
        Ok(appeared)
    }

    async fn view(&self, key: &str, parent: Digest) -> Result<Vec<Mount>, Error> {
        let labels = overlaybd::probe_labels(key);
        let (session, snapshotter, name) = (self.session.clone(), self.snapshotter.clone(), key.to_owned());
        self.scratch.make(key, async move { session.view(&snapshotter, &name, parent, &labels).await }).await
    }
}

fn unique_key() -> String {
    format!("probe-{}", unique())
}

/// Text nobody else uses as a key.
pub(crate) fn unique() -> String {
    format!("{:016x}", fastrand::u64(..))
}
