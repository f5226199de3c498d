//! Which store is taken, and what the user hears of it (safety 6, 7).

use std::{fs, path::Path};

use testkit::{ContainerdOptions, image::Image};

use crate::stage::{Stage, daemons, each, native, network, on_each_daemon, size_of};

/// tmpfs on every Linux: another filesystem than a temporary directory of the tests.
const ELSEWHERE: &str = "/dev/shm";

/// Safety 7: no link leads out of a filesystem.
#[test]
fn a_spool_on_another_filesystem_rules_out_the_direct_store() {
    on_each_daemon("elsewhere", |stage| {
        let image = native(&[400]);
        let reference = image.push(stage.registry(), "elsewhere", "1");
        let directory = tempfile::tempdir_in(ELSEWHERE).unwrap();
        let spool = directory.path().join("spool");
        let spool = spool.to_str().unwrap();

        let output = stage.rpull(["--store", "direct", "--spool-dir", spool, &reference]);
        let stderr = output.fails_with(2);
        assert!(stderr.contains(spool) && stderr.contains("--store auto"), "{stderr}");
        assert_eq!((stage.contents(), stage.images()), (vec![], vec![]));

        let receipt = stage.pull(["--spool-dir", spool, &reference]);
        assert_eq!(receipt["store"]["mode"], "api", "{receipt:#}");
        assert!(receipt["store"]["why"].as_str().unwrap().contains("filesystem"), "{receipt:#}");
        assert_eq!(each(&receipt, "file"), ["linked"]);
        stage.assert_whole(&reference, &image);
        assert!(!Path::new(spool).exists(), "the spool is left");
    });
}

#[test]
fn a_spool_on_the_same_filesystem_serves_the_direct_store() {
    on_each_daemon("beside", |stage| {
        let image = native(&[410]);
        let reference = image.push(stage.registry(), "beside", "1");
        let spool = stage.containerd().scratch().join("spool");
        let receipt = stage.pull(["--spool-dir", spool.to_str().unwrap(), &reference]);
        assert_eq!(receipt["store"]["mode"], "direct", "{receipt:#}");
        stage.assert_whole(&reference, &image);
    });
}

/// Safety 6, 7: every namespace has to bring its own bytes, and nothing proved for one is used for another.
#[test]
fn isolated_namespaces_each_fetch_for_themselves() {
    for daemon in daemons() {
        let stage = Stage::with(&daemon, ContainerdOptions { isolated: true, ..ContainerdOptions::default() });
        let image = native(&[420, 421]);
        let reference = image.push(stage.registry(), "t/isolated", "1");
        let output = stage.rpull(["--store", "direct", &reference]);
        assert!(output.fails_with(2).contains("isolated"), "{output:#?}");
        for namespace in ["one", "two"] {
            let stage = stage.in_namespace(namespace);
            let receipt = stage.pull([&reference]);
            assert_eq!(receipt["store"]["mode"], "api", "{receipt:#}");
            assert!(receipt["store"]["why"].as_str().unwrap().contains("isolated"), "{receipt:#}");
            assert_eq!(network(&receipt), size_of(&image), "{receipt:#}");
            stage.assert_whole(&reference, &image);
        }
        let keyed = interrupted_spool(&stage.in_namespace("three"), &native(&[422]));
        assert!(keyed.iter().any(|name| name.contains("three")), "{keyed:?}");
    }
}

/// Names in the spool after a pull that could not finish its layer.
fn interrupted_spool(stage: &Stage, image: &Image) -> Vec<String> {
    let layer = &image.layers()[0];
    let reference = image.push(stage.registry(), "t/isolated", "cut");
    let file = stage.registry().blob_path(&layer.digest);
    let mut bytes = layer.bytes();
    bytes[1000] ^= 1;
    fs::write(file, bytes).unwrap();
    let output = stage.rpull([&reference]);
    output.fails_with(6);
    let files = fs::read_dir(stage.spool()).into_iter().flatten().flatten();
    files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
