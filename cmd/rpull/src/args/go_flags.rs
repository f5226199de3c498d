//! Go's flag rules, so that every command line `ctr` takes means the same here: a pure rewriting of the arguments into the
//! one form that clap cannot read in another way.
//!
//! Every flag comes out as `--long` or `--long=value`; an unknown one as `--word`, for clap to refuse by name. The rules (Go's
//! `flag`, `parseOne`): one dash is as good as two; a flag that takes a value takes the next word, whatever it looks like; a
//! switch takes a value only behind `=`; `--` ends the flags. Other than in Go, flags may follow the reference, and those that
//! every command has may stand before its name or behind it.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
};

use clap::{Arg, ArgAction, Command};

/// A switch with a value that is no boolean.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct NotBoolean {
    /// Long name of the switch.
    pub(super) flag: String,
    /// What was given.
    pub(super) value: String,
}

/// Rewrites `arguments` (without the program's name) for `command`, whose flags it looks up by long name, short name and
/// alias. The first plain word may name a command of its own. Out come the flags, in the order given, then `--` and the words,
/// so that no later word is taken for a command.
pub(super) fn rewrite(command: &Command, arguments: impl IntoIterator<Item = OsString>) -> Result<Vec<OsString>, NotBoolean> {
    let mut arguments = arguments.into_iter();
    let mut chosen: Option<&Command> = None;
    let (mut strange, mut flags, mut words) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            words.extend(arguments);
            break;
        }
        let Some((word, value)) = split(&argument) else {
            let named = command.find_subcommand(&argument).filter(|_| chosen.is_none() && words.is_empty());
            if named.is_some() {
                chosen = named;
            } else if argument.as_bytes().starts_with(b"-") && argument != "-" {
                flags.push(argument);
            } else {
                words.push(argument);
            }
            continue;
        };
        match word.to_str().and_then(|word| find(chosen.unwrap_or(command), word)) {
            // What is no flag where it stands must not become one behind the command's name.
            None if chosen.is_none() => strange.push(long(unknown(word), None)),
            None => flags.push(long(unknown(word), None)),
            Some((name, Kind::Switch)) => set_switch(&mut flags, name, value)?,
            Some((name, Kind::Value)) => {
                let Some(value) = value.map(OsStr::to_owned).or_else(|| arguments.next()) else {
                    // The last word. It is refused for its missing value, which nothing else must become.
                    let flag = long(OsStr::new(name), None);
                    let owner = chosen.filter(|_| !is_for_every_command(command, &flag));
                    return Ok(owner.map(|owner| owner.get_name().into()).into_iter().chain([flag]).collect());
                };
                flags.push(long(OsStr::new(name), Some(&value)));
            }
            Some((name, Kind::Other)) => flags.push(long(OsStr::new(name), value)),
        }
    }
    let mut rewritten = strange;
    match chosen {
        None => rewritten.extend(flags),
        Some(chosen) => {
            let (every, own): (Vec<_>, Vec<_>) = flags.into_iter().partition(|flag| is_for_every_command(command, flag));
            rewritten.extend(every.into_iter().chain([chosen.get_name().into()]).chain(own));
        }
    }
    if !words.is_empty() {
        rewritten.push("--".into());
        rewritten.extend(words);
    }
    Ok(rewritten)
}

/// A rewritten flag of `command` that its commands have too, and that has its value from before their name. `--help` is not one:
/// the help asked for is that of the command.
fn is_for_every_command(command: &Command, flag: &OsStr) -> bool {
    let Some((word, _)) = split(flag) else { return false };
    command.get_arguments().any(|arg| {
        let with_value = matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::Set | ArgAction::Append);
        arg.is_global_set() && with_value && arg.get_long().is_some_and(|name| word == name)
    })
}

/// What a flag does with a value.
enum Kind {
    /// A boolean.
    Switch,
    /// Takes the next word.
    Value,
    /// `--help`, `--version`, `--dry-run`.
    Other,
}

/// Name and value of a flag: `-word`, `--word`, `-word=value`. `None` for what is no flag (`-`, a plain word) and for what Go
/// calls bad syntax (`---x`, `-=x`), which clap refuses as it stands.
fn split(argument: &OsStr) -> Option<(&OsStr, Option<&OsStr>)> {
    let bytes = argument.as_bytes();
    let body = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-"))?;
    if matches!(body.first(), None | Some(b'-' | b'=')) {
        return None;
    }
    let (word, value) = match body.iter().position(|&byte| byte == b'=') {
        Some(equals) => (&body[..equals], Some(OsStr::from_bytes(&body[equals + 1..]))),
        None => (body, None),
    };
    Some((OsStr::from_bytes(word), value))
}

/// Has `command` a flag called `word`?
pub(super) fn is_flag(command: &Command, word: &str) -> bool {
    find(command, word).is_some()
}

/// The flag called `word`, by its long name.
fn find<'a>(command: &'a Command, word: &str) -> Option<(&'a str, Kind)> {
    let mut letters = word.chars();
    let letter = letters.next().filter(|_| letters.next().is_none());
    let called = |arg: &&Arg| {
        arg.get_long() == Some(word)
            || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&word))
            || letter.is_some_and(|letter| arg.get_short() == Some(letter) || short_aliases(arg).contains(&letter))
    };
    let arg = command.get_arguments().find(called)?;
    let kind = match arg.get_action() {
        ArgAction::SetTrue => Kind::Switch,
        // A switch that may say more behind `=`.
        ArgAction::Set if arg.is_require_equals_set() => Kind::Other,
        ArgAction::Set | ArgAction::Append => Kind::Value,
        _ => Kind::Other,
    };
    Some((arg.get_long()?, kind))
}

/// Those in the help and the others.
fn short_aliases(arg: &Arg) -> Vec<char> {
    arg.get_all_short_aliases().unwrap_or_default()
}

/// What may be shown of a word that is no flag: `-ualice:secret` must not bring its password into an error.
fn unknown(word: &OsStr) -> &OsStr {
    OsStr::from_bytes(word.as_bytes().split(|&byte| byte == b':').next().unwrap_or_default())
}

fn long(word: &OsStr, value: Option<&OsStr>) -> OsString {
    let mut flag = OsString::from("--");
    flag.push(word);
    if let Some(value) = value {
        flag.push("=");
        flag.push(value);
    }
    flag
}

/// The last of a repeated flag wins, so a switch that is off takes back what is there of it.
fn set_switch(rewritten: &mut Vec<OsString>, name: &str, value: Option<&OsStr>) -> Result<(), NotBoolean> {
    let not_boolean = |value: &OsStr| NotBoolean { flag: name.to_owned(), value: value.to_string_lossy().into_owned() };
    let on = match value {
        None => true,
        Some(value) => value.to_str().and_then(parse_bool).ok_or_else(|| not_boolean(value))?,
    };
    let flag = long(OsStr::new(name), None);
    rewritten.retain(|earlier| *earlier != flag);
    if on {
        rewritten.push(flag);
    }
    Ok(())
}

/// Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
