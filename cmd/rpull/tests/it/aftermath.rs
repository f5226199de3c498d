//! What is left after a pull that was stopped, killed or failed, then ran again, and its image went: nothing.

use std::{fs, path::Path};

use rustix::process::{Pid, Signal, kill_process};
use testkit::image::{Image, Layer};

use crate::{
    gated::Gated,
    stage::{Stage, daemons, eventually, finish, native, say, start},
};

fn on_each_private_daemon(story: impl Fn(Stage)) {
    for daemon in daemons() {
        say(&format!("on containerd {}", daemon.label));
        story(Stage::on(&daemon));
    }
}

/// Removes the image, and looks for anything of it or of rpull, in containerd and on the disk.
#[track_caller]
fn assert_leaves_nothing(stage: &Stage, reference: &str) {
    stage.remove_image(reference);
    stage.collect();
    assert_eq!(stage.images(), Vec::<String>::new());
    assert_eq!(stage.leases(), Vec::<String>::new());
    assert_eq!(stage.contents(), Vec::<String>::new());
    assert_eq!(stage.snapshots(), vec![]);
    stage.assert_nothing_unfinished();
    let names = |directory: &Path| -> Vec<_> {
        fs::read_dir(directory).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
    };
    let content = stage.containerd().content_root();
    assert_eq!(names(&content.join("blobs/sha256")), Vec::<std::path::PathBuf>::new());
    assert_eq!(names(&content.join("ingest")), Vec::<std::path::PathBuf>::new());
    let snapshots = stage.snapshotter().root().join("snapshots");
    eventually(|| names(&snapshots).is_empty().then_some(())).expect("the snapshots' directories go");
    assert!(!stage.spool().exists(), "the spool is left: {:?}", names(&stage.spool()));
}

#[test]
fn a_pull_that_was_stopped_and_ran_again_leaves_nothing_when_its_image_goes() {
    on_each_private_daemon(|stage| {
        let mut seed = 850;
        for store in ["direct", "api"] {
            for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::KILL, 137)] {
                let gated = Gated::new(seed);
                let child = gated.begin(&stage, &["--store", store]);
                kill_process(Pid::from_child(&child), signal).unwrap();
                let output = finish(child);
                assert_eq!(output.code, code, "{output:#?}");
                assert!(stage.image(&gated.reference).is_none());
                if signal != Signal::KILL {
                    assert!(output.stderr.contains("\nhint: "), "{output:#?}");
                    stage.assert_nothing_unfinished();
                }
                gated.pull_again(&stage, &["--store", store]);
                assert_leaves_nothing(&stage, &gated.reference);
                seed += 3;
            }
        }
    });
}

#[test]
fn a_pull_that_failed_and_was_mended_leaves_nothing_when_its_image_goes() {
    on_each_private_daemon(|stage| {
        for (store, seed) in [("direct", 870), ("api", 873)] {
            let image = native(&[seed, seed + 1, seed + 2]);
            let reference = image.push(stage.registry(), "mended", store);
            let lost = stage.registry().blob_path(&image.layers()[1].digest);
            let away = lost.with_extension("away");
            fs::rename(&lost, &away).unwrap();
            for _ in 0..2 {
                let output = stage.rpull(["--store", store, &reference]);
                assert!(output.fails_with(4).contains(&image.layers()[1].digest.to_string()), "{output:#?}");
                stage.assert_nothing_visible(&reference);
                stage.assert_nothing_unfinished();
            }
            fs::rename(&away, &lost).unwrap();
            stage.pull(["--store", store, &reference]);
            stage.assert_whole(&reference, &image);
            assert_leaves_nothing(&stage, &reference);
        }
    });
}

/// containerd unpacks; a signal must not leave what it unpacks into.
#[test]
fn a_pull_that_is_stopped_while_containerd_unpacks_leaves_nothing_unfinished() {
    const FILES: usize = 10_000;
    let names: Vec<String> = (0..FILES).map(|number| format!("file-{number}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"content"[..])).collect();
    let image = Image::new(vec![Layer::tar(&[("base", b"base")]), Layer::tar_gzip(&files)]);
    on_each_private_daemon(|stage| {
        let reference = image.push(stage.registry(), "unpacking", "1");
        for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::KILL, 137)] {
            let child = start(&mut stage.command([&reference]));
            eventually(|| unpacked(&stage).filter(|count| *count > 100)).expect("containerd begins to unpack");
            kill_process(Pid::from_child(&child), signal).unwrap();
            let output = finish(child);
            assert_eq!(output.code, code, "{output:#?}");
            assert!(stage.image(&reference).is_none());
            if signal != Signal::KILL {
                assert!(output.stderr.contains("\nhint: "), "{output:#?}");
                stage.assert_nothing_unfinished();
            }
            stage.pull([&reference]);
            stage.assert_nothing_unfinished();
            let unpacked = unpacked(&stage).expect("the layer has a directory");
            assert_eq!(unpacked, FILES);
            assert_leaves_nothing(&stage, &reference);
        }
    });
}

/// Files in the fullest directory of a snapshot.
fn unpacked(stage: &Stage) -> Option<usize> {
    let snapshots = fs::read_dir(stage.snapshotter().root().join("snapshots")).ok()?;
    let count = |fs: &Path| fs::read_dir(fs).map_or(0, Iterator::count);
    snapshots.flatten().map(|entry| count(&entry.path().join("fs"))).max()
}
