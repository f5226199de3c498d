//! The main job on every daemon and in both stores: the real overlaybd image of `testdata`, pulled, looked at from all sides,
//! pulled again, and removed.

use std::{fs, path::Path};

use serde_json::Value;
use testkit::{Containerd, Daemons};

use crate::stage::{COMMITTED, OVERLAYBD, Stage, chain_ids, inode, network, say};

/// The image of `testdata/obd-image`.
struct Expected {
    manifest: String,
    config: String,
    /// Digest, size and chain id of each layer.
    layers: Vec<(String, u64, String)>,
}

impl Expected {
    fn read() -> Self {
        let json = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
        let index = json(&image().join("index.json"));
        let blob = |digest: &str| image().join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
        let manifest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
        let document = json(&blob(&manifest));
        let config = document["config"]["digest"].as_str().unwrap().to_owned();
        let diff_ids = json(&blob(&config))["rootfs"]["diff_ids"].clone();
        let chain = chain_ids(diff_ids.as_array().unwrap().iter().map(|diff_id| diff_id.as_str().unwrap()));
        let layers = document["layers"].as_array().unwrap().iter().zip(chain);
        let layers =
            layers.map(|(layer, chain)| (layer["digest"].as_str().unwrap().to_owned(), layer["size"].as_u64().unwrap(), chain));
        let layers = layers.collect();
        Self { manifest, config, layers }
    }

    fn size(&self) -> u64 {
        self.layers.iter().map(|(_, size, _)| size).sum()
    }

    fn digests(&self) -> Vec<String> {
        let layers = self.layers.iter().map(|(digest, ..)| digest);
        let mut all: Vec<String> = layers.chain([&self.manifest, &self.config]).cloned().collect();
        all.sort();
        all
    }
}

/// The OCI layout with the image.
pub(crate) fn image() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/obd-image")
}

/// Safety 8, 13, 14, 18; and what "Shown by" of the main job asks for.
#[test]
fn an_overlaybd_image_is_pulled_whole_and_leaves_nothing_when_it_goes() {
    for daemon in Daemons::available() {
        for store in ["direct", "api"] {
            say(&format!("containerd {}, store {store}", daemon.label));
            let stage = Stage::on(&daemon);
            let reference = stage.registry().push_oci_layout(&image(), "obd", "t/obd");
            let expected = Expected::read();

            let receipt = stage.pull(["--store", store, &reference]);
            assert_eq!(receipt["store"]["mode"], store, "{receipt:#}");
            assert_eq!(network(&receipt), expected.size(), "{receipt:#}");
            assert_whole(&stage, &reference, &expected);
            check_receipt(&receipt, &stage, &reference, &expected);
            if store == "direct" {
                assert_eq!(receipt["layers"][0]["proof"], "hashed");
            }

            let again = stage.pull(["--store", store, &reference]);
            assert_eq!(network(&again), 0, "{again:#}");
            assert!(again["layers"].as_array().unwrap().iter().all(|layer| layer["came"] == "kept"), "{again:#}");
            assert_whole(&stage, &reference, &expected);

            stage.remove_image(&reference);
            assert_eq!(stage.contents(), Vec::<String>::new());
            assert_eq!(stage.snapshots(), vec![]);
            assert_nothing_on_disk(&stage);
        }
    }
}

/// Everything containerd and the disk should show after a pull of the image.
fn assert_whole(stage: &Stage, reference: &str, expected: &Expected) {
    assert_eq!(stage.contents(), expected.digests());
    assert_records(stage, reference, expected);
    let mut parent = String::new();
    for (digest, size, chain) in &expected.layers {
        let content = stage.content(digest).expect("a layer is content");
        assert_eq!(u64::try_from(content.size).unwrap(), *size);
        assert_eq!(content.labels["containerd.io/uncompressed"], *digest);
        assert_eq!(content.labels["containerd.io/distribution.source.127.0.0.1"], "t/obd");

        let snapshot = stage.snapshot(chain).expect("a layer has its snapshot");
        assert_eq!((snapshot.kind, &snapshot.parent), (COMMITTED, &parent));
        let size = size.to_string();
        for (key, value) in [
            ("containerd.io/snapshot.ref", chain.as_str()),
            ("containerd.io/snapshot/image-ref", reference),
            ("containerd.io/snapshot/overlaybd/blob-digest", digest),
            ("containerd.io/snapshot/overlaybd/blob-size", &size),
            ("containerd.io/snapshot/overlaybd/version", "0.1.0"),
        ] {
            assert_eq!(snapshot.labels.get(key).map(String::as_str), Some(value), "{key} of {chain}");
        }
        assert!(!snapshot.labels.contains_key("containerd.io/snapshot/remote"), "{chain} is lazy");

        let file = stage.directory_of(digest).expect("a snapshot has its directory").join("overlaybd.commit");
        assert_eq!(inode(&file), inode(&stage.blob(digest)), "{} is not the blob", file.display());
        parent.clone_from(chain);
    }
    assert_eq!(stage.snapshots().len(), expected.layers.len());
    stage.assert_nothing_unfinished();
    assert_eq!(stage.leases(), Vec::<String>::new());
    assert!(!stage.spool().exists(), "the spool is not empty");
}

fn assert_records(stage: &Stage, reference: &str, expected: &Expected) {
    let record = stage.image(reference).expect("the image has a record");
    assert_eq!(record.target.unwrap().digest, expected.manifest);
    assert_eq!(record.labels["rpull/complete"], expected.manifest);

    let manifest = stage.content(&expected.manifest).unwrap().labels;
    assert_eq!(manifest["containerd.io/gc.ref.content.config"], expected.config);
    for (at, (digest, ..)) in expected.layers.iter().enumerate() {
        assert_eq!(manifest[&format!("containerd.io/gc.ref.content.l.{at}")], *digest);
    }
    let config = stage.content(&expected.config).unwrap().labels;
    let (.., top) = expected.layers.last().unwrap();
    assert_eq!(config[&format!("containerd.io/gc.ref.snapshot.{OVERLAYBD}")], *top);
    for labels in [manifest, config] {
        assert_eq!(labels["containerd.io/distribution.source.127.0.0.1"], "t/obd");
    }
}

fn check_receipt(receipt: &Value, stage: &Stage, reference: &str, expected: &Expected) {
    assert_eq!(receipt["v"], 1);
    assert_eq!(receipt["reference"], reference);
    assert_eq!(receipt["namespace"], stage.namespace());
    assert_eq!(receipt["snapshotter"], OVERLAYBD);
    assert_eq!(receipt["target"], expected.manifest.as_str());
    assert_eq!(receipt["manifest"], expected.manifest.as_str());
    assert_eq!(receipt["config"], expected.config.as_str());
    assert_eq!(receipt["complete"], true);
    assert_ne!(receipt["store"]["why"], "");
    assert_eq!(receipt["bytes"]["network"][stage.registry().host()], expected.size(), "{receipt:#}");
    assert!(receipt["times"]["started"].as_str().unwrap().ends_with('Z'));
    assert!(receipt["times"]["total"].as_f64() >= receipt["times"]["layers"].as_f64());
    assert_eq!(receipt["dropped_annotations"], serde_json::json!({}));
    assert_eq!(receipt["warnings"], serde_json::json!([]));
    for (layer, (digest, size, chain)) in receipt["layers"].as_array().unwrap().iter().zip(&expected.layers) {
        assert_eq!(layer["digest"], digest.as_str());
        assert_eq!(layer["size"], *size);
        assert_eq!(layer["chain_id"], chain.as_str());
        for (key, value) in [("kind", "native"), ("came", "fetched"), ("source", "network"), ("file", "linked")] {
            assert_eq!(layer[key], value, "{layer:#}");
        }
    }
}

fn assert_nothing_on_disk(stage: &Stage) {
    let entries = |directory: &Path| fs::read_dir(directory).map_or(0, Iterator::count);
    let content = Containerd::content_root(stage.containerd());
    assert_eq!(entries(&content.join("blobs/sha256")), 0, "blobs are left");
    assert_eq!(entries(&content.join("ingest")), 0, "ingests are left");
    let snapshots = stage.snapshotter().root().join("snapshots");
    let gone = crate::stage::eventually(|| (entries(&snapshots) == 0).then_some(()));
    assert!(gone.is_some(), "snapshot directories are left");
    assert!(!stage.spool().exists(), "the spool is left");
}
