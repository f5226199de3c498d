//! Both stores: how a blob becomes content, under garbage collectors, beside other clients and over rotten files.

use std::{
    os::unix::fs::MetadataExt as _,
    sync::{Arc, Mutex},
};

use containerd::{Committed, Error, How, Mode, Notice, Store, StoreChoice};
use oci::Digest;

use crate::daemon::{Collector, Daemon, binaries, descriptor, entry, eventually, no_labels, random_bytes, verified, write};

type Heard = Arc<Mutex<Vec<Notice>>>;

fn listen(store: Store) -> (Store, Heard) {
    let heard = Heard::default();
    let ear = Arc::clone(&heard);
    (store.watched(move |notice| ear.lock().unwrap().push(notice)), heard)
}

fn rot(daemon: &Daemon, digest: Digest) {
    let path = daemon.blob(digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[7] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

async fn commit(store: &Store, bytes: &[u8]) -> Result<Committed, Error> {
    store.commit(&verified(store, bytes).await, &no_labels()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_direct_store_names_the_very_file_of_the_spool() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let (session, store) = daemon.store("default", StoreChoice::Auto).await;
        assert_eq!(store.mode(), Mode::Direct, "{}", store.why());
        let bytes = random_bytes(3 << 20);
        let proved = verified(&store, &bytes).await;
        let labels = containerd::Labels::from([("a".to_owned(), "b".to_owned())]);
        let committed = store.commit(&proved, &labels).await.unwrap();
        let file = daemon.blob(proved.digest());
        assert_eq!(committed.path(), Some(file.as_path()));
        let found = file.metadata().unwrap();
        assert_eq!((found.dev(), found.ino()), proved.inode());
        assert_eq!(found.mode() & 0o7777, 0o444);
        let info = session.content(proved.digest()).await.unwrap().unwrap();
        assert_eq!((info.size, &info.labels), (bytes.len() as u64, &labels));
        // A second time it is there already.
        assert_eq!(store.commit(&proved, &labels).await.unwrap(), committed);
        proved.discard().unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 1);
        let again = store.adopt(&descriptor(&bytes), &no_labels()).await.unwrap().unwrap();
        assert_eq!(again.how(), How::Trusted);
        // Nothing of ours is left among containerd's ingests.
        assert_eq!(std::fs::read_dir(daemon.content_root().join("ingest")).unwrap().count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_commits_survive_a_collector() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let (session, store) = daemon.store("default", StoreChoice::Direct).await;
        let _collectors = (Collector::start(&daemon).await, Collector::start(&daemon).await);
        let mut blobs = Vec::new();
        for _ in 0..150 {
            let bytes = random_bytes(2000);
            let proved = verified(&store, &bytes).await;
            store.commit(&proved, &no_labels()).await.unwrap();
            proved.discard().unwrap();
            blobs.push(bytes);
        }
        for bytes in blobs {
            let digest = Digest::of(&bytes);
            assert!(session.content(digest).await.unwrap().is_some());
            assert_eq!(std::fs::read(daemon.blob(digest)).unwrap(), bytes);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_replaces_a_rotten_blob_of_another_namespace() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let bytes = random_bytes(70_000);
        let digest = Digest::of(&bytes);
        commit(&daemon.store("other", StoreChoice::Direct).await.1, &bytes).await.unwrap();
        rot(&daemon, digest);

        let (session, store) = daemon.store("default", StoreChoice::Direct).await;
        let (store, heard) = listen(store);
        assert!(store.adopt(&descriptor(&bytes), &no_labels()).await.unwrap().is_none());
        assert!(session.content(digest).await.unwrap().is_none(), "nothing rotten is taken");
        assert_eq!(commit(&store, &bytes).await.unwrap().how(), How::Hashed);
        assert_eq!(std::fs::read(daemon.blob(digest)).unwrap(), bytes);
        let file = daemon.blob(digest);
        assert_eq!(*heard.lock().unwrap(), [Notice::Rotten { digest, file: file.clone() }, Notice::Replaced { digest, file }]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn api_names_a_rotten_blob_of_another_namespace_and_takes_nothing() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let bytes = random_bytes(70_000);
        let digest = Digest::of(&bytes);
        commit(&daemon.store("other", StoreChoice::Api).await.1, &bytes).await.unwrap();
        rot(&daemon, digest);

        let (session, store) = daemon.store("default", StoreChoice::Api).await;
        let adopting = store.adopt(&descriptor(&bytes), &no_labels()).await.unwrap_err();
        assert!(adopting.is_damage() && adopting.to_string().contains(&daemon.blob(digest).display().to_string()), "{adopting}");
        // Sent over it, the good bytes would be hashed by containerd, and the rotten file kept.
        let sending = commit(&store, &bytes).await.unwrap_err();
        assert!(sending.is_damage(), "{sending:?}");
        assert!(session.content(digest).await.unwrap().is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn good_content_of_another_namespace_is_hashed_and_taken() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        for (name, choice) in [("one", StoreChoice::Direct), ("two", StoreChoice::Api)] {
            let bytes = random_bytes(70_000);
            commit(&daemon.store("other", StoreChoice::Auto).await.1, &bytes).await.unwrap();
            let (session, store) = daemon.store(name, choice).await;
            let adopted = store.adopt(&descriptor(&bytes), &no_labels()).await.unwrap().unwrap();
            assert_eq!(adopted.how(), How::Hashed);
            assert!(session.content(Digest::of(&bytes)).await.unwrap().is_some());
            assert!(store.adopt(&descriptor(&random_bytes(5)), &no_labels()).await.unwrap().is_none());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_not_this_containerds_is_seen_through() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        daemon.store("default", StoreChoice::Direct).await;
        // It names the first one's root as its own and has another there.
        let pod = Daemon::in_a_pod(&binary, &daemon.path().join("root")).await;
        let session = pod.session("default").await;
        session.lease(std::time::Duration::from_secs(3600), oci::Digest::of(b"manifest")).await.unwrap();
        let spool = pod.path().join("spool");
        let error = session.open_store(StoreChoice::Direct, Some(&spool)).await.unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("another containerd"), "{error}");
        let store = session.open_store(StoreChoice::Auto, Some(&spool)).await.unwrap();
        assert_eq!(store.mode(), Mode::Api);
        assert!(store.why().contains("another containerd"));

        let bytes = random_bytes(70_000);
        let committed = commit(&store, &bytes).await.unwrap();
        assert_eq!(committed.path(), None);
        assert_eq!(session.read_content(Digest::of(&bytes), 1 << 20).await.unwrap(), bytes);
        // Taken by another namespace it is read through containerd.
        let other = pod.session("other").await;
        other.lease(std::time::Duration::from_secs(3600), oci::Digest::of(b"manifest")).await.unwrap();
        let store = other.open_store(StoreChoice::Auto, Some(&spool)).await.unwrap();
        let adopted = store.adopt(&descriptor(&bytes), &no_labels()).await.unwrap().unwrap();
        assert_eq!((adopted.how(), adopted.path()), (How::Hashed, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_on_another_filesystem_means_api_or_a_usage_error() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let session = daemon.session("default").await;
        // tmpfs on every Linux.
        let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
        let spool = elsewhere.path().join("spool");
        let error = session.open_store(StoreChoice::Direct, Some(&spool)).await.unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("another filesystem"), "{error}");
        let store = session.open_store(StoreChoice::Auto, Some(&spool)).await.unwrap();
        assert_eq!(store.mode(), Mode::Api);
        commit(&store, &random_bytes(100)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isolated_containerd_gets_every_byte() {
    for binary in binaries() {
        let daemon = Daemon::isolated(&binary).await;
        let bytes = random_bytes(2 << 20);
        for namespace in ["one", "two"] {
            let (session, store) = daemon.store(namespace, StoreChoice::Auto).await;
            assert!(store.mode() == Mode::Api && store.why().contains("isolated"), "{}", store.why());
            assert!(store.adopt(&descriptor(&bytes), &no_labels()).await.unwrap().is_none());
            let proved = verified(&store, &bytes).await;
            store.commit(&proved, &no_labels()).await.unwrap();
            proved.discard().unwrap();
            assert!(session.content(Digest::of(&bytes)).await.unwrap().is_some());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn api_sends_the_prefix_while_the_rest_arrives() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let (session, store) = daemon.store("default", StoreChoice::Api).await;
        let bytes = random_bytes(5 << 20);
        let digest = Digest::of(&bytes);
        let entry = entry(&store, &bytes);
        let upload = store.begin(&entry);
        write(&entry, &bytes, 0..3 << 20);
        eventually("the first part reaches containerd", async || ingested(&daemon) == 3 << 20).await;
        assert!(session.content(digest).await.unwrap().is_none());
        write(&entry, &bytes, 3 << 20..bytes.len());
        let proved = entry.prove().await.unwrap();
        upload.commit(&proved, &no_labels()).await.unwrap();
        assert_eq!(std::fs::read(daemon.blob(digest)).unwrap(), bytes);
    }
}

/// Bytes in the only ingest there is.
fn ingested(daemon: &Daemon) -> u64 {
    let Ok(ingests) = std::fs::read_dir(daemon.content_root().join("ingest")) else { return 0 };
    ingests.flatten().filter_map(|ingest| ingest.path().join("data").metadata().ok()).map(|data| data.len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_starts_over_is_committed_with_its_new_bytes() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let (_session, store) = daemon.store("default", StoreChoice::Api).await;
        let bytes = random_bytes(2 << 20);
        let entry = entry(&store, &bytes);
        let upload = store.begin(&entry);
        write(&entry, &random_bytes(bytes.len()), 0..bytes.len());
        eventually("the wrong bytes reach containerd", async || ingested(&daemon) == bytes.len() as u64).await;
        entry.prove().await.unwrap_err();
        entry.restart().unwrap();
        write(&entry, &bytes, 0..bytes.len());
        let proved = entry.prove().await.unwrap();
        upload.commit(&proved, &no_labels()).await.unwrap();
        assert_eq!(std::fs::read(daemon.blob(Digest::of(&bytes))).unwrap(), bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ref_held_by_another_client_is_waited_for_and_then_taken_over() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let bytes = random_bytes(2 << 20);
        let digest = Digest::of(&bytes);
        let (_other_session, other) = daemon.store("default", StoreChoice::Api).await;
        let first = entry(&other, &bytes);
        let upload = other.begin(&first);
        write(&first, &bytes, 0..1 << 20);
        eventually("the other client writes", async || ingested(&daemon) == 1 << 20).await;

        let session = daemon.session("default").await;
        session.lease(std::time::Duration::from_secs(3600), oci::Digest::of(b"manifest")).await.unwrap();
        let spool = daemon.path().join("second-spool");
        let (store, heard) = listen(session.open_store(StoreChoice::Api, Some(&spool)).await.unwrap());
        let second = {
            let (store, bytes) = (store.clone(), bytes.clone());
            tokio::spawn(async move { commit(&store, &bytes).await })
        };
        let reference = format!("layer-{digest}");
        eventually("it is said whose turn it is", async || {
            let heard = heard.lock().unwrap();
            heard.iter().any(|notice| matches!(notice, Notice::Waiting { reference: named, offset, .. } if *named == reference && *offset == 1 << 20))
        })
        .await;
        assert!(!second.is_finished());
        // The other client dies in the middle.
        drop((upload, first));
        let committed = second.await.unwrap().unwrap();
        assert_eq!(committed.how(), How::Hashed);
        assert_eq!(std::fs::read(daemon.blob(digest)).unwrap(), bytes);
    }
}
