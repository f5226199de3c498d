//! One child process of a test: started with its output in a log file, ended by its own pid, never by name.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// How long a daemon may take to answer after it was started. Generous: the suites share two cores.
const START: Duration = Duration::from_secs(30);
/// How long a daemon may take to end after SIGTERM before it is killed.
const STOP: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// A running child. Dropping it sends SIGTERM, waits, and kills what does not end.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with no input and its output appended to `log`.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Self {
        let file = File::options().create(true).append(true).open(&log).expect("the log of a daemon can be opened");
        let second = file.try_clone().expect("a descriptor can be duplicated");
        command.stdin(Stdio::null()).stdout(file).stderr(second);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        Self { child, log }
    }

    /// Waits until `ready` says yes; panics with the end of the log when the child ends first or never answers.
    pub(crate) fn wait_until(&mut self, what: &str, mut ready: impl FnMut() -> bool) {
        let mut waited = Duration::ZERO;
        while !ready() {
            if let Some(status) = self.child.try_wait().expect("our child can be waited for") {
                panic!("{what} ended at once with {status}:\n{}", self.log_tail());
            }
            assert!(waited < START, "{what} does not answer after {START:?}:\n{}", self.log_tail());
            std::thread::sleep(POLL);
            waited += POLL;
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the child at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn terminate(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::TERM);
        let mut waited = Duration::ZERO;
        while waited < STOP {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(POLL);
            waited += POLL;
        }
        self.kill();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.terminate();
    }
}

/// A TCP port of 127.0.0.1 that nobody listens on at this moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// The program of that name on PATH.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| is_program(path))
}

/// Whether a file that can be executed lies there.
pub(crate) fn is_program(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
}

/// A private directory that goes away with its owner. Short, because unix socket paths end at 107 bytes.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("tk-").tempdir().expect("a temporary directory can be made")
}
