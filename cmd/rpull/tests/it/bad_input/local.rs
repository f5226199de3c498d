//! What this machine does not give: a place for the receipt, space on the disk.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use oci::MediaType;
use testkit::{
    fault::{Content, Fault, Server},
    image::{Blob, Image, Layer},
};

use super::{Tag, assert_failed, layer};
use crate::{
    mounted::Mounted,
    stage::{on_each_daemon, run},
};

#[test]
fn references_and_namespaces_that_cannot_be_are_refused_by_name() {
    let digest63 = format!("r.example/a@sha256:{}", "a".repeat(63));
    let reference = "hint: a reference is HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]";
    let namespace = "hint: a namespace is up to 76 letters and digits with single . _ - between them, for example k8s.io";
    let long = "n".repeat(77);
    for (args, hint) in [
        (&["://"][..], reference),
        (&[""], reference),
        (&["r.example/Upper/case:1"], reference),
        (&["r.example/a:1:2"], reference),
        (&["r.example/../a:1"], reference),
        (&[&digest63], reference),
        (&["--namespace", "../../etc", "r.example/a:1"], namespace),
        (&["--namespace", &long, "r.example/a:1"], namespace),
        (&["--namespace", "a b", "r.example/a:1"], namespace),
    ] {
        let output = run(crate::rpull().args(args));
        let named = args.iter().rfind(|arg| hint == reference || **arg != "r.example/a:1").unwrap();
        assert_failed(&output, 2, &format!("rpull: invalid …{named:?}…\n{hint}\n"));
    }
    let output = run(crate::rpull().arg(format!("r.example/a@sha512:{}", "a".repeat(128))));
    assert_failed(
        &output,
        2,
        "rpull: digest algorithm sha512 is not supported: sha512:aaaaaaaa…\n\
         hint: rpull proves blobs by sha256 only; push the image with sha256 digests\n",
    );
}

#[test]
fn a_receipt_that_cannot_be_written_is_found_out_before_the_pull() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing/receipt.json");
    for (path, why) in [
        (missing.as_path(), "No such file or directory (os error 2)"),
        (directory.path(), "is a directory"),
        (Path::new("/proc/receipt.json"), "No such file or directory (os error 2)"),
    ] {
        // There is no containerd: had it been asked first, that would be said.
        let output = run(crate::rpull().args(["--address", "/nonexistent/c.sock", "--receipt"]).arg(path).arg("r.example/a:1"));
        assert_failed(
            &output,
            2,
            &format!(
                "rpull: cannot write the receipt {}: {why}\n\
                 hint: name a file in a directory that exists and may be written to\n",
                path.display()
            ),
        );
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_receipt_that_cannot_be_written_after_all_costs_nothing_of_the_pull() {
    on_each_daemon("full-receipt", |stage| {
        let reference = Image::new(vec![layer(&stage, "a")]).push(stage.registry(), "full-receipt", "1");
        let output = stage.rpull(["--receipt", "/dev/full", &reference]);
        assert_failed(
            &output,
            8,
            "rpull: what was pulled is whole, but its receipt /dev/full could not be written: …\n\
             hint: run rpull again: it fetches nothing then, and writes the file\n",
        );
        assert!(stage.image(&reference).is_some());
    });
}

#[test]
fn a_full_disk_is_said_and_what_was_fetched_is_kept() {
    on_each_daemon("disk-full", |stage| {
        let small = tempfile::tempdir().unwrap();
        // The layer begun, the reserve of 16 MiB and a little more.
        let Some(_mount) = Mounted::tmpfs(small.path(), 28) else { return };
        let spool = small.path().join("spool");
        let spool = spool.to_str().unwrap();
        let (begun, large) =
            (Layer::overlaybd(Blob { seed: 1, data: 4 << 20 }), Layer::overlaybd(Blob { seed: 2, data: 16 << 20 }));
        let (begun_image, whole) = (Image::new(vec![begun.clone()]), Image::new(vec![begun.clone(), large.clone()]));
        let stalls = Arc::new(AtomicBool::new(true));
        let (stalling, size) = (stalls.clone(), begun.size);
        let mut server = Server::builder()
            .manifest("begun", MediaType::OCI_MANIFEST, &begun_image.manifest())
            .manifest("whole", MediaType::OCI_MANIFEST, &whole.manifest())
            .faults(move |request| {
                let late = request.size == size && request.range.is_some_and(|(start, _)| start >= 2 << 20);
                (late && stalling.load(Ordering::Relaxed)).then_some(Fault::Stall { after: 0 })
            });
        for bytes in [begun.bytes(), large.bytes(), begun_image.config(), whole.config()] {
            server = server.blob(&Content::bytes(bytes));
        }
        let server = server.start();
        let tag = |tag: &str| Tag { reference: format!("{}/t/disk:{tag}", server.address()), ..Tag::free(&stage) };
        let flags = ["--spool-dir", spool, "--range-size", "256K", "--timeout", "2s"];
        tag("begun").refuses(
            &flags,
            1,
            "rpull: the time limit of --timeout is over\n\
             hint: what was downloaded is kept; run rpull again to go on\n",
        );
        tag("whole").refuses(
            &flags[..4],
            8,
            &format!(
                "rpull: {spool} needs … bytes more, … are free\n\
                 hint: free some space or point --spool-dir at a larger filesystem\n"
            ),
        );
        stalls.store(false, Ordering::Relaxed);
        let reference = tag("begun").reference;
        let receipt = stage.pull(flags[..4].iter().copied().chain([reference.as_str()]));
        let network = receipt["bytes"]["network"][server.address()].as_u64().unwrap();
        let kept = receipt["bytes"]["spool"].as_u64().unwrap();
        assert!(kept >= 1 << 20, "{receipt:#}");
        assert_eq!(network + kept, begun.size, "{receipt:#}");
        assert_eq!(receipt["store"]["mode"], "api", "{receipt:#}");
    });
}
