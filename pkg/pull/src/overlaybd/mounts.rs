//! Snapshot directories from mount replies: the only way to learn them, for containerd never tells ids (reference 7.4, 7.9).

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Component, Path, PathBuf},
};

use containerd::Mount;
use oci::Digest;

use super::Error;

/// The own `fs` directory of an active snapshot, from the reply to its Prepare: a bind's source, or an overlay's upper directory.
///
/// # Errors
/// [`Error::Mounts`] when the reply names none.
pub(crate) fn active_directory(mounts: &[Mount]) -> Result<PathBuf, Error> {
    let mount = only(mounts)?;
    match mount.kind.as_str() {
        "bind" => directory(mount.source.clone()),
        "overlay" => match option(mount, "upperdir=") {
            Some(upper) => directory(split(upper).join(":").into()),
            None => other("an overlay without an upper directory".to_owned()),
        },
        kind => other(format!("a mount of type {kind:?}")),
    }
}

/// Is this how the overlaybd snapshotter answers the Prepare of a native layer (reference 7.4 b)? To be asked where the directory
/// itself is out of reach: another snapshotter answers a recursive bind, or an overlay above the first layer.
///
/// # Errors
/// [`Error::NoDevice`] when it is not.
pub(crate) fn check_reply(mounts: &[Mount], layer: Digest) -> Result<(), Error> {
    let mount = only(mounts)?;
    if mount.kind == "bind" && mount.options.iter().any(|option| option == "bind") {
        return Ok(());
    }
    Err(Error::NoDevice { layer })
}

/// The `fs` directories of a whole chain, topmost layer first, from the reply to a probe View: a bind's source when the chain
/// has one layer, else an overlay's lower directories.
///
/// # Errors
/// [`Error::Mounts`] when the reply names none.
pub(crate) fn view_directories(mounts: &[Mount]) -> Result<Vec<PathBuf>, Error> {
    let mount = only(mounts)?;
    match mount.kind.as_str() {
        "bind" => Ok(vec![directory(mount.source.clone())?]),
        "overlay" => match option(mount, "lowerdir=") {
            Some(lowers) => split(lowers).into_iter().map(|path| directory(path.into())).collect(),
            None => other("an overlay without lower directories".to_owned()),
        },
        kind => other(format!("a mount of type {kind:?}")),
    }
}

/// Names in the directory that holds all snapshots, `fs` being `<snapshots>/<id>/fs`. Comparing them around a Remove shows that
/// the snapshotter which answers is the one that owns this directory (safety 13).
///
/// # Errors
/// [`Error::Mounts`] when `fs` is not of that form, [`Error::Disk`] when the directory cannot be read.
pub(crate) fn snapshot_ids(fs: &Path) -> Result<BTreeSet<OsString>, Error> {
    let snapshots = snapshots_of(fs)?;
    let disk = |source| Error::Disk { doing: "list", path: snapshots.to_owned(), source };
    std::fs::read_dir(snapshots).map_err(disk)?.map(|entry| Ok(entry.map_err(disk)?.file_name())).collect()
}

/// The directory that holds all snapshots, `fs` being `<snapshots>/<id>/fs`.
pub(super) fn snapshots_of(fs: &Path) -> Result<&Path, Error> {
    match fs.parent().and_then(Path::parent).filter(|_| fs.file_name().is_some_and(|name| name == "fs")) {
        Some(snapshots) => Ok(snapshots),
        None => other(format!("{} is not of the form SNAPSHOTS/ID/fs", fs.display())),
    }
}

fn only(mounts: &[Mount]) -> Result<&Mount, Error> {
    match mounts {
        [mount] => Ok(mount),
        _ => other(format!("{} mounts", mounts.len())),
    }
}

fn option<'a>(mount: &'a Mount, key: &str) -> Option<&'a str> {
    mount.options.iter().find_map(|option| option.strip_prefix(key))
}

/// Splits a path list at `:`; a backslash takes the next character as it is (overlayfs, `Documentation/filesystems/overlayfs`).
fn split(list: &str) -> Vec<String> {
    let mut paths = vec![String::new()];
    let mut characters = list.chars();
    while let Some(character) = characters.next() {
        match character {
            ':' => paths.push(String::new()),
            '\\' => paths.last_mut().expect("never empty").extend(characters.next()),
            _ => paths.last_mut().expect("never empty").push(character),
        }
    }
    paths
}

fn directory(path: PathBuf) -> Result<PathBuf, Error> {
    if path.is_absolute() && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_))) {
        Ok(path)
    } else {
        other(format!("{:?} is not an absolute path", path.display().to_string()))
    }
}

fn other<T>(why: String) -> Result<T, Error> {
    Err(Error::Mounts { why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
        Mount { kind: kind.to_owned(), source: source.into(), options: options.iter().map(|&option| option.to_owned()).collect() }
    }

    #[test]
    fn a_bind_names_one_directory() {
        let bind = [mount("bind", "/r/snapshots/3/fs", &["rw", "bind"])];
        assert_eq!(active_directory(&bind).unwrap(), Path::new("/r/snapshots/3/fs"));
        assert_eq!(view_directories(&bind).unwrap(), [Path::new("/r/snapshots/3/fs")]);
    }

    #[test]
    fn an_overlay_names_the_chain_top_first() {
        let options = ["index=off", "workdir=/r/4/work", "upperdir=/r/4/fs", r"lowerdir=/r/3/fs:/r/o\:d\\d/2/fs:/r/1/fs"];
        let overlay = [mount("overlay", "overlay", &options)];
        assert_eq!(active_directory(&overlay).unwrap(), Path::new("/r/4/fs"));
        assert_eq!(view_directories(&overlay).unwrap(), ["/r/3/fs", r"/r/o:d\d/2/fs", "/r/1/fs"].map(PathBuf::from));
    }

    #[test]
    fn anything_else_is_no_directory() {
        let replies = [
            vec![],
            vec![mount("bind", "relative/fs", &[])],
            vec![mount("bind", "/r/../etc", &[])],
            vec![mount("ext4", "/dev/sda", &["ro"])],
            vec![mount("overlay", "overlay", &["ro"])],
            vec![mount("overlay", "overlay", &["lowerdir=/a::/b", "upperdir="])],
            vec![mount("bind", "/a", &[]), mount("bind", "/b", &[])],
        ];
        for mounts in replies {
            assert!(matches!(active_directory(&mounts), Err(Error::Mounts { .. })));
            assert!(matches!(view_directories(&mounts), Err(Error::Mounts { .. })));
        }
    }

    #[test]
    fn ids_are_listed_beside_the_snapshot() {
        let root = tempfile::tempdir().unwrap();
        for id in ["1", "2"] {
            std::fs::create_dir_all(root.path().join(id).join("fs")).unwrap();
        }
        let ids = snapshot_ids(&root.path().join("1/fs")).unwrap();
        assert_eq!(ids, BTreeSet::from(["1".into(), "2".into()]));
        assert!(matches!(snapshot_ids(Path::new("/fs")), Err(Error::Mounts { .. })));
        assert!(matches!(snapshot_ids(root.path()), Err(Error::Mounts { .. })));
    }
}
