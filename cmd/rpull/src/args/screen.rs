//! What is shown while a pull goes on.

/// The part of the command line that is about progress.
#[derive(clap::Args)]
pub(crate) struct Screen {
    /// Say nothing but done, and on stderr what went wrong
    #[arg(help_heading = "Output", short, long)]
    pub(crate) quiet: bool,
}
