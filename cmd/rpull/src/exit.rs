//! How a run ended, as scripts see it. The table is part of the interface: `--help` prints it, and README and the schema of
//! `--progress json` are compared with it.

use std::{fmt::Write as _, process};

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

/// Every code with its name for programs and its meaning for people.
const TABLE: [(ExitCode, &str, &str); 13] = [
    (ExitCode::Done, "done", "the image is whole and proved"),
    (ExitCode::Other, "other", "none of the others"),
    (ExitCode::Usage, "usage", "the command line cannot be followed"),
    (ExitCode::Denied, "denied", "credentials missing, wrong or not sufficient"),
    (ExitCode::NotFound, "not-found", "no such reference, or not for this platform"),
    (ExitCode::Registry, "registry", "the registry is unreachable, or fails after retries"),
    (ExitCode::Corrupt, "corrupt", "bytes came that are not what they should be"),
    (ExitCode::Containerd, "containerd", "containerd or a snapshotter failed"),
    (ExitCode::Disk, "disk", "the local disk is full, or fails"),
    (ExitCode::Damaged, "damaged", "verify found damage"),
    (ExitCode::NoProgram, "no-program", "called as ctr or nerdctl, and there is none to run"),
    (ExitCode::Interrupted, "interrupted", "stopped by SIGINT"),
    (ExitCode::Terminated, "terminated", "stopped by SIGTERM"),
];

/// Of several images that failed in different ways the first that occurred counts.
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

impl From<ExitCode> for process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

impl ExitCode {
    /// Of several images that failed, the code that says most: trouble of this machine before that of one image.
    pub(crate) fn first(codes: impl IntoIterator<Item = Self>) -> Option<Self> {
        codes.into_iter().min_by_key(|code| ORDER.iter().position(|other| other == code))
    }

    /// Did a signal end the run?
    pub(crate) fn is_signal(self) -> bool {
        matches!(self, Self::Interrupted | Self::Terminated)
    }

    /// As programs call it.
    pub(crate) fn name(self) -> &'static str {
        TABLE.iter().find(|(code, ..)| *code == self).map_or("other", |(_, name, _)| name)
    }
}

/// The table as `--help` has it.
pub(crate) fn table() -> String {
    let mut table = "Exit codes:".to_owned();
    for (code, name, meaning) in TABLE {
        write!(table, "\n  {:>3}  {name}: {meaning}", code as u8).expect("writing to a string does not fail");
    }
    table
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn file(name: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    #[test]
    fn of_several_failures_the_one_that_says_most_counts() {
        use ExitCode::{Containerd, Corrupt, Damaged, Denied, Disk, NotFound, Other, Registry};
        let order = [Disk, Containerd, Corrupt, Denied, Registry, NotFound, Damaged, Other];
        for (at, code) in order.iter().enumerate() {
            assert_eq!(ExitCode::first(order[at..].iter().rev().copied()), Some(*code));
        }
        assert_eq!(ExitCode::first([]), None);
    }

    #[test]
    fn the_readme_has_the_same_table_and_the_same_order() {
        let readme = file("README.md");
        let section = readme.split("\n## Exit codes\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
        let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| code")).collect();
        let expected = TABLE.map(|(code, name, meaning)| format!("| {} | {name} | {meaning} |", code as u8));
        assert_eq!(rows, expected);
        let order = ORDER.map(|code| (code as u8).to_string()).join(", ");
        assert!(section.contains(&format!("in the order {order}.")), "the order is {order}");
    }

    #[test]
    fn the_schema_of_the_json_has_the_same_codes_and_names() {
        let schema: serde_json::Value = serde_json::from_str(&file("docs/progress.schema.json")).unwrap();
        let exits = schema["$defs"]["exit"]["oneOf"].as_array().unwrap();
        let pair = |exit: &serde_json::Value| {
            let field = |name: &str| exit["properties"][name]["const"].clone();
            (field("code").as_u64().unwrap(), field("name").as_str().unwrap().to_owned())
        };
        // A pull that began fails in none of these ways.
        let other = |code| !matches!(code, ExitCode::Done | ExitCode::NoProgram);
        let expected = TABLE.iter().filter(|(code, ..)| other(*code)).map(|(code, name, _)| (*code as u64, (*name).to_owned()));
        assert_eq!(exits.iter().map(pair).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }
}
