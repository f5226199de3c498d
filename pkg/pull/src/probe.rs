//! Where the directories of committed snapshots are (reference 7.9).
//!
//! containerd never names them. A labelled View on the deepest committed snapshot answers with every ancestor's `fs`;
//! it works on lazy and on whole layers, without any device, and is removed at once. The paths are the snapshotter's: they are
//! believed only when the View's own new directory is seen among them from here and goes with the View (safety 13).

use std::{collections::BTreeMap, path::PathBuf};

use containerd::Session;
use oci::Digest;

use crate::{Error, blocking, overlaybd, scratch::Scratch};

/// `fs` directory of each snapshot of a chain, by chain id. Empty when they cannot be reached from here.
pub(crate) type Directories = BTreeMap<Digest, PathBuf>;

/// Views the top of `chain` (chain ids, bottom first) and takes the directories from the reply.
pub(crate) async fn directories(
    session: &Session,
    scratch: &Scratch,
    snapshotter: &str,
    chain: &[Digest],
) -> Result<Directories, Error> {
    let Some(top) = chain.last().copied() else {
        return Ok(Directories::new());
    };
    let key = format!("probe-{}", unique());
    let labels = overlaybd::probe_labels(&key);
    let view = {
        let (session, snapshotter, key) = (session.clone(), snapshotter.to_owned(), key.clone());
        async move { session.view(&snapshotter, &key, top, &labels).await }
    };
    let mounts = scratch.make(&key, view).await?;
    let mut directories = overlaybd::view_directories(&mounts)?;
    directories.reverse();
    let lowest = directories[0].clone();
    let ids = move || Ok(overlaybd::snapshot_ids(&lowest)?);
    let before = blocking(ids.clone()).await;
    scratch.remove(&key).await?;
    let after = blocking(ids).await;
    let (Ok(before), Ok(after)) = (before, after) else {
        tracing::debug!(%top, "the snapshotter's directories cannot be read from here");
        return Ok(Directories::new());
    };
    // Another client's snapshot may go at the same moment; then every directory named must at least be there.
    if before.is_subset(&after) || !directories.iter().all(|fs| fs.is_dir()) {
        tracing::debug!(%top, "the snapshotter's directories are not the ones seen from here");
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

/// Text nobody else uses as a key.
pub(crate) fn unique() -> String {
    format!("{:016x}", fastrand::u64(..))
}
