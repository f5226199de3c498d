//! Which images, when there are several.

use std::{ffi::OsStr, path::PathBuf};

use super::{Refusal, flags::path};

/// The part of the command line that is about several images.
#[derive(clap::Args)]
pub(crate) struct Images {
    /// Pull the images that are listed in this file too, one a line, # begins a comment; - is standard input
    #[arg(help_heading = "Pull", long, value_name = "FILE", value_parser = path())]
    pub(crate) from_file: Option<PathBuf>,

    /// Of several images: stop at the first that cannot be pulled
    #[arg(help_heading = "Pull", long)]
    pub(crate) fail_fast: bool,
}

impl Images {
    /// Is the list on standard input?
    pub(crate) fn is_on_stdin(&self) -> bool {
        self.from_file.as_deref().is_some_and(|file| file == OsStr::new("-"))
    }

    pub(super) fn check(&self, password_stdin: bool) -> Result<(), Refusal> {
        if self.is_on_stdin() && password_stdin {
            let hint = "only one of them can be read from there; name a file with --from-file";
            return Err(Refusal::usage("--from-file - and --password-stdin both read standard input", hint));
        }
        Ok(())
    }
}
