//! `--wait-for-containerd`: rpull is up before what it needs, as at boot.

use std::io::{BufRead as _, BufReader, Read as _};

use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{Running, Stage, daemons, finish, native, run, say, start};

/// Starts rpull, and returns when it has said that it waits, and what for.
fn waiting(stage: &Stage, reference: &str) -> (Running, String) {
    let mut command = stage.command(["--wait-for-containerd", "60s", reference]);
    let mut child = start(&mut command);
    let mut line = String::new();
    // Read byte by byte, so that what follows is left for others.
    let mut stderr = BufReader::with_capacity(1, child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    child.stderr = Some(stderr.into_inner());
    assert!(line.contains("waiting for it until 60 s have passed"), "{line}");
    (child, line)
}

#[test]
fn a_pull_that_is_first_waits_for_containerd_and_for_the_snapshotter() {
    for daemon in daemons() {
        say(&format!("on containerd {}", daemon.label));
        let mut stage = Stage::on(&daemon);
        let image = native(&[1100, 1101]);
        let reference = image.push(stage.registry(), "boot", "1");

        // Nobody is there; then containerd alone; then both.
        stage.containerd_mut().kill();
        stage.snapshotter_mut().kill();
        std::fs::remove_file(stage.containerd().address()).unwrap();
        let (mut child, said) = waiting(&stage, &reference);
        assert!(said.contains("is not there"), "{said}");
        stage.containerd_mut().restart();
        assert!(child.try_wait().unwrap().is_none(), "it did not wait for the snapshotter");
        stage.snapshotter_mut().restart();
        finish(child).succeeds();
        stage.assert_whole(&reference, &image);

        // A socket that a crash left, and a snapshotter that comes last.
        stage.snapshotter_mut().kill();
        let (child, said) = waiting(&stage, &reference);
        assert!(said.contains("snapshotter overlaybd does not answer"), "{said}");
        stage.snapshotter_mut().restart();
        finish(child).succeeds();
        stage.containerd_mut().kill();
        let (child, said) = waiting(&stage, &reference);
        assert!(said.contains("does not answer"), "{said}");
        stage.containerd_mut().restart();
        finish(child).succeeds();
    }
}

#[test]
fn a_wait_ends_with_the_usual_error_at_once_on_a_signal_or_when_nothing_is_to_be_waited_for() {
    let missing = |arguments: &[&str]| {
        let mut command = crate::rpull();
        command.args(["--address", "/nonexistent/c.sock", "--wait-for-containerd"]).args(arguments).arg("r.example/a:1");
        command
    };
    let output = run(&mut missing(&["300ms"]));
    let stderr = output.fails_with(7);
    assert!(
        stderr.contains("waiting for it until 0.3 s have passed") && stderr.contains("hint: is containerd running?"),
        "{stderr}"
    );
    assert!(stderr.contains("rpull: containerd socket /nonexistent/c.sock is not there\n"), "{stderr}");
    let output = run(&mut missing(&["0"]));
    assert!(!output.fails_with(7).contains("waiting"), "{output:#?}");

    let output = run(&mut missing(&["1h", "--timeout", "300ms"]));
    assert!(output.fails_with(1).contains("rpull: the time limit of --timeout is over before containerd at "), "{output:#?}");

    for (signal, code, word) in [(Signal::TERM, 143, "terminated"), (Signal::INT, 130, "interrupted")] {
        let mut child = start(&mut missing(&["1h"]));
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut text = String::new();
        stderr.read_line(&mut text).unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        stderr.read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{text}");
        assert!(text.contains(&format!("rpull: {word} before containerd at /nonexistent/c.sock answered\n")), "{text}");
    }

    // A snapshotter that containerd was not told of will not come.
    let daemon = daemons().pop().unwrap();
    let stage = Stage::on(&daemon);
    let output = stage.rpull(["--wait-for-containerd", "1h", "--snapshotter", "nonesuch", "r.example/a:1"]);
    let stderr = output.fails_with(7);
    assert!(stderr.contains("containerd has no snapshotter nonesuch") && !stderr.contains("waiting"), "{stderr}");
}
