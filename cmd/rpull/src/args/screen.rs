//! What is shown while a pull goes on.

use super::Refusal;
use crate::render::Kind;

/// The part of the command line that is about progress.
#[derive(clap::Args)]
pub(crate) struct Screen {
    /// What to show on stdout: auto (bars on a terminal, lines elsewhere), bar, plain, json (one object a line) or none
    /// [default: auto]
    #[arg(help_heading = "Output", long, value_enum, hide_possible_values = true, value_name = "KIND")]
    progress: Option<Progress>,

    /// Say nothing but done, and on stderr what went wrong
    #[arg(help_heading = "Output", short, long)]
    quiet: bool,
}

/// A value of `--progress`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Progress {
    Auto,
    Bar,
    Plain,
    Json,
    None,
}

impl Screen {
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.quiet && self.progress.is_some() {
            return Err(Refusal::usage("--quiet and --progress contradict each other", "leave one of them out"));
        }
        Ok(())
    }

    /// Which way to draw. `terminal`: stdout is one that can move its cursor. `busy`: stderr shows what is going on as well.
    pub(crate) fn kind(&self, terminal: bool, busy: bool) -> Kind {
        match self.progress.unwrap_or(Progress::Auto) {
            _ if self.quiet => Kind::Quiet,
            Progress::Auto if terminal && !busy => Kind::Bar,
            // Nobody wants escapes in a file.
            Progress::Bar if terminal => Kind::Bar,
            Progress::Auto | Progress::Bar | Progress::Plain => Kind::Plain,
            Progress::Json => Kind::Json,
            Progress::None => Kind::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_for_terminals_and_lines_for_all_else() {
        let kind = |progress, terminal, busy| Screen { progress, quiet: false }.kind(terminal, busy);
        for auto in [None, Some(Progress::Auto)] {
            assert_eq!(kind(auto, true, false), Kind::Bar);
            assert_eq!(kind(auto, false, false), Kind::Plain);
            assert_eq!(kind(auto, true, true), Kind::Plain);
        }
        assert_eq!(kind(Some(Progress::Bar), true, true), Kind::Bar);
        assert_eq!(kind(Some(Progress::Bar), false, false), Kind::Plain);
        for terminal in [true, false] {
            assert_eq!(kind(Some(Progress::Plain), terminal, false), Kind::Plain);
            assert_eq!(kind(Some(Progress::Json), terminal, true), Kind::Json);
            assert_eq!(kind(Some(Progress::None), terminal, false), Kind::None);
            assert_eq!(Screen { progress: None, quiet: true }.kind(terminal, false), Kind::Quiet);
        }
    }
}
