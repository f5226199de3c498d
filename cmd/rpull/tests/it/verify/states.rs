//! The table: states of damage, each found, mended, and not found again.
//!
//! Those that can be mended from what is on the machine are mended while the registry is down.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::PathBuf,
    process::Command,
};

use oci::Digest;
use serde_json::Value;
use testkit::image::{Image, Index, Layer};

use super::{
    assert_damaged, assert_ok,
    damage::{flip, payload, replace, truncate, usurp},
    verify,
};
use crate::stage::{OVERLAYBD, Stage, chain_of, daemons, native, say};

/// What is needed to mend a state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// What is on this machine.
    Nothing,
    /// Bytes that are only in the registry.
    Registry,
}

/// One state: how it is named, what mends it, what makes it, which part is damaged and what is said of it.
struct State(&'static str, Needs, fn(&Scene), &'static str, &'static str);

/// An image of three layers that was pulled whole; damage is done to the second, or the third where a second cannot have it.
struct Scene {
    stage: Stage,
    image: Image,
    reference: String,
}

impl Scene {
    fn layer(&self) -> &Layer {
        &self.image.layers()[1]
    }

    fn digest(&self) -> String {
        self.layer().digest.to_string()
    }

    /// The layer's file in the content store.
    fn blob(&self) -> PathBuf {
        self.stage.blob(&self.digest())
    }

    /// The layer's file in its snapshot.
    fn file(&self) -> PathBuf {
        self.stage.commit_file(self.layer())
    }

    fn config(&self) -> String {
        Digest::of(&self.image.config()).to_string()
    }

    fn chain(&self, index: usize) -> String {
        chain_of(&self.image)[index].clone()
    }

    /// Takes blobs out of the namespace, and off the disk.
    fn remove_content(&self, digest: &str) {
        self.stage.ctr(["content", "rm", digest]);
        self.stage.collect();
    }

    /// Edits the device configuration of the topmost layer.
    fn edit_device(&self, edit: impl FnOnce(&mut Value)) {
        let file = self.stage.commit_file(&self.image.layers()[2]);
        let path = file.parent().unwrap().with_file_name("block").join("config.v1.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut config);
        fs::write(&path, config.to_string()).unwrap();
    }
}

const SECOND: &str = "layer 2/3";
const THIRD: &str = "layer 3/3";
const BYTES: &str = "is wrong: its bytes are not those of its digest";
use Needs::{Nothing, Registry};

const STATES: &[State] = &[
    // The content store.
    State("a flipped byte in a blob that is linked", Registry, |s| flip(&s.blob()), SECOND, BYTES),
    State(
        "a flipped byte in a blob of which the snapshot has a copy",
        Nothing,
        |s| {
            replace(&s.file(), s.layer().bytes());
            flip(&s.blob());
        },
        SECOND,
        BYTES,
    ),
    State(
        "a flipped byte in a blob that was unpacked into the snapshot",
        Registry,
        |s| {
            replace(&s.file(), payload(s.layer()));
            flip(&s.blob());
        },
        SECOND,
        BYTES,
    ),
    State(
        "a blob cut short, and with it its link",
        Registry,
        |s| truncate(&s.blob(), 30_000),
        SECOND,
        "it has 30000 bytes instead",
    ),
    State("an empty blob, and with it its link", Registry, |s| truncate(&s.blob(), 0), SECOND, "it has 0 bytes instead"),
    State("a blob's file that is gone, its link there", Nothing, |s| fs::remove_file(s.blob()).unwrap(), SECOND, "it is gone"),
    State(
        "a blob's file that is gone, and its link",
        Registry,
        |s| {
            fs::remove_file(s.file()).unwrap();
            fs::remove_file(s.blob()).unwrap();
        },
        SECOND,
        "it is gone",
    ),
    State("a blob taken out of the namespace", Nothing, |s| s.remove_content(&s.digest()), SECOND, "not in the content store"),
    State(
        "a symbolic link in the place of a blob",
        Nothing,
        |s| {
            fs::remove_file(s.blob()).unwrap();
            symlink(s.file(), s.blob()).unwrap();
        },
        SECOND,
        "it is not a regular file",
    ),
    State(
        "a blob to which others may write",
        Nothing,
        |s| fs::set_permissions(s.blob(), fs::Permissions::from_mode(0o666)).unwrap(),
        SECOND,
        "its mode is 666, that of a blob is 444",
    ),
    State(
        "a blob that belongs to another user",
        Nothing,
        |s| chown(s.blob(), Some(12), None).unwrap(),
        SECOND,
        "its owner is 12:",
    ),
    // The file that a device reads.
    State("a missing link", Nothing, |s| fs::remove_file(s.file()).unwrap(), SECOND, "overlaybd.commit is missing"),
    State(
        "a flipped byte in a copy",
        Nothing,
        |s| {
            replace(&s.file(), s.layer().bytes());
            flip(&s.file());
        },
        SECOND,
        "overlaybd.commit is wrong: it differs from the blob at byte ",
    ),
    State(
        "a flipped byte in what was unpacked",
        Nothing,
        |s| {
            replace(&s.file(), payload(s.layer()));
            flip(&s.file());
        },
        SECOND,
        "overlaybd.commit is wrong: it differs from the blob at byte ",
    ),
    State("an empty copy", Nothing, |s| replace(&s.file(), b""), SECOND, "overlaybd.commit is wrong: it has 0 bytes"),
    State(
        "another layer's blob",
        Nothing,
        |s| replace(&s.file(), s.image.layers()[0].bytes()),
        SECOND,
        "overlaybd.commit is wrong: it ",
    ),
    State(
        "a directory with something in it",
        Nothing,
        |s| {
            let file = s.file();
            fs::remove_file(&file).unwrap();
            fs::create_dir(&file).unwrap();
            fs::write(file.join("something"), "in it").unwrap();
        },
        SECOND,
        "overlaybd.commit is wrong: it is not a regular file",
    ),
    State(
        "a symbolic link, though to the blob itself",
        Nothing,
        |s| {
            let file = s.file();
            fs::remove_file(&file).unwrap();
            symlink(s.blob(), file).unwrap();
        },
        SECOND,
        "overlaybd.commit is wrong: it is a symbolic link",
    ),
    State(
        "a fifo",
        Nothing,
        |s| {
            let file = s.file();
            fs::remove_file(&file).unwrap();
            assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
        },
        SECOND,
        "overlaybd.commit is wrong: it is not a regular file",
    ),
    State(
        "a copy to which others may write",
        Nothing,
        |s| {
            replace(&s.file(), s.layer().bytes());
            fs::set_permissions(s.file(), fs::Permissions::from_mode(0o666)).unwrap();
        },
        SECOND,
        "others can write to it",
    ),
    State(
        "an image that was pulled lazily",
        Registry,
        |s| {
            s.stage.remove_image(&s.reference);
            s.stage.collect();
            s.stage.pull(["--lazy", &s.reference]);
        },
        SECOND,
        "lazy: its data is in the registry",
    ),
    // Snapshots.
    State(
        "a snapshot that is gone",
        Nothing,
        |s| {
            s.stage.ctr(["snapshots", "--snapshotter", OVERLAYBD, "rm", &s.chain(2)]);
        },
        THIRD,
        "it has no snapshot",
    ),
    State(
        "a snapshot on the wrong parent",
        Nothing,
        |s| usurp(&s.stage, &s.chain(2)),
        THIRD,
        "its snapshot is wrong: its parent is",
    ),
    State(
        "a device configuration of another layer",
        Nothing,
        |s| {
            let other = s.image.layers()[0].digest.to_string();
            s.edit_device(|config| config["lowers"][2]["digest"] = other.into());
        },
        THIRD,
        "does not list that layer",
    ),
    // Documents.
    State(
        "a manifest whose file is gone",
        Registry,
        |s| fs::remove_file(s.stage.blob(&s.image.digest().to_string())).unwrap(),
        "manifest",
        "it is gone",
    ),
    State("a flipped byte in the manifest", Registry, |s| flip(&s.stage.blob(&s.image.digest().to_string())), "manifest", BYTES),
    State(
        "a config whose file is gone",
        Registry,
        |s| fs::remove_file(s.stage.blob(&s.config())).unwrap(),
        "config",
        "it is gone",
    ),
    State(
        "a config taken out of the namespace, and with it all snapshots",
        Registry,
        |s| s.remove_content(&s.config()),
        "config",
        "not in the content store",
    ),
    State(
        "a config that holds no snapshots",
        Nothing,
        |s| {
            s.stage.ctr(["content", "label", &s.config(), &format!("containerd.io/gc.ref.snapshot.{OVERLAYBD}=")]);
        },
        "config",
        "it has no label that keeps the snapshots from the garbage collector",
    ),
];

#[test]
fn every_state_of_damage_is_found_and_mended() {
    for daemon in daemons() {
        say(&format!("on containerd {}", daemon.label));
        let mut stage = Stage::on(&daemon);
        let images: Vec<_> = (0..STATES.len() as u64).map(|at| native(&[3000 + 3 * at, 3001 + 3 * at, 3002 + 3 * at])).collect();
        let references: Vec<_> =
            images.iter().enumerate().map(|(at, image)| image.push(stage.registry(), "states", &at.to_string())).collect();
        for reference in &references {
            stage.pull([reference]);
        }
        for needs in [Nothing, Registry] {
            match needs {
                Nothing => stage.registry_mut().kill(),
                Registry => stage.registry_mut().restart(),
            }
            let rows = STATES.iter().zip(&images).zip(&references);
            for ((state, image), reference) in rows.filter(|((state, ..), _)| state.1 == needs) {
                let scene = Scene { stage: stage.clone(), image: image.clone(), reference: reference.clone() };
                check(state, &scene);
            }
        }
    }
}

fn check(state: &State, scene: &Scene) {
    let State(name, _, damage, part, what) = state;
    let Scene { stage, image, reference } = scene;
    say(name);
    damage(scene);
    let found = verify(stage, &[reference]);
    assert_damaged(&found, part, what);
    assert_eq!(stage.leases(), Vec::<String>::new(), "a look leaves nothing");
    let mended = verify(stage, &["--repair", reference]);
    assert_eq!((mended.code, mended.stdout.lines().last()), (0, Some("ok")), "{mended:#?}");
    assert_ok(&verify(stage, &[reference]), 3);
    stage.assert_whole(reference, image);
}

/// Both namespaces have the same file in the content store, and each a snapshot of its own that is linked to it.
#[test]
fn a_blob_of_two_namespaces_is_mended_for_both() {
    super::on_each_daemon("verify-two", |stage| {
        let neighbour = stage.in_namespace("verify-two-too");
        let image = native(&[2100, 2101]);
        let reference = image.push(stage.registry(), "verify-two", "1");
        stage.pull([&reference]);
        neighbour.pull([&reference]);
        flip(&stage.blob(&image.layers()[0].digest.to_string()));
        for side in [&stage, &neighbour] {
            assert_damaged(&verify(side, &[&reference]), "layer 1/2", BYTES);
        }
        let mended = verify(&stage, &["--repair", &reference]);
        assert_eq!(mended.code, 0, "{mended:#?}");
        assert!(mended.stderr.contains("keeps the old files until it is started again"), "{mended:#?}");
        for side in [&stage, &neighbour] {
            assert_ok(&verify(side, &[&reference]), 2);
            side.assert_layers(&image);
        }
    });
}

/// Without the direct store the blob is fetched and proved, then deleted, then sent; and linked again.
#[test]
fn the_api_store_mends_what_no_other_namespace_holds() {
    super::on_each_daemon("verify-api", |stage| {
        for (tag, damage) in [("flipped", flip as fn(&std::path::Path)), ("gone", |path| fs::remove_file(path).unwrap())] {
            let image = native(if tag == "flipped" { &[2110, 2111] } else { &[2112, 2113] });
            let reference = image.push(stage.registry(), "verify-api", tag);
            stage.pull(["--store", "api", &reference]);
            damage(&stage.blob(&image.layers()[0].digest.to_string()));
            damage(&stage.blob(&image.digest().to_string()));
            assert_damaged(&verify(&stage, &["--store", "api", &reference]), "manifest", "is wrong: ");
            let mended = verify(&stage, &["--store", "api", "--repair", &reference]);
            assert_eq!((mended.code, mended.stdout.lines().last()), (0, Some("ok")), "{mended:#?}");
            stage.assert_whole(&reference, &image);
        }
    });
}

#[test]
fn an_index_and_compressed_layers_are_mended_too() {
    super::on_each_daemon("verify-plain", |stage| {
        let image = Image::new(vec![Layer::tar_gzip(&[("a", b"mended")]), Layer::tar_zstd(&[("b", b"mended")])]);
        let index = Index::new(vec![image.clone()]);
        let reference = index.push(stage.registry(), "verify-plain", "1");
        stage.pull([&reference]);
        flip(&stage.blob(&index.digest().to_string()));
        let found = verify(&stage, &[&reference]);
        assert_damaged(&found, "index", BYTES);
        assert!(found.stderr.contains("which layers it has cannot be read"), "{found:#?}");
        flip(&stage.blob(&image.layers()[1].digest.to_string()));
        // Nobody knew of the layer when it was looked at.
        let mended = verify(&stage, &["--repair", "--deep", &reference]);
        assert_eq!((mended.code, mended.stdout.lines().last()), (0, Some("ok")), "{mended:#?}");
        assert_ok(&verify(&stage, &["--deep", &reference]), 2);
    });
}
