//! Several images in one run: one queue, shared layers once, a failure that does not stop the others.

use std::{fs, io::Write as _, process::Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::{
    fault::{Fault, Server},
    image::{Blob, Image, Layer},
};

use crate::stage::{Output, Running, Stage, eventually, finish, native, network, on_each_daemon, run, size_of, start};

/// Runs rpull, which must succeed; its receipts.
fn pull(stage: &Stage, args: &[&str]) -> (Output, Vec<Value>) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("receipts.json");
    let output = run(stage.command(args).arg("--receipt").arg(&file));
    output.succeeds();
    let receipts: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    (output, receipts.as_array().expect("several images have an array").clone())
}

fn lines<'a>(output: &'a Output, of: &str) -> Vec<&'a str> {
    output.stdout.lines().filter(|line| line.contains(of)).collect()
}

#[test]
fn what_two_images_share_is_fetched_once() {
    on_each_daemon("several", |stage| {
        for (store, seed) in [("direct", 1500), ("api", 1520)] {
            let large = |seed| Layer::overlaybd(Blob { seed, data: 1 << 20 });
            let one = Image::new(vec![large(seed), large(seed + 1), large(seed + 2)]);
            let other = Image::new(vec![large(seed), large(seed + 1), large(seed + 3)]);
            let server = Server::builder().image("one", &one).image("other", &other).start();
            let references = ["one", "other"].map(|tag| format!("{}/several:{tag}", server.address()));
            let [first, second] = references.each_ref().map(String::as_str);
            // One of them twice.
            let (output, receipts) = pull(&stage, &["--store", store, first, second, first]);
            assert_eq!(
                receipts.iter().map(|receipt| receipt["reference"].as_str().unwrap()).collect::<Vec<_>>(),
                [first, second]
            );
            let fetched: u64 = receipts.iter().map(network).sum();
            assert_eq!(fetched, size_of(&one) + other.layers()[2].size, "{receipts:#?}");
            assert_eq!(lines(&output, ": pulled").len(), 2, "{output:#?}");
            let sum = output.stdout.lines().rev().nth(1).unwrap();
            assert!(sum.starts_with("2 images, ") && sum.ends_with(" fetched"), "{output:#?}");
            assert_eq!(output.stderr, "");
            stage.assert_whole(first, &one);
            stage.assert_whole(second, &other);
            stage.assert_not_in_spool(&one);
            stage.assert_not_in_spool(&other);
            stage.remove_image(first);
            stage.remove_image(second);
        }
    });
}

#[test]
fn one_image_under_two_names_is_fetched_once() {
    on_each_daemon("two-names", |stage| {
        let image = native(&[1540, 1541]);
        let references = ["a", "b"].map(|tag| image.push(stage.registry(), "two-names", tag));
        let (_, receipts) = pull(&stage, &references.each_ref().map(String::as_str));
        assert_eq!(receipts.iter().map(network).sum::<u64>(), size_of(&image), "{receipts:#?}");
        for reference in &references {
            stage.assert_whole(reference, &image);
        }
    });
}

#[test]
fn a_failure_does_not_stop_the_others() {
    on_each_daemon("some-fail", |stage| {
        let images = [native(&[1550]), native(&[1551])];
        let good = [0, 1].map(|index| images[index].push(stage.registry(), "some-fail", &index.to_string()));
        let missing = stage.registry().reference("some-fail", "missing");
        let broken = Server::builder().image("1", &native(&[1552])).faults(|_| Some(Fault::FlipByte(7))).start();
        let corrupt = format!("{}/some-fail:1", broken.address());

        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("receipts.json");
        let receipt = ["--receipt", file.to_str().unwrap()];
        let output = stage.rpull([&missing, &good[0], &corrupt, &good[1]].map(String::as_str).into_iter().chain(receipt));
        // Of 4 and 6 the one that says more.
        let stderr = output.fails_with(6);
        let failures: Vec<_> = stderr.lines().filter(|line| line.starts_with("rpull: ") && !line.contains("warning")).collect();
        assert_eq!(failures.len(), 3, "{stderr}");
        for name in [&missing, &corrupt] {
            assert!(failures[..2].iter().any(|line| line.contains(name.as_str())), "{stderr}");
            assert!(failures[2].contains(name.as_str()), "{stderr}");
            stage.assert_nothing_visible(name);
        }
        assert!(failures[2].starts_with("rpull: 2 of 4 images could not be pulled: "), "{stderr}");
        for (reference, image) in good.iter().zip(&images) {
            assert!(stage.image(reference).is_some());
            stage.assert_layers(image);
        }
        let receipts: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(receipts.as_array().unwrap().len(), 2, "{receipts:#}");
        stage.assert_nothing_unfinished();
    });
}

#[test]
fn a_list_is_pulled_but_for_its_bad_lines() {
    on_each_daemon("list", |stage| {
        let images = [native(&[1560]), native(&[1561])];
        let good = [0, 1].map(|index| images[index].push(stage.registry(), "list", &index.to_string()));
        let list = format!("# warm\n{}\n\nr.io/Upper:1\n{} # twice a day\n", good[0], good[1]);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("list");
        fs::write(&file, &list).unwrap();
        let path = file.to_str().unwrap();
        let output = stage.rpull(["--from-file", path]);
        assert_eq!(
            output.fails_with(2),
            format!(
                "rpull: line 4 of {path}: invalid reference \"r.io/Upper:1\": the repository must be lower case\n\
                 hint: a reference is HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]\n\
                 rpull: 1 of 3 images could not be pulled: line 4\n"
            )
        );
        for (reference, image) in good.iter().zip(&images) {
            stage.assert_whole(reference, image);
        }

        let output = stage.rpull(["--fail-fast", "--from-file", path]);
        assert!(output.fails_with(2).ends_with("1 of 3 images could not be pulled: line 4; 2 left out because of --fail-fast\n"));

        let mut child = stage.command(["--from-file", "-", "--quiet"]);
        let mut child = start(child.stdin(Stdio::piped()));
        child.stdin.take().unwrap().write_all(list.replace("r.io/Upper:1", "").as_bytes()).unwrap();
        let output = finish(child);
        assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (0, "done\n", ""));
    });
}

/// A part of each layer of these arrives, and then nothing more.
fn halting(tags: &[&str], seed: u64) -> (Server, Vec<Image>) {
    let image = |(index, _)| Image::new(vec![Layer::overlaybd(Blob { seed: seed + index as u64, data: 4 << 20 })]);
    let images: Vec<Image> = tags.iter().enumerate().map(image).collect();
    let server = tags.iter().zip(&images).fold(Server::builder(), |server, (tag, image)| server.image(tag, image));
    let server = server.faults(|request| {
        let behind = request.range.is_none_or(|(start, _)| start >= 1 << 20);
        (request.size > 1 << 20 && behind).then_some(Fault::Stall { after: 0 })
    });
    (server.start(), images)
}

fn begin(stage: &Stage, args: &[&str], server: &Server, bytes: u64) -> Running {
    let mut command = stage.command(["--range-size", "256K"]);
    let child = start(command.args(args));
    eventually(|| (server.count().body_bytes >= bytes).then_some(())).expect("a part of every layer is sent");
    child
}

#[test]
fn a_signal_leaves_nothing_unfinished_of_any_image() {
    on_each_daemon("several-stopped", |stage| {
        for (store, seed) in [("direct", 1570), ("api", 1580)] {
            let tags = ["a", "b", "c", "d", "e", "f"];
            let (server, images) = halting(&tags, seed);
            let references: Vec<String> = tags.iter().map(|tag| format!("{}/stopped:{tag}", server.address())).collect();
            let args: Vec<&str> = ["--store", store].into_iter().chain(references.iter().map(String::as_str)).collect();
            let child = begin(&stage, &args, &server, 4 << 20);
            // A pull of four is under way by now, and two wait.
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
            let output = finish(child);
            let stderr = output.fails_with(143);
            assert_eq!(stderr.lines().next(), Some("rpull: terminated; 0 of 6 images were pulled"), "{stderr}");
            assert_eq!(stderr.lines().filter(|line| line.starts_with("rpull: ")).count(), 1, "{stderr}");
            for reference in &references {
                stage.assert_nothing_visible(reference);
            }
            stage.assert_nothing_unfinished();
            drop(images);
        }
    });
}

#[test]
fn the_first_failure_stops_the_others_when_asked_for() {
    on_each_daemon("fail-fast", |stage| {
        let (server, _) = halting(&["a"], 1590);
        let stuck = format!("{}/fail-fast:a", server.address());
        let missing = stage.registry().reference("fail-fast", "missing");
        let output = stage.rpull(["--fail-fast", &stuck, &missing]);
        let stderr = output.fails_with(4);
        let last = stderr.lines().rev().find(|line| line.starts_with("rpull: ")).unwrap();
        assert_eq!(last, format!("rpull: 1 of 2 images could not be pulled: {missing}; 1 left out because of --fail-fast"));
        stage.assert_nothing_visible(&stuck);
        stage.assert_nothing_unfinished();
    });
}
