//! The binary as a user meets it: exit code, stdout, stderr.

mod aftermath;
mod bad_input;
mod colours;
mod command_line;
mod committed;
mod compatibility;
mod credentials;
mod cri;
mod deployed;
mod door;
mod dry_run;
mod gated;
mod held;
mod hints;
mod install;
mod killed;
mod kinds;
mod leaks;
mod main_job;
mod meddling;
mod mounted;
mod nerdctl;
mod others;
mod password;
mod progress;
mod proxies;
mod receipt_file;
mod recorded;
mod records;
mod registries;
mod several_images;
mod space;
mod stage;
mod stop;
mod store_choice;
mod verify;
mod wait_for_containerd;
mod what_is_here;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use testkit::secrets;

/// The binary with nothing in the environment and no input, so that the machine it runs on makes no difference.
fn rpull() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rpull"));
    // Without HOME the user's own would be looked up.
    command.env_clear().env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// Exit code, stdout, stderr.
fn outcome(command: &mut Command) -> (i32, String, String) {
    secrets::keep_in_command(command);
    let Output { status, stdout, stderr } = command.output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    let (stdout, stderr) = (text(stdout), text(stderr));
    secrets::assert_none_in("stdout", &stdout);
    secrets::assert_none_in("stderr", &stderr);
    stage::assert_for_people(&stderr);
    (status.code().expect("not killed"), stdout, stderr)
}

/// A file of this folder.
fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
