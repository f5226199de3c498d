//! Safety 1: never in place.

use std::{
    fs,
    io::Write,
    os::{
        fd::AsFd,
        unix::fs::{PermissionsExt, chown, symlink},
    },
};

use super::*;

/// A content store's directory and the name a blob gets there.
async fn published(bench: &Bench) -> PathBuf {
    let store = bench.home.path().join("blobs");
    fs::create_dir(&store).unwrap();
    let verified = bench.proved().await;
    verified.link(fs::File::open(&store).unwrap().as_fd(), "blob").unwrap();
    store.join("blob")
}

fn damage(path: &Path) {
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"damage").unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes[20] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Opens the entry again and writes other bytes wherever it lets us.
fn write_other_bytes(bench: &Bench, blob: &Descriptor) -> usize {
    let entry = bench.spool.try_entry(blob).unwrap().unwrap();
    let missing = entry.missing();
    for missing in &missing {
        let mut grant = entry.grant(*missing).unwrap();
        grant.write(&vec![0xee; usize::try_from(missing.len()).unwrap()]).unwrap();
    }
    missing.len()
}

#[tokio::test]
async fn killed_between_link_and_commit_the_published_inode_is_never_written() {
    // As the kill left it, or with someone having made it writable, or with the journal damaged or lost.
    type Meddle = fn(&Bench, &Path);
    let cases: [(&str, Meddle, bool); 5] = [
        ("untouched", |_, _| (), false),
        ("journal damaged", |bench, _| damage(&bench.journal()), false),
        ("writable", |_, blob| fs::set_permissions(blob, fs::Permissions::from_mode(0o644)).unwrap(), true),
        (
            "half of the journal gone",
            |bench, blob| {
                fs::set_permissions(blob, fs::Permissions::from_mode(0o644)).unwrap();
                fs::OpenOptions::new().write(true).open(bench.journal()).unwrap().set_len(124).unwrap();
            },
            true,
        ),
        (
            "writable and the journal damaged",
            |bench, blob| {
                fs::set_permissions(blob, fs::Permissions::from_mode(0o600)).unwrap();
                damage(&bench.journal());
            },
            true,
        ),
    ];
    for (name, meddle, fetched_again) in cases {
        let bench = Bench::new();
        let blob = published(&bench).await;
        let before = inode(&blob);
        meddle(&bench, &blob);

        let written = write_other_bytes(&bench, &bench.blob);
        assert_eq!(written > 0, fetched_again, "{name}");
        assert_eq!(inode(&blob), before, "{name}");
        assert_eq!(fs::read(&blob).unwrap(), bench.bytes, "{name}");
    }
}

#[tokio::test]
async fn killed_between_commit_and_drop_another_pull_leaves_the_published_inode_alone() {
    let bench = Bench::new();
    let blob = published(&bench).await;
    let before = inode(&blob);

    // The same digest with another size in a hostile manifest, then the right one again.
    assert!(write_other_bytes(&bench, &sized(bench.blob.digest, bench.blob.size() - 1)) > 0);
    assert_ne!(inode(&bench.data()), before);
    assert_eq!(bench.finish().await, bench.bytes);
    assert_eq!((inode(&blob), fs::read(&blob).unwrap()), (before, bench.bytes.clone()));
}

#[tokio::test]
async fn a_proved_file_is_used_again_without_fetching_and_without_writing() {
    let bench = Bench::new();
    drop(bench.proved().await);
    let before = inode(&bench.data());

    let entry = bench.entry();
    assert_eq!(entry.resumed(), bench.blob.size());
    assert!(entry.missing().is_empty());
    let verified = entry.prove().await.unwrap();
    assert_eq!(verified.inode().1, before);
}

#[tokio::test]
async fn a_proved_file_that_rotted_is_fetched_again() {
    let bench = Bench::new();
    drop(bench.proved().await);
    // Held open, so that its number is not given to the new inode.
    let before = fs::File::open(bench.data()).unwrap();
    fs::set_permissions(bench.data(), fs::Permissions::from_mode(0o644)).unwrap();
    let mut rotten = bench.bytes.clone();
    rotten[5] ^= 1;
    fs::write(bench.data(), rotten).unwrap();
    fs::set_permissions(bench.data(), fs::Permissions::from_mode(0o444)).unwrap();

    assert_eq!(bench.entry().missing(), [range(0, bench.bytes.len())]);
    assert_eq!(bench.finish().await, bench.bytes);
    assert_ne!(inode(&bench.data()), before.metadata().unwrap().ino());
}

#[tokio::test]
async fn restarting_makes_a_new_inode() {
    let bench = Bench::new();
    let entry = bench.entry();
    let wrong = vec![7; bench.bytes.len()];
    fill(&entry, &wrong);
    let other_name = bench.home.path().join("other");
    rustix::fs::link(bench.data(), &other_name).unwrap();

    let error = entry.prove().await.unwrap_err();
    assert!(matches!(error, spool::Error::Mismatch { expected, actual }
        if expected == bench.blob.digest && actual == Digest::of(&wrong)));
    entry.restart().unwrap();
    assert_eq!(entry.missing(), [range(0, bench.bytes.len())]);
    fill(&entry, &bench.bytes);
    entry.prove().await.unwrap();
    assert_eq!(fs::read(other_name).unwrap(), wrong);
    assert_eq!(fs::read(bench.data()).unwrap(), bench.bytes);
}

#[tokio::test]
async fn what_is_no_file_of_ours_is_replaced_and_not_written_through() {
    let bench = Bench::new();
    let victim = bench.home.path().join("victim");
    fs::write(&victim, &bench.bytes[1..]).unwrap();
    let plants: [(&str, &dyn Fn()); 5] = [
        ("symbolic link", &|| symlink(&victim, bench.data()).unwrap()),
        ("hard link", &|| rustix::fs::link(&victim, bench.data()).unwrap()),
        ("directory", &|| fs::create_dir(bench.data()).unwrap()),
        ("fifo", &|| assert!(Command::new("mkfifo").arg(bench.data()).status().unwrap().success())),
        ("file of the right size without a journal", &|| fs::write(bench.data(), &bench.bytes).unwrap()),
    ];
    for (name, plant) in plants {
        plant();
        assert_eq!(bench.entry().missing(), [range(0, bench.bytes.len())], "{name}");
        assert_eq!(bench.finish().await, bench.bytes, "{name}");
        assert_eq!(fs::read(&victim).unwrap(), &bench.bytes[1..], "{name}");
        bench.entry().prove().await.unwrap().discard().unwrap();
    }
}

#[tokio::test]
async fn a_file_without_the_owner_write_bit_is_never_written() {
    let bench = Bench::new();
    bench.interrupted();
    let before = fs::File::open(bench.data()).unwrap();
    fs::set_permissions(bench.data(), fs::Permissions::from_mode(0o400)).unwrap();

    assert_eq!(bench.entry().resumed(), 0);
    assert_eq!(bench.finish().await, bench.bytes);
    assert_ne!(before.metadata().unwrap().ino(), inode(&bench.data()));
}

#[tokio::test]
async fn a_file_with_another_name_is_never_written() {
    let bench = Bench::new();
    bench.interrupted();
    let other = bench.home.path().join("other");
    rustix::fs::link(bench.data(), &other).unwrap();
    let before = fs::read(&other).unwrap();

    assert_eq!(bench.entry().resumed(), 0);
    assert_eq!(bench.finish().await, bench.bytes);
    assert_eq!(fs::read(&other).unwrap(), before);
}

#[tokio::test]
async fn a_file_of_another_owner_is_never_written() {
    if !is_root() {
        return; // Only root can give a file away.
    }
    let bench = Bench::new();
    bench.interrupted();
    let before = fs::File::open(bench.data()).unwrap();
    chown(bench.data(), Some(1), None).unwrap();

    assert_eq!(bench.entry().resumed(), 0);
    assert_eq!(bench.finish().await, bench.bytes);
    assert_ne!(before.metadata().unwrap().ino(), inode(&bench.data()));
}
