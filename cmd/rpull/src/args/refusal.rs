//! Why a command line leads to no pull, with what to do about it.

use std::error::Error as _;

use clap::{
    Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{
    go_flags::{self, NotBoolean},
    value::ValueError,
};

const HELP: &str = "rpull --help lists all flags";

/// Why there is no pull to make.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// Help or version was asked for: the text for stdout.
    Information(String),
    /// The command line cannot be followed.
    Usage {
        /// What is wrong.
        message: String,
        /// What to do about it.
        hint: String,
    },
}

impl Refusal {
    pub(super) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: hint.into() }
    }

    pub(super) fn from_oci(error: &oci::Error) -> Self {
        Self::usage(error.to_string(), error.hint().unwrap_or_else(|| HELP.to_owned()))
    }
}

/// What clap says of a command line of `command`. A flag that another of the commands has is no misspelling.
pub(super) fn explain(error: clap::Error, command: &Command) -> Refusal {
    let strange = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(strange)) if error.kind() == ErrorKind::UnknownArgument => strange.clone(),
        _ => return error.into(),
    };
    let has = |command: &&Command| go_flags::is_flag(command, strange.trim_start_matches('-'));
    let owner = if has(&command) {
        Some("a pull".to_owned())
    } else {
        command.get_subcommands().find(has).map(|owner| format!("rpull {}", owner.get_name()))
    };
    match (Refusal::from(error), owner) {
        (Refusal::Usage { message, .. }, Some(owner)) => Refusal::usage(message, format!("{strange} is a flag of {owner}")),
        (refusal, _) => refusal,
    }
}

impl From<NotBoolean> for Refusal {
    fn from(NotBoolean { flag, value }: NotBoolean) -> Self {
        Self::usage(
            format!("invalid value {value:?} for --{flag}: not true or false"),
            format!("write --{flag} or --{flag}=false"),
        )
    }
}

impl From<clap::Error> for Refusal {
    /// clap's text, without its usage lines; its tips and our own values' cures become the hint.
    fn from(error: clap::Error) -> Self {
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return Self::Information(error.to_string());
        }
        if let Some(error) = error.source().and_then(|source| source.downcast_ref::<oci::Error>()) {
            return Self::from_oci(error);
        }
        let rendered = error.to_string();
        let mut paragraphs = rendered.split("\n\n");
        let message = paragraphs.next().unwrap_or_default();
        let message = message.strip_prefix("error: ").unwrap_or(message);
        let message = message.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        if let Some(error) = error.source().and_then(|source| source.downcast_ref::<ValueError>()) {
            return Self::usage(message, error.hint);
        }
        let suggested = error.get(ContextKind::SuggestedArg).or_else(|| error.get(ContextKind::SuggestedValue));
        let hint = suggested.map_or_else(|| HELP.to_owned(), |suggestion| format!("did you mean {suggestion}?"));
        Self::usage(message, hint)
    }
}
