//! Colours on a terminal, and nowhere else.

use std::process::Command;

use crate::outcome;

/// What a run without a reference says on a terminal of its own.
fn on_a_terminal(variables: &[(&str, &str)]) -> String {
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", env!("CARGO_BIN_EXE_rpull"), "/dev/null"]);
    command.env_clear().env("PATH", "/usr/bin:/bin").envs(variables.iter().copied());
    let (code, screen, _) = outcome(&mut command);
    assert_eq!(code, 2, "{screen}");
    screen
}

#[test]
fn an_error_has_colours_on_a_terminal_that_knows_them_unless_they_are_not_wanted() {
    let coloured = "\x1b[1;31mrpull:\x1b[0m no image reference given\r\n\x1b[1mhint:\x1b[0m rpull [FLAGS] REF";
    let screen = on_a_terminal(&[("TERM", "xterm")]);
    assert!(screen.starts_with(coloured), "{screen:?}");
    for variables in [&[("TERM", "xterm"), ("NO_COLOR", "1")][..], &[("TERM", "dumb")], &[]] {
        let screen = on_a_terminal(variables);
        assert!(screen.starts_with("rpull: no image reference given\r\nhint: rpull [FLAGS] REF"), "{variables:?}: {screen:?}");
    }
    // An empty variable is as none.
    assert!(on_a_terminal(&[("TERM", "xterm"), ("NO_COLOR", "")]).starts_with(coloured));
}
