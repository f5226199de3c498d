//! How a failure is told on stderr: one line for what happened, one for what to do.

use std::{
    env,
    error::Error,
    ffi::OsString,
    fmt::Write as _,
    io::{self, IsTerminal as _},
};

use crate::render;

/// Whether the first words of a line stand out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ink {
    Plain,
    Coloured,
}

impl Ink {
    /// Colours are for a terminal that knows them, and for those who have not said `NO_COLOR` (no-color.org).
    pub(crate) fn of_stderr() -> Self {
        Self::of(io::stderr().is_terminal(), |variable| env::var_os(variable))
    }

    fn of(terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let knows_colours = terminal && set("TERM").is_some_and(|term| term != "dumb");
        if knows_colours && set("NO_COLOR").is_none() { Self::Coloured } else { Self::Plain }
    }

    /// `code` is a parameter of the terminal's SGR sequence.
    fn paint(self, code: &str, words: &str) -> String {
        match self {
            Self::Plain => words.to_owned(),
            Self::Coloured => format!("\x1b[{code}m{words}\x1b[0m"),
        }
    }
}

const BOLD: &str = "1";
const RED: &str = "1;31";
const YELLOW: &str = "1;33";

/// Prints `rpull: MESSAGE` and `hint: HINT`. A closed stderr is nobody's fault.
pub(crate) fn failure(out: &mut (impl io::Write + ?Sized), ink: Ink, message: &str, hint: Option<&str>) {
    let mut text = format!("{} {}\n", ink.paint(RED, "rpull:"), one_line(message));
    if let Some(hint) = hint {
        writeln!(text, "{} {}", ink.paint(BOLD, "hint:"), one_line(hint)).expect("writing to a string does not fail");
    }
    render::print(out, &text);
}

/// Prints `rpull: warning: TEXT`.
pub(crate) fn warning(out: &mut (impl io::Write + ?Sized), ink: Ink, text: &str) {
    render::print(out, &format!("{} {}\n", ink.paint(YELLOW, "rpull: warning:"), one_line(text)));
}

/// `ERROR: CAUSE: CAUSE`. A cause that an error has in its own text already (libraries differ in that) is not repeated.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            write!(text, ": {next}").expect("writing to a string does not fail");
        }
        cause = error.source();
    }
    text
}

/// What a registry or a containerd says ends up on a terminal: no line breaks, no escapes.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.trim().chars() {
        if character == '\n' {
            line.push(' ');
        } else if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fault(&'static str, Option<Box<Fault>>);

    impl std::fmt::Display for Fault {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Fault {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|fault| fault as _)
        }
    }

    fn fault(texts: &[&'static str]) -> Fault {
        let (first, rest) = texts.split_first().unwrap();
        Fault(first, (!rest.is_empty()).then(|| Box::new(fault(rest))))
    }

    #[test]
    fn causes_follow_the_error_each_once() {
        assert_eq!(chain(&fault(&["blob x", "connection reset", "os error 104"])), "blob x: connection reset: os error 104");
        assert_eq!(chain(&fault(&["blob x", "get: refused", "refused"])), "blob x: get: refused");
    }

    #[test]
    fn colours_are_for_terminals_and_their_first_words() {
        let ink = |terminal, term: &str, no_color: &str| {
            let value = |name: &str| OsString::from(if name == "TERM" { term } else { no_color });
            Ink::of(terminal, |name| Some(value(name)))
        };
        assert_eq!(ink(true, "xterm", ""), Ink::Coloured);
        for (terminal, term, no_color) in [(false, "xterm", ""), (true, "dumb", ""), (true, "", ""), (true, "xterm", "1")] {
            assert_eq!(ink(terminal, term, no_color), Ink::Plain, "{terminal} {term} {no_color}");
        }
        let mut out = Vec::new();
        failure(&mut out, Ink::Coloured, "x", Some("try z"));
        warning(&mut out, Ink::Coloured, "y");
        let expected = "\x1b[1;31mrpull:\x1b[0m x\n\x1b[1mhint:\x1b[0m try z\n\x1b[1;33mrpull: warning:\x1b[0m y\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_failure_is_one_line_and_its_hint_another() {
        let mut out = Vec::new();
        failure(&mut out, Ink::Plain, "x\ny", Some("try z"));
        failure(&mut out, Ink::Plain, "evil \u{1b}[31m", None);
        assert_eq!(String::from_utf8(out).unwrap(), "rpull: x y\nhint: try z\nrpull: evil \\u{1b}[31m\n");
    }
}
