//! Go's flag rules, so that every command line `ctr` takes means the same here: a pure rewriting of the arguments into the
//! one form that clap cannot read in another way.
//!
//! Every flag comes out as `--long` or `--long=value`; an unknown one as `--word`, for clap to refuse by name. The rules (Go's
//! `flag`, `parseOne`): one dash is as good as two; a flag that takes a value takes the next word, whatever it looks like; a
//! switch takes a value only behind `=`; `--` ends the flags. Other than in Go, flags may follow the reference.

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
/// alias.
pub(super) fn rewrite(command: &Command, arguments: impl IntoIterator<Item = OsString>) -> Result<Vec<OsString>, NotBoolean> {
    let mut arguments = arguments.into_iter();
    let mut rewritten: Vec<OsString> = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            rewritten.push(argument);
            rewritten.extend(arguments);
            break;
        }
        let Some((word, value)) = split(&argument) else {
            rewritten.push(argument);
            continue;
        };
        match word.to_str().and_then(|word| find(command, word)) {
            None => rewritten.push(long(unknown(word), None)),
            Some((name, Kind::Switch)) => set_switch(&mut rewritten, name, value)?,
            Some((name, Kind::Value)) => match value.map(OsStr::to_owned).or_else(|| arguments.next()) {
                Some(value) => rewritten.push(long(OsStr::new(name), Some(&value))),
                None => rewritten.push(long(OsStr::new(name), None)),
            },
            Some((name, Kind::Other)) => rewritten.push(long(OsStr::new(name), value)),
        }
    }
    Ok(rewritten)
}

/// What a flag does with a value.
enum Kind {
    /// A boolean.
    Switch,
    /// Takes the next word.
    Value,
    /// `--help`, `--version`.
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

/// The flag called `word`, by its long name.
fn find<'a>(command: &'a Command, word: &str) -> Option<(&'a str, Kind)> {
    let mut letters = word.chars();
    let letter = letters.next().filter(|_| letters.next().is_none());
    let called = |arg: &&Arg| {
        arg.get_long() == Some(word)
            || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&word))
            || letter.is_some_and(|letter| arg.get_short_and_visible_aliases().is_some_and(|all| all.contains(&letter)))
    };
    let arg = command.get_arguments().find(called)?;
    let kind = match arg.get_action() {
        ArgAction::SetTrue => Kind::Switch,
        ArgAction::Set | ArgAction::Append => Kind::Value,
        _ => Kind::Other,
    };
    Some((arg.get_long()?, kind))
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
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
