//! Layers that need no fetching, or only a link: what another namespace, an earlier pull or another client left here.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::{FileExt as _, PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use testkit::{Daemons, image::Layer};

use crate::{
    mounted::Mounted,
    stage::{Stage, chain_of, each, inode, native, network, on_each_daemon, say, size_of},
};

/// Safety 9: a blob of another namespace is hashed and costs no network, in either store.
#[test]
fn what_another_namespace_holds_costs_no_network() {
    on_each_daemon("neighbour", |first| {
        let image = native(&[100, 101]);
        let reference = image.push(first.registry(), "neighbour", "1");
        first.pull([&reference]);
        for store in ["direct", "api"] {
            let stage = first.in_namespace(&format!("neighbour-{store}"));
            let receipt = stage.pull(["--store", store, &reference]);
            assert_eq!(network(&receipt), 0, "{receipt:#}");
            assert_eq!(receipt["bytes"]["other_namespace"], size_of(&image));
            assert_eq!(each(&receipt, "source"), ["other-namespace"; 2]);
            assert_eq!(each(&receipt, "proof"), ["hashed"; 2]);
            assert_eq!(each(&receipt, "came"), ["attached"; 2]);
            stage.assert_whole(&reference, &image);
        }
    });
}

/// Safety 9: nothing is adopted unhashed. The direct store puts proved bytes in the place of the rotten ones.
#[test]
fn a_rotten_blob_of_another_namespace_is_fetched_anew_by_the_direct_store() {
    on_each_daemon("rot-direct", |owner| {
        let image = native(&[110, 111]);
        let reference = image.push(owner.registry(), "rot-direct", "1");
        owner.pull([&reference]);
        let blob = owner.blob(&image.layers()[0].digest.to_string());
        let rotten = inode(&blob);
        flip(&blob);

        let stage = owner.in_namespace("rot-direct-2");
        let receipt = stage.pull(["--store", "direct", &reference]);
        assert_eq!(network(&receipt), image.layers()[0].size, "{receipt:#}");
        assert_eq!(each(&receipt, "source"), ["network", "other-namespace"]);
        let warnings = receipt["warnings"].to_string();
        assert!(warnings.contains(blob.to_str().unwrap()), "{warnings}");
        assert_ne!(inode(&blob), rotten);
        assert_eq!(fs::read(&blob).unwrap(), image.layers()[0].bytes());
        let newest = stage.directory_of(&image.layers()[0].digest.to_string()).unwrap().join("overlaybd.commit");
        assert_eq!(inode(&newest), inode(&blob));
    });
}

/// Safety 9: the api store cannot replace the file, so it says which it is, and nothing appears.
#[test]
fn a_rotten_blob_of_another_namespace_is_named_by_the_api_store() {
    on_each_daemon("rot-api", |owner| {
        let image = native(&[120, 121]);
        let reference = image.push(owner.registry(), "rot-api", "1");
        owner.pull([&reference]);
        let blob = owner.blob(&image.layers()[0].digest.to_string());
        flip(&blob);

        let stage = owner.in_namespace("rot-api-2");
        let output = stage.rpull(["--store", "api", &reference]);
        let stderr = output.fails_with(6);
        assert!(stderr.contains(blob.to_str().unwrap()) && stderr.contains("\nhint: "), "{stderr}");
        stage.assert_nothing_visible(&reference);
        assert!(stage.content(&image.layers()[0].digest.to_string()).is_none(), "the rotten blob was adopted");
    });
}

#[test]
fn a_blob_that_occurs_twice_is_fetched_once() {
    on_each_daemon("twice", |stage| {
        let image = native(&[130, 131, 130]);
        let reference = image.push(stage.registry(), "twice", "1");
        let receipt = stage.pull([&reference]);
        assert_eq!(network(&receipt), size_of(&image), "{receipt:#}");
        assert_eq!(stage.directories_of(&image.layers()[0].digest.to_string()).len(), 2);
        stage.assert_whole(&reference, &image);
    });
}

/// Safety 13: the directory of a committed snapshot is found by a probe, and its file put there.
#[test]
fn a_lazy_image_becomes_whole_in_place_and_says_when_it_is_not() {
    on_each_daemon("lazy", |stage| {
        for (store, seed) in [("direct", 140), ("api", 143)] {
            let image = native(&[seed, seed + 1]);
            let reference = image.push(stage.registry(), "lazy", store);
            let output = stage.rpull(["--lazy", "--store", store, &reference]);
            output.succeeds();
            let said = output.stdout.lines().filter(|line| line.starts_with("layer ") && line.ends_with(": lazy"));
            assert_eq!(said.count(), 2, "{output:#?}");
            let receipt = stage.pull(["--lazy", "--store", store, &reference]);
            assert_eq!(network(&receipt), 0, "{receipt:#}");
            assert_eq!((&receipt["complete"], each(&receipt, "came")), (&false.into(), vec!["lazy"; 2]));
            assert!(!stage.image(&reference).unwrap().labels.contains_key("rpull/complete"));
            let before: Vec<_> = image.layers().iter().map(|layer| stage.commit_file(layer)).collect();
            assert!(before.iter().all(|file| !file.exists()), "a lazy pull left a file");
            for chain in chain_of(&image) {
                assert!(stage.snapshot(&chain).unwrap().labels.contains_key("containerd.io/snapshot/remote"));
            }
            stage.assert_nothing_unfinished();

            let receipt = stage.pull(["--store", store, &reference]);
            assert_eq!(network(&receipt), size_of(&image), "{receipt:#}");
            assert_eq!(each(&receipt, "file"), ["linked"; 2]);
            assert_eq!(image.layers().iter().map(|layer| stage.commit_file(layer)).collect::<Vec<_>>(), before);
            stage.assert_whole(&reference, &image);

            // Nothing was lost, but a lazy pull does not vouch for it.
            stage.pull(["--lazy", &reference]);
            assert!(!stage.image(&reference).unwrap().labels.contains_key("rpull/complete"));
            assert_eq!(network(&stage.pull([&reference])), 0);
            stage.assert_whole(&reference, &image);
        }
    });
}

/// Safety 14, forms 2 and 3: a copy, wrapped or not, is compared once and gives way to the link.
#[test]
fn a_second_copy_in_a_snapshot_is_replaced_by_a_link() {
    on_each_daemon("copies", |stage| {
        let image = native(&[150, 151]);
        let reference = image.push(stage.registry(), "copies", "1");
        stage.pull([&reference]);
        let [lower, upper] = image.layers() else { unreachable!("two layers") };
        replace(&stage.commit_file(lower), payload(lower));
        replace(&stage.commit_file(upper), upper.bytes());

        let receipt = stage.pull([&reference]);
        assert_eq!(network(&receipt), 0, "{receipt:#}");
        assert_eq!((each(&receipt, "came"), each(&receipt, "file")), (vec!["attached"; 2], vec!["linked"; 2]));
        for layer in receipt["layers"].as_array().unwrap() {
            assert!(layer["freed"].as_u64() >= Some(64 << 10), "{layer:#}");
        }
        stage.assert_whole(&reference, &image);
    });
}

/// Safety 14: whatever else stands under the name goes.
#[test]
fn a_wrong_file_in_a_snapshot_is_replaced() {
    on_each_daemon("wrong", |stage| {
        let image = native(&[160, 161, 162, 163]);
        let reference = image.push(stage.registry(), "wrong", "1");
        stage.pull([&reference]);
        let files: Vec<_> = image.layers().iter().map(|layer| stage.commit_file(layer)).collect();
        replace(&files[0], b"short".to_vec());
        let mut near = image.layers()[1].bytes();
        near[40_000] ^= 1;
        replace(&files[1], near);
        fs::remove_file(&files[2]).unwrap();
        symlink(stage.blob(&image.layers()[2].digest.to_string()), &files[2]).unwrap();
        fs::remove_file(&files[3]).unwrap();

        let receipt = stage.pull([&reference]);
        assert_eq!(network(&receipt), 0, "{receipt:#}");
        assert_eq!(each(&receipt, "came"), ["attached"; 4]);
        stage.assert_whole(&reference, &image);
    });
}

/// Safety 14: the link is hashed and given back to the content store.
#[test]
fn content_that_is_gone_comes_back_from_its_snapshot() {
    on_each_daemon("given-back", |stage| {
        for (store, seed) in [("direct", 170), ("api", 172)] {
            let image = native(&[seed, seed + 1]);
            let reference = image.push(stage.registry(), "given-back", store);
            stage.pull(["--store", store, &reference]);
            for layer in image.layers() {
                stage.ctr(["content", "rm", &layer.digest.to_string()]);
            }
            stage.collect();
            assert!(!stage.blob(&image.layers()[0].digest.to_string()).exists(), "the blob was not collected");

            let receipt = stage.pull(["--store", store, &reference]);
            assert_eq!(network(&receipt), 0, "{receipt:#}");
            assert_eq!((each(&receipt, "source"), each(&receipt, "proof")), (vec!["snapshot"; 2], vec!["hashed"; 2]));
            stage.assert_whole(&reference, &image);
        }
    });
}

/// Safety 15: no link leads to another filesystem, so the blob is copied, hashed again, and kept the next time.
#[test]
fn a_snapshot_root_on_another_filesystem_gets_copies() {
    let daemon = Daemons::available().remove(0);
    let stage = Stage::on(&daemon);
    let tmpfs = ["-t", "tmpfs", "tmpfs"].map(OsStr::new);
    let Some(_mount) = Mounted::on(&stage.snapshotter().root().join("snapshots"), &tmpfs) else { return };
    let image = native(&[180, 181]);
    let reference = image.push(stage.registry(), "t/copied", "1");
    let receipt = stage.pull([&reference]);
    assert_eq!(each(&receipt, "file"), ["copied"; 2], "{receipt:#}");
    for layer in image.layers() {
        assert_eq!(fs::read(stage.commit_file(layer)).unwrap(), layer.bytes());
    }
    let again = stage.pull([&reference]);
    assert_eq!((network(&again), each(&again, "came")), (0, vec!["kept"; 2]), "{again:#}");
    // A wrong copy is found out and made again.
    replace(&stage.commit_file(&image.layers()[0]), vec![0; 100]);
    assert_eq!(each(&stage.pull([&reference]), "file")[0], "copied");
    assert_eq!(fs::read(stage.commit_file(&image.layers()[0])).unwrap(), image.layers()[0].bytes());
}

/// Safety 15: no link leads to another mount, but on one filesystem both files can share their extents. As the content root is
/// a filesystem of its own here, the spool is inside it.
#[test]
fn a_snapshot_root_on_another_mount_of_the_same_filesystem_gets_clones() {
    let daemon = Daemons::available().remove(0);
    let stage = Stage::on(&daemon);
    let device = stage.containerd().scratch().join("xfs.img");
    fs::File::create(&device).unwrap().set_len(512 << 20).unwrap();
    if !Command::new("mkfs.xfs").args(["-q", "-m", "reflink=1"]).arg(&device).status().is_ok_and(|status| status.success()) {
        say("NOT TESTED, there is no mkfs.xfs");
        return;
    }
    let whole = stage.containerd().scratch().join("xfs");
    fs::create_dir(&whole).unwrap();
    let Some(_whole) = Mounted::on(&whole, &["-o".as_ref(), "loop".as_ref(), device.as_os_str()]) else { return };
    let (content, snapshots) = (stage.containerd().content_root(), stage.snapshotter().root().join("snapshots"));
    fs::create_dir_all(whole.join("content/ingest")).unwrap();
    fs::create_dir_all(whole.join("snapshots")).unwrap();
    fs::create_dir_all(&content).unwrap();
    let bind = |part: &str, place: &Path| Mounted::on(place, &["--bind".as_ref(), whole.join(part).as_os_str()]);
    let (Some(_content), Some(_snapshots)) = (bind("content", &content), bind("snapshots", &snapshots)) else { return };

    let image = native(&[185, 186]);
    let reference = image.push(stage.registry(), "t/cloned", "1");
    let receipt = stage.pull([&reference]);
    assert_eq!(receipt["store"]["mode"], "direct", "{receipt:#}");
    assert_eq!(each(&receipt, "file"), ["cloned"; 2], "{receipt:#}");
    for layer in image.layers() {
        assert_eq!(fs::read(stage.commit_file(layer)).unwrap(), layer.bytes());
    }
    let again = stage.pull([&reference]);
    assert_eq!((network(&again), each(&again, "came")), (0, vec!["kept"; 2]), "{again:#}");
}

/// Upstream's own client before ours, on the real snapshotter; needs its program in `UPSTREAM_CTR`.
#[test]
fn an_image_that_upstream_pulled_becomes_whole_in_place() {
    let Some(upstream) = std::env::var_os("UPSTREAM_CTR").filter(|path| !path.is_empty()) else {
        say("UPSTREAM_CTR is not set: upstream's client is left out");
        return;
    };
    on_each_daemon("upstream", |stage| {
        if !stage.snapshotter().is_real() {
            say("the snapshotter is the stand-in: upstream's client is left out");
            return;
        }
        for (mode, seed) in [(None, 190), (Some("--download-blobs"), 192)] {
            let image = native(&[seed, seed + 1]);
            let reference = image.push(stage.registry(), "upstream", if mode.is_some() { "full" } else { "lazy" });
            let mut command = Command::new(&upstream);
            command.arg("--address").arg(stage.containerd().address()).args(["--namespace", "upstream", "rpull", "--plain-http"]);
            let output = command.args(mode).arg(&reference).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let files: Vec<_> = image.layers().iter().map(|layer| stage.commit_file(layer)).collect();
            assert!(files.iter().all(|file| file.exists() == mode.is_some()), "{files:?}");

            let receipt = stage.pull([&reference]);
            assert_eq!(network(&receipt), if mode.is_some() { 0 } else { size_of(&image) }, "{receipt:#}");
            assert_eq!(each(&receipt, "file"), ["linked"; 2]);
            let freed = receipt["layers"].as_array().unwrap().iter().all(|layer| layer["freed"].as_u64() > Some(0));
            assert_eq!(freed, mode.is_some(), "{receipt:#}");
            stage.assert_whole(&reference, &image);
        }
    });
}

/// Four wrong bytes in the middle of a file, its size and inode as before.
fn flip(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, 50_000).unwrap();
    file.write_all_at(&bytes.map(|byte| !byte), 50_000).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o444)).unwrap();
}

/// Another file under the same name.
fn replace(path: &Path, bytes: Vec<u8>) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The layer's blob without the tar around it: its size is in the PAX header, it starts behind three blocks.
fn payload(layer: &Layer) -> Vec<u8> {
    let bytes = layer.bytes();
    let header = String::from_utf8_lossy(&bytes[512..1024]).into_owned();
    let size: usize = header.split("size=").nth(1).unwrap().split('\n').next().unwrap().parse().unwrap();
    bytes[1536..1536 + size].to_vec()
}
