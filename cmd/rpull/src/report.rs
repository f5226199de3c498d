//! How a failure is told on stderr: one line for what happened, one for what to do.

use std::{error::Error, fmt::Write as _, io};

use crate::render;

/// Prints `rpull: MESSAGE` and `hint: HINT`. A closed stderr is nobody's fault.
pub(crate) fn failure(out: &mut (impl io::Write + ?Sized), message: &str, hint: Option<&str>) {
    let mut text = format!("rpull: {}\n", one_line(message));
    if let Some(hint) = hint {
        writeln!(text, "hint: {}", one_line(hint)).expect("writing to a string does not fail");
    }
    render::print(out, &text);
}

/// Prints `rpull: warning: TEXT`.
pub(crate) fn warning(out: &mut impl io::Write, text: &str) {
    render::print(out, &format!("rpull: warning: {}\n", one_line(text)));
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
    fn a_failure_is_one_line_and_its_hint_another() {
        let mut out = Vec::new();
        failure(&mut out, "x\ny", Some("try z"));
        failure(&mut out, "evil \u{1b}[31m", None);
        assert_eq!(String::from_utf8(out).unwrap(), "rpull: x y\nhint: try z\nrpull: evil \\u{1b}[31m\n");
    }
}
