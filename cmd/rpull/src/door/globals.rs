//! The flags in front of the command: which word is the command is known only by knowing which of them take a value. Pure.
//!
//! A flag that is not known here, help and version make the command line the real program's.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
};

use super::{COMMAND, Name};

/// `ctr`'s global flags that take a value (reference 1.1).
const CTR_VALUES: [&str; 6] = ["address", "a", "timeout", "connect-timeout", "namespace", "n"];
/// Its switches.
const CTR_SWITCHES: [&str; 1] = ["debug"];

/// nerdctl's global flags that mean something for a pull, with what they are called here (reference 1.6).
const NERDCTL_OURS: [(&str, Kind, &str); 12] = [
    ("address", Kind::Value, "address"),
    ("a", Kind::Value, "address"),
    ("H", Kind::Value, "address"),
    ("n", Kind::Value, "namespace"),
    ("host", Kind::Value, "address"),
    ("namespace", Kind::Value, "namespace"),
    ("snapshotter", Kind::Value, "snapshotter"),
    ("storage-driver", Kind::Value, "snapshotter"),
    ("hosts-dir", Kind::Value, "hosts-dir"),
    ("insecure-registry", Kind::Switch, "insecure-registry"),
    ("debug", Kind::Switch, "debug"),
    ("debug-full", Kind::Switch, "debug"),
];
/// Its letters.
const NERDCTL_LETTERS: [(u8, &str); 3] = [(b'a', "address"), (b'H', "address"), (b'n', "namespace")];
/// Those that a pull does not need and that take a value.
const NERDCTL_OTHER_VALUES: [&str; 11] = [
    "data-root",
    "cgroup-manager",
    "cni-path",
    "cni-netconfpath",
    "host-gateway-ip",
    "bridge-ip",
    "cdi-spec-dirs",
    "userns-remap",
    "global-dns",
    "global-dns-opts",
    "global-dns-search",
];
/// And the switches among them.
const NERDCTL_OTHER_SWITCHES: [&str; 3] = ["experimental", "kube-hide-dupe", "selinux-enabled"];

/// Behind any command line of `ctr` it asks for the words that may follow: a shell does so on TAB.
const COMPLETION: &str = "--generate-bash-completion";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Switch,
    Value,
}

/// The arguments of `rpull`, the program's global flags first. `None` when the command is another one, or cannot be told.
pub(super) fn split(name: Name, arguments: &[OsString]) -> Option<Vec<OsString>> {
    if arguments.last().is_some_and(|last| last == COMPLETION) {
        return None;
    }
    let mut ours = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let is_end = argument == "--";
        if is_end || !argument.as_bytes().starts_with(b"-") || argument == "-" {
            let command = if is_end { rest.next() } else { Some(argument) };
            return command.filter(|command| *command == COMMAND).map(|_| ours.into_iter().chain(rest.cloned()).collect());
        }
        match name {
            Name::Nerdctl => ours.extend(nerdctl_flag(argument, &mut rest)?),
            Name::Ctr | Name::Rpull => ours.extend(ctr_flag(argument, &mut rest)?),
        }
    }
    None
}

/// Go's `flag`: one dash is as good as two, a value is the next word or behind `=`. The words are ours as they stand.
fn ctr_flag<'a>(argument: &OsString, rest: &mut impl Iterator<Item = &'a OsString>) -> Option<Vec<OsString>> {
    let bytes = argument.as_bytes();
    let body = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-"))?;
    let (word, value) = halves(body);
    let word = str::from_utf8(word).ok()?;
    let mut words = vec![argument.clone()];
    if CTR_VALUES.contains(&word) {
        if value.is_none() {
            words.push(rest.next()?.clone());
        }
    } else if !CTR_SWITCHES.contains(&word) {
        return None;
    }
    Some(words)
}

/// pflag: two dashes before a name; one before a letter, whose value may follow at once. What comes out has two dashes and the
/// name it has here; a flag that a pull does not need is left out.
fn nerdctl_flag<'a>(argument: &OsString, rest: &mut impl Iterator<Item = &'a OsString>) -> Option<Vec<OsString>> {
    let bytes = argument.as_bytes();
    let Some(body) = bytes.strip_prefix(b"--") else {
        let (letter, attached) = bytes[1..].split_first()?;
        let (_, ours) = NERDCTL_LETTERS.iter().find(|(known, _)| known == letter)?;
        let attached = attached.strip_prefix(b"=").unwrap_or(attached);
        let value = if bytes.len() > 2 { OsStr::from_bytes(attached) } else { rest.next()? };
        return Some(vec![flag(ours, Some(value))]);
    };
    let (word, value) = halves(body);
    let word = str::from_utf8(word).ok()?;
    let ours = NERDCTL_OURS.iter().find(|(known, ..)| *known == word);
    let kind = match ours {
        Some((_, kind, _)) => *kind,
        None if NERDCTL_OTHER_VALUES.contains(&word) => Kind::Value,
        None if NERDCTL_OTHER_SWITCHES.contains(&word) => Kind::Switch,
        None => return None,
    };
    let value = match value {
        None if kind == Kind::Value => Some(rest.next()?.as_os_str()),
        value => value,
    };
    Some(ours.map(|(_, _, name)| flag(name, value)).into_iter().collect())
}

/// In front of the first `=` and behind it.
fn halves(body: &[u8]) -> (&[u8], Option<&OsStr>) {
    match body.iter().position(|&byte| byte == b'=') {
        Some(equals) => (&body[..equals], Some(OsStr::from_bytes(&body[equals + 1..]))),
        None => (body, None),
    }
}

fn flag(name: &str, value: Option<&OsStr>) -> OsString {
    let mut flag = OsString::from(format!("--{name}"));
    if let Some(value) = value {
        flag.push("=");
        flag.push(value);
    }
    flag
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(name: Name, line: &str) -> Option<String> {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let words = split(name, &arguments)?;
        Some(words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn ctrs_flags_are_taken_off_as_go_reads_them() {
        for (line, expected) in [
            ("rpull r/a:1", Some("r/a:1")),
            ("-n x rpull --plain-http r/a:1", Some("-n x --plain-http r/a:1")),
            ("--namespace=x --debug -a /c.sock rpull r/a:1", Some("--namespace=x --debug -a /c.sock r/a:1")),
            ("-address /c.sock -debug=false rpull", Some("-address /c.sock -debug=false")),
            ("--timeout 1s --connect-timeout=2s rpull -h", Some("--timeout 1s --connect-timeout=2s -h")),
            ("-n rpull rpull r/a:1", Some("-n rpull r/a:1")),
            ("-n --debug rpull r/a:1", Some("-n --debug r/a:1")),
            ("-n x -- rpull r/a:1", Some("-n x r/a:1")),
            ("", None),
            ("images ls", None),
            ("-n rpull images ls", None),
            ("images rpull", None),
            ("--help rpull", None),
            ("-v rpull", None),
            ("--unknown rpull", None),
            ("--debugger rpull", None),
            ("-nx rpull", None),
            ("-n x rpull --generate-bash-completion", None),
            ("-n", None),
            ("-- images", None),
            ("- rpull", None),
            ("---n rpull", None),
            ("-=x rpull", None),
        ] {
            assert_eq!(ours(Name::Ctr, line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn nerdctls_flags_are_taken_off_as_cobra_reads_them_and_those_of_no_use_left_out() {
        for (line, expected) in [
            ("rpull r/a:1", Some("r/a:1")),
            ("-H unix:///c.sock -nx rpull r/a:1", Some("--address=unix:///c.sock --namespace=x r/a:1")),
            ("--H /c --n=x rpull r/a:1", Some("--address=/c --namespace=x r/a:1")),
            ("-n=x -a /c rpull r/a:1", Some("--namespace=x --address=/c r/a:1")),
            ("--host /c --storage-driver=s rpull r/a:1", Some("--address=/c --snapshotter=s r/a:1")),
            (
                "--hosts-dir /a,/b --insecure-registry --debug-full rpull r/a:1",
                Some("--hosts-dir=/a,/b --insecure-registry --debug r/a:1"),
            ),
            ("--insecure-registry=false rpull r/a:1", Some("--insecure-registry=false r/a:1")),
            ("--cni-path /cni --data-root=/d --experimental=false --kube-hide-dupe rpull r/a:1", Some("r/a:1")),
            ("--cgroup-manager rpull rpull r/a:1", Some("r/a:1")),
            ("pull r/a:1", None),
            // A letter and its value: the command is `x`.
            ("-namespace x rpull", None),
            ("--unknown rpull", None),
            ("-x rpull", None),
            ("--help rpull", None),
            ("-v rpull", None),
            ("-n", None),
            ("", None),
        ] {
            assert_eq!(ours(Name::Nerdctl, line).as_deref(), expected, "{line}");
        }
    }
}
