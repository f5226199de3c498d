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
    /// `verify` found damage, and did not mend it.
    Damaged = 9,
    /// Called as `ctr` or `nerdctl`, and there is none to run; as a shell has it.
    NoProgram = 127,
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

impl ExitCode {
    /// Of several images that failed, the code that says most: trouble of this machine before that of one image.
    pub(crate) fn first(codes: impl IntoIterator<Item = Self>) -> Option<Self> {
        const ORDER: [ExitCode; 9] = [
            ExitCode::Disk,
            ExitCode::Containerd,
            ExitCode::Corrupt,
            ExitCode::Denied,
            ExitCode::Registry,
            ExitCode::NotFound,
            ExitCode::Damaged,
            ExitCode::Usage,
            ExitCode::Other,
        ];
        codes.into_iter().min_by_key(|code| ORDER.iter().position(|other| other == code))
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
    9  verify found damage
  130  interrupted (SIGINT)
  143  terminated (SIGTERM)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_failures_the_one_that_says_most_counts() {
        use ExitCode::{Containerd, Corrupt, Damaged, Denied, Disk, NotFound, Other, Registry};
        let order = [Disk, Containerd, Corrupt, Denied, Registry, NotFound, Damaged, Other];
        for (at, code) in order.iter().enumerate() {
            assert_eq!(ExitCode::first(order[at..].iter().rev().copied()), Some(*code));
        }
        assert_eq!(ExitCode::first([]), None);
    }
}
