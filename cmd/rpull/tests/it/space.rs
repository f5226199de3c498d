//! Disks that are full, or too small: found out before the first byte where it can be, and survived where it cannot.

use std::{
    fs,
    path::{Path, PathBuf},
};

use testkit::{
    Daemons,
    fault::Server,
    image::{Blob, Image, Layer},
};

use crate::{
    mounted::{Filler, Mounted},
    stage::{Output, Running, Stage, daemons, each, eventually, finish, network, size_of, start},
};

const MIB: u64 = 1 << 20;

/// An image of one layer, and a server that sends it slowly enough to do something meanwhile.
struct Slow {
    image: Image,
    server: Server,
}

impl Slow {
    fn new(seed: u64, mebibytes: u64) -> Self {
        let image = Image::new(vec![Layer::overlaybd(Blob { seed, data: mebibytes * MIB })]);
        let server = Server::builder().image("1", &image).rate(4e6).start();
        Self { image, server }
    }

    fn reference(&self) -> String {
        format!("{}/t/space:1", self.server.address())
    }

    /// Starts a pull and waits until some of the layer is in the spool.
    fn begin(&self, stage: &Stage, flags: &[&str], spool: &Path) -> Running {
        let reference = self.reference();
        let mut command = stage.command(flags.iter().copied().chain(["--max-connections", "1", &reference]));
        let child = start(&mut command);
        let journal = spool.join(format!("{}.journal", self.image.layers()[0].digest.hex()));
        // A header of 100 bytes, and 12 for each MiB.
        let begun = || fs::metadata(&journal).is_ok_and(|found| found.len() >= 124).then_some(());
        eventually(begun).expect("some of the layer arrives");
        child
    }

    /// Pulls again; what the first run kept does not cross the network again.
    fn go_on(&self, stage: &Stage, flags: &[&str]) -> serde_json::Value {
        let reference = self.reference();
        let receipt = stage.pull(flags.iter().copied().chain([reference.as_str()]));
        let kept = receipt["bytes"]["spool"].as_u64().unwrap() + receipt["bytes"]["same_namespace"].as_u64().unwrap();
        assert!(kept >= 2 * MIB, "{receipt:#}");
        assert_eq!(network(&receipt) + kept, size_of(&self.image), "{receipt:#}");
        let blob = stage.blob(&self.image.layers()[0].digest.to_string());
        assert_eq!(fs::read(blob).unwrap(), self.image.layers()[0].bytes());
        assert_eq!(fs::read(stage.commit_file(&self.image.layers()[0])).unwrap(), self.image.layers()[0].bytes());
        stage.assert_nothing_unfinished();
        receipt
    }

    /// Asserts that a pull is refused before a byte of the layer was sent, and the numbers in the refusal.
    fn is_refused(&self, stage: &Stage, flags: &[&str], dir: &Path, copies: u64) {
        let reference = self.reference();
        let output = stage.rpull(flags.iter().copied().chain([reference.as_str()]));
        let stderr = output.fails_with(8);
        let needed = copies * size_of(&self.image) + 16 * MIB;
        assert!(stderr.starts_with(&format!("rpull: {} needs {needed} bytes more, ", dir.display())), "{stderr}");
        assert!(stderr.contains(" are free\nhint: free some space"), "{stderr}");
        assert_eq!(self.server.count().body_bytes, self.image.config().len() as u64, "a byte of the layer was fetched");
        stage.assert_nothing_visible(&reference);
        stage.assert_nothing_unfinished();
    }
}

/// containerd's content root as a filesystem of its own. It must not have been used.
fn content_root(stage: &Stage) -> PathBuf {
    let root = stage.containerd().content_root();
    fs::create_dir_all(&root).unwrap();
    root
}

fn assert_full(stage: &Stage, slow: &Slow, output: &Output) {
    let stderr = output.fails_with(8).to_lowercase();
    assert!(stderr.contains("no space left on device") && stderr.contains("\nhint: free "), "{stderr}");
    stage.assert_nothing_visible(&slow.reference());
}

#[test]
fn a_disk_that_fills_up_under_the_spool_costs_nothing_that_was_written() {
    for daemon in daemons() {
        let stage = Stage::on(&daemon);
        let root = content_root(&stage);
        // Space cannot be reserved there, so that a neighbour can take it away.
        let device = stage.containerd().scratch().join("ext2.img");
        let Some(_mount) = Mounted::ext2(&root, &device, 48) else { return };
        fs::create_dir(root.join("ingest")).unwrap();
        let slow = Slow::new(800, 12);
        let child = slow.begin(&stage, &[], &root.join("rpull-spool"));
        let filler = Filler::in_dir(&root);
        assert_full(&stage, &slow, &finish(child));
        drop(filler);
        let receipt = slow.go_on(&stage, &[]);
        assert_eq!(receipt["store"]["mode"], "direct", "{receipt:#}");
        assert!(!root.join("rpull-spool").exists(), "a finished pull leaves no spool");
    }
}

#[test]
fn a_disk_that_fills_up_under_containerd_costs_nothing_that_was_fetched() {
    for daemon in daemons() {
        let stage = Stage::on(&daemon);
        let root = content_root(&stage);
        let Some(_mount) = Mounted::tmpfs(&root, 48) else { return };
        fs::create_dir(root.join("ingest")).unwrap();
        let slow = Slow::new(801, 12);
        let spool = stage.containerd().scratch().join("spool");
        let flags = ["--store", "api", "--spool-dir", spool.to_str().unwrap()];
        let child = slow.begin(&stage, &flags, &spool);
        let filler = Filler::in_dir(&root);
        assert_full(&stage, &slow, &finish(child));
        drop(filler);
        let receipt = slow.go_on(&stage, &flags);
        assert_eq!(network(&receipt), 0, "{receipt:#}");
    }
}

/// Safety 15: the copy is unfinished, so nobody ever sees it.
#[test]
fn a_disk_that_fills_up_under_the_snapshots_costs_only_the_copy() {
    for daemon in daemons() {
        let stage = Stage::on(&daemon);
        let snapshots = stage.snapshotter().root().join("snapshots");
        let Some(_mount) = Mounted::tmpfs(&snapshots, 48) else { return };
        let slow = Slow::new(802, 12);
        let child = slow.begin(&stage, &[], &stage.spool());
        let filler = Filler::in_dir(&snapshots);
        assert_full(&stage, &slow, &finish(child));
        let left = fs::read_dir(&snapshots).unwrap().flatten().map(|entry| entry.path().join("fs/overlaybd.commit"));
        assert_eq!(left.filter(|file| file.exists()).collect::<Vec<_>>(), Vec::<PathBuf>::new());
        drop(filler);
        let receipt = slow.go_on(&stage, &[]);
        assert_eq!((network(&receipt), each(&receipt, "file")), (0, vec!["copied"]), "{receipt:#}");
    }
}

#[test]
fn a_copy_into_the_snapshots_is_counted_before_the_first_byte() {
    let stage = Stage::on(&Daemons::available().remove(0));
    let snapshots = stage.snapshotter().root().join("snapshots");
    let Some(_mount) = Mounted::tmpfs(&snapshots, 24) else { return };
    Slow::new(803, 12).is_refused(&stage, &[], &snapshots, 1);
}

#[test]
fn a_copy_into_the_content_store_is_counted_before_the_first_byte() {
    let stage = Stage::on(&Daemons::available().remove(0));
    let root = content_root(&stage);
    let Some(_mount) = Mounted::tmpfs(&root, 36) else { return };
    fs::create_dir(root.join("ingest")).unwrap();
    let large = Slow::new(804, 24);
    let elsewhere = stage.containerd().scratch().join("spool");
    let inside = root.join("rpull-spool");
    let [elsewhere, inside] = [&elsewhere, &inside].map(|dir| dir.to_str().unwrap());
    large.is_refused(&stage, &["--store", "api", "--spool-dir", elsewhere], &root, 1);
    // On the same filesystem the spool's copy comes on top; as a link it does not.
    let small = Slow::new(805, 12);
    small.is_refused(&stage, &["--store", "api", "--spool-dir", inside], Path::new(inside), 2);
    let reference = small.reference();
    let receipt = stage.pull(["--store", "direct", "--spool-dir", inside, &reference]);
    assert_eq!(network(&receipt), size_of(&small.image), "{receipt:#}");
}
