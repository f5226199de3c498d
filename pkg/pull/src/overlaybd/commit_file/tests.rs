//! A directory's file against a blob, on one filesystem and across two.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use std::os::unix::fs::MetadataExt as _;

use super::*;

const PAYLOAD: Payload = Payload { offset: 512, len: 3_000_000 };

/// A blob beside a snapshot directory, or in another filesystem.
struct Scene {
    _blobs: tempfile::TempDir,
    _root: tempfile::TempDir,
    fs: PathBuf,
    bytes: Vec<u8>,
    blob: PathBuf,
    original: Original,
}

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self::across(tempfile::tempdir_in(root.path()).unwrap(), root)
    }

    /// `None` where there is no second filesystem to write to.
    fn on_two_filesystems() -> Option<Self> {
        let (blobs, root) = (tempfile::tempdir().ok()?, tempfile::tempdir_in("/dev/shm").ok()?);
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        (device(blobs.path()) != device(root.path())).then(|| Self::across(blobs, root))
    }

    fn across(blobs: tempfile::TempDir, root: tempfile::TempDir) -> Self {
        let mut random = fastrand::Rng::with_seed(9);
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(3_002_048).collect();
        let blob = blobs.path().join("blob");
        fs::write(&blob, &bytes).unwrap();
        let original = Original::new(File::open(&blob).unwrap(), Digest::of(&bytes), bytes.len() as u64).unwrap();
        let fs = root.path().join("fs");
        fs::create_dir(&fs).unwrap();
        Self { _blobs: blobs, _root: root, fs, bytes, blob, original }
    }

    fn file(&self) -> PathBuf {
        self.fs.join(NAME)
    }

    fn state(&self) -> State {
        state(&self.fs, &self.original, PAYLOAD).unwrap()
    }

    fn place(&self) -> Placed {
        place(&self.fs, &self.original, PAYLOAD).unwrap()
    }

    fn inode(&self) -> u64 {
        fs::metadata(self.file()).unwrap().ino()
    }

    fn unwrapped(&self) -> Vec<u8> {
        self.bytes[512..3_000_512].to_vec()
    }

    /// Nothing but the file itself is in the directory, and it holds the blob.
    fn is_whole(&self) {
        assert_eq!(fs::read(self.file()).unwrap(), self.bytes);
        self.is_alone();
    }

    fn is_alone(&self) {
        let names: Vec<_> = fs::read_dir(&self.fs).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [NAME]);
    }
}

#[test]
fn a_missing_file_becomes_a_link_and_stays_one() {
    let scene = Scene::new();
    assert_eq!(scene.state(), State::Missing);
    assert_eq!(scene.place(), Placed { how: How::Linked, freed: 0 });
    assert_eq!(scene.state(), State::Linked);
    assert_eq!(scene.inode(), scene.original.inode().1);
    assert_eq!(scene.place(), Placed { how: How::Kept, freed: 0 });
    scene.is_whole();
}

#[test]
fn a_second_copy_in_either_form_gives_its_space_back() {
    for unwrapped in [false, true] {
        let scene = Scene::new();
        fs::write(scene.file(), if unwrapped { scene.unwrapped() } else { scene.bytes.clone() }).unwrap();
        File::open(scene.file()).unwrap().sync_all().unwrap();
        let expected = if unwrapped { State::Unwrapped { linkable: true } } else { State::Copy { linkable: true } };
        assert_eq!(scene.state(), expected);
        let placed = scene.place();
        assert_eq!(placed.how, How::Linked);
        assert!(placed.freed >= 3_000_000, "{placed:?}");
        assert_eq!(scene.state(), State::Linked);
        scene.is_whole();
    }
}

#[test]
fn a_wrong_file_is_told_and_replaced() {
    for (index, word) in [(0, "byte 0"), (2_999_999, "byte 2999999"), (usize::MAX, "1 bytes")] {
        for unwrapped in [false, true] {
            let scene = Scene::new();
            let mut bytes = if unwrapped { scene.unwrapped() } else { scene.bytes.clone() };
            match bytes.get_mut(index) {
                Some(byte) => *byte ^= 1,
                None => bytes.truncate(1),
            }
            fs::write(scene.file(), bytes).unwrap();
            let State::Wrong { why } = scene.state() else { panic!("{:?}", scene.state()) };
            assert!(why.contains(word), "{why}");
            assert_eq!(scene.place().how, How::Linked);
            scene.is_whole();
        }
    }
}

#[test]
fn a_link_or_pipe_under_the_name_is_not_followed() {
    let scene = Scene::new();
    std::os::unix::fs::symlink(&scene.blob, scene.file()).unwrap();
    assert!(matches!(scene.state(), State::Wrong { why } if why.contains("symbolic link")));
    assert!(matches!(glance(&scene.fs, 1).unwrap(), State::Wrong { .. }));
    assert_eq!(scene.place().how, How::Linked);
    scene.is_whole();

    fs::remove_file(scene.file()).unwrap();
    rustix::fs::mknodat(CWD, scene.file(), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert!(matches!(scene.state(), State::Wrong { why } if why.contains("regular")));
    assert_eq!(scene.place().how, How::Linked);
    scene.is_whole();
}

#[test]
fn a_directory_gives_way_like_anything_else() {
    let scene = Scene::new();
    fs::create_dir(scene.file()).unwrap();
    fs::write(scene.file().join("something"), "in it").unwrap();
    assert!(matches!(scene.state(), State::Wrong { .. }));
    assert_eq!(scene.place().how, How::Linked);
    scene.is_whole();
}

#[test]
fn what_a_killed_run_left_is_cleared() {
    let scene = Scene::new();
    fs::write(scene.fs.join(TEMPORARY), "half").unwrap();
    scene.place();
    scene.is_whole();
}

#[test]
fn without_a_blob_only_the_size_is_told() {
    let scene = Scene::new();
    assert_eq!(glance(&scene.fs, 4).unwrap(), State::Missing);
    fs::write(scene.file(), "four").unwrap();
    assert_eq!(glance(&scene.fs, 4).unwrap(), State::Unproved);
    assert_eq!(glance(&scene.fs, 5).unwrap(), State::Wrong { why: "it has 4 bytes".to_owned() });
}

#[test]
fn a_blob_changed_after_its_proof_is_not_linked() {
    let scene = Scene::new();
    fs::write(&scene.blob, "short").unwrap();
    assert!(matches!(place(&scene.fs, &scene.original, PAYLOAD), Err(Error::Original { .. })));
    assert!(!scene.file().exists());
    assert!(matches!(Original::new(File::open(&scene.blob).unwrap(), scene.original.digest, 6), Err(Error::Original { .. })));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the scene is set by path, as somebody else would")]
fn a_blob_replaced_by_path_is_linked_as_it_was_proved() {
    let scene = Scene::new();
    let other = scene.blob.with_extension("other");
    fs::write(&other, "evil").unwrap();
    // The former name stays somewhere: a file without any name cannot be linked again.
    fs::hard_link(&scene.blob, scene.blob.with_extension("kept")).unwrap();
    fs::rename(&other, &scene.blob).unwrap();
    assert_eq!(scene.place().how, How::Linked);
    scene.is_whole();
}

#[test]
fn several_at_once_end_with_one_whole_file() {
    let scene = Scene::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| scene.place());
        }
    });
    assert_eq!(scene.state(), State::Linked);
    scene.is_whole();
}

#[test]
fn another_filesystem_gets_a_proved_copy_once() {
    let Some(scene) = Scene::on_two_filesystems() else { panic!("this test needs /dev/shm to be a filesystem of its own") };
    assert_eq!(scene.place(), Placed { how: How::Copied, freed: 0 });
    assert_eq!(scene.state(), State::Copy { linkable: false });
    scene.is_whole();
    assert_eq!(fs::metadata(scene.file()).unwrap().permissions().mode() & 0o777, 0o444);
    let inode = scene.inode();
    assert_eq!(scene.place(), Placed { how: How::Kept, freed: 0 });
    assert_eq!(scene.inode(), inode);

    fs::remove_file(scene.file()).unwrap();
    fs::write(scene.file(), scene.unwrapped()).unwrap();
    assert_eq!(scene.state(), State::Unwrapped { linkable: false });
    assert_eq!(scene.place().how, How::Kept);
}

#[test]
fn a_copy_of_rotten_bytes_is_not_published() {
    let Some(scene) = Scene::on_two_filesystems() else { panic!("this test needs /dev/shm to be a filesystem of its own") };
    let rotten =
        Original::new(File::open(&scene.blob).unwrap(), Digest::of(b"what it should be"), scene.bytes.len() as u64).unwrap();
    assert!(matches!(place(&scene.fs, &rotten, PAYLOAD), Err(Error::Copy { .. })));
    assert_eq!(fs::read_dir(&scene.fs).unwrap().count(), 0);
}

/// Loop-mounted filesystems of a test, unmounted last first however it ends. Dropped after the scene on them.
struct Mounts {
    home: tempfile::TempDir,
    mounted: Vec<PathBuf>,
}

impl Mounts {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), mounted: Vec::new() }
    }

    /// A new XFS that can share blocks. `None` where there is no `mkfs.xfs`, or mounting is not permitted.
    fn xfs(&mut self) -> Option<PathBuf> {
        let (image, target) = (self.home.path().join(format!("{}.img", self.mounted.len())), self.target());
        // The smallest it can be is 300 MiB; the file has holes.
        File::create(&image).unwrap().set_len(320 << 20).unwrap();
        run("mkfs.xfs", &["-q".as_ref(), "-m".as_ref(), "reflink=1".as_ref(), &image])?;
        run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &target])?;
        self.mounted.push(target.clone());
        Some(target)
    }

    /// The directory by another way.
    fn bind(&mut self, source: &Path) -> PathBuf {
        let target = self.target();
        run("mount", &["--bind".as_ref(), source, &target]).expect("what can be mounted can be bound");
        self.mounted.push(target.clone());
        target
    }

    fn target(&self) -> PathBuf {
        let target = self.home.path().join(self.mounted.len().to_string());
        fs::create_dir(&target).unwrap();
        target
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        while let Some(target) = self.mounted.pop() {
            let _ = run("umount", &["--lazy".as_ref(), &target]);
        }
    }
}

fn run(program: &str, args: &[&Path]) -> Option<()> {
    // Not on an ordinary user's PATH.
    let output = std::process::Command::new(program).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").args(args).output();
    let why = match output {
        Ok(output) if output.status.success() => return Some(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    eprintln!("NOT TESTED, {program}: {why}");
    None
}

#[test]
fn the_same_filesystem_behind_another_mount_gets_a_clone_once() {
    let mut mounts = Mounts::new();
    let Some(xfs) = mounts.xfs() else { return };
    let elsewhere = mounts.bind(&xfs);
    let scene = Scene::across(tempfile::tempdir_in(xfs).unwrap(), tempfile::tempdir_in(elsewhere).unwrap());
    assert_eq!(scene.place(), Placed { how: How::Cloned, freed: 0 });
    assert_eq!(scene.state(), State::Copy { linkable: false });
    scene.is_whole();
    assert_eq!(fs::metadata(scene.file()).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(scene.place(), Placed { how: How::Kept, freed: 0 });

    let wrong = vec![0; scene.bytes.len()];
    fs::remove_file(scene.file()).unwrap();
    fs::write(scene.file(), wrong).unwrap();
    assert_eq!(scene.place().how, How::Cloned);
    scene.is_whole();
}

#[test]
fn another_xfs_gets_a_copy() {
    let mut mounts = Mounts::new();
    let (Some(one), Some(other)) = (mounts.xfs(), mounts.xfs()) else { return };
    let scene = Scene::across(tempfile::tempdir_in(one).unwrap(), tempfile::tempdir_in(other).unwrap());
    assert_eq!(scene.place(), Placed { how: How::Copied, freed: 0 });
    assert_eq!(scene.state(), State::Copy { linkable: false });
    scene.is_whole();
}
