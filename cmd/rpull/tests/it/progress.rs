//! `--progress` and `-q`, as a terminal, a file and a program see them.

mod json;
mod terminal;

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use testkit::{
    fault::{Fault, Server},
    image::{Blob, Image, Layer},
};

use crate::{
    outcome, rpull,
    stage::{eventually, native, on_each_daemon},
};

/// What a pipe holds before a writer has to wait (pipe(7)).
const PIPE: usize = 64 << 10;

/// An image that takes a while: its server sends so many bytes a second.
struct Slow {
    image: Image,
    server: Server,
}

impl Slow {
    fn new(seed: u64, rate: f64) -> Self {
        let layer = |seed| Layer::overlaybd(Blob { seed, data: 1 << 20 });
        let image = Image::new(vec![layer(seed), layer(seed + 1)]);
        let server = Server::builder().image("1", &image).rate(rate).start();
        Self { image, server }
    }

    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    fn mebibytes(&self) -> f64 {
        crate::stage::size_of(&self.image) as f64 / f64::from(1 << 20)
    }

    fn reference(&self) -> String {
        format!("{}/slow:1", self.server.address())
    }
}

#[test]
fn a_quiet_pull_says_done_and_one_without_progress_nothing() {
    on_each_daemon("quiet", |stage| {
        let image = native(&[1600]);
        let reference = image.push(stage.registry(), "quiet", "1");
        for (flags, stdout) in [(&["-q"][..], "done\n"), (&["--quiet"], "done\n"), (&["--progress", "none"], "")] {
            let output = stage.rpull(flags.iter().copied().chain([reference.as_str()]));
            assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (0, stdout, ""), "{flags:?}");
        }
        let missing = stage.registry().reference("quiet", "missing");
        let output = stage.rpull(["-q", &missing]);
        assert!(output.fails_with(4).contains("manifest missing of quiet: 404") && output.stdout.is_empty(), "{output:#?}");
    });
}

#[test]
fn a_pull_into_a_file_has_no_escapes() {
    on_each_daemon("file", |stage| {
        let image = native(&[1610]);
        let reference = image.push(stage.registry(), "file", "1");
        for flags in [&[][..], &["--progress", "auto"], &["--progress", "bar"], &["--progress", "plain"]] {
            let output = stage.rpull(flags.iter().copied().chain([reference.as_str()]));
            output.succeeds();
            assert!(!output.stdout.contains(['\u{1b}', '\r']), "{output:#?}");
            assert!(output.stdout.contains("\nlayer 1/1 "), "{output:#?}");
        }
    });
}

/// As under `| head -1`.
#[test]
fn a_closed_stdout_never_fails_a_pull() {
    on_each_daemon("closed", |stage| {
        for (seed, kind) in [(1620, "plain"), (1621, "json")] {
            let image = native(&[seed]);
            let reference = image.push(stage.registry(), "closed", kind);
            let mut child =
                stage.command(["--progress", kind, &reference]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let mut first = [0];
            child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
            let mut stderr = child.stderr.take().unwrap();
            drop(child.stdout.take());
            let status = eventually(|| child.try_wait().unwrap()).expect("it ends");
            let mut said = String::new();
            stderr.read_to_string(&mut said).unwrap();
            assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{kind}");
            stage.assert_whole(&reference, &image);
        }
    });
}

/// As under `| less`, or on a terminal after Ctrl-S.
#[test]
fn a_reader_that_stopped_does_not_hold_up_a_pull() {
    on_each_daemon("stopped-reader", |stage| {
        let images: Vec<Image> = (0..4).map(|index| native(&[1630 + index])).collect();
        let references: Vec<String> = images
            .iter()
            .enumerate()
            .map(|(index, image)| image.push(stage.registry(), "stopped-reader", &index.to_string()))
            .collect();
        let (reader, mut writer) = std::io::pipe().unwrap();
        // The pipe is full before the first line.
        writer.write_all(&vec![b'\n'; PIPE]).unwrap();
        let mut child = stage.command(&references).arg("--progress=json").stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        eventually(|| references.iter().all(|reference| stage.image(reference).is_some()).then_some(()))
            .expect("they are pulled");
        let mut rest = String::new();
        { reader }.read_to_string(&mut rest).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(rest.trim_end().lines().last().unwrap().contains("\"event\":\"done\""), "{rest}");
    });
}

#[test]
fn a_signal_ends_a_pull_that_nobody_reads() {
    on_each_daemon("unread", |stage| {
        let slow = Slow::new(1730, 1e6);
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(&vec![b'\n'; PIPE]).unwrap();
        let mut child = stage.command([&slow.reference()]).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        eventually(|| (slow.server.count().body_bytes > 0).then_some(())).expect("it is under way");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let status = eventually(|| child.try_wait().unwrap()).expect("it ends");
        assert_eq!(status.code(), Some(143));
        stage.assert_nothing_unfinished();
        drop(reader);
    });
}

#[test]
fn contradicting_flags_are_refused() {
    for (arguments, stderr) in [
        (
            &["-q", "--progress", "bar", "r/a:1"][..],
            "rpull: --quiet and --progress contradict each other\nhint: leave one of them out\n",
        ),
        (
            &["--progress", "jsn", "r/a:1"],
            "rpull: invalid value 'jsn' for '--progress <KIND>' \
             [possible values: auto, bar, plain, json, none]\nhint: did you mean json?\n",
        ),
        (
            &["--from-file", "-", "--password-stdin", "--user", "a"],
            "rpull: --from-file - and --password-stdin both read standard input\n\
             hint: only one of them can be read from there; name a file with --from-file\n",
        ),
        (
            &["--from-file", "/nonexistent/list"],
            "rpull: cannot read the list of images /nonexistent/list: No such file or directory (os error 2)\n\
             hint: --from-file names a file with one reference a line, or is - for standard input\n",
        ),
        (
            &["--from-file", "-"],
            "rpull: the list of images standard input names none\nhint: write one reference a line; what follows a # is a comment\n",
        ),
        (&["--from-fil", "x"], "rpull: unexpected argument '--from-fil' found\nhint: did you mean --from-file?\n"),
    ] {
        assert_eq!(outcome(rpull().args(arguments)), (2, String::new(), stderr.to_owned()), "{arguments:?}");
    }
}

fn python() -> Command {
    // The one that Debian's packages are for.
    Command::new("/usr/bin/python3")
}

/// Fails every request for a layer so many times.
fn failing(times: u64, code: u16) -> impl FnMut(&mut testkit::fault::Request<'_>) -> Option<Fault> + Send {
    move |request| (request.number <= times).then_some(Fault::Status { code, retry_after: None })
}
