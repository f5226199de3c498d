//! Other snapshots of the same snapshotter that stand on the same blob: of other images, and of other namespaces, which containerd
//! does not tell of.

use std::path::{Path, PathBuf};

use oci::Digest;
use rustix::fs::{AtFlags, CWD};

use super::{Error, NAME, config::BlockConfig, mounts::snapshots_of};

/// The `fs` directories beside `fs` whose `overlaybd.commit` is the file `inode` (device and number), or which by their own
/// configuration are those of `blob`. A directory that goes meanwhile is passed over. Blocking.
///
/// # Errors
/// [`Error::Mounts`] when `fs` is not of the form `SNAPSHOTS/ID/fs`, [`Error::Disk`] when the directory cannot be read.
pub(crate) fn standing_on(fs: &Path, blob: Digest, inode: Option<(u64, u64)>) -> Result<Vec<PathBuf>, Error> {
    let snapshots = snapshots_of(fs)?;
    let disk = |source| Error::Disk { doing: "list", path: snapshots.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(snapshots).map_err(disk)? {
        let fs = entry.map_err(disk)?.path().join("fs");
        let linked = inode.is_some() && file_inode(&fs) == inode;
        if linked || BlockConfig::beside(&fs).is_ok_and(|config| config.is_some_and(|(config, _)| config.lists(blob, &fs))) {
            found.push(fs);
        }
    }
    Ok(found)
}

/// Device and number of the file a device would read in `fs`; `None` where there is none.
pub(crate) fn file_inode(fs: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::statat(CWD, fs.join(NAME), AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn neighbours_are_known_by_their_inode_or_by_their_configuration() {
        let root = tempfile::tempdir().unwrap();
        let (blob, other) = (Digest::of(b"blob"), Digest::of(b"other"));
        let snapshot = |id: &str, digest: Option<Digest>| {
            let fs = root.path().join("snapshots").join(id).join("fs");
            fs::create_dir_all(&fs).unwrap();
            fs::create_dir(fs.with_file_name("block")).unwrap();
            if let Some(digest) = digest {
                let config = serde_json::json!({ "lowers": [{ "digest": digest.to_string(), "dir": fs }] }).to_string();
                fs::write(fs.with_file_name("block").join("config.v1.json"), config).unwrap();
            }
            fs
        };
        let lazy = snapshot("1", Some(blob));
        let linked = snapshot("2", None);
        let foreign = snapshot("3", Some(other));
        snapshot("4", None);
        fs::write(linked.join(NAME), "bad").unwrap();
        fs::write(foreign.join(NAME), "bad").unwrap();
        let found = |inode| {
            let mut found = standing_on(&foreign, blob, inode).unwrap();
            found.sort();
            found
        };
        assert_eq!(found(None), std::slice::from_ref(&lazy));
        assert_eq!(found(file_inode(&linked)), [lazy, linked]);
        assert!(matches!(standing_on(root.path(), blob, None), Err(Error::Mounts { .. })));
    }
}
