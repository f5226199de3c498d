//! The lease keeps what a pull has, longer than it lives itself (safety 17).

use std::time::Duration;

use containerd::{Error, Prepared, StoreChoice};
use oci::Digest;

use crate::daemon::{Collector, Daemon, binaries, descriptor, eventually, no_labels, random_bytes, verified};

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_lease_outlives_its_expiry_under_a_collector() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let session = daemon.session("default").await;
        session.lease(Duration::from_secs(6), oci::Digest::of(b"manifest")).await.unwrap();
        let store = session.open_store(StoreChoice::Auto, None).await.unwrap();
        let bytes = random_bytes(4096);
        let digest = Digest::of(&bytes);
        store.commit(&verified(&store, &bytes).await, &no_labels()).await.unwrap();
        let prepared = session.prepare("native", "extract-1 x", None, &no_labels()).await.unwrap();
        assert!(matches!(prepared, Prepared::Active(_)));

        let collector = Collector::start(&daemon).await;
        let keeper = {
            let session = session.clone();
            tokio::spawn(async move { session.keep_lease().await })
        };
        tokio::time::sleep(Duration::from_secs(14)).await;
        assert!(!keeper.is_finished(), "{:?}", keeper.await);
        keeper.abort();
        assert!(session.content(digest).await.unwrap().is_some());
        assert_eq!(std::fs::read(daemon.blob(digest)).unwrap(), bytes);
        assert!(session.stat("native", "extract-1 x").await.unwrap().is_some());

        // And that it was the lease is seen by letting go of it.
        session.release_lease().await.unwrap();
        eventually("unleased content goes", async || session.content(digest).await.unwrap().is_none()).await;
        eventually("its file goes after it", async || !daemon.blob(digest).exists()).await;
        drop(collector);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_run_finished_comes_under_the_next_lease() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let dead = daemon.session("default").await;
        dead.lease(Duration::from_secs(2), oci::Digest::of(b"manifest")).await.unwrap();
        let bytes = random_bytes(100);
        let digest = Digest::of(&bytes);
        dead.write_document(&descriptor(&bytes), &bytes, &no_labels()).await.unwrap();
        drop(dead);

        let session = daemon.session("default").await;
        session.lease(Duration::from_secs(3600), oci::Digest::of(b"manifest")).await.unwrap();
        let _collector = Collector::start(&daemon).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(session.content(digest).await.unwrap().is_some());
        // The next one finds the first run's lease expired and clears it away.
        daemon.session("default").await.lease(Duration::from_secs(3600), oci::Digest::of(b"manifest")).await.unwrap();
        assert!(session.content(digest).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_lease_somebody_deleted_is_named() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let session = daemon.session("default").await;
        session.lease(Duration::from_secs(3600), oci::Digest::of(b"manifest")).await.unwrap();
        let leases = daemon.ctr(&["leases", "ls", "-q"]);
        daemon.ctr(&["leases", "rm", leases.trim()]);
        let bytes = random_bytes(10);
        let error = session.write_document(&descriptor(&bytes), &bytes, &no_labels()).await.unwrap_err();
        assert!(error.is_gone(), "{error:?}");
        assert!(error.to_string().contains(leases.trim()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_another_image_is_left_to_its_own_lease() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let other = daemon.session("default").await;
        other.lease(Duration::from_secs(2), Digest::of(b"another manifest")).await.unwrap();
        let bytes = random_bytes(100);
        other.write_document(&descriptor(&bytes), &bytes, &no_labels()).await.unwrap();

        let session = daemon.session("default").await;
        session.lease(Duration::from_secs(3600), Digest::of(b"manifest")).await.unwrap();
        assert_eq!(daemon.ctr(&["leases", "ls", "-q"]).lines().count(), 2, "it is not deleted either");
        let _collector = Collector::start(&daemon).await;
        eventually("it goes when its lease expires", async || session.content(Digest::of(&bytes)).await.unwrap().is_none()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_fails_is_tried_until_shortly_before_the_lease_expires() {
    for binary in binaries() {
        let mut daemon = Daemon::start(&binary).await;
        let session = daemon.session("default").await;
        session.lease(Duration::from_secs(8), Digest::of(b"manifest")).await.unwrap();
        let taken = tokio::time::Instant::now();
        daemon.kill();
        let error = session.keep_lease().await.unwrap_err();
        assert!(matches!(error, Error::Silent { .. }), "{error:?}");
        assert!(taken.elapsed() > Duration::from_secs(7), "{:?}", taken.elapsed());
    }
}

#[tokio::test]
async fn a_pull_that_ends_before_it_began_leaves_no_lease() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let session = daemon.session("default").await;
        session.lease(Duration::from_secs(3600), Digest::of(b"manifest")).await.unwrap();
        session.abort_ingests().await.unwrap();
        assert_eq!(daemon.ctr(&["leases", "ls", "-q"]), "");

        // With something under it, it stays for the next run, which takes it over.
        session.lease(Duration::from_secs(3600), Digest::of(b"manifest")).await.unwrap();
        let bytes = random_bytes(100);
        session.write_document(&descriptor(&bytes), &bytes, &no_labels()).await.unwrap();
        session.abort_ingests().await.unwrap();
        assert_ne!(daemon.ctr(&["leases", "ls", "-q"]), "");
    }
}
