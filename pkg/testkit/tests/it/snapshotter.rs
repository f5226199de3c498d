//! What the snapshotter answers, row by row, on whichever one is active: run with and without `OVERLAYBD_SNAPSHOTTER`.

use std::{fs, os::unix::fs::MetadataExt};

use tonic::Code;

use crate::stage::{
    IMAGE, Labels, comes_true, config, directories, download, labels, on_every_daemon, overlaybd, plain, with, wrapped,
};

const REMOTE: &str = "containerd.io/snapshot/remote";

#[tokio::test]
async fn snapshotter_row_a_an_acceleration_layer_is_a_bind_mount_over_its_parents_config() {
    on_every_daemon(async |stage| {
        let base = stage.full_layer("sha256:base", "").await;
        let accelerate = with(download("sha256:accel"), "containerd.io/snapshot/overlaybd/acceleration-layer", "yes");
        let mounts = stage.prepare("a", "sha256:base", &accelerate).await.unwrap();
        assert_eq!((mounts[0].r#type.as_str(), mounts[0].options.as_slice()), ("bind", &["rw".into(), "bind".into()][..]));
        let fs = &directories(&mounts)[0];
        let lowers = config(fs)["lowers"].clone();
        assert_eq!(lowers[0]["dir"], base.to_str().unwrap());
        assert_eq!(lowers[1], serde_json::json!({ "dir": fs }));
        // Without a parent's config there is nothing to stand on.
        stage.plain_layer("sha256:plain", "").await;
        assert!(stage.prepare("b", "sha256:plain", &accelerate).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn snapshotter_row_b_a_download_is_a_bind_mount_whose_config_names_every_layer() {
    on_every_daemon(async |stage| {
        let base = stage.full_layer("sha256:base", "").await;
        let labels = download("sha256:top");
        let mounts = stage.prepare("top", "sha256:base", &labels).await.unwrap();
        assert_eq!((mounts[0].r#type.as_str(), mounts[0].options.as_slice()), ("bind", &["rw".into(), "bind".into()][..]));
        let fs = &directories(&mounts)[0];
        assert!(fs.starts_with(stage.snapshotter.root().join("snapshots")) && fs.ends_with("fs"), "{fs:?}");
        let home = fs.parent().unwrap();
        assert_eq!(fs::read_to_string(home.join("image_ref")).unwrap(), IMAGE);
        let mode = |name: &str| fs::metadata(home.join(name)).unwrap().mode() & 0o7777;
        assert_eq!(["", "fs", "block", "block/mountpoint", "work"].map(mode), [0o700, 0o755, 0o711, 0o711, 0o711]);
        assert_eq!(fs::metadata(stage.snapshotter.root()).unwrap().mode() & 0o7777, 0o700);
        let digest = |name: &str| oci::Digest::of(name.as_bytes()).to_string();
        let expected = serde_json::json!({
            "repoBlobUrl": "https://127.0.0.1:5000/v2/t/obd/blobs",
            "lowers": [
                { "digest": digest("sha256:base"), "size": 4096, "dir": base },
                { "digest": digest("sha256:top"), "size": 4096, "dir": fs },
            ],
            "upper": {},
            "resultFile": home.join("block/init-debug.log"),
        });
        assert_eq!(config(fs), expected);
        assert_eq!(stage.prepare("top", "sha256:base", &labels).await.unwrap_err().code(), Code::AlreadyExists);
        let wrong = with(download("sha256:x"), "containerd.io/snapshot/overlaybd/blob-size", "many");
        assert!(stage.prepare("x", "sha256:base", &wrong).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn snapshotter_row_c_a_turbo_layer_is_extracted_and_gets_its_config_at_commit() {
    on_every_daemon(async |stage| {
        let target = oci::Digest::of(b"target").to_string();
        let turbo = |name: &str| {
            let labels = with(overlaybd(name), "containerd.io/snapshot/overlaybd/turbo-oci/target-digest", &target);
            let media = "application/vnd.oci.image.layer.v1.tar+gzip";
            with(labels, "containerd.io/snapshot/overlaybd/turbo-oci/target-media-type", media)
        };
        let mut lowers = Vec::new();
        let mut parent = "";
        for name in ["sha256:one", "sha256:two"] {
            let mounts = stage.prepare(name, parent, &turbo(name)).await.unwrap();
            let fs = directories(&mounts)[0].clone();
            assert!(!fs.with_file_name("block").join("config.v1.json").exists());
            fs::write(fs.join("ext4.fs.meta"), "meta").unwrap();
            fs::write(fs.join("gzip.meta"), "meta").unwrap();
            stage.commit(&format!("{name}-done"), name, &turbo(name)).await.unwrap();
            lowers.push(serde_json::json!({
                "file": fs.join("ext4.fs.meta"), "targetDigest": target, "dir": fs, "gzipIndex": fs.join("gzip.meta"),
            }));
            assert_eq!(config(&fs)["lowers"], serde_json::Value::from(lowers.clone()));
            parent = "sha256:one-done";
        }
        // In download mode row b comes first.
        let mounts = stage.prepare("b", "", &with(turbo("b"), DOWNLOAD, "download")).await.unwrap();
        assert_eq!(mounts[0].options, ["rw", "bind"]);
    })
    .await;
}

const DOWNLOAD: &str = "containerd.io/snapshot/overlaybd/download-remote-blob";

#[tokio::test]
async fn snapshotter_row_d_a_layer_without_download_is_committed_at_once_and_says_remote() {
    on_every_daemon(async |stage| {
        stage.lazy_layer("sha256:base", "").await;
        let info = stage.stat("sha256:base").await.unwrap();
        assert_eq!(info.labels.get(REMOTE).map(String::as_str), Some("remote snapshot"), "{info:?}");
        assert_eq!(info.kind, 3);
        stage.lazy_layer("sha256:top", "sha256:base").await;
        assert_eq!(stage.stat("sha256:top").await.unwrap().parent, "sha256:base");
        assert_eq!(stage.stat("prepare-sha256:top").await.unwrap_err().code(), Code::NotFound);
        let fs = stage.snapshotter.root().join("snapshots").join(stage.snapshot_directories().last().unwrap()).join("fs");
        assert_eq!(config(&fs)["lowers"].as_array().unwrap().len(), 2);
        assert!(!fs.join("overlaybd.commit").exists());
        assert!(stage.usage("sha256:top").await.size < 64 << 10);
        // The directories fs and block, the config and the log; not the mountpoint.
        assert_eq!(stage.usage("sha256:top").await.inodes, 4);
        // A second namespace adopts what the first has.
        let stage = stage.in_namespace("other");
        stage.lazy_layer("sha256:base", "").await;
        assert!(stage.stat("sha256:base").await.unwrap().labels.contains_key(REMOTE));
    })
    .await;
}

#[tokio::test]
async fn snapshotter_row_e_an_ordinary_layer_is_an_overlay_of_its_parents() {
    on_every_daemon(async |stage| {
        let mounts = stage.prepare("first", "", &plain("sha256:one")).await.unwrap();
        assert_eq!((mounts[0].r#type.as_str(), mounts[0].options.as_slice()), ("bind", &["rw".into(), "rbind".into()][..]));
        stage.commit("sha256:one", "first", &plain("sha256:one")).await.unwrap();
        let two = stage.plain_layer("sha256:two", "sha256:one").await;
        let mounts = stage.prepare("third", "sha256:two", &plain("sha256:three")).await.unwrap();
        assert_eq!((mounts[0].r#type.as_str(), mounts[0].source.as_str()), ("overlay", "overlay"));
        let named = directories(&mounts);
        assert_eq!(named.len(), 3);
        assert_eq!(named[1], two);
        assert!(
            mounts[0].options.iter().any(|option| *option == format!("workdir={}", named[0].with_file_name("work").display()))
        );
        assert!(!two.with_file_name("block").join("config.v1.json").exists());
        // What is no step of a pull works on a plain parent, and Mounts repeats the answer.
        let container = stage.prepare("container", "sha256:two", &Labels::new()).await.unwrap();
        assert_eq!(stage.mounts("container").await.unwrap(), container);
    })
    .await;
}

#[tokio::test]
async fn an_overlaybd_layer_over_a_plain_parent_is_refused() {
    on_every_daemon(async |stage| {
        stage.plain_layer("sha256:plain", "").await;
        let before = stage.snapshot_directories();
        for labels in [download("sha256:top"), overlaybd("sha256:top")] {
            let refused = stage.prepare("top", "sha256:plain", &labels).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unknown, "{refused:?}");
            assert!(refused.message().to_lowercase().contains("no such file"), "{refused:?}");
        }
        assert_eq!(stage.snapshot_directories(), before);
        assert_eq!(stage.prepare("top", "sha256:absent", &plain("x")).await.unwrap_err().code(), Code::NotFound);
    })
    .await;
}

#[tokio::test]
async fn a_view_with_a_ref_of_its_own_names_every_layer_and_is_removed_again() {
    on_every_daemon(async |stage| {
        let probe = labels(&[("containerd.io/snapshot.ref", "probe-unique")]);
        stage.lazy_layer("sha256:one", "").await;
        let mounts = stage.view("probe-1", "sha256:one", &probe).await.unwrap();
        assert_eq!((mounts[0].r#type.as_str(), mounts[0].options.as_slice()), ("bind", &["ro".into(), "rbind".into()][..]));
        let one = directories(&mounts)[0].clone();
        stage.remove("probe-1").await.unwrap();
        let two = stage.full_layer("sha256:two", "sha256:one").await;
        stage.lazy_layer("sha256:three", "sha256:two").await;
        let before = stage.snapshot_directories();
        let mounts = stage.view("probe-2", "sha256:three", &probe).await.unwrap();
        let named = directories(&mounts);
        assert_eq!(named.len(), 3);
        assert_eq!(named[1..], [two, one]);
        assert_eq!(config(&named[0])["lowers"][2]["dir"], named[0].to_str().unwrap());
        let own: Vec<_> = stage.snapshot_directories().into_iter().filter(|name| !before.contains(name)).collect();
        assert_eq!(own.len(), 1);
        stage.remove("probe-2").await.unwrap();
        // Its directory goes with the daemon's next garbage collection.
        stage.collect_garbage();
        assert!(!stage.snapshot_directories().contains(&own[0]));
    })
    .await;
}

#[tokio::test]
async fn commit_replaces_the_labels_and_usage_counts_the_linked_blob() {
    on_every_daemon(async |stage| {
        let fs = stage.full_layer("sha256:one", "").await;
        let info = stage.stat("sha256:one").await.unwrap();
        assert_eq!(info.labels, download("sha256:one"));
        assert_eq!(config(&fs)["lowers"][0]["size"], 4096);
        assert!(stage.usage("sha256:one").await.size >= 8192);
        // Without labels none are left; its config is still there for a layer above.
        stage.prepare("two", "sha256:one", &download("sha256:two")).await.unwrap();
        stage.commit("sha256:two", "two", &Labels::new()).await.unwrap();
        assert_eq!(stage.stat("sha256:two").await.unwrap().labels, Labels::new());
        stage.prepare("three", "sha256:two", &download("sha256:three")).await.unwrap();
        // The name is taken: the active key stays until it is removed.
        stage.prepare("again", "sha256:one", &download("sha256:other")).await.unwrap();
        let taken = stage.commit("sha256:two", "again", &download("sha256:two")).await.unwrap_err();
        assert_eq!(taken.code(), Code::AlreadyExists);
        stage.remove("again").await.unwrap();
        stage.update_labels("sha256:two", &download("sha256:two")).await.unwrap();
        assert_eq!(stage.stat("sha256:two").await.unwrap().labels, download("sha256:two"));
    })
    .await;
}

#[tokio::test]
async fn a_tar_wrapped_blob_without_labels_passes_for_a_plain_layer_and_a_bare_one_does_not() {
    on_every_daemon(async |stage| {
        stage.prepare("a", "", &download("sha256:a")).await.unwrap();
        stage.prepare("b", "", &plain("sha256:b")).await.unwrap();
        let root = stage.snapshotter.root().join("snapshots");
        fs::write(root.join("1/fs/overlaybd.commit"), wrapped()).unwrap();
        let mut bare = wrapped();
        bare[..24].copy_from_slice(b"ZFile\0\x01\0tuji.yyf@Alibaba");
        fs::write(root.join("2/fs/overlaybd.commit"), bare).unwrap();
        stage.commit("sha256:a", "a", &Labels::new()).await.unwrap();
        stage.commit("sha256:b", "b", &plain("sha256:b")).await.unwrap();
        assert!(stage.prepare("container-a", "sha256:a", &Labels::new()).await.is_ok());
        // The second was recognised by its file and has a config, so that a layer can stand on it.
        assert_eq!(config(&root.join("2/fs"))["lowers"][0]["dir"], root.join("2/fs").to_str().unwrap());
        stage.prepare("c", "sha256:b", &download("sha256:c")).await.unwrap();
        let local = &stage.stat("sha256:b").await.unwrap().labels["containerd.io/snapshot/overlaybd.localcommitpath"];
        assert_eq!(*local, root.join("2/fs/overlaybd.sealed").display().to_string());
    })
    .await;
}

#[tokio::test]
async fn a_blob_linked_into_a_lazy_layer_shows_in_its_usage() {
    on_every_daemon(async |stage| {
        stage.lazy_layer("sha256:one", "").await;
        let before = stage.usage("sha256:one").await.size;
        let name = stage.snapshot_directories().pop().unwrap();
        fs::write(stage.snapshotter.root().join("snapshots").join(name).join("fs/overlaybd.commit"), wrapped()).unwrap();
        assert_eq!(stage.usage("sha256:one").await.size, before + 8192);
    })
    .await;
}

#[tokio::test]
async fn remove_takes_the_directory_and_waits_for_children() {
    on_every_daemon(async |stage| {
        let one = stage.full_layer("sha256:one", "").await;
        let two = stage.full_layer("sha256:two", "sha256:one").await;
        assert_eq!(stage.remove("sha256:one").await.unwrap_err().code(), Code::FailedPrecondition);
        stage.remove("sha256:two").await.unwrap();
        stage.remove("sha256:one").await.unwrap();
        // The daemon's garbage collection removes them from the snapshotter.
        stage.collect_garbage();
        assert!(stage.snapshot_directories().is_empty());
        assert!(!one.exists() && !two.exists());
    })
    .await;
}

#[tokio::test]
async fn a_killed_snapshotter_is_unavailable_and_knows_its_layers_after_a_restart() {
    on_every_daemon(async |mut stage| {
        stage.full_layer("sha256:one", "").await;
        stage.snapshotter.kill();
        assert!(stage.snapshotter.address().exists());
        assert_eq!(stage.prepare("two", "sha256:one", &download("sha256:two")).await.unwrap_err().code(), Code::Unavailable);
        stage.snapshotter.restart();
        // containerd waits a little before it connects again.
        let answers = async || stage.prepare("two", "sha256:one", &download("sha256:two")).await.is_ok();
        assert!(comes_true(answers).await);
        assert_eq!(stage.stat("two").await.unwrap().parent, "sha256:one");
    })
    .await;
}

#[tokio::test]
async fn calls_that_cannot_be_get_the_codes_of_the_real_one() {
    on_every_daemon(async |stage| {
        assert_eq!(stage.stat("absent").await.unwrap_err().code(), Code::NotFound);
        assert_eq!(stage.remove("absent").await.unwrap_err().code(), Code::NotFound);
        assert_eq!(stage.commit("name", "absent", &plain("name")).await.unwrap_err().code(), Code::NotFound);
        stage.plain_layer("sha256:plain", "").await;
        stage.prepare("active", "", &plain("x")).await.unwrap();
        assert_eq!(stage.prepare("y", "active", &plain("y")).await.unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(stage.prepare("active", "", &plain("x")).await.unwrap_err().code(), Code::AlreadyExists);
        stage.view("view", "sha256:plain", &plain("z")).await.unwrap();
        assert_eq!(stage.commit("z", "view", &plain("z")).await.unwrap_err().code(), Code::FailedPrecondition);
        assert_eq!(stage.commit("z", "sha256:plain", &plain("z")).await.unwrap_err().code(), Code::FailedPrecondition);
        assert_eq!(stage.mounts("sha256:plain").await.unwrap_err().code(), Code::FailedPrecondition);
    })
    .await;
}
