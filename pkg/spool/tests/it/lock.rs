//! Safety 3: one process at a time; the sweeper waits for nobody and takes nothing that is in use.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    os::{
        fd::AsFd,
        unix::fs::{chown, symlink},
    },
    time::{Duration, SystemTime},
};

use rustix::fs::FlockOperation;

use super::*;

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

fn age(bench: &Bench) {
    let old = SystemTime::now() - 2 * WEEK;
    for path in [bench.data(), bench.journal(), bench.lock()] {
        File::open(path).unwrap().set_modified(old).unwrap();
    }
}

#[test]
fn holds_the_entry_until_its_stdin_ends() {
    let Some(spool) = spool_of_parent() else { return };
    let bytes = noise(3 * MIB + MIB / 2);
    let entry = spool.try_entry(&descriptor(&bytes)).unwrap().expect("nobody else has it");
    write(&entry, &bytes, 0, MIB);
    rustix::io::write(std::io::stdout(), b"\nheld\n").unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn another_process_holds(bench: &Bench) -> Child {
    let mut child = process("lock::holds_the_entry_until_its_stdin_ends", bench.spool.path());
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "held"));
    child
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_waits_and_then_sees_what_is_there() {
    let bench = Bench::new();
    let mut child = another_process_holds(&bench);
    assert!(bench.spool.try_entry(&bench.blob).unwrap().is_none());

    let (spool, blob) = (bench.spool.clone(), bench.blob.clone());
    let waiter = tokio::spawn(async move { spool.entry(&blob).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiter.is_finished());
    drop(child.stdin.take());
    let entry = waiter.await.unwrap().unwrap();
    assert_eq!(entry.missing(), [range(MIB, bench.bytes.len())]);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_dead_owner_is_no_obstacle() {
    let bench = Bench::new();
    let mut child = another_process_holds(&bench);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(bench.entry().resumed(), MIB as u64);
}

#[test]
fn two_of_one_process_exclude_each_other_too() {
    let bench = Bench::new();
    let entry = bench.entry();
    let grant = entry.grant(range(0, 1)).unwrap();
    drop(entry);
    assert!(bench.spool.try_entry(&bench.blob).unwrap().is_none(), "a grant alone holds the lock");
    drop(grant);
    assert!(bench.spool.try_entry(&bench.blob).unwrap().is_some());
}

#[test]
fn a_lock_on_a_file_that_lost_its_name_guards_nothing() {
    let bench = Bench::new();
    bench.interrupted();
    // A waiter opened the lock file, then its owner finished and took the name away.
    let waiter = File::open(bench.lock()).unwrap();
    bench.entry().discard().unwrap();
    rustix::fs::flock(&waiter, FlockOperation::NonBlockingLockExclusive).unwrap();
    let entry = bench.entry();
    assert!(bench.spool.try_entry(&bench.blob).unwrap().is_none());
    drop(entry);
}

#[test]
fn what_is_no_lock_file_of_ours_is_nobodys_lock() {
    let bench = Bench::new();
    let victim = bench.home.path().join("victim");
    fs::write(&victim, "").unwrap();
    let plants: [(&str, &dyn Fn()); 4] = [
        ("symbolic link", &|| symlink(&victim, bench.lock()).unwrap()),
        ("directory", &|| fs::create_dir(bench.lock()).unwrap()),
        ("fifo", &|| assert!(Command::new("mkfifo").arg(bench.lock()).status().unwrap().success())),
        ("file of another owner", &|| {
            fs::write(bench.lock(), "").unwrap();
            if is_root() {
                chown(bench.lock(), Some(1), None).unwrap();
            }
        }),
    ];
    for (name, plant) in plants {
        plant();
        let entry = bench.entry();
        let lock = fs::symlink_metadata(bench.lock()).unwrap();
        assert!(lock.is_file() && lock.uid() == rustix::process::geteuid().as_raw(), "{name}");
        drop(entry);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lock_is_never_held_twice_while_owners_come_and_go() {
    let bench = Bench::new();
    let inside = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let (spool, blob, inside) = (bench.spool.clone(), bench.blob.clone(), inside.clone());
            tokio::task::spawn_blocking(move || {
                for _ in 0..200 {
                    if let Some(entry) = spool.try_entry(&blob).unwrap() {
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        entry.discard().unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(names(bench.spool.path()).is_empty());
}

#[test]
fn sweeps_what_nobody_used_for_long() {
    let bench = Bench::new();
    bench.interrupted();
    assert_eq!(bench.spool.sweep(WEEK, &[]).unwrap(), 0);
    age(&bench);
    fs::write(bench.spool.path().join("note"), "not ours").unwrap();
    assert_eq!(bench.spool.sweep(WEEK, &[]).unwrap(), 1);
    assert_eq!(names(bench.spool.path()), ["note"]);
}

#[test]
fn sweeps_nothing_that_is_in_use() {
    let bench = Bench::new();
    bench.interrupted();
    let entry = bench.entry();
    age(&bench);
    assert_eq!(bench.spool.sweep(WEEK, &[]).unwrap(), 0);
    assert!(bench.data().exists());
    drop(entry);
    assert_eq!(bench.spool.sweep(WEEK, &[]).unwrap(), 1);
}

#[test]
fn opening_an_entry_counts_as_use() {
    let bench = Bench::new();
    bench.interrupted();
    age(&bench);
    drop(bench.entry());
    assert_eq!(bench.spool.sweep(WEEK, &[]).unwrap(), 0);
}

#[tokio::test]
async fn opening_an_entry_that_is_only_read_counts_as_use_too() {
    let bench = Bench::new();
    drop(bench.proved().await);
    age(&bench);
    drop(bench.entry());
    assert_eq!(bench.spool.sweep(WEEK, &[]).unwrap(), 0);
}

#[test]
fn sweeps_nothing_that_is_wanted_now() {
    let bench = Bench::new();
    bench.interrupted();
    age(&bench);
    assert_eq!(bench.spool.sweep(WEEK, &[bench.blob.digest]).unwrap(), 0);
    assert_eq!(bench.entry().resumed(), 2 * MIB as u64);
    age(&bench);
    assert_eq!(bench.spool.sweep(WEEK, &[Digest::of(b"another")]).unwrap(), 1);
}

#[tokio::test]
async fn a_finished_pull_leaves_nothing() {
    let bench = Bench::new();
    let path = bench.spool.path().to_owned();
    drop(bench.entry());
    assert!(names(&path).is_empty(), "an entry without bytes leaves nothing");

    let verified = bench.proved().await;
    bench.spool.remove_if_empty().unwrap();
    assert!(path.exists(), "not while a blob is in it");
    verified.discard().unwrap();

    let other = Spool::open(&path, None).unwrap();
    bench.spool.remove_if_empty().unwrap();
    assert!(path.exists(), "not while another has it open");
    drop(other);
    bench.spool.remove_if_empty().unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn what_a_killed_replacement_left_goes_with_its_entry() {
    let bench = Bench::new();
    let leave = |verified: &Verified| {
        let directory = File::open(bench.spool.path()).unwrap();
        verified.link(directory.as_fd(), &bench.spool.replacement(bench.blob.digest)).unwrap();
    };
    let verified = bench.proved().await;
    leave(&verified);
    verified.discard().unwrap();
    assert!(names(bench.spool.path()).is_empty(), "the next run that finishes the blob takes it along");

    let verified = bench.proved().await;
    leave(&verified);
    drop(verified);
    age(&bench);
    fs::write(bench.spool.path().join("sample-1"), "").unwrap();
    File::open(bench.spool.path().join("sample-1")).unwrap().set_modified(SystemTime::now() - 2 * WEEK).unwrap();
    bench.spool.sweep(WEEK, &[]).unwrap();
    assert!(names(bench.spool.path()).is_empty(), "and else the sweep does");
}

#[test]
fn what_is_left_of_a_blob_is_forgotten_unless_somebody_has_it() {
    let bench = Bench::new();
    let forget = || bench.spool.forget(bench.blob.digest).unwrap();
    forget();
    assert!(names(bench.spool.path()).is_empty(), "no lock is made for nothing");
    bench.interrupted();
    let entry = bench.entry();
    forget();
    assert!(bench.data().exists() && bench.journal().exists());
    drop(entry);
    forget();
    assert!(names(bench.spool.path()).is_empty());
}

#[test]
fn a_sample_is_made_like_an_entry_and_has_no_name() {
    let bench = Bench::new();
    let sample = bench.spool.sample().unwrap().metadata().unwrap();
    assert_eq!((sample.nlink(), sample.len()), (0, 0));
    bench.interrupted();
    let entry = fs::metadata(bench.data()).unwrap();
    assert_eq!((sample.mode(), sample.uid(), sample.gid()), (entry.mode(), entry.uid(), entry.gid()));
}
