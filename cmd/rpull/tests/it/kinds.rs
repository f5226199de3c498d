//! Every kind of layer (reference 7.7): linked, unpacked, left in the registry, or refused before anything is fetched.

use std::{fs, process::Command};

use serde_json::{Value, json};
use testkit::image::{Blob, Image, Layer};

use crate::{
    main_job,
    stage::{COMMITTED, Stage, chain_of, each, native, network, on_each_daemon, size_of},
};

fn overlaybd(seed: u64) -> Layer {
    Layer::overlaybd(Blob { seed, data: 64 << 10 })
}

/// Two plain layers, each of another compression.
fn plain(salt: &str) -> [Image; 3] {
    let (lower, upper) = (format!("{salt} lower"), format!("{salt} upper"));
    let (lower, upper) = ([("lower", lower.as_bytes())], [("upper", upper.as_bytes())]);
    [Layer::tar, Layer::tar_gzip, Layer::tar_zstd].map(|make| Image::new(vec![make(&lower), make(&upper)]))
}

#[test]
fn plain_images_are_unpacked_by_containerds_own_snapshotters() {
    on_each_daemon("plain", |stage| {
        for snapshotter in ["native", "overlayfs"] {
            for (image, tag) in plain(snapshotter).into_iter().zip(["tar", "gzip", "zstd"]) {
                let reference = image.push(stage.registry(), "plain", tag);
                let receipt = stage.pull(["--snapshotter", snapshotter, &reference]);
                assert_eq!(each(&receipt, "file"), ["unpacked"; 2], "{receipt:#}");
                assert_eq!(network(&receipt), size_of(&image));
                assert_plain(&stage, snapshotter, &image);
                assert_eq!(network(&stage.pull(["--snapshotter", snapshotter, &reference])), 0);
                stage.remove_image(&reference);
                assert_eq!((stage.contents(), stage.snapshots_of(snapshotter)), (vec![], vec![]));
            }
        }
    });
}

#[test]
fn plain_images_are_unpacked_on_the_overlaybd_snapshotter_too() {
    on_each_daemon("plain-obd", |stage| {
        for (image, tag) in plain("overlaybd").into_iter().zip(["tar", "gzip", "zstd"]) {
            let reference = image.push(stage.registry(), "plain-obd", tag);
            let receipt = stage.pull([&reference]);
            assert_eq!((each(&receipt, "kind"), each(&receipt, "file")), (vec!["plain"; 2], vec!["unpacked"; 2]), "{receipt:#}");
            assert_plain(&stage, "overlaybd", &image);
            stage.remove_image(&reference);
        }
    });
}

fn assert_plain(stage: &Stage, snapshotter: &str, image: &Image) {
    let mut parent = String::new();
    for (layer, chain) in image.layers().iter().zip(chain_of(image)) {
        let snapshot = stage.snapshot_of(snapshotter, &chain).expect("a layer has its snapshot");
        assert_eq!((snapshot.kind, snapshot.parent), (COMMITTED, parent));
        assert!(!snapshot.labels.keys().any(|key| key.contains("overlaybd/")), "{:?}", snapshot.labels);
        let content = stage.content(&layer.digest.to_string()).expect("a layer is content");
        assert_eq!(content.labels["containerd.io/uncompressed"], layer.diff_id.to_string());
        parent = chain;
    }
    stage.assert_nothing_unfinished();
    assert_eq!(stage.leases(), Vec::<String>::new());
}

#[test]
fn an_acceleration_layer_is_unpacked_on_top_of_linked_ones() {
    on_each_daemon("trace", |stage| {
        let image = Image::new(vec![overlaybd(300), Layer::acceleration(b"what to read first")]);
        let reference = image.push(stage.registry(), "trace", "1");
        let receipt = stage.pull([&reference]);
        assert_eq!(each(&receipt, "kind"), ["native", "acceleration"]);
        assert_eq!(each(&receipt, "file"), ["linked", "unpacked"]);
        let chain = chain_of(&image);
        let top = stage.snapshot(&chain[1]).unwrap();
        assert_eq!(top.labels["containerd.io/snapshot/overlaybd/acceleration-layer"], "yes");
        assert_eq!(top.parent, chain[0]);
        let traces = snapshot_files(&stage, "trace", b"what to read first");
        assert_eq!(traces, 1);
        assert_eq!(network(&stage.pull([&reference])), 0);
        stage.remove_image(&reference);
        assert_eq!((stage.contents(), stage.snapshots()), (vec![], vec![]));
    });
}

/// How many snapshots have this file.
fn snapshot_files(stage: &Stage, name: &str, bytes: &[u8]) -> usize {
    let snapshots = fs::read_dir(stage.snapshotter().root().join("snapshots")).unwrap();
    snapshots.flatten().filter(|entry| fs::read(entry.path().join("fs").join(name)).is_ok_and(|found| found == bytes)).count()
}

/// Architecture, fact 5: skopeo compresses what it copies, and the annotations are lost; the snapshotter knows the layers again.
#[test]
fn an_image_that_skopeo_compressed_is_unpacked_to_overlaybd_layers() {
    on_each_daemon("compressed", |stage| {
        let reference = stage.registry().reference("compressed", "1");
        let source = format!("oci:{}:obd", main_job::image().display());
        let target = format!("docker://{reference}");
        let flags = ["copy", "--quiet", "--dest-tls-verify=false", "--dest-compress", "--dest-compress-format", "gzip"];
        let output = Command::new("skopeo").args(flags).args([&source, &target]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

        let receipt = stage.pull([&reference]);
        assert_eq!((each(&receipt, "kind"), each(&receipt, "file")), (vec!["plain"; 4], vec!["unpacked"; 4]), "{receipt:#}");
        let snapshots = stage.snapshots();
        assert_eq!(snapshots.len(), 4);
        for snapshot in snapshots {
            assert!(snapshot.labels.contains_key("containerd.io/snapshot/overlaybd.localcommitpath"), "{:?}", snapshot.labels);
        }
        assert!(stage.image(&reference).unwrap().labels.contains_key("rpull/complete"));
        assert_eq!(network(&stage.pull([&reference])), 0);
        stage.assert_nothing_unfinished();
    });
}

#[test]
fn a_turbo_image_is_refused_before_a_blob_is_asked_for_unless_it_may_be_lazy() {
    on_each_daemon("turbo", |stage| {
        let data = Layer::tar_gzip(&[("data", b"stays in the registry")]);
        let image = Image::new(vec![Layer::turbo(&data)]).beside(data);
        let reference = image.push(stage.registry(), "turbo", "1");
        // With the blob away a request for it would be a "not found".
        let blob = stage.registry().blob_path(&image.layers()[0].digest);
        let away = blob.with_extension("away");
        fs::rename(&blob, &away).unwrap();
        let output = stage.rpull([&reference]);
        let stderr = output.fails_with(2);
        assert!(stderr.contains("TurboOCI") && stderr.contains("--lazy"), "{stderr}");
        assert_eq!((stage.contents(), stage.snapshots(), stage.leases()), (vec![], vec![], vec![]));
        fs::rename(&away, &blob).unwrap();

        let receipt = stage.pull(["--lazy", &reference]);
        assert_eq!((each(&receipt, "kind"), each(&receipt, "came")), (vec!["turbo"], vec!["lazy"]), "{receipt:#}");
        assert_eq!(receipt["complete"], false);
        let snapshot = stage.snapshot(&chain_of(&image)[0]).unwrap();
        assert!(snapshot.labels.contains_key("containerd.io/snapshot/overlaybd/turbo-oci/target-digest"));
        assert!(!stage.image(&reference).unwrap().labels.contains_key("rpull/complete"));
        assert_eq!(snapshot_files(&stage, "ext4.fs.meta", b"meta"), 1);
        stage.assert_nothing_unfinished();
    });
}

#[test]
fn an_overlaybd_layer_over_a_plain_one_is_refused_before_a_blob_is_asked_for() {
    on_each_daemon("over-plain", |stage| {
        let image = Image::new(vec![Layer::tar_gzip(&[("base", b"plain")]), overlaybd(310)]);
        let reference = image.push(stage.registry(), "over-plain", "1");
        for layer in image.layers() {
            fs::remove_file(stage.registry().blob_path(&layer.digest)).unwrap();
        }
        let output = stage.rpull([&reference]);
        let stderr = output.fails_with(output.code);
        assert!(stderr.contains(&image.layers()[1].digest.to_string()) && stderr.contains("cannot stand on"), "{stderr}");
        assert_eq!((stage.contents(), stage.snapshots(), stage.leases()), (vec![], vec![], vec![]));
    });
}

/// Safety 13: a snapshotter that makes no device configuration would leave files nobody reads.
#[test]
fn an_overlaybd_image_on_another_snapshotter_is_refused_with_the_cure() {
    on_each_daemon("no-config", |stage| {
        let image = native(&[320]);
        let reference = image.push(stage.registry(), "no-config", "1");
        let output = stage.rpull(["--snapshotter", "native", &reference]);
        assert!(output.fails_with(7).contains("--snapshotter overlaybd"), "{output:#?}");
        assert!(stage.image(&reference).is_none());
        assert_eq!(stage.snapshots_of("native"), vec![]);
    });
}

/// Safety 12, 21: what a hostile manifest says of itself becomes no label, and the receipt names it; nobody goes where it points.
#[test]
fn annotations_that_are_not_allowed_become_no_labels() {
    on_each_daemon("hostile", |stage| {
        let layer = overlaybd(330)
            .annotate("containerd.io/snapshot/image-ref", "evil.example/x")
            .annotate("containerd.io/snapshot/overlaybd/record-trace-path", "/etc/passwd");
        let image = Image::new(vec![layer]).edit_manifest(|manifest| {
            manifest["layers"][0]["urls"] = json!(["http://127.0.0.1:9/evil"]);
        });
        let reference = image.push(stage.registry(), "hostile", "1");
        let receipt = stage.pull([&reference]);
        let digest = image.layers()[0].digest.to_string();
        let mut dropped: Vec<_> =
            receipt["dropped_annotations"][&digest].as_array().unwrap().iter().map(Value::to_string).collect();
        dropped.sort();
        assert_eq!(dropped, ["\"containerd.io/snapshot/image-ref\"", "\"containerd.io/snapshot/overlaybd/record-trace-path\"",]);
        let labels = stage.snapshot(&chain_of(&image)[0]).unwrap().labels;
        assert_eq!(labels["containerd.io/snapshot/image-ref"], reference);
        assert!(!labels.values().any(|value| value.contains("evil") || value.contains("passwd")), "{labels:?}");
        let config = stage.commit_file(&image.layers()[0]).parent().unwrap().with_file_name("block/config.v1.json");
        assert!(!fs::read_to_string(config).unwrap().contains("evil"));
        stage.assert_whole(&reference, &image);
    });
}
