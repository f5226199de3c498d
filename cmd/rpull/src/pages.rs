//! The manual's pages and the shells' completions, for those who make packages: from the definition that reads the command line, so
//! that they cannot say anything else.

use std::{fs, io, path::Path};

use clap::CommandFactory as _;
use clap_complete::{Shell, generate_to};

use crate::{
    args::Args,
    exit::ExitCode,
    report::{self, Ink},
};

/// Writes `rpull.1` and a page for each command, `rpull.bash`, `_rpull` and `rpull.fish`.
pub(crate) fn write(directory: &Path) -> ExitCode {
    let Err(error) = all(directory) else { return ExitCode::Done };
    let message = format!("cannot write the pages into {}: {error}", directory.display());
    report::failure(&mut io::stderr(), Ink::of_stderr(), &message, Some("name a directory that may be written to"));
    ExitCode::Disk
}

fn all(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Args::command(), "rpull", directory)?;
    }
    clap_mangen::generate_to(Args::command(), directory)
}
