//! What a run leaves for those who want to see how it went.

use std::path::PathBuf;

use super::{Refusal, flags::path};
use crate::output::place;

/// The part of the command line that is about the record of a run.
#[derive(clap::Args)]
pub(crate) struct Record {
    /// Write what happened when to this file, in Chrome's trace format, as ui.perfetto.dev opens it
    #[arg(help_heading = "Output", long, value_name = "FILE", value_parser = path())]
    pub(crate) trace: Option<PathBuf>,

    /// Draw the same as one picture into this file, as SVG
    #[arg(help_heading = "Output", long, value_name = "FILE.svg", value_parser = path())]
    pub(crate) waterfall: Option<PathBuf>,

    /// Add what was done to the counters in this file, as Prometheus's textfile collector reads them
    #[arg(help_heading = "Output", long, value_name = "FILE.prom", value_parser = path())]
    pub(crate) metrics: Option<PathBuf>,

    /// Instead of a pull, write the manual's pages and the shells' completions into this directory
    #[arg(help_heading = "Output", long, value_name = "DIR", value_parser = path(), hide = true)]
    pub(crate) pages: Option<PathBuf>,
}

impl Record {
    pub(super) fn paths(&mut self) -> [&mut Option<PathBuf>; 3] {
        [&mut self.trace, &mut self.waterfall, &mut self.metrics]
    }

    /// Is any of them to be written?
    pub(super) fn is_wanted(&self) -> bool {
        self.trace.is_some() || self.waterfall.is_some() || self.metrics.is_some()
    }

    /// One file cannot be two things.
    pub(super) fn check(&self, receipt: Option<&PathBuf>) -> Result<(), Refusal> {
        let flags = ["--receipt", "--trace", "--waterfall", "--metrics"];
        let paths = [receipt, self.trace.as_ref(), self.waterfall.as_ref(), self.metrics.as_ref()];
        let given: Vec<_> =
            flags.into_iter().zip(paths).filter_map(|(flag, path)| path.map(|path| (flag, path, place(path)))).collect();
        for (at, (flag, path, here)) in given.iter().enumerate() {
            if let Some((other, ..)) = given[..at].iter().find(|(_, _, earlier)| earlier == here) {
                let message = format!("{other} and {flag} name the same file {}", path.display());
                return Err(Refusal::usage(message, "give each a file of its own"));
            }
        }
        Ok(())
    }
}
