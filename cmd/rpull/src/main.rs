//! rpull: pull an overlaybd image into containerd, whole or not at all.
//!
//! Only the order of things is here: read the command line, run, say how it ended.

mod args;
mod connect;
mod door;
mod dry_run;
mod exit;
mod failure;
mod hosts_dirs;
mod images;
mod install;
mod log;
mod login;
mod nerdctl;
mod output;
mod pages;
mod receipt;
mod record;
mod render;
mod report;
mod run;
mod verify;

use std::{env, io, process};

use args::{Args, Command, Refusal};
use exit::ExitCode;
use report::Ink;

fn main() -> process::ExitCode {
    let call = match door::enter(env::args_os()) {
        Ok(call) => call,
        Err(failure) => {
            report::failure(&mut io::stderr(), Ink::of_stderr(), &failure.message, failure.hint.as_deref());
            return failure.code.into();
        }
    };
    let code = match Args::parse(call) {
        Ok(args) => {
            log::start(args.debug, args.http_dump);
            for warning in &args.warnings {
                report::warning(&mut io::stderr(), Ink::of_stderr(), warning);
            }
            match &args.command {
                None => match (&args.record.pages, args.dry_run.form(args.screen.kind(false, false))) {
                    (Some(directory), _) => pages::write(directory),
                    (None, Some(form)) => dry_run::run(&args, form),
                    (None, None) => run::run(&args),
                },
                Some(Command::Verify(verify)) => verify::run(&args, verify),
                Some(Command::Install(install)) => install::install(install),
                Some(Command::Uninstall(uninstall)) => install::uninstall(uninstall),
            }
        }
        Err(Refusal::Information(text)) => {
            render::print(&mut io::stdout(), &text);
            ExitCode::Done
        }
        Err(Refusal::Usage { message, hint }) => {
            report::failure(&mut io::stderr(), Ink::of_stderr(), &message, Some(&hint));
            ExitCode::Usage
        }
    };
    code.into()
}
