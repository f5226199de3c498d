//! Ways to damage what is here, each as a disk, an administrator or another client would.

use std::{
    fs,
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::Path,
};

use oci::Digest;
use testkit::image::{Image, Layer};

use crate::stage::{OVERLAYBD, Stage, chain_ids};

/// Four wrong bytes in the middle of a file, its size and inode as before.
pub(super) fn flip(path: &Path) {
    let mode = path.metadata().unwrap().permissions();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let at = file.metadata().unwrap().len() / 2;
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, at).unwrap();
    file.write_all_at(&bytes.map(|byte| !byte), at).unwrap();
    fs::set_permissions(path, mode).unwrap();
}

/// Another length, the inode as before.
pub(super) fn truncate(path: &Path, size: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(size).unwrap();
}

/// Another file under the same name.
pub(super) fn replace(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The layer's blob without the tar around it: its size is in the PAX header, it starts behind three blocks.
pub(super) fn payload(layer: &Layer) -> Vec<u8> {
    let bytes = layer.bytes();
    let header = String::from_utf8_lossy(&bytes[512..1024]).into_owned();
    let size: usize = header.split("size=").nth(1).unwrap().split('\n').next().unwrap().parse().unwrap();
    bytes[1536..1536 + size].to_vec()
}

/// Makes a committed snapshot by hand, on nothing, in the place of one that was removed.
pub(super) fn usurp(stage: &Stage, chain_id: &str) {
    stage.ctr(["snapshots", "--snapshotter", OVERLAYBD, "rm", chain_id]);
    commit_by_hand(stage, chain_id, None);
}

/// Puts an image with these diff ids here that no pull would take: its content as it is, its snapshots empty.
pub(super) fn plant(stage: &Stage, image: &Image, reference: &str, diff_ids: &[Digest]) {
    stage.ctr(["content", "fetch", "--plain-http", reference]);
    let diff_ids: Vec<String> = diff_ids.iter().map(Digest::to_string).collect();
    let chain = chain_ids(diff_ids.iter().map(String::as_str));
    let config = Digest::of(&image.config()).to_string();
    let key = format!("containerd.io/gc.ref.snapshot.{OVERLAYBD}");
    let mut parent = None;
    for (at, chain_id) in chain.iter().enumerate() {
        // Held before it is there.
        stage.ctr(["content", "label", &config, &format!("{key}/{at}={chain_id}")]);
        commit_by_hand(stage, chain_id, parent);
        parent = Some(chain_id.as_str());
    }
}

/// Commits an empty snapshot. Only on parents that are no overlaybd layers.
fn commit_by_hand(stage: &Stage, chain_id: &str, parent: Option<&str>) {
    let key = format!("by-hand-{}", &chain_id[7..19]);
    let run = |args: &[&str]| {
        let words = ["--namespace", stage.namespace(), "snapshots", "--snapshotter", OVERLAYBD].into_iter();
        stage.containerd().ctr(words.chain(args.iter().copied())).status.success()
    };
    let prepare: Vec<&str> = ["prepare", &key].into_iter().chain(parent).collect();
    // A garbage collector may take it before it is committed.
    let made = (0..10).any(|_| run(&prepare) && run(&["commit", chain_id, &key]));
    assert!(made, "no snapshot could be made by hand");
}
