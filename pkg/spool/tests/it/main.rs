//! The spool on a real filesystem, through its public face.

mod inode;
mod lock;
mod owner;
mod paths;
mod proof;
mod resume;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use oci::{ByteRange, Descriptor, Digest, MediaType};
use spool::{Entry, Spool, Verified};
use tempfile::TempDir;

const MIB: usize = 1 << 20;

/// A private parent, the spool in it, and a blob that is three and a half pieces long.
struct Bench {
    home: TempDir,
    spool: Spool,
    bytes: Vec<u8>,
    blob: Descriptor,
}

impl Bench {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let spool = Spool::open(&home.path().join("spool"), None).unwrap();
        let bytes = noise(3 * MIB + MIB / 2);
        Self { home, spool, blob: descriptor(&bytes), bytes }
    }

    fn entry(&self) -> Entry {
        self.spool.try_entry(&self.blob).unwrap().expect("nobody else has it")
    }

    fn data(&self) -> PathBuf {
        self.spool.path().join(self.blob.digest.hex())
    }

    fn journal(&self) -> PathBuf {
        self.data().with_extension("journal")
    }

    fn lock(&self) -> PathBuf {
        self.data().with_extension("lock")
    }

    /// Leaves an entry whose first two pieces are written.
    fn interrupted(&self) {
        let entry = self.entry();
        write(&entry, &self.bytes, 0, 2 * MIB);
    }

    async fn proved(&self) -> Verified {
        let entry = self.entry();
        fill(&entry, &self.bytes);
        entry.prove().await.unwrap()
    }

    /// Fetches what is missing and returns the bytes that the proof accepted.
    async fn finish(&self) -> Vec<u8> {
        let entry = self.entry();
        fill(&entry, &self.bytes);
        let verified = entry.prove().await.unwrap();
        let mut read = vec![0; self.bytes.len()];
        assert_eq!(verified.read_at(0, &mut read).unwrap(), read.len());
        read
    }
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(len as u64).fill(&mut bytes);
    bytes
}

fn descriptor(bytes: &[u8]) -> Descriptor {
    sized(Digest::of(bytes), bytes.len() as u64)
}

fn sized(digest: Digest, size: u64) -> Descriptor {
    Descriptor::new(MediaType::new(MediaType::OCI_LAYER), digest, size).unwrap()
}

fn range(start: usize, end: usize) -> ByteRange {
    ByteRange::new(start as u64, end as u64).unwrap()
}

/// Writes part of the blob in frames of an odd size.
fn write(entry: &Entry, bytes: &[u8], start: usize, end: usize) {
    let mut grant = entry.grant(range(start, end)).unwrap();
    for frame in bytes[start..end].chunks(60_001) {
        grant.write(frame).unwrap();
    }
}

fn fill(entry: &Entry, bytes: &[u8]) {
    for missing in entry.missing() {
        write(entry, bytes, usize::try_from(missing.start()).unwrap(), usize::try_from(missing.end()).unwrap());
    }
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a test of this binary as a process of its own, in this spool. Those tests do nothing without such a parent.
fn process(test: &str, spool: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("SPOOL_OF_PARENT", spool)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn spool_of_parent() -> Option<Spool> {
    let path = std::env::var_os("SPOOL_OF_PARENT")?;
    Some(Spool::open(Path::new(&path), None).unwrap())
}
