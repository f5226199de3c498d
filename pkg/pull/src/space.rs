//! Is there room for everything still to come? Asked before the first byte crosses the network.
//!
//! Counted by filesystem, for a blob may be written more than once: into the spool, once more into a content store that takes
//! no link from there, and once more into a snapshot that takes no link from the content store.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use containerd::{Mode, Store};
use oci::{Descriptor, Layer};
use serde::Serialize;

use crate::{
    Error,
    plan::{Action, Origin, Plan},
    turns::OPEN_BLOBS,
};

/// Stays free beside the blobs: for journals, the database of containerd and what the snapshotter writes for each layer.
const RESERVE: u64 = 16 << 20;

/// What a filesystem has to hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Room {
    /// A directory on it.
    pub dir: PathBuf,
    /// Bytes still to be written, with a reserve.
    pub needed: u64,
    /// Bytes free.
    pub free: u64,
    /// Is it the spool's?
    #[serde(skip)]
    in_spool: bool,
}

impl Room {
    /// Is it too small?
    pub fn is_short(&self) -> bool {
        self.needed > self.free
    }

    pub(crate) fn shortage(&self) -> Error {
        Error::NoSpace { dir: self.dir.clone(), in_spool: self.in_spool, needed: self.needed, free: self.free }
    }
}

/// Bytes that will be written below a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Demand {
    dir: PathBuf,
    /// Filesystem.
    device: u64,
    /// Bytes free there.
    free: u64,
    needed: u64,
}

/// The first filesystem that is too small, with both numbers. Blocking.
///
/// `fetches` are the blobs that will come over the network; `snapshots` is the directory of all snapshots, where it is known.
pub(crate) fn check(
    store: &Store,
    layers: &[Layer],
    plan: &Plan,
    fetches: &[Descriptor],
    snapshots: Option<&Path>,
) -> Result<(), Error> {
    match rooms(store, layers, plan, fetches, snapshots)?.iter().find(|room| room.is_short()) {
        None => Ok(()),
        Some(room) => Err(room.shortage()),
    }
}

/// Every filesystem that is to be written to; where nothing is written, the spool's. Blocking, with the arguments of [`check`].
pub(crate) fn rooms(
    store: &Store,
    layers: &[Layer],
    plan: &Plan,
    fetches: &[Descriptor],
    snapshots: Option<&Path>,
) -> Result<Vec<Room>, Error> {
    let spool = store.spool();
    let mut in_spool = fetches.iter().map(|blob| spool.needed(blob)).collect::<Result<Vec<_>, _>>()?;
    let mut demands = Vec::new();
    let content = store.content_root();
    if store.mode() == Mode::Api {
        // Each leaves the spool when containerd has it, so that only those under way are there at once.
        in_spool.sort_unstable_by(|one, other| other.cmp(one));
        in_spool.truncate(OPEN_BLOBS);
        let given_back = layers.iter().zip(&plan.layers).filter(|(_, planned)| planned.origin == Origin::Snapshot);
        let sizes = fetches.iter().map(Descriptor::size).chain(given_back.map(|(layer, _)| layer.descriptor.size()));
        demands.extend(content.and_then(|root| demand(root, sizes.sum())));
    }
    demands.extend(demand(spool.path(), in_spool.into_iter().sum()));
    if let (Some(root), Some(snapshots)) = (content, snapshots)
        && let Some(copies) = demand(snapshots, files_to_place(layers, plan))
        // On one filesystem the file is a link.
        && demand(root, 0).is_some_and(|blobs| blobs.device != copies.device)
    {
        demands.push(copies);
    }
    let idle = demand(spool.path(), 0);
    let mut demands = filesystems(demands);
    if demands.is_empty() {
        demands.extend(idle);
    }
    let room = |Demand { dir, free, needed, .. }| Room { in_spool: dir == spool.path(), dir, needed, free };
    Ok(demands.into_iter().map(room).collect())
}

/// Bytes of the `overlaybd.commit` files that are still to be made.
fn files_to_place(layers: &[Layer], plan: &Plan) -> u64 {
    let made = |planned: &crate::plan::LayerPlan| {
        planned.kind.links() && planned.action != Action::Keep && !matches!(planned.origin, Origin::Remote | Origin::Snapshot)
    };
    layers.iter().zip(&plan.layers).filter(|(_, planned)| made(planned)).map(|(layer, _)| layer.descriptor.size()).sum()
}

/// `None` where the directory cannot be looked at: then nothing can be said of it.
fn demand(dir: &Path, needed: u64) -> Option<Demand> {
    let device = dir.metadata().ok()?.dev();
    let filesystem = rustix::fs::statvfs(dir).ok()?;
    Some(Demand { dir: dir.to_owned(), device, free: filesystem.f_bavail.saturating_mul(filesystem.f_frsize), needed })
}

/// All demands on each filesystem together, and the reserve. Named by the last directory that asks for it.
fn filesystems(demands: Vec<Demand>) -> Vec<Demand> {
    let mut filesystems: Vec<Demand> = Vec::new();
    for demand in demands.into_iter().filter(|demand| demand.needed > 0) {
        match filesystems.iter_mut().find(|known| known.device == demand.device) {
            Some(known) => *known = Demand { needed: known.needed.saturating_add(demand.needed), ..demand },
            None => filesystems.push(demand),
        }
    }
    let reserved = |demand: Demand| Demand { needed: demand.needed.saturating_add(RESERVE), ..demand };
    filesystems.into_iter().map(reserved).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn short(demands: &[(&str, u64, u64, u64)]) -> Option<(String, u64, u64)> {
        let demand = |&(dir, device, free, needed): &(&str, u64, u64, u64)| Demand { dir: dir.into(), device, free, needed };
        let short = filesystems(demands.iter().map(demand).collect()).into_iter().find(|demand| demand.needed > demand.free);
        short.map(|short| (short.dir.display().to_string(), short.needed, short.free))
    }

    #[test]
    fn each_filesystem_must_hold_what_comes_to_it() {
        let free = 100 * MIB + RESERVE;
        let says = |dir: &str, needed: u64| Some((dir.to_owned(), needed + RESERVE, free));
        assert_eq!(short(&[]), None);
        assert_eq!(short(&[("spool", 1, free, 100 * MIB)]), None);
        assert_eq!(short(&[("spool", 1, free, 100 * MIB + 1)]), says("spool", 100 * MIB + 1));
        // Two copies on one filesystem, and on two.
        let (content, spool) = (("content", 1, free, 60 * MIB), ("spool", 1, free, 60 * MIB));
        assert_eq!(short(&[content, spool]), says("spool", 120 * MIB));
        assert_eq!(short(&[content, ("spool", 2, free, 60 * MIB)]), None);
        // The last one is too small although the others are not.
        let snapshots = ("snapshots", 3, free, 101 * MIB);
        assert_eq!(short(&[content, ("spool", 2, free, 60 * MIB), snapshots]), says("snapshots", 101 * MIB));
    }

    #[test]
    fn a_full_disk_is_no_obstacle_where_nothing_comes() {
        assert_eq!(short(&[("spool", 1, 0, 0), ("content", 2, 0, 0)]), None);
        assert!(short(&[("spool", 1, 0, 1)]).is_some());
    }

    #[test]
    fn sizes_that_do_not_fit_in_a_word_do_not_fit_on_a_disk() {
        assert!(short(&[("a", 1, u64::MAX - 1, u64::MAX), ("b", 1, u64::MAX - 1, u64::MAX)]).is_some());
    }
}
