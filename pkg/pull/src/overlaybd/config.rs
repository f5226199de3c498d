//! `block/config.v1.json`, the snapshotter's own record of what a snapshot directory is for (reference 7.6).

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use oci::Digest;
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use super::Error;

/// A chain of a thousand layers needs a tenth of this.
const MAX_CONFIG: u64 = 4 << 20;

/// Some filesystems stamp files in whole seconds, so a file made after an instant may seem up to this much older.
const STAMP_GRANULARITY: Duration = Duration::from_secs(1);

/// The part of the configuration that says which layer lies where. Other fields are the snapshotter's business.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct BlockConfig {
    /// Layers of the device, bottom first, the snapshot's own last.
    #[serde(default)]
    pub(crate) lowers: Vec<Lower>,
}

/// One layer of the device. Layers made on this machine have no digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Lower {
    /// Digest text of its blob, empty when there is none.
    pub(crate) digest: String,
    /// Its `fs` directory.
    pub(crate) dir: PathBuf,
}

impl BlockConfig {
    /// Reads the configuration beside the snapshot directory `fs`, with the time it was written. `None` when there is none.
    ///
    /// # Errors
    /// [`Error::Disk`] when it is there and cannot be read or parsed.
    pub(crate) fn beside(fs: &Path) -> Result<Option<(Self, SystemTime)>, Error> {
        let path = fs.parent().unwrap_or(fs).join("block/config.v1.json");
        let disk = |source| Error::Disk { doing: "read", path: path.clone(), source };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(file) => fs::File::from(file),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(disk(error.into())),
        };
        let metadata = file.metadata().map_err(disk)?;
        if !metadata.is_file() || metadata.len() > MAX_CONFIG {
            return Err(disk(std::io::Error::other("it is not a regular file of a sensible size")));
        }
        let mut bytes = Vec::new();
        file.take(MAX_CONFIG).read_to_end(&mut bytes).map_err(disk)?;
        let config = serde_json::from_slice(&bytes).map_err(|error| disk(error.into()))?;
        Ok(Some((config, metadata.modified().map_err(disk)?)))
    }

    /// Does it say that the blob `digest` belongs to the directory `dir`? Paths that differ as text are compared as files, since
    /// the snapshotter resolves symlinks in its root.
    pub(crate) fn lists(&self, digest: Digest, dir: &Path) -> bool {
        let digest = digest.to_string();
        self.lowers.iter().any(|lower| lower.digest == digest && same_path(&lower.dir, dir))
    }
}

/// Proves that `fs` is the directory of the layer with blob `digest` (safety 13), and when `since` is given that the
/// snapshotter said so after that instant, so that the path cannot be another machine's or an older snapshot's.
///
/// # Errors
/// [`Error::NoConfig`] when the snapshotter made no device configuration, [`Error::Directory`] when it says something else,
/// [`Error::Disk`].
pub(crate) fn prove_directory(fs: &Path, digest: Digest, since: Option<SystemTime>) -> Result<(), Error> {
    let Some((config, written)) = BlockConfig::beside(fs)? else {
        return Err(Error::NoConfig { fs: fs.to_owned() });
    };
    let other = |why: &str| Err(Error::Directory { fs: fs.to_owned(), layer: digest, why: why.to_owned() });
    if !config.lists(digest, fs) {
        return other("its configuration does not list that layer with this directory");
    }
    if since.is_some_and(|since| written + STAMP_GRANULARITY < since) {
        return other("its configuration is older than this pull's snapshot");
    }
    Ok(())
}

fn same_path(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(root: &Path, id: &str, config: Option<&str>) -> PathBuf {
        let fs = root.join("snapshots").join(id).join("fs");
        fs::create_dir_all(&fs).unwrap();
        fs::create_dir(fs.with_file_name("block")).unwrap();
        if let Some(config) = config {
            fs::write(fs.with_file_name("block").join("config.v1.json"), config.replace("OWN", fs.to_str().unwrap())).unwrap();
        }
        fs
    }

    fn listing(digest: Digest) -> String {
        format!(
            r#"{{"repoBlobUrl":"http://h/v2/r/blobs","lowers":[{{"dir":"/base"}},
            {{"digest":"{digest}","size":4,"dir":"OWN","new":{{}}}}],"upper":{{}},"resultFile":"OWN/x"}}"#
        )
    }

    #[test]
    fn a_directory_is_proved_by_its_own_fresh_configuration() {
        let root = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"blob");
        let fs = snapshot(root.path(), "7", Some(&listing(digest)));
        prove_directory(&fs, digest, None).unwrap();
        prove_directory(&fs, digest, Some(SystemTime::now())).unwrap();

        let stale = prove_directory(&fs, digest, Some(SystemTime::now() + Duration::from_mins(1))).unwrap_err();
        assert!(stale.to_string().contains("older"), "{stale}");
        assert!(matches!(prove_directory(&fs, Digest::of(b"other"), None), Err(Error::Directory { .. })));

        let elsewhere = snapshot(root.path(), "8", Some(&listing(digest).replace("OWN", fs.to_str().unwrap())));
        assert!(matches!(prove_directory(&elsewhere, digest, None), Err(Error::Directory { .. })));
        let link = root.path().join("by-another-name");
        std::os::unix::fs::symlink(root.path().join("snapshots"), &link).unwrap();
        prove_directory(&link.join("7/fs"), digest, None).unwrap();
    }

    #[test]
    fn a_snapshotter_without_configuration_is_named_with_its_cure() {
        let root = tempfile::tempdir().unwrap();
        let error = prove_directory(&snapshot(root.path(), "1", None), Digest::of(b"x"), None).unwrap_err();
        assert!(matches!(error, Error::NoConfig { .. }));
        assert!(error.hint().unwrap().contains("--snapshotter overlaybd"));
    }

    #[test]
    fn a_configuration_that_cannot_be_read_is_no_missing_one() {
        let root = tempfile::tempdir().unwrap();
        let broken = snapshot(root.path(), "1", Some("{"));
        assert!(matches!(BlockConfig::beside(&broken), Err(Error::Disk { .. })));
        let linked = snapshot(root.path(), "2", None);
        std::os::unix::fs::symlink("/etc/passwd", linked.with_file_name("block").join("config.v1.json")).unwrap();
        assert!(matches!(BlockConfig::beside(&linked), Err(Error::Disk { .. })));
    }
}
