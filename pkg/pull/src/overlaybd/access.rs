//! Who could write to a file that a device reads. A link is the content store's file, and judged there; a copy has an inode of its own.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use super::NAME;

/// Permission bits of group and others to write.
const OTHERS_WRITE: u32 = 0o022;

/// What makes the copy of a blob in `fs` unsafe although it is right now. Its owner may be root, as whom containerd unpacks, or the
/// owner of the directory. Blocking.
pub(crate) fn weakness(fs: &Path) -> Option<String> {
    let (file, directory) = (fs.join(NAME).symlink_metadata().ok()?, fs.symlink_metadata().ok()?);
    if file.mode() & OTHERS_WRITE != 0 {
        return Some(format!("its mode is {:o}, so that others can write to it", file.mode() & 0o7777));
    }
    let owner = file.uid();
    (owner != 0 && owner != directory.uid()).then(|| format!("it belongs to user {owner}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_copy_is_safe_when_only_its_owner_can_write_to_it() {
        let fs = tempfile::tempdir().unwrap();
        let file = fs.path().join(NAME);
        std::fs::write(&file, "x").unwrap();
        for (mode, safe) in [(0o444, true), (0o644, true), (0o664, false), (0o646, false)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(weakness(fs.path()).is_none(), safe, "{mode:o}");
        }
        assert_eq!(weakness(&fs.path().join("nothing")), None);
    }
}
