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
        assert_eq!(store.commit(&proved, &labels).await.unwrap().path(), committed.path());
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
        for _ in 0..2 {
            assert!(store.adopt(&descriptor(&bytes), &no_labels()).await.unwrap().is_none());
        }
        assert!(session.content(digest).await.unwrap().is_none(), "nothing rotten is taken");
        // As a run killed in the middle of this leaves it.
        std::fs::write(store.spool().path().join(store.spool().replacement(digest)), "").unwrap();
        assert_eq!(commit(&store, &bytes).await.unwrap().how(), How::Hashed);
        assert_eq!(std::fs::read(daemon.blob(digest)).unwrap(), bytes);
        let file = daemon.blob(digest);
        // Said once, and nothing is left of it.
        assert_eq!(
            std::fs::read_dir(store.spool().path())
                .unwrap()
                .flatten()
                .filter(|entry| entry.path().extension().is_some_and(|it| it == "replace"))
                .count(),
            0
        );
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

#[tokio::test(flavor = "multi_thread")]
async fn a_containerd_that_restarts_in_the_middle_of_an_upload_gets_all_of_it() {
    for binary in binaries() {
        let mut daemon = Daemon::start(&binary).await;
        let (_session, store) = daemon.store("default", StoreChoice::Api).await;
        let bytes = random_bytes(5 << 20);
        let entry = entry(&store, &bytes);
        let upload = store.begin(&entry);
        write(&entry, &bytes, 0..3 << 20);
        eventually("the first part reaches containerd", async || ingested(&daemon) == 3 << 20).await;
        daemon.restart().await;
        write(&entry, &bytes, 3 << 20..bytes.len());
        let proved = entry.prove().await.unwrap();
        let committed = upload.commit(&proved, &no_labels()).await.unwrap();
        assert_eq!(committed.how(), How::Hashed);
        assert_eq!(std::fs::read(daemon.blob(committed.digest())).unwrap(), bytes);
        assert_eq!(ingested(&daemon), 0, "what the first stream sent is gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containerd_that_goes_away_is_named_and_what_was_fetched_stays() {
    for binary in binaries() {
        let mut daemon = Daemon::start(&binary).await;
        let (_session, store) = daemon.store("default", StoreChoice::Api).await;
        let bytes = random_bytes(2 << 20);
        let entry = entry(&store, &bytes);
        let upload = store.begin(&entry);
        write(&entry, &bytes, 0..1 << 20);
        eventually("the first part reaches containerd", async || ingested(&daemon) == 1 << 20).await;
        daemon.kill();
        write(&entry, &bytes, 1 << 20..bytes.len());
        let proved = entry.prove().await.unwrap();
        let error = upload.commit(&proved, &no_labels()).await.unwrap_err();
        assert!(matches!(error, Error::Silent { .. }) && error.to_string().contains(&daemon.address()), "{error:?}");
        drop((proved, entry));

        daemon.restart().await;
        let (_session, store) = daemon.store("default", StoreChoice::Api).await;
        let entry = self::entry(&store, &bytes);
        assert_eq!(entry.missing(), [], "nothing has to be fetched again");
        let committed = store.commit(&entry.prove().await.unwrap(), &no_labels()).await.unwrap();
        assert_eq!(std::fs::read(daemon.blob(committed.digest())).unwrap(), bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_pull_sent_is_taken_back() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let (session, store) = daemon.store("default", StoreChoice::Api).await;
        let blobs = [random_bytes(2 << 20), random_bytes(2 << 20)];
        let entries = blobs.each_ref().map(|bytes| entry(&store, bytes));
        let uploads = entries.each_ref().map(|entry| store.begin(entry));
        // Corrupt, and complete: under its ref it would fail every other client that pulls this layer.
        write(&entries[0], &random_bytes(2 << 20), 0..2 << 20);
        write(&entries[1], &blobs[1], 0..1 << 20);
        eventually("both reach containerd", async || ingested(&daemon) == 3 << 20).await;
        entries[0].prove().await.unwrap_err();
        drop(uploads);
        session.abort_ingests().await.unwrap();
        assert_eq!(daemon.ctr(&["content", "active"]).lines().filter(|line| line.contains("layer-")).count(), 0);
        assert_eq!(ingested(&daemon), 0);
        // Another client has the ref to itself.
        let (_session, other) = daemon.store("default", StoreChoice::Api).await;
        drop(entries);
        commit(&other, &blobs[0]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_blob_opens_as_the_very_inode_that_was_hashed() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let (_session, store) = daemon.store("default", StoreChoice::Direct).await;
        let bytes = random_bytes(70_000);
        let proved = verified(&store, &bytes).await;
        let committed = store.commit(&proved, &no_labels()).await.unwrap();
        let inode = proved.inode().1;
        proved.discard().unwrap();
        assert_eq!(committed.open().unwrap().unwrap().metadata().unwrap().ino(), inode);
        assert!(store.spool().try_entry(&descriptor(&bytes)).unwrap().is_some(), "it does not hold the lock of the entry");
        // Put in its place, another file is not taken for it.
        let file = daemon.blob(Digest::of(&bytes));
        std::fs::rename(&file, file.with_extension("aside")).unwrap();
        std::fs::write(&file, "other").unwrap();
        assert_eq!(committed.open().unwrap().unwrap().metadata().unwrap().ino(), inode);

        // Found there, it is opened by its path: no symbolic link, and no silence about a file that is gone.
        std::fs::rename(file.with_extension("aside"), &file).unwrap();
        let trusted = store.present(&descriptor(&bytes)).await.unwrap().unwrap();
        assert_eq!(trusted.open().unwrap().unwrap().metadata().unwrap().ino(), inode);
        std::fs::remove_file(&file).unwrap();
        assert!(trusted.open().unwrap_err().is_gone());
        std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
        assert!(matches!(trusted.open(), Err(Error::File { .. })));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proved_file_that_does_not_look_like_a_blob_is_never_linked() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let (_session, store) = daemon.store("default", StoreChoice::Direct).await;
        let (store, heard) = listen(store);
        let bytes = random_bytes(70_000);
        let digest = Digest::of(&bytes);
        // In the snapshot directory of somebody who writes it with the usual mode.
        let elsewhere = daemon.path().join("overlaybd.commit");
        std::fs::write(&elsewhere, &bytes).unwrap();
        let proved = spool::Verified::of_file(&elsewhere, digest, bytes.len() as u64).unwrap();
        store.commit(&proved, &no_labels()).await.unwrap();
        assert!(matches!(&heard.lock().unwrap()[..], [Notice::Fallback { why, .. }] if why.contains("644")), "{heard:?}");
        assert_eq!(elsewhere.metadata().unwrap().nlink(), 1);
        assert_eq!(std::fs::read(daemon.blob(digest)).unwrap(), bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_descriptor_that_lies_about_a_size_is_blamed_and_not_the_file() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let bytes = random_bytes(7000);
        commit(&daemon.store("default", StoreChoice::Direct).await.1, &bytes).await.unwrap();
        let lie = oci::Descriptor::new(oci::MediaType::new(""), Digest::of(&bytes), 6999).unwrap();
        // Held by this namespace, and by another one.
        for (namespace, choice) in
            [("default", StoreChoice::Direct), ("default", StoreChoice::Api), ("other", StoreChoice::Direct)]
        {
            let (_session, store) = daemon.store(namespace, choice).await;
            let error = store.adopt(&lie, &no_labels()).await.unwrap_err();
            assert!(matches!(error, Error::WrongSize { claimed: 6999, actual: 7000, .. }), "{error:?}");
            assert!(error.is_damage() && error.hint().is_some_and(|hint| !hint.contains("delete")));
        }
        assert_eq!(std::fs::read(daemon.blob(Digest::of(&bytes))).unwrap(), bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_another_namespace_lets_go_of_is_adopted_or_left() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let other = daemon.session("other").await;
        let (session, store) = daemon.store("default", StoreChoice::Direct).await;
        let _collectors = (Collector::start(&daemon).await, Collector::start(&daemon).await);
        for _ in 0..100 {
            // Without a lease: it goes any time.
            let bytes = random_bytes(200_000);
            let _ = other.write_document(&descriptor(&bytes), &bytes, &no_labels()).await;
            let adopted = store.adopt(&descriptor(&bytes), &no_labels()).await.unwrap();
            assert_eq!(adopted.is_some(), session.content(Digest::of(&bytes)).await.unwrap().is_some());
            if adopted.is_some() {
                assert_eq!(std::fs::read(daemon.blob(Digest::of(&bytes))).unwrap(), bytes);
            }
        }
    }
}
