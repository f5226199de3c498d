//! Runs that do not get to their end: a signal, a time limit, a kill. What was downloaded is kept and used.

use std::{fs, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use testkit::{
    fault::{Fault, Server},
    image::{Blob, Image, Layer},
};

use crate::stage::{COMMITTED, Output, Running, Stage, eventually, finish, native, network, on_each_daemon, size_of, start};

/// Bytes that arrive: several of the pieces of 1 MiB that a journal counts.
const ARRIVES: u64 = 4 << 20;
/// What the journal must vouch for after an orderly end. The last piece may have been under way.
const KEPT: u64 = ARRIVES - (1 << 20);

/// An image of one layer of which a part arrives and then nothing more, and a server that has all of it.
struct Halting {
    image: Image,
    stuck: Server,
    whole: Server,
}

impl Halting {
    fn new(seed: u64) -> Self {
        let image = Image::new(vec![Layer::overlaybd(Blob { seed, data: 2 * ARRIVES })]);
        let large = |size: u64| size > ARRIVES;
        let serve = || Server::builder().image("1", &image);
        let stuck = serve().faults(move |request| {
            let behind = request.range.is_none_or(|(start, _)| start >= ARRIVES);
            (large(request.size) && behind).then_some(Fault::Stall { after: 0 })
        });
        let (stuck, whole) = (stuck.start(), serve().start());
        Self { image, stuck, whole }
    }

    fn size(&self) -> u64 {
        size_of(&self.image)
    }

    /// Starts a pull and waits until the first half of the layer is in the spool.
    fn begin(&self, stage: &Stage, flags: &[&str]) -> Running {
        let reference = format!("{}/halting:1", self.stuck.address());
        let mut command = stage.command(["--range-size", "256K", "--max-connections", "4", &reference]);
        let child = start(command.args(flags));
        eventually(|| (self.stuck.count().body_bytes >= ARRIVES).then_some(())).expect("half of the layer is sent");
        eventually(|| (spooled(stage, &self.image) >= ARRIVES).then_some(())).expect("half of the layer arrives");
        child
    }

    /// Pulls from the good server; only what is missing crosses the network.
    fn go_on(&self, stage: &Stage, flags: &[&str]) {
        let reference = format!("{}/halting:1", self.whole.address());
        let receipt = stage.pull(flags.iter().copied().chain([reference.as_str()]));
        let kept = receipt["bytes"]["spool"].as_u64().unwrap();
        assert!(kept >= KEPT, "{receipt:#}");
        assert_eq!(network(&receipt) + kept, self.size(), "{receipt:#}");
        stage.assert_whole(&reference, &self.image);
    }
}

/// Bytes on the disk of the layer's spool entry.
fn spooled(stage: &Stage, image: &Image) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(stage.spool().join(image.layers()[0].digest.hex())).map_or(0, |found| found.blocks() * 512)
}

fn signal(child: &std::process::Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn assert_stopped(stage: &Stage, halting: &Halting, output: &Output, code: i32) {
    let stderr = output.fails_with(code);
    assert!(stderr.contains("\nhint: "), "{stderr}");
    stage.assert_nothing_visible(&format!("{}/halting:1", halting.stuck.address()));
    stage.assert_nothing_unfinished();
    assert!(spooled(stage, &halting.image) >= ARRIVES, "the spool was not kept");
    // Safety 17: it holds what is finished until it expires.
    assert_eq!(stage.leases().len(), 1);
}

#[test]
fn an_interrupted_pull_leaves_nothing_unfinished_and_goes_on_from_its_spool() {
    on_each_daemon("interrupted", |stage| {
        for (store, seed) in [("direct", 600), ("api", 601)] {
            let halting = Halting::new(seed);
            let flags = ["--store", store];
            let child = halting.begin(&stage, &flags);
            signal(&child, Signal::INT);
            assert_stopped(&stage, &halting, &finish(child), 130);
            halting.go_on(&stage, &flags);
        }
    });
}

#[test]
fn a_terminated_pull_leaves_nothing_unfinished_and_goes_on_from_its_spool() {
    on_each_daemon("terminated", |stage| {
        let halting = Halting::new(610);
        let child = halting.begin(&stage, &[]);
        signal(&child, Signal::TERM);
        assert_stopped(&stage, &halting, &finish(child), 143);
        halting.go_on(&stage, &[]);
    });
}

#[test]
fn a_pull_that_takes_too_long_for_its_user_ends_like_an_interrupted_one() {
    on_each_daemon("too-long", |stage| {
        let halting = Halting::new(620);
        let child = halting.begin(&stage, &["--timeout", "4s"]);
        assert_stopped(&stage, &halting, &finish(child), 1);
        halting.go_on(&stage, &[]);
    });
}

#[test]
fn a_signal_at_any_moment_leaves_nothing_unfinished() {
    on_each_daemon("any-moment", |stage| {
        let mut stopped = 0;
        for step in 0..12 {
            let image = native(&[650 + 3 * step, 651 + 3 * step, 652 + 3 * step]);
            let reference = image.push(stage.registry(), "any-moment", &format!("v{step}"));
            let child = start(&mut stage.command([&reference]));
            std::thread::sleep(Duration::from_millis(25 * step));
            signal(&child, Signal::TERM);
            let output = finish(child);
            if output.code == 0 {
                stage.assert_whole(&reference, &image);
                continue;
            }
            // Before the binary has taken the signal over, it ends as any program does; after the record was set, the record stays.
            assert_eq!(output.code, 143, "{output:#?}");
            let active = stage.snapshots().into_iter().filter(|info| info.kind != COMMITTED).map(|info| info.name);
            assert_eq!(active.collect::<Vec<_>>(), Vec::<String>::new(), "{output:#?}");
            if stage.image(&reference).is_some_and(|record| record.labels.contains_key("rpull/complete")) {
                stage.assert_layers(&image);
            }
            stopped += 1;
            stage.pull([&reference]);
            stage.assert_whole(&reference, &image);
        }
        assert!(stopped > 0, "no signal came in time");
    });
}

/// Safety 1, 3: a lock dies with its holder, and what the journal vouches for is used.
#[test]
fn a_killed_pull_goes_on_from_its_journal() {
    on_each_daemon("killed", |stage| {
        let halting = Halting::new(630);
        let mut child = halting.begin(&stage, &[]);
        child.kill().unwrap();
        assert_eq!(finish(child).code, 137);
        assert!(stage.images().is_empty());
        halting.go_on(&stage, &[]);
    });
}

/// The room may be needed, so it is made before the next pull begins; this image's own bytes are of use however old.
#[test]
fn what_nobody_used_for_long_goes_with_the_next_pull() {
    on_each_daemon("swept", |stage| {
        let halting = Halting::new(660);
        let mut child = halting.begin(&stage, &[]);
        child.kill().unwrap();
        assert_eq!(finish(child).code, 137);
        let entry = stage.spool().join(halting.image.layers()[0].digest.hex());
        let old = std::time::SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
        let age = || {
            for file in [entry.clone(), entry.with_extension("journal"), entry.with_extension("lock")] {
                fs::File::open(file).unwrap().set_modified(old).unwrap();
            }
        };
        age();
        let other = native(&[661]).push(stage.registry(), "swept", "1");
        stage.pull([&other]);
        assert!(entry.exists(), "it is kept for a week");
        // Long before it ends, and also if it comes to nothing.
        stage.rpull(["--keep-partial", "1d", &format!("{}/halting:1", halting.stuck.address()), "--timeout", "3s"]).fails_with(1);
        assert!(entry.exists(), "it is what was pulled");
        age();
        stage.pull(["--keep-partial", "1d", &other]);
        assert!(!entry.exists(), "nobody used it for a day");
    });
}

/// A lower bound only: however busy the machine is, no more than that comes in a second.
#[test]
fn a_limited_rate_is_kept() {
    on_each_daemon("limited", |stage| {
        let image = Image::new(vec![Layer::overlaybd(Blob { seed: 670, data: 1 << 20 })]);
        let reference = image.push(stage.registry(), "limited", "1");
        let started = tokio::time::Instant::now();
        stage.pull(["--limit-rate", "512K", &reference]);
        // Two seconds' worth, less the tenth that may come at once and the last reads, which nothing waits for.
        assert!(started.elapsed() > Duration::from_secs(1), "{:?}", started.elapsed());
        stage.assert_whole(&reference, &image);
    });
}

/// Safety 1: what lies in the spool is not believed, it is hashed.
#[test]
fn damage_in_the_spool_is_found_and_fetched_again() {
    use std::os::unix::fs::FileExt as _;
    on_each_daemon("damaged", |stage| {
        let halting = Halting::new(640);
        let child = halting.begin(&stage, &[]);
        signal(&child, Signal::TERM);
        assert_eq!(finish(child).code, 143);
        let entry = stage.spool().join(halting.image.layers()[0].digest.hex());
        fs::File::options().write(true).open(entry).unwrap().write_all_at(b"damaged", 100_000).unwrap();

        let reference = format!("{}/halting:1", halting.whole.address());
        let output = stage.rpull([&reference]);
        if output.code != 0 {
            output.fails_with(6);
            stage.assert_nothing_visible(&reference);
            stage.pull([&reference]);
        }
        stage.assert_whole(&reference, &halting.image);
    });
}
