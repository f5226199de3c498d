//! Filesystems of a test, to be small or different; they need root.

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::stage::say;

/// Something mounted for as long as this lives.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Runs `mount` with these arguments and the place. `None`, said aloud, where mounting is not permitted.
    pub(crate) fn on(path: &Path, args: &[&OsStr]) -> Option<Self> {
        let output = Command::new("mount").args(args).arg(path).output().expect("mount runs");
        if output.status.success() {
            return Some(Self(path.to_owned()));
        }
        say(&format!("NOT TESTED, mount is not permitted: {}", String::from_utf8_lossy(&output.stderr)));
        None
    }

    /// A filesystem in memory of so many MiB.
    pub(crate) fn tmpfs(path: &Path, mebibytes: u64) -> Option<Self> {
        let options = format!("size={mebibytes}m,mode=0700");
        Self::on(path, &["-t", "tmpfs", "-o", &options, "tmpfs"].map(OsStr::new))
    }

    /// One on a loop device that cannot reserve space (`fallocate`), made in `device`.
    pub(crate) fn ext2(path: &Path, device: &Path, mebibytes: u64) -> Option<Self> {
        let file = fs::File::create(device).expect("a device file can be made");
        file.set_len(mebibytes << 20).expect("it can be that long");
        let made = Command::new("mkfs.ext2").args(["-q", "-m", "0"]).arg(device).status();
        if !made.is_ok_and(|status| status.success()) {
            say("NOT TESTED, there is no mkfs.ext2");
            return None;
        }
        Self::on(path, &["-o".as_ref(), "loop".as_ref(), device.as_os_str()])
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "{} stays mounted", self.0.display());
    }
}

/// A file that takes all space that is left, until dropped.
pub(crate) struct Filler(PathBuf);

impl Filler {
    pub(crate) fn in_dir(dir: &Path) -> Self {
        let path = dir.join("filler");
        let mut file = fs::File::create(&path).expect("a file can be made");
        while file.write_all(&[0xff; 4096]).is_ok() {}
        Self(path)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("our own file can be removed");
    }
}
