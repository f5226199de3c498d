//! Other clients at work on the same containerd, in the middle of a pull: the image appears whole or not at all.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use testkit::{
    fault::Server,
    image::{Blob, Image, Layer},
};

use crate::stage::{
    COMMITTED, Output, Running, Stage, chain_of, daemons, eventually, finish, native, network, on_each_daemon, size_of, start,
};

/// An image whose last layer takes its time, and the server that has it.
struct Slow {
    image: Image,
    server: Server,
    reference: String,
}

impl Slow {
    /// The last layer comes at 300 KiB a second, in one connection: two seconds and more.
    fn new(seed: u64) -> Self {
        let small = [seed, seed + 1].map(|seed| Layer::overlaybd(Blob { seed, data: 64 << 10 }));
        let large = Layer::overlaybd(Blob { seed: seed + 2, data: 1 << 20 });
        let image = Image::new(small.into_iter().chain([large]).collect());
        let server = Server::builder().image("1", &image).rate(300_000.0).start();
        let reference = format!("{}/slow:1", server.address());
        Self { image, server, reference }
    }

    /// Begins a pull and waits until the lower layers are committed and the last is on its way.
    fn begin(&self, stage: &Stage) -> Running {
        let mut command = stage.command(["--max-connections", "2", "--store", "direct", &self.reference]);
        let child = start(&mut command);
        let lower = &chain_of(&self.image)[1];
        eventually(|| stage.snapshot(lower)).expect("the lower layers are committed");
        child
    }

    /// Pulls, and does `meanwhile` in the middle.
    fn pull(&self, stage: &Stage, meanwhile: impl FnOnce()) -> Output {
        let child = self.begin(stage);
        meanwhile();
        finish(child)
    }
}

/// Safety 8, 17: links that are not yet content, and content that is not yet an image, survive any collection.
#[test]
fn a_garbage_collector_running_all_the_time_does_no_harm() {
    on_each_daemon("collected", |stage| {
        let ended = AtomicBool::new(false);
        let pull = |store: &str, seeds: std::ops::Range<u64>| {
            for seed in seeds.step_by(3) {
                let image = native(&[seed, seed + 1, seed + 2]);
                let reference = image.push(stage.registry(), "collected", &format!("v{seed}"));
                stage.pull(["--store", store, &reference]);
                let record = stage.image(&reference).unwrap();
                assert_eq!(record.labels["rpull/complete"], image.digest().to_string());
                for (layer, chain) in image.layers().iter().zip(chain_of(&image)) {
                    assert!(stage.content(&layer.digest.to_string()).is_some() && stage.snapshot(&chain).is_some());
                    assert_eq!(std::fs::read(stage.commit_file(layer)).unwrap(), layer.bytes());
                    assert_eq!(std::fs::read(stage.blob(&layer.digest.to_string())).unwrap(), layer.bytes());
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let other = stage.in_namespace("collector");
                while !ended.load(Ordering::Relaxed) {
                    other.collect();
                }
            });
            let pulls = [scope.spawn(|| pull("direct", 500..515)), scope.spawn(|| pull("api", 515..530))];
            let outcomes = pulls.map(std::thread::ScopedJoinHandle::join);
            ended.store(true, Ordering::Relaxed);
            for outcome in outcomes {
                outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
        });
        stage.assert_nothing_unfinished();
        assert_eq!(stage.leases(), Vec::<String>::new());
    });
}

/// Safety 18: what went before the record was set is missed by the proof.
#[test]
fn content_that_another_client_deletes_in_the_middle_is_missed() {
    on_each_daemon("deleted-content", |stage| {
        let slow = Slow::new(540);
        let output = slow.pull(&stage, || {
            stage.ctr(["content", "rm", &slow.image.layers()[0].digest.to_string()]);
        });
        assert_gone_or_whole(&stage, &slow, &output);
    });
}

/// Safety 18.
#[test]
fn a_snapshot_that_another_client_deletes_in_the_middle_is_missed() {
    on_each_daemon("deleted-snapshot", |stage| {
        let slow = Slow::new(550);
        let output = slow.pull(&stage, || {
            let remove = |key: &str| {
                let args = ["--namespace", stage.namespace(), "snapshots", "--snapshotter", "overlaybd", "rm", key];
                stage.containerd().ctr(args).status.success()
            };
            // Our own active snapshot stands on it, so that goes first.
            let lower = &chain_of(&slow.image)[1];
            let gone = eventually(|| {
                for info in stage.snapshots().iter().filter(|info| info.kind != COMMITTED) {
                    remove(&info.name);
                }
                remove(lower).then_some(())
            });
            gone.expect("another client may remove it");
        });
        assert_gone_or_whole(&stage, &slow, &output);
    });
}

/// Safety 17, 18: the lease is what keeps everything; a collection at once takes what it held.
#[test]
fn a_lease_that_another_client_deletes_in_the_middle_is_missed() {
    on_each_daemon("deleted-lease", |stage| {
        let slow = Slow::new(560);
        let output = slow.pull(&stage, || {
            let [lease] = &stage.leases()[..] else { panic!("a pull has one lease") };
            stage.ctr(["leases", "rm", "--sync", lease]);
        });
        assert_gone_or_whole(&stage, &slow, &output);
    });
}

#[test]
fn a_record_that_another_client_deletes_in_the_middle_is_set_again() {
    on_each_daemon("deleted-record", |stage| {
        let slow = Slow::new(570);
        stage.pull(["--lazy", &slow.reference]);
        let child = start(&mut stage.command([&slow.reference]));
        eventually(|| stage.content(&slow.image.layers()[0].digest.to_string())).expect("the lowest layer arrives");
        stage.remove_image(&slow.reference);
        let output = finish(child);
        output.succeeds();
        stage.assert_whole(&slow.reference, &slow.image);
    });
}

/// Safety 11: the ref of a layer is every client's. Whoever has it is waited for; what the dead left is begun anew.
#[test]
fn a_layer_that_another_client_is_writing_is_waited_for() {
    on_each_daemon("waited-for", |stage| {
        for (ends, seed) in [(true, 700), (false, 701)] {
            let image = native(&[seed]);
            let reference = image.push(stage.registry(), "waited-for", &format!("v{seed}"));
            let layer = &image.layers()[0];
            let (digest, size) = (layer.digest.to_string(), layer.size.to_string());
            let mut other = Command::new(stage.containerd().daemon().ctr());
            other.arg("--address").arg(stage.containerd().address()).args([
                "--namespace",
                stage.namespace(),
                "content",
                "ingest",
            ]);
            other.args(["--expected-size", &size, "--expected-digest", &digest, &format!("layer-{digest}")]);
            let mut other = other.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let bytes = layer.bytes();
            let mut input = other.stdin.take().unwrap();
            input.write_all(&bytes[..1000]).unwrap();
            eventually(|| stage.ctr(["content", "active"]).contains(&digest).then_some(())).expect("the other client is writing");

            let mut command = stage.command(["--store", "api", &reference]);
            let child = start(&mut command);
            // Until it has everything but the ref.
            eventually(|| fs::read_dir(stage.spool()).is_ok_and(|mut entries| entries.next().is_some()).then_some(()));
            if ends {
                input.write_all(&bytes[1000..]).unwrap();
            } else {
                other.kill().unwrap();
            }
            drop(input);
            assert_eq!(other.wait().unwrap().success(), ends);
            finish(child).succeeds();
            stage.assert_whole(&reference, &image);
        }
    });
}

#[test]
fn a_containerd_that_dies_in_the_middle_costs_only_what_was_under_way() {
    for daemon in daemons() {
        let mut stage = Stage::on(&daemon);
        let slow = Slow::new(590);
        let child = slow.begin(&stage);
        stage.containerd_mut().kill();
        let output = finish(child);
        assert!(output.fails_with(7).contains("does not answer"), "{output:#?}");
        stage.containerd_mut().restart();
        assert!(stage.image(&slow.reference).is_none());
        let receipt = stage.pull([&slow.reference]);
        assert!(network(&receipt) <= slow.image.layers()[2].size, "{receipt:#}");
        stage.assert_whole(&slow.reference, &slow.image);
    }
}

/// Safety 1, 4: killed between link and COMMIT, or between COMMIT and the drop of the spool's name, the entry is the very file
/// that others read already. Nobody writes to it again.
#[test]
fn a_published_file_is_never_written_to_again() {
    for daemon in daemons() {
        let stage = Stage::on(&daemon);
        let slow = Slow::new(595);
        let mut child = slow.begin(&stage);
        let pid = i32::try_from(stage.containerd().pid().unwrap()).unwrap();
        let containerd = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(containerd, rustix::process::Signal::STOP).unwrap();
        let layer = &slow.image.layers()[2];
        let blob = stage.blob(&layer.digest.to_string());
        let linked = eventually(|| blob.exists().then_some(()));
        child.kill().unwrap();
        rustix::process::kill_process(containerd, rustix::process::Signal::CONT).unwrap();
        linked.expect("the file is linked while containerd sleeps");
        assert_eq!(finish(child).code, 137);

        // The descriptor shows what becomes of this inode, whatever becomes of its name.
        let mut published = fs::File::open(&blob).unwrap();
        for entry in fs::read_dir(stage.spool()).unwrap().flatten() {
            if entry.file_name() != *layer.digest.hex() {
                fs::write(entry.path(), b"damaged").unwrap();
            }
        }
        stage.pull([&slow.reference]);
        stage.assert_whole(&slow.reference, &slow.image);
        let mut bytes = Vec::new();
        published.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, layer.bytes());
        assert_eq!(published.metadata().unwrap().mode() & 0o7777, 0o444);
    }
}

/// Safety 3: three pulls of one image at the same time, in two namespaces. Each blob is sent once, and those who wait say so.
#[test]
fn pulls_of_one_image_at_the_same_time_share_the_work() {
    on_each_daemon("at-once", |stage| {
        for (store, seed) in [("direct", 580), ("api", 584)] {
            let slow = Slow::new(seed);
            // On one connection nothing is asked for that another one brings in the end.
            let flags = ["--store", store, "--max-connections", "1", &slow.reference];
            let start = |namespace: &str| {
                let mut command = stage.in_namespace(namespace).command(flags);
                start(&mut command)
            };
            let outputs = [start("at-once"), start("at-once"), start("at-once-2")].map(finish);
            outputs.iter().for_each(Output::succeeds);
            stage.assert_whole(&slow.reference, &slow.image);
            stage.in_namespace("at-once-2").assert_whole(&slow.reference, &slow.image);
            let configs = 3 * slow.image.config().len() as u64;
            assert_eq!(slow.server.count().body_bytes, size_of(&slow.image) + configs, "{outputs:#?}");
            let large = slow.image.layers()[2].digest.hex();
            let says = format!("{}: waiting for another rpull", &large[..12]);
            let waited = outputs.iter().filter(|output| output.stdout.contains(&says)).count();
            assert!(waited > 0, "{outputs:#?}");
            stage.assert_not_in_spool(&slow.image);
        }
    });
}

/// Either all is there, or it is said that something is not, and nothing is visible; and the next run puts it right.
fn assert_gone_or_whole(stage: &Stage, slow: &Slow, output: &Output) {
    if output.code == 0 {
        stage.assert_whole(&slow.reference, &slow.image);
        return;
    }
    let stderr = output.fails_with(7);
    assert!(stderr.contains("\nhint: "), "{stderr}");
    stage.assert_nothing_visible(&slow.reference);
    stage.pull([&slow.reference]);
    stage.assert_whole(&slow.reference, &slow.image);
}
