//! `rpull verify`: what it finds, what `--repair` mends, and that nothing is left to find afterwards.

mod damage;
mod states;

use std::fs;

use testkit::image::{Image, Layer};

use crate::{
    golden, outcome, rpull,
    stage::{Output, Stage, daemons, each, inode, native, network, on_each_daemon, say},
};
use damage::{flip, payload, replace};

/// Runs `rpull verify` with these flags and images.
fn verify(stage: &Stage, args: &[&str]) -> Output {
    stage.rpull(std::iter::once("verify").chain(args.iter().copied()))
}

/// Asserts that verification finds nothing.
#[track_caller]
fn assert_ok(output: &Output, layers: usize) {
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{output:#?}");
    assert_eq!(output.stdout.lines().last(), Some("ok"), "{output:#?}");
    let whole = output.stdout.lines().filter(|line| line.starts_with("layer ") && line.ends_with(": ok")).count();
    assert_eq!(whole, layers, "{output:#?}");
}

/// Asserts that verification finds this, says of which part, and what to do.
#[track_caller]
fn assert_damaged(output: &Output, part: &str, what: &str) {
    assert_eq!(output.code, 9, "{output:#?}");
    let mut lines = output.stdout.lines().filter(|line| line.starts_with(&format!("{part} ")));
    assert!(lines.any(|line| line.contains(what)), "{part}, {what}: {output:#?}");
    assert!(!output.stdout.lines().any(|line| line == "ok"), "{output:#?}");
    let (message, hint) = output.stderr.split_once('\n').expect("a message and a hint");
    let name = message.strip_prefix("rpull: ").and_then(|rest| rest.split(' ').next()).expect("a message begins with the image");
    let hints = [
        format!("hint: rpull verify --repair {name} mends it\n"),
        format!("hint: rpull {name} fetches the layers\n"),
        "hint: the image is broken in the registry too; build and push it again\n".to_owned(),
    ];
    assert!(message.contains(part) && hints.iter().any(|known| known == hint), "{output:#?}");
}

#[test]
fn a_whole_image_is_said_to_be_ok_and_nothing_is_changed() {
    on_each_daemon("verify-whole", |stage| {
        let image = native(&[2000, 2001]);
        let reference = image.push(stage.registry(), "verify-whole", "1");
        stage.pull([&reference]);
        let before = (stage.image(&reference), stage.contents(), stage.snapshots());
        let manifest = image.digest();
        let config = oci::Digest::of(&image.config());
        let mut expected = vec![
            format!("{reference}: looking at what is here"),
            format!("manifest {}: ok", manifest.short()),
            format!("config {}: ok", config.short()),
        ];
        let layers = image.layers().iter().enumerate();
        expected.extend(layers.map(|(at, layer)| format!("layer {}/2 {}: ok", at + 1, layer.digest.short())));
        expected.push("ok\n".to_owned());
        let expected = expected.join("\n");
        for args in
            [&[reference.as_str()][..], &["--deep", &reference], &["--repair", &reference], &["--store", "api", &reference]]
        {
            let output = verify(&stage, args);
            assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (0, expected.as_str(), ""), "{args:?}");
        }
        assert_eq!((stage.image(&reference), stage.contents(), stage.snapshots()), before);
        stage.assert_whole(&reference, &image);
    });
}

/// Safety 14: all three forms of the file are right.
#[test]
fn a_copy_is_as_good_as_a_link_and_so_is_what_unpacking_leaves() {
    on_each_daemon("verify-forms", |stage| {
        let image = native(&[2010, 2011, 2012]);
        let reference = image.push(stage.registry(), "verify-forms", "1");
        stage.pull([&reference]);
        let files: Vec<_> = image.layers().iter().map(|layer| stage.commit_file(layer)).collect();
        replace(&files[1], image.layers()[1].bytes());
        replace(&files[2], payload(&image.layers()[2]));
        let before: Vec<_> = files.iter().map(|file| inode(file)).collect();
        assert_ok(&verify(&stage, &[&reference]), 3);
        assert_ok(&verify(&stage, &["--repair", &reference]), 3);
        assert_eq!(files.iter().map(|file| inode(file)).collect::<Vec<_>>(), before, "what is right was touched");
    });
}

#[test]
fn an_image_that_is_not_there_is_not_found() {
    on_each_daemon("verify-nothing", |stage| {
        for args in [&["127.0.0.1:1/nothing:1"][..], &["--repair", "127.0.0.1:1/nothing:1"]] {
            let output = verify(&stage, args);
            assert_eq!((output.code, output.stdout.as_str()), (4, "127.0.0.1:1/nothing:1: looking at what is here\n"));
            assert_eq!(output.stderr, golden("verify/not_there.txt"));
        }
        assert_eq!(stage.leases(), Vec::<String>::new());
    });
}

#[test]
fn several_images_are_looked_at_and_the_gravest_decides() {
    on_each_daemon("verify-several", |stage| {
        let (good, bad) = (native(&[2020]), native(&[2021]));
        let good_reference = good.push(stage.registry(), "verify-several", "good");
        let bad_reference = bad.push(stage.registry(), "verify-several", "bad");
        stage.pull([&good_reference]);
        stage.pull([&bad_reference]);
        flip(&stage.blob(&bad.layers()[0].digest.to_string()));
        let output = verify(&stage, &[&bad_reference, "127.0.0.1:1/nothing:1", &good_reference]);
        assert_eq!(output.code, 4, "{output:#?}");
        assert!(output.stdout.contains(&format!("{good_reference}: looking")), "{output:#?}");
        assert_eq!(output.stderr.lines().filter(|line| line.starts_with("rpull: ")).count(), 2, "{output:#?}");
        assert_damaged(&verify(&stage, &[&good_reference, &bad_reference]), "layer 1/1", "not those of its digest");
        let output = verify(&stage, &["--repair", &good_reference, &bad_reference]);
        assert_eq!((output.code, output.stdout.lines().last()), (0, Some("ok")), "{output:#?}");
    });
}

/// Safety 22: the bad file would come back from the other namespace, so nothing is touched.
#[test]
fn without_the_direct_store_a_blob_that_others_hold_stays_and_they_are_named() {
    on_each_daemon("verify-held", |stage| {
        let image = native(&[2030, 2031]);
        let reference = image.push(stage.registry(), "verify-held", "1");
        stage.pull(["--store", "api", &reference]);
        let neighbour = stage.in_namespace("verify-held-too");
        neighbour.pull(["--store", "api", &reference]);
        let blob = stage.blob(&image.layers()[1].digest.to_string());
        flip(&blob);
        let rotten = (inode(&blob), fs::read(&blob).unwrap());

        let output = verify(&stage, &["--store", "api", "--repair", &reference]);
        assert_eq!(output.code, 9, "{output:#?}");
        let digest = image.layers()[1].digest.to_string();
        assert!(output.stderr.contains("verify-held-too") && output.stderr.contains(&digest), "{output:#?}");
        assert!(stage.content(&digest).is_some(), "the blob was deleted");
        assert_eq!((inode(&blob), fs::read(&blob).unwrap()), rotten);
        stage.assert_nothing_unfinished();

        // The direct store puts it right for both.
        let output = verify(&stage, &["--repair", &reference]);
        assert_eq!(output.code, 0, "{output:#?}");
        assert_ok(&verify(&neighbour, &[&reference]), 2);
        stage.assert_whole(&reference, &image);
        neighbour.assert_layers(&image);
    });
}

#[test]
fn an_index_leads_to_the_image_that_is_here() {
    on_each_daemon("verify-index", |stage| {
        let arm = testkit::image::Platform::new("linux/arm64");
        let images = [native(&[2040]), native(&[2041]).platform(arm)];
        let reference = testkit::image::Index::new(images.to_vec()).push(stage.registry(), "verify-index", "1");
        stage.pull(["--platform", "linux/arm64", &reference]);
        let output = verify(&stage, &[&reference]);
        assert_ok(&output, 1);
        assert!(output.stdout.contains(&images[1].layers()[0].digest.short()), "{output:#?}");
        // The other one is not here at all.
        assert_damaged(&verify(&stage, &["--platform", "linux/amd64", &reference]), "manifest", "not in the content store");
    });
}

/// Upstream's own client before ours, on the real snapshotter; needs its program in `UPSTREAM_CTR`.
#[test]
fn what_upstream_pulled_is_ok_when_it_is_whole_and_mended_when_it_is_lazy() {
    let Some(upstream) = std::env::var_os("UPSTREAM_CTR").filter(|path| !path.is_empty()) else {
        say("UPSTREAM_CTR is not set: upstream's client is left out");
        return;
    };
    on_each_daemon("verify-upstream", |stage| {
        if !stage.snapshotter().is_real() {
            say("the snapshotter is the stand-in: upstream's client is left out");
            return;
        }
        for (mode, seed) in [(Some("--download-blobs"), 2050), (None, 2052)] {
            let image = native(&[seed, seed + 1]);
            let reference = image.push(stage.registry(), "verify-upstream", if mode.is_some() { "full" } else { "lazy" });
            let mut command = std::process::Command::new(&upstream);
            command.arg("--address").arg(stage.containerd().address());
            command.args(["--namespace", "verify-upstream", "rpull", "--plain-http"]).args(mode).arg(&reference);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            if mode.is_some() {
                assert_ok(&verify(&stage, &[&reference]), 2);
                flip(&stage.commit_file(&image.layers()[0]));
                assert_damaged(
                    &verify(&stage, &[&reference]),
                    "layer 1/2",
                    "overlaybd.commit is wrong: it differs from the blob",
                );
            } else {
                assert_damaged(&verify(&stage, &[&reference]), "layer 2/2", "lazy: its data is in the registry");
            }
            let output = verify(&stage, &["--repair", &reference]);
            assert_eq!(output.code, 0, "{output:#?}");
            assert_ok(&verify(&stage, &[&reference]), 2);
            stage.assert_whole(&reference, &image);
        }
    });
}

/// A compressed layer is what its digest says, and unpacks to something else than its config says: its own fault, and for ever.
#[test]
fn deep_unpacks_and_finds_a_wrong_diff_id() {
    on_each_daemon("verify-deep", |stage| {
        for (make, tag) in [
            (Layer::tar_gzip as fn(&[(&str, &[u8])]) -> Layer, "gzip"),
            (Layer::tar_zstd as fn(&[(&str, &[u8])]) -> Layer, "zstd"),
        ] {
            let good = Image::new(vec![make(&[("a", tag.as_bytes())]), make(&[("b", tag.as_bytes())])]);
            let reference = good.push(stage.registry(), "verify-deep", tag);
            stage.pull([&reference]);
            assert_ok(&verify(&stage, &["--deep", &reference]), 2);
            assert_ok(&verify(&stage, &["--deep", "--store", "api", &reference]), 2);

            let wrong = oci::Digest::of(tag.as_bytes());
            let lying = good.clone().edit_config(|config| config["rootfs"]["diff_ids"][0] = wrong.to_string().into());
            let reference = lying.push(stage.registry(), "verify-deep", &format!("{tag}-lying"));
            damage::plant(&stage, &lying, &reference, &[wrong, good.layers()[1].diff_id]);
            assert_ok(&verify(&stage, &[&reference]), 2);
            let output = verify(&stage, &["--deep", &reference]);
            assert_damaged(&output, "layer 1/2", &format!("it unpacks to {}, the config says {wrong}", good.layers()[0].diff_id));
            let output = verify(&stage, &["--deep", "--repair", &reference]);
            assert_damaged(&output, "layer 1/2", "it unpacks to");
            assert!(
                output.stderr.ends_with("\nhint: the image is broken in the registry too; build and push it again\n"),
                "{output:#?}"
            );
        }
    });
}

/// Fetching fails, so nothing is touched; what is wrong is said, and the exit code says whose trouble it is.
#[test]
fn what_cannot_be_fetched_is_left_as_it_is() {
    for daemon in daemons() {
        let mut stage = Stage::on(&daemon);
        let image = native(&[2060, 2061]);
        let reference = image.push(stage.registry(), "verify-offline", "1");
        stage.pull([&reference]);
        let blob = stage.blob(&image.layers()[0].digest.to_string());
        flip(&blob);
        let rotten = (inode(&blob), fs::read(&blob).unwrap());
        stage.registry_mut().kill();
        let output = verify(&stage, &["--repair", &reference]);
        assert_eq!(output.code, 5, "{output:#?}");
        assert!(output.stderr.contains("could not be mended: "), "{output:#?}");
        assert_eq!((inode(&blob), fs::read(&blob).unwrap()), rotten);
        stage.assert_nothing_unfinished();
        stage.registry_mut().restart();
        let output = verify(&stage, &["--repair", &reference]);
        assert_eq!(output.code, 0, "{output:#?}");
        stage.assert_whole(&reference, &image);
        let again = stage.pull([&reference]);
        assert_eq!((network(&again), each(&again, "came")), (0, vec!["kept"; 2]), "{again:#}");
    }
}

#[test]
fn the_help_of_verify_lists_its_flags_and_those_it_shares() {
    let (code, stdout, stderr) = outcome(rpull().args(["verify", "--help"]));
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(stdout, golden("verify/help.txt"));
}
