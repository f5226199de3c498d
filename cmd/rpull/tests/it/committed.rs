//! Snapshots that were committed before this pull: what may be changed in them, and what is left as it is.

use std::{
    fs,
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::Path,
    process::Command,
};

use serde_json::Value;
use testkit::image::Layer;

use crate::stage::{Stage, each, inode, native, network, on_each_daemon, size_of};

/// A tool that compresses layers changes their digests and nothing else: the chain ids stay, and with them the snapshots. What
/// containerd unpacked for the one image carries the other, and stays as it is: without the labels of a native layer the
/// snapshotter knows it only by its first bytes.
#[test]
fn an_image_stays_usable_when_the_same_image_was_unpacked_from_compressed_layers() {
    on_each_daemon("recompressed", |stage| {
        for (store, seed) in [("direct", 900), ("api", 902)] {
            let image = native(&[seed, seed + 1]);
            let compressed = compressed(&stage, &image, store);
            stage.pull(["--store", store, &compressed]);
            let files: Vec<_> = image.layers().iter().map(|layer| stage_file(&stage, &payload(layer))).collect();
            let before: Vec<_> = files.iter().map(|file| inode(file)).collect();

            let reference = image.push(stage.registry(), "native", store);
            let receipt = stage.pull(["--store", store, &reference]);
            assert_eq!(network(&receipt), size_of(&image), "{receipt:#}");
            assert_eq!(each(&receipt, "came"), ["fetched"; 2]);
            assert_eq!(files.iter().map(|file| inode(file)).collect::<Vec<_>>(), before, "a file was replaced");
            for (file, layer) in files.iter().zip(image.layers()) {
                assert_eq!(fs::read(file).unwrap(), payload(layer));
            }
            // Both again, from what is here.
            for reference in [&reference, &compressed] {
                let again = stage.pull([reference]);
                assert_eq!((network(&again), each(&again, "came")), (0, vec!["kept"; 2]), "{again:#}");
                let digest = again["manifest"].as_str().unwrap();
                assert_eq!(stage.image(reference).unwrap().labels["rpull/complete"], digest);
            }
            stage.remove_image(&compressed);
            assert_eq!(each(&stage.pull([&reference]), "came"), ["kept"; 2]);
            stage.assert_nothing_unfinished();
        }
    });
}

/// The other way round: the blobs are fetched, and what is linked stays linked.
#[test]
fn an_image_stays_whole_when_the_same_image_comes_with_compressed_layers() {
    on_each_daemon("compressed-later", |stage| {
        let image = native(&[905, 906]);
        let reference = image.push(stage.registry(), "compressed-later", "1");
        stage.pull([&reference]);
        let compressed = compressed(&stage, &image, "later");
        let receipt = stage.pull([&compressed]);
        assert_eq!((each(&receipt, "kind"), each(&receipt, "came")), (vec!["plain"; 2], vec!["fetched"; 2]), "{receipt:#}");
        stage.assert_whole(&reference, &image);
        let again = stage.pull([&compressed]);
        assert_eq!((network(&again), each(&again, "came")), (0, vec!["kept"; 2]), "{again:#}");
        stage.remove_image(&reference);
        // Its snapshots are the other's too, and its blobs are gone.
        assert_eq!(each(&stage.pull([&compressed]), "came"), ["kept"; 2]);
        let back = stage.pull([&reference]);
        assert_eq!((network(&back), each(&back, "source")), (0, vec!["snapshot"; 2]), "{back:#}");
        stage.assert_whole(&reference, &image);
    });
}

/// Content this namespace holds is trusted, but never above what contradicts it.
#[test]
fn a_good_file_in_a_snapshot_is_not_replaced_by_a_rotten_blob() {
    on_each_daemon("rotten", |stage| {
        for (store, seed) in [("direct", 910), ("api", 912)] {
            for wrapped in [false, true] {
                let image = native(&[seed, seed + 1]);
                let reference = image.push(stage.registry(), "rotten", store);
                stage.pull([&reference]);
                let layer = &image.layers()[1];
                let file = stage.commit_file(layer);
                let good = if wrapped { layer.bytes() } else { payload(layer) };
                fs::remove_file(&file).unwrap();
                fs::write(&file, &good).unwrap();
                let before = inode(&file);
                let blob = stage.blob(&layer.digest.to_string());
                flip(&blob, layer.size / 2);

                let output = stage.rpull(["--store", store, &reference]);
                let stderr = output.fails_with(6);
                assert!(stderr.contains(blob.to_str().unwrap()) && stderr.contains("\nhint: "), "{stderr}");
                assert_eq!((inode(&file), fs::read(&file).unwrap()), (before, good));
                stage.assert_nothing_unfinished();
                stage.remove_image(&reference);
                stage.collect();
                // The failed pull's lease holds it all; the next stage of this test begins without.
                for lease in stage.leases() {
                    stage.ctr(["leases", "rm", "--sync", &lease]);
                }
            }
        }
    });
}

/// Safety 13: the configuration beside a directory says whose it is. Nothing is put where that says something else.
#[test]
fn a_directory_that_is_another_layers_by_its_configuration_is_not_touched() {
    on_each_daemon("false-directory", |stage| {
        for (seed, key) in [(920, "digest"), (922, "dir")] {
            for lazy in [true, false] {
                let image = native(&[seed, seed + 1]);
                let reference = image.push(stage.registry(), "false-directory", key);
                stage.pull(lazy.then_some("--lazy").into_iter().chain([reference.as_str()]));
                let layer = &image.layers()[1];
                let file = stage.commit_file(layer);
                if !lazy {
                    fs::remove_file(&file).unwrap();
                    fs::write(&file, payload(layer)).unwrap();
                }
                let before = fs::read(&file).ok();
                let config = file.parent().unwrap().with_file_name("block").join("config.v1.json");
                let right = fs::read(&config).unwrap();
                let mut wrong: Value = serde_json::from_slice(&right).unwrap();
                let own = wrong["lowers"].as_array_mut().unwrap().last_mut().unwrap();
                own[key] = match key {
                    "digest" => image.layers()[0].digest.to_string().into(),
                    _ => "/nonexistent/fs".into(),
                };
                fs::write(&config, wrong.to_string()).unwrap();

                let record = stage.image(&reference);
                let output = stage.rpull([&reference]);
                let stderr = output.fails_with(7);
                let directory = file.parent().unwrap();
                assert!(stderr.contains(directory.to_str().unwrap()) && stderr.contains("\nhint: "), "{stderr}");
                assert_eq!(fs::read(&file).ok(), before);
                assert_eq!(stage.image(&reference), record);
                stage.assert_nothing_unfinished();

                fs::write(&config, &right).unwrap();
                stage.pull([&reference]);
                stage.assert_whole(&reference, &image);
                stage.remove_image(&reference);
            }
        }
    });
}

/// Pushes the image as a tool does that compresses every layer, which loses their annotations.
fn compressed(stage: &Stage, image: &testkit::image::Image, tag: &str) -> String {
    let layout = tempfile::tempdir().unwrap();
    image.write_layout(layout.path(), "native");
    let reference = stage.registry().reference("compressed-first", tag);
    let flags = ["copy", "--quiet", "--dest-tls-verify=false", "--dest-compress", "--dest-compress-format", "gzip"];
    let (source, target) = (format!("oci:{}:native", layout.path().display()), format!("docker://{reference}"));
    let output = Command::new("skopeo").args(flags).args([&source, &target]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    reference
}

/// The one `overlaybd.commit` of the stage with these bytes.
#[track_caller]
fn stage_file(stage: &Stage, bytes: &[u8]) -> std::path::PathBuf {
    let snapshots = fs::read_dir(stage.snapshotter().root().join("snapshots")).unwrap();
    let files = snapshots.flatten().map(|entry| entry.path().join("fs/overlaybd.commit"));
    let found: Vec<_> = files.filter(|file| fs::read(file).is_ok_and(|found| found == bytes)).collect();
    let [file] = &found[..] else { panic!("{found:?}") };
    file.clone()
}

/// Four wrong bytes, the inode as before.
fn flip(path: &Path, at: u64) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, at).unwrap();
    file.write_all_at(&bytes.map(|byte| !byte), at).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o444)).unwrap();
}

/// The layer's blob without the tar around it: its size is in the PAX header, it starts behind three blocks.
fn payload(layer: &Layer) -> Vec<u8> {
    let bytes = layer.bytes();
    let header = String::from_utf8_lossy(&bytes[512..1024]).into_owned();
    let size: usize = header.split("size=").nth(1).unwrap().split('\n').next().unwrap().parse().unwrap();
    bytes[1536..1536 + size].to_vec()
}
