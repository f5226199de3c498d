//! rpull: pull an overlaybd image into containerd, whole or not at all.
//!
//! Only the order of things is here: read the command line, run, say how it ended.

mod args;
mod connect;
mod exit;
mod failure;
mod hosts_dirs;
mod images;
mod log;
mod login;
mod receipt;
mod render;
mod report;
mod run;
mod verify;

use std::{env, io, process};

use args::{Args, Command, Refusal};
use exit::ExitCode;

fn main() -> process::ExitCode {
    let code = match Args::parse(env::args_os().skip(1)) {
        Ok(args) => {
            log::start(args.debug, args.http_dump);
            match &args.command {
                None => run::run(&args),
                Some(Command::Verify(verify)) => verify::run(&args, verify),
            }
        }
        Err(Refusal::Information(text)) => {
            render::print(&mut io::stdout(), &text);
            ExitCode::Done
        }
        Err(Refusal::Usage { message, hint }) => {
            report::failure(&mut io::stderr(), &message, Some(&hint));
            ExitCode::Usage
        }
    };
    code.into()
}
