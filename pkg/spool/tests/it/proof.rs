//! Safety 4: what is linked is the inode that was hashed.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsFd,
        unix::fs::{PermissionsExt, symlink},
    },
};

use super::*;

#[tokio::test]
async fn a_proved_blob_is_linked_read_only_and_the_same_inode() {
    let bench = Bench::new();
    let verified = bench.proved().await;
    let home = File::open(bench.home.path()).unwrap();
    verified.link(home.as_fd(), "blob").unwrap();
    let again = verified.link(home.as_fd(), "blob").unwrap_err();
    assert_eq!(again.io_kind(), Some(io::ErrorKind::AlreadyExists));
    assert!(again.to_string().contains(bench.home.path().join("blob").to_str().unwrap()), "{again}");
    verified.link(home.as_fd(), "second").unwrap();

    let blob = bench.home.path().join("blob");
    let metadata = fs::metadata(&blob).unwrap();
    assert_eq!((metadata.dev(), metadata.ino()), verified.inode());
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o444);
    verified.clone().discard().unwrap();
    verified.discard().unwrap();
    assert!(names(bench.spool.path()).is_empty());
    assert_eq!(fs::read(blob).unwrap(), bench.bytes);
}

/// Does the disk have all bytes of the file, as the filesystem tells it? Reserved space counts as unwritten until they are there.
fn is_on_disk(path: &std::path::Path) -> Option<bool> {
    let told = std::process::Command::new("/usr/sbin/filefrag").arg("-v").arg(path).output().ok()?;
    told.status.success().then(|| !String::from_utf8_lossy(&told.stdout).contains("unwritten"))
}

#[tokio::test]
async fn a_blob_is_on_the_disk_before_it_has_a_name_and_an_unsynced_one_not_earlier() {
    let bench = Bench::new();
    let _verified = bench.proved().await;
    // A filesystem that does not tell.
    let Some(synced) = is_on_disk(&bench.data()) else { return };
    assert!(synced);

    let bench = Bench::new();
    let bench = Bench { spool: bench.spool.clone().unsynced(), ..bench };
    let verified = bench.proved().await;
    assert_eq!(is_on_disk(&bench.data()), Some(false), "the disk is left alone");
    let home = File::open(bench.home.path()).unwrap();
    verified.link(home.as_fd(), "blob").unwrap();
    assert_eq!(is_on_disk(&bench.home.path().join("blob")), Some(true));
}

#[tokio::test]
async fn what_an_unsynced_run_left_is_synced_by_one_that_gives_it_a_name() {
    let bench = Bench::new();
    let left = Bench { spool: bench.spool.clone().unsynced(), ..bench };
    drop(left.proved().await);
    let bench = Bench { spool: Spool::open(left.spool.path(), None).unwrap(), ..left };
    let entry = bench.entry();
    assert_eq!(entry.resumed(), bench.bytes.len() as u64);
    let _verified = entry.prove().await.unwrap();
    assert_ne!(is_on_disk(&bench.data()), Some(false));
}

#[tokio::test]
async fn a_proved_blob_is_open_for_writing_nowhere() {
    let bench = Bench::new();
    let entry = bench.entry();
    let mut grant = entry.grant(range(0, bench.bytes.len())).unwrap();
    grant.write(&bench.bytes).unwrap();
    let _verified = entry.prove().await.unwrap();
    // A grant that is used up is still in someone's hands here.
    assert_eq!(grant.rest(), None);
    for descriptor in fs::read_dir("/proc/self/fd").unwrap() {
        let descriptor = descriptor.unwrap().path();
        if fs::read_link(&descriptor).is_ok_and(|target| target == bench.data()) {
            let mode = fs::symlink_metadata(&descriptor).unwrap().permissions().mode();
            assert_eq!(mode & 0o200, 0, "{descriptor:?} can write");
        }
    }
}

#[tokio::test]
async fn bytes_that_changed_after_the_proof_are_not_linked() {
    let bench = Bench::new();
    let verified = bench.proved().await;
    fs::set_permissions(bench.data(), fs::Permissions::from_mode(0o644)).unwrap();
    let mut changed = bench.bytes.clone();
    changed[0] ^= 1;
    fs::write(bench.data(), changed).unwrap();
    let error = verified.link(File::open(bench.home.path()).unwrap().as_fd(), "blob").unwrap_err();
    assert!(matches!(error, spool::Error::Changed { .. }));
    assert!(!bench.home.path().join("blob").exists());
}

#[tokio::test]
async fn a_file_that_is_longer_than_its_blob_is_not_proved() {
    let bench = Bench::new();
    let entry = bench.entry();
    let mut other = fs::OpenOptions::new().append(true).open(bench.data()).unwrap();
    io::Write::write_all(&mut other, b"more").unwrap();
    fill(&entry, &bench.bytes);
    assert!(matches!(entry.prove().await, Err(spool::Error::Changed { .. })));
}

#[tokio::test]
async fn a_file_put_in_place_of_the_proved_one_is_not_linked() {
    let bench = Bench::new();
    let verified = bench.proved().await;
    rustix::fs::link(bench.data(), bench.home.path().join("kept")).unwrap();
    fs::remove_file(bench.data()).unwrap();
    fs::write(bench.data(), "something else").unwrap();
    verified.link(File::open(bench.home.path()).unwrap().as_fd(), "blob").unwrap();
    assert_eq!(fs::read(bench.home.path().join("blob")).unwrap(), bench.bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_who_wait_get_the_same_proof() {
    let bench = Bench::new();
    let entry = bench.entry();
    let waiters = [entry.clone(), entry.clone()].map(|entry| tokio::spawn(async move { entry.prove().await }));
    fill(&entry, &bench.bytes);
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().unwrap().digest(), bench.blob.digest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prefix_can_be_read_while_the_rest_arrives() {
    let bench = Bench::new();
    let entry = bench.entry();
    let reader = entry.clone();
    let streamed = tokio::spawn(async move {
        let mut streamed = Vec::new();
        while (streamed.len() as u64) < reader.blob().size() {
            let end = reader.prefix(streamed.len() as u64).await.unwrap();
            let mut bytes = vec![0; usize::try_from(end).unwrap() - streamed.len()];
            assert_eq!(reader.read_at(streamed.len() as u64, &mut bytes).unwrap(), bytes.len());
            streamed.extend(bytes);
        }
        streamed
    });
    write(&entry, &bench.bytes, 2 * MIB, bench.bytes.len());
    let mut bytes = [0; 8];
    assert_eq!(entry.read_at(0, &mut bytes).unwrap(), 0, "nothing of it is there");
    write(&entry, &bench.bytes, 0, MIB);
    assert_eq!(entry.prefix(0).await.unwrap(), MIB as u64);
    fill(&entry, &bench.bytes);
    assert_eq!(streamed.await.unwrap(), bench.bytes);
    assert_eq!(entry.prefix(bench.blob.size()).await.unwrap(), bench.blob.size(), "at the end it does not wait for more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_the_prefix_learns_that_the_entry_started_over() {
    let bench = Bench::new();
    let entry = bench.entry();
    write(&entry, &bench.bytes, 0, MIB);
    let read = entry.prefix(0).await.unwrap();
    let reader = entry.clone();
    let waiting = tokio::spawn(async move { reader.prefix(read).await });
    tokio::task::yield_now().await;
    entry.restart().unwrap();
    assert!(matches!(waiting.await.unwrap(), Err(spool::Error::Restarted { .. })));
}

#[test]
fn an_existing_file_is_verified_only_by_hashing_it() {
    let bench = Bench::new();
    let path = bench.home.path().join("file");
    let size = bench.blob.size();
    let verify = |digest, size| Verified::of_file(&path, digest, size);
    assert_eq!(verify(bench.blob.digest, size).unwrap_err().io_kind(), Some(io::ErrorKind::NotFound));

    fs::write(&path, &bench.bytes).unwrap();
    let verified = verify(bench.blob.digest, size).unwrap();
    verified.discard().unwrap();
    assert!(path.exists(), "it is not the spool's to remove");
    assert!(matches!(verify(bench.blob.digest, size + 1), Err(spool::Error::Size { .. })));
    assert!(matches!(verify(Digest::of(b"x"), size), Err(spool::Error::Mismatch { .. })));

    fs::rename(&path, bench.home.path().join("aside")).unwrap();
    symlink("aside", &path).unwrap();
    assert!(matches!(verify(bench.blob.digest, size), Err(spool::Error::NotRegular { .. })));
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert!(matches!(verify(bench.blob.digest, size), Err(spool::Error::NotRegular { .. })));
}

#[tokio::test]
async fn a_proof_kept_beyond_its_entry_leads_to_the_same_bytes_and_locks_nothing() {
    let bench = Bench::new();
    let verified = bench.proved().await;
    let kept = verified.unlocked();
    drop(verified);
    drop(bench.entry());
    assert_eq!(spool::Identity::of(&kept.open().unwrap()).unwrap(), (&fs::metadata(bench.data()).unwrap()).into());
    kept.clone().discard().unwrap();
    assert!(bench.data().exists(), "the entry is not its to remove");

    fs::set_permissions(bench.data(), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(bench.data(), "changed").unwrap();
    assert!(matches!(kept.open(), Err(spool::Error::Changed { .. })));
}
