//! How a run ended, as scripts see it. The table is part of the interface: it is printed by `--help`.

use std::process;

/// Exit code by cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ExitCode {
    /// The image is whole and proved.
    Done = 0,
    /// None of the others.
    Other = 1,
    /// The command line asks for something that cannot be.
    Usage = 2,
    /// Credentials missing, wrong or not sufficient.
    Denied = 3,
    /// No such reference, or no such platform in it.
    NotFound = 4,
    /// Registry unreachable, or failing after retries.
    Registry = 5,
    /// Bytes that are not what they should be.
    Corrupt = 6,
    /// containerd or a snapshotter.
    Containerd = 7,
    /// Local disk.
    Disk = 8,
    /// SIGINT, as a shell has it: 128 and the number of the signal.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

impl From<ExitCode> for process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// The table as `--help` has it.
pub(crate) const TABLE: &str = "\
Exit codes:
    0  done: the image is whole and proved
    1  other
    2  usage
    3  denied: credentials missing, wrong or not sufficient
    4  not found: reference or platform
    5  registry unreachable, or failing after retries
    6  corrupt data
    7  containerd or snapshotter
    8  local disk
  130  interrupted (SIGINT)
  143  terminated (SIGTERM)";
