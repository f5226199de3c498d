//! Layers whose bytes are not what they should be: in the registry, or on this machine.

use std::fs;

use oci::Digest;
use testkit::image::{Image, Layer, hollow};

use super::{Tag, assert_failed, blob, layer};
use crate::stage::{inode, on_each_daemon};

fn network(receipt: &serde_json::Value) -> u64 {
    receipt["bytes"]["network"].as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap()).sum()
}

#[test]
fn a_layer_that_the_registry_damaged_is_refused_and_the_good_ones_are_kept() {
    on_each_daemon("damaged", |stage| {
        for store in ["direct", "api"] {
            eprintln!("store {store}");
            let stage = stage.in_namespace(&format!("damaged-{store}"));
            let host = stage.registry().host();
            let tag = Tag::taken(&stage);
            let (good, bad) = (layer(&stage, "good"), layer(&stage, "bad"));
            let image = Image::new(vec![good.clone(), bad.clone()]);
            tag.push(&image);
            let file = stage.registry().blob_path(&bad.digest);
            let mut bytes = bad.bytes();
            bytes[70_000] ^= 1;
            fs::write(&file, &bytes).unwrap();
            tag.refuses(
                &["--store", store],
                6,
                &format!(
                    "rpull: warning: {host}: blob {0} arrived with digest {1}, fetched once more\n\
                     rpull: blob {0} from {host} has digest {1}\n\
                     hint: the registry or a cache before it holds a damaged blob; push the image again\n",
                    bad.digest,
                    Digest::of(&bytes)
                ),
            );
            // However often it is tried, one lease keeps what was finished.
            assert_eq!(stage.rpull(["--store", store, &tag.reference]).code, 6);
            assert_eq!(stage.leases().len(), 1, "{:?}", stage.leases());
            assert!(stage.content(&bad.digest.to_string()).is_none());
            assert!(stage.snapshot(&image_chain(&[&good, &bad])).is_none());

            // The registry is mended: only what was bad crosses the network again.
            fs::write(&file, bad.bytes()).unwrap();
            let receipt = stage.pull(["--store", store, &tag.reference]);
            assert_eq!(network(&receipt), bad.size, "{receipt:#}");
            assert_eq!(stage.leases(), Vec::<String>::new());
        }
    });
}

#[test]
fn a_layer_of_another_size_than_its_descriptor_is_refused() {
    on_each_daemon("sizes", |stage| {
        let tag = Tag::taken(&stage);
        let host = stage.registry().host();
        let message = |layer: &Layer, there: u64, promised: u64| {
            format!(
                "rpull: {host}: blob {}: it has {there} bytes there, its descriptor says {promised}, tried 3 times\n\
                 hint: the registry or a cache before it holds a damaged blob; push the image again\n",
                layer.digest
            )
        };
        // The registry's file is cut or has grown.
        for (name, change) in [("shorter", -1000_i64), ("longer", 1000)] {
            let bad = layer(&stage, name);
            tag.push(&Image::new(vec![bad.clone()]));
            let mut bytes = bad.bytes();
            bytes.resize(usize::try_from(i64::try_from(bytes.len()).unwrap() + change).unwrap(), 7);
            fs::write(stage.registry().blob_path(&bad.digest), &bytes).unwrap();
            tag.refuses(&[], 6, &message(&bad, bytes.len() as u64, bad.size));
            assert!(stage.content(&bad.digest.to_string()).is_none());
        }
        // The descriptor lies.
        for (name, change) in [("descriptor-shorter", -1000_i64), ("descriptor-longer", 1000)] {
            let bad = layer(&stage, name);
            let size = i64::try_from(bad.size).unwrap() + change;
            tag.push(&Image::new(vec![bad.clone()]).edit_manifest(|manifest| {
                manifest["layers"][0]["size"] = size.into();
                manifest["layers"][0]["annotations"][format!("{}blob-size", super::ANNOTATION)] = size.to_string().into();
            }));
            tag.refuses(&[], 6, &message(&bad, bad.size, u64::try_from(size).unwrap()));
            assert!(stage.content(&bad.digest.to_string()).is_none());
        }
    });
}

#[test]
fn a_layer_with_the_right_digest_that_is_no_overlaybd_blob_is_refused() {
    on_each_daemon("no-blob", |stage| {
        for store in ["direct", "api"] {
            eprintln!("store {store}");
            let stage = stage.in_namespace(&format!("no-blob-{store}"));
            let tag = Tag::taken(&stage);
            // Unlike in the other store's turn, so that no namespace has it.
            let zeros = vec![0; 100_000 + store.len()];
            let hollow = hollow(blob(&stage, "hollow").to_vec());
            let text = b"{\"errors\":[]}".repeat(1000 + store.len());
            for (what, bytes) in [("zeros", zeros), ("hollow", hollow), ("text", text)] {
                eprintln!("{what}");
                let bad = Layer::overlaybd_of(bytes);
                tag.push(&Image::new(vec![layer(&stage, "good"), bad.clone()]));
                tag.refuses(
                    &["--store", store],
                    6,
                    &format!(
                        "rpull: layer {} is not an overlaybd blob: …\n\
                         hint: convert the image again and push it; this layer could never be mounted\n",
                        bad.digest
                    ),
                );
                assert!(stage.content(&bad.digest.to_string()).is_none());
                assert!(!stage.snapshots().iter().any(|info| info.labels.values().any(|v| *v == bad.digest.to_string())));
            }
        }
    });
}

#[test]
fn a_plain_layer_that_unpacks_to_something_else_is_refused() {
    on_each_daemon("diff-id", |stage| {
        let tag = Tag::taken(&stage);
        let plain = Layer::tar_gzip(&[("etc/hostname", b"rpull")]);
        let other = Digest::of(b"another tar");
        tag.push(
            &Image::new(vec![plain.clone()]).edit_config(|config| config["rootfs"]["diff_ids"][0] = other.to_string().into()),
        );
        tag.refuses(
            &[],
            6,
            &format!(
                "rpull: layer {} unpacks to {}, its config says {other}\n\
                 hint: the image is broken in the registry; build and push it again\n",
                plain.digest, plain.diff_id
            ),
        );
        assert!(stage.snapshot(&other.to_string()).is_none());
    });
}

/// Safety 9: containerd gives a namespace any blob it names, on its size alone.
#[test]
fn a_rotten_blob_of_another_namespace_is_not_taken_over() {
    on_each_daemon("rotten", |stage| {
        for store in ["direct", "api"] {
            eprintln!("store {store}");
            let first = stage.in_namespace(&format!("rotten-{store}-first"));
            let second = stage.in_namespace(&format!("rotten-{store}-second"));
            let layer = layer(&first, "a");
            let digest = layer.digest.to_string();
            let reference = Image::new(vec![layer.clone()]).push(stage.registry(), first.namespace(), "1");
            first.pull([&reference]);
            let file = stage.blob(&digest);
            damage(&file, 70_000);
            let before = inode(&file);
            let output = second.rpull(["--store", store, &reference]);
            if store == "direct" {
                output.succeeds();
                assert_eq!(
                    output.stderr,
                    format!(
                        "rpull: warning: {0} does not hold the bytes of {digest}; the blob is fetched again\n\
                         rpull: warning: {0} was replaced by the proved blob\n",
                        file.display()
                    )
                );
                assert_eq!(fs::read(&file).unwrap(), layer.bytes());
                assert_ne!(inode(&file), before);
            } else {
                assert_failed(
                    &output,
                    6,
                    &format!(
                        "rpull: {} is damaged: its bytes are not those of {digest}\n\
                         hint: another namespace may hold it: find it with `ctr -n NAMESPACE content ls | grep {digest}`, delete it in all of them, pull again\n",
                        file.display()
                    ),
                );
                assert!(second.content(&digest).is_none());
                assert_eq!(second.images(), Vec::<String>::new());
                assert_eq!(second.snapshots(), Vec::new());
                assert_eq!(inode(&file), before);
            }
            second.assert_nothing_unfinished();
        }
    });
}

/// Flips a bit where the file lies, as a failing disk would.
fn damage(file: &std::path::Path, at: usize) {
    use std::os::unix::fs::FileExt as _;
    let open = fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    open.read_exact_at(&mut byte, at as u64).unwrap();
    open.write_all_at(&[byte[0] ^ 1], at as u64).unwrap();
}

fn image_chain(layers: &[&Layer]) -> String {
    let mut chain = layers[0].diff_id;
    for layer in &layers[1..] {
        chain = Digest::of(format!("{chain} {}", layer.diff_id).as_bytes());
    }
    chain.to_string()
}
