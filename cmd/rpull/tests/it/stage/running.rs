//! A run of rpull, from its command to how it ended. Nothing it is given may show in what it says, nor in a file that it leaves.

use std::{
    io::Read,
    ops::{Deref, DerefMut},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use testkit::secrets;

/// No run of these tests takes a tenth of this, even on two cores shared with others.
const LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);

/// Flags that name a file to be left, and what that is.
const FILES: [(&str, &str); 4] =
    [("--receipt", "the receipt"), ("--trace", "the trace"), ("--waterfall", "the waterfall"), ("--metrics", "the metrics file")];

/// A run under way, its output piped.
pub(crate) struct Running {
    child: Child,
    /// What it leaves, and where.
    files: Vec<(&'static str, PathBuf)>,
    /// Does it also say what is going on inside?
    debug: bool,
}

/// How a run of rpull ended.
#[derive(Debug)]
pub(crate) struct Output {
    /// Exit code; 128 and the number of the signal that killed it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.child
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Output {
    /// Asserts the exit code; standard error for more.
    pub(crate) fn fails_with(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(!self.stdout.lines().any(|line| line == "done"), "{self:#?}");
        assert!(self.stderr.lines().any(|line| line.starts_with("rpull: ")), "{self:#?}");
        &self.stderr
    }

    /// Asserts success.
    pub(crate) fn succeeds(&self) {
        assert_eq!(self.code, 0, "{self:#?}");
        assert_eq!(self.stdout.lines().last(), Some("done"), "{self:#?}");
    }
}

/// Starts a command. Every password, token and signature that it is given counts as a secret from here on.
#[track_caller]
pub(crate) fn start(command: &mut Command) -> Running {
    secrets::keep_in_command(command);
    let named = |flag| command.get_args().skip_while(|argument| *argument != flag).nth(1).map(PathBuf::from);
    let files = FILES.iter().filter_map(|(flag, what)| Some((*what, named(*flag)?))).collect();
    let debug = command.get_args().any(|argument| argument == "--debug" || argument == "--http-dump");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    Running { child, files, debug }
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Output {
    finish(start(command))
}

/// Waits for the end; kills the run, and fails, when that takes far too long, or when its output or a file of it shows a
/// secret.
#[track_caller]
pub(crate) fn finish(running: Running) -> Output {
    let Running { mut child, files, debug } = running;
    let drain = |pipe: Option<Box<dyn Read + Send>>| {
        let mut pipe = pipe.expect("the output is piped");
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).expect("a pipe can be read");
            String::from_utf8(bytes).expect("output is UTF-8")
        })
    };
    let stdout = drain(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = drain(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let ended = eventually(|| child.try_wait().expect("our child can be waited for"));
    if ended.is_none() {
        child.kill().and_then(|()| child.wait()).expect("our child can be killed");
    }
    let text = |pipe: std::thread::JoinHandle<String>| pipe.join().expect("the reader does not panic");
    let (stdout, stderr) = (text(stdout), text(stderr));
    secrets::assert_none_in("stdout", &stdout);
    secrets::assert_none_in("stderr", &stderr);
    if !debug {
        assert_for_people(&stderr);
    }
    for (what, path) in files.iter().filter(|(_, path)| path.is_file()) {
        secrets::assert_none_in(what, &std::fs::read_to_string(path).expect("what a run leaves is text"));
    }
    let status = ended.unwrap_or_else(|| panic!("rpull did not end in {LIMIT:?}\nstdout: {stdout}\nstderr: {stderr}"));
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    let code = status.code().unwrap_or_else(|| 128 + signal.unwrap_or_default());
    Output { code, stdout, stderr }
}

/// Asserts that standard error has nothing as Rust prints it for those who debug it, and no escapes: it is no terminal here.
#[track_caller]
pub(crate) fn assert_for_people(stderr: &str) {
    for mark in ["Some(", "Err(", "Os {", "Error {", "\u{1b}"] {
        assert!(!stderr.contains(mark), "{mark:?} in {stderr}");
    }
}

/// Asks again until there is an answer; `None` when that takes far too long.
pub(crate) fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let mut waited = Duration::ZERO;
    while waited < LIMIT {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        std::thread::sleep(POLL);
        waited += POLL;
    }
    None
}
