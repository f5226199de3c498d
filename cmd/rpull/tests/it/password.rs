//! The password prompt, on a real terminal and without one. `setsid` and `script` are of every Debian.

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

use testkit::secrets;

use crate::outcome;

const RPULL: &str = env!("CARGO_BIN_EXE_rpull");

#[test]
fn without_a_terminal_there_is_nobody_to_ask() {
    let mut command = Command::new("setsid");
    command.args(["--wait", RPULL, "--user", "alice", "r.example/a:1"]).stdin(Stdio::null());
    let (code, stdout, stderr) = outcome(&mut command);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.starts_with("rpull: no terminal to ask for the password of alice: "), "{stderr}");
    assert!(
        stderr.ends_with("\nhint: without a terminal give it on standard input: --user alice --password-stdin\n"),
        "{stderr}"
    );
}

/// rpull on a terminal of its own that asks for a password and is answered with `keys` as soon as the prompt is there:
/// whether it ended well, and everything that was on the screen.
fn answer(keys: &[u8]) -> (Option<i32>, String) {
    let line = format!("{RPULL} --address /nonexistent/containerd.sock --user alice r.example/a:1");
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script runs");
    let mut screen = child.stdout.take().unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"Password: ") {
        let mut byte = [0];
        assert_eq!(screen.read(&mut byte).unwrap(), 1, "ended before the prompt: {}", String::from_utf8_lossy(&seen));
        seen.extend(byte);
    }
    let mut keyboard = child.stdin.take().unwrap();
    keyboard.write_all(keys).unwrap();
    screen.read_to_end(&mut seen).unwrap();
    (child.wait().unwrap().code(), String::from_utf8(seen).unwrap())
}

#[test]
fn a_typed_password_is_not_echoed() {
    let (code, seen) = answer(format!("{}\n", secrets::keep("hunter2-typed")).as_bytes());
    // There is no containerd, so the run fails, but only after the password was taken.
    assert_eq!(code, Some(7), "{seen}");
    assert!(seen.starts_with("Password: \r\nrpull: "), "{seen}");
    secrets::assert_none_in("the screen", &seen);
}

#[test]
fn ctrl_c_at_the_prompt_ends_the_run() {
    let (code, seen) = answer(b"hun\x03");
    assert_eq!((code, seen.as_str()), (Some(130), "Password: \r\n"));
}
