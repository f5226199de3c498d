//! The lease keeps what a pull has, longer than it lives itself (safety 17).

use std::time::Duration;

use containerd::{Prepared, StoreChoice};
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
        let run = |args: &[&str]| {
            let output = std::process::Command::new("ctr").args(["-a", &daemon.address()]).args(args).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let leases = run(&["leases", "ls", "-q"]);
        run(&["leases", "rm", leases.trim()]);
        let bytes = random_bytes(10);
        let error = session.write_document(&descriptor(&bytes), &bytes, &no_labels()).await.unwrap_err();
        assert!(error.is_gone(), "{error:?}");
        assert!(error.to_string().contains(leases.trim()));
    }
}
