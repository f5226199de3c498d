//! Documents, labels, snapshots and image records.

use std::time::Duration;

use containerd::{Error, How, Labels, Named, Prepared, Session};
use oci::Digest;

use crate::daemon::{Daemon, binaries, descriptor, no_labels, random_bytes};

const SNAPSHOTTER: &str = "native";

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Without a lease the garbage collector takes everything at any time, first of all right after the start.
async fn leased(daemon: &Daemon, namespace: &str) -> Session {
    let session = daemon.session(namespace).await;
    session.lease(Duration::from_secs(3600), oci::Digest::of(b"manifest")).await.unwrap();
    session
}

#[tokio::test]
async fn documents_are_written_once_and_labels_merge() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let session = leased(&daemon, "default").await;
        let bytes = random_bytes(1000);
        let document = descriptor(&bytes);
        let first = session.write_document(&document, &bytes, &labels(&[("a", "1"), ("b", "2")])).await.unwrap();
        assert_eq!(first.how(), How::Hashed);
        let second = session.write_document(&document, &bytes, &labels(&[("b", "3")])).await.unwrap();
        assert_eq!(second.how(), How::Trusted);
        session.label_content(document.digest, &labels(&[("c", "4"), ("a", "")])).await.unwrap();
        assert_eq!(session.content(document.digest).await.unwrap().unwrap().labels, labels(&[("b", "3"), ("c", "4")]));
        assert_eq!(session.read_content(document.digest, 1000).await.unwrap(), bytes);
        assert!(matches!(session.read_content(document.digest, 999).await, Err(Error::Answer { .. })));
        assert!(session.content(Digest::of(b"other")).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_document_with_a_wrong_digest_does_not_become_content() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let session = leased(&daemon, "default").await;
        let document = descriptor(&random_bytes(1000));
        let error = session.write_document(&document, &random_bytes(1000), &no_labels()).await.unwrap_err();
        assert!(matches!(error, Error::Mismatch { .. }), "{error:?}");
        assert!(session.content(document.digest).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_rotten_document_of_another_namespace_is_damage() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let bytes = random_bytes(1000);
        let document = descriptor(&bytes);
        leased(&daemon, "other").await.write_document(&document, &bytes, &no_labels()).await.unwrap();
        std::fs::write(daemon.blob(document.digest), random_bytes(1000)).unwrap();
        let session = leased(&daemon, "default").await;
        let error = session.write_document(&document, &bytes, &no_labels()).await.unwrap_err();
        assert!(error.is_damage(), "{error:?}");
        assert!(session.content(document.digest).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_snapshot_is_prepared_committed_and_then_found() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let session = leased(&daemon, "default").await;
        let chain = Digest::of(b"chain");
        let wanted = labels(&[("containerd.io/snapshot.ref", &chain.to_string()), ("x", "y")]);
        let Prepared::Active(mounts) = session.prepare(SNAPSHOTTER, "extract-1 c", None, &wanted).await.unwrap() else {
            panic!("nothing is there yet")
        };
        assert_eq!(mounts.len(), 1);
        assert!(mounts[0].source.starts_with(daemon.path()));
        let other = session.prepare(SNAPSHOTTER, "extract-2 c", None, &wanted).await.unwrap();
        assert!(matches!(other, Prepared::Active(_)));

        assert_eq!(session.commit(SNAPSHOTTER, chain, "extract-1 c", &wanted).await.unwrap(), Named::Ours);
        // Somebody else was first: no error, and the own key is gone.
        assert_eq!(session.commit(SNAPSHOTTER, chain, "extract-2 c", &wanted).await.unwrap(), Named::Theirs);
        assert!(session.stat(SNAPSHOTTER, "extract-2 c").await.unwrap().is_none());

        let found = session.stat(SNAPSHOTTER, &chain.to_string()).await.unwrap().unwrap();
        assert!(found.committed && found.parent.is_empty());
        assert_eq!(found.labels, wanted);
        assert_eq!(session.prepare(SNAPSHOTTER, "extract-3 c", None, &wanted).await.unwrap(), Prepared::Exists);
        session.usage(SNAPSHOTTER, &chain.to_string()).await.unwrap();

        let above = session.view(SNAPSHOTTER, "probe-1", chain, &no_labels()).await.unwrap();
        assert!(!above.is_empty());
        session.remove(SNAPSHOTTER, "probe-1").await.unwrap();
        session.remove(SNAPSHOTTER, "probe-1").await.unwrap();
    }
}

#[tokio::test]
async fn snapshot_errors_say_what_is_missing() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let session = leased(&daemon, "default").await;
        let unknown = session.prepare("overlaybd", "k", None, &no_labels()).await.unwrap_err();
        assert!(matches!(&unknown, Error::NoSnapshotter { name, .. } if name == "overlaybd"), "{unknown:?}");
        let orphan = session.prepare(SNAPSHOTTER, "k", Some(Digest::of(b"none")), &no_labels()).await.unwrap_err();
        assert!(matches!(orphan, Error::Gone { .. }), "{orphan:?}");
    }
}

#[tokio::test]
async fn an_image_is_updated_without_touching_labels_of_others() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let session = leased(&daemon, "k8s.io").await;
        let (first, second) = (descriptor(b"first"), descriptor(b"second"));
        assert!(session.image("r/a:1").await.unwrap().is_none());
        let cri = labels(&[("io.cri-containerd.image", "managed"), ("rpull/complete", "x")]);
        session.put_image("r/a:1", &first, &cri).await.unwrap();
        session.put_image("r/a:1", &second, &labels(&[("rpull/complete", ""), ("mine", "1")])).await.unwrap();
        let record = session.image("r/a:1").await.unwrap().unwrap();
        assert_eq!(record.target.digest(), Some(second.digest));
        assert_eq!(record.labels, labels(&[("io.cri-containerd.image", "managed"), ("mine", "1")]));
        session.delete_image("r/a:1").await.unwrap();
        session.delete_image("r/a:1").await.unwrap();
        assert!(session.image("r/a:1").await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_layer_is_unpacked_by_containerd() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let session = leased(&daemon, "default").await;
        // The smallest tar there is: two zero blocks.
        let tar = vec![0; 1024];
        let layer = descriptor(&tar);
        session.write_document(&layer, &tar, &no_labels()).await.unwrap();
        let Prepared::Active(mounts) = session.prepare(SNAPSHOTTER, "k", None, &no_labels()).await.unwrap() else {
            panic!("nothing is there yet")
        };
        match session.apply(&layer, &mounts).await {
            Ok(diff_id) => assert_eq!(diff_id, layer.digest),
            // Mounting takes root and its capabilities; without them containerd says so.
            Err(error) => assert!(!rustix::process::geteuid().is_root(), "{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_record_that_points_at_something_unknown_to_us_can_be_put_back() {
    use containerd_client::services::v1::{CreateImageRequest, GetImageRequest, Image, images_client::ImagesClient};

    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let session = leased(&daemon, "default").await;
        let mut client = ImagesClient::new(containerd_client::connect(daemon.address()).await.unwrap());
        let in_namespace = |message| {
            let mut request = tonic::Request::new(message);
            request.metadata_mut().insert("containerd-namespace", "default".parse().unwrap());
            request
        };
        let target = containerd_client::types::Descriptor {
            media_type: "application/x".to_owned(),
            digest: format!("sha512:{}", "0f".repeat(64)),
            size: 7,
            annotations: [("a".to_owned(), "b".to_owned())].into(),
        };
        let image = Image { name: "r/a:1".to_owned(), target: Some(target.clone()), ..Image::default() };
        let create = CreateImageRequest { image: Some(image), ..CreateImageRequest::default() };
        let mut request = tonic::Request::new(create);
        request.metadata_mut().insert("containerd-namespace", "default".parse().unwrap());
        client.create(request).await.unwrap();

        let former = session.image("r/a:1").await.unwrap().unwrap();
        assert_eq!(former.target.digest(), None);
        session.put_image("r/a:1", &descriptor(b"ours"), &no_labels()).await.unwrap();
        assert_eq!(session.image("r/a:1").await.unwrap().unwrap().target.digest(), Some(Digest::of(b"ours")));
        session.put_image("r/a:1", &former.target, &no_labels()).await.unwrap();
        let reply = client.get(in_namespace(GetImageRequest { name: "r/a:1".to_owned() })).await.unwrap().into_inner();
        assert_eq!(reply.image.unwrap().target, Some(target));
    }
}
