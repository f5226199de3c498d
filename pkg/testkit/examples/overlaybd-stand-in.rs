//! The stand-in overlaybd snapshotter as a program, for scripts: `overlaybd-stand-in --root DIR --socket PATH`.

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let [root_flag, root, socket_flag, socket] = args.as_slice() else { return usage() };
    if root_flag != "--root" || socket_flag != "--socket" {
        return usage();
    }
    match testkit::serve_stand_in(Path::new(root), Path::new(socket)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("{}: {error}", Path::new(root).display())),
    }
}

fn usage() -> ExitCode {
    complain("usage: overlaybd-stand-in --root DIR --socket PATH")
}

#[expect(clippy::print_stderr, reason = "a program tells its user what is wrong")]
fn complain(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::FAILURE
}
