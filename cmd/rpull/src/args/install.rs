//! Flags of `rpull install` and `rpull uninstall`.

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};

/// Where overlaybd's own packages have their `ctr`.
const PREFIX: &str = "/opt/overlaybd/snapshotter";

/// The names of both, whose help has no flags of a pull.
pub(super) const COMMANDS: [&str; 2] = ["install", "uninstall"];

/// Puts this program in the place of a `ctr`.
#[derive(clap::Args)]
#[command(override_usage = "rpull install [FLAGS]", disable_help_flag = true, disable_version_flag = true)]
pub(crate) struct Install {
    /// Directory of the ctr to take the place of
    #[arg(help_heading = "Install", long, value_name = "DIR", default_value = PREFIX, value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub(crate) prefix: PathBuf,

    /// Also where a package owns that ctr; its next upgrade puts it back
    #[arg(help_heading = "Install", long)]
    pub(crate) force: bool,

    /// Put a copy of rpull there instead of a symbolic link to it; for a DIR that is seen from elsewhere, as a node's from a container
    #[arg(help_heading = "Install", long)]
    pub(crate) copy: bool,
}

/// Takes it out again.
#[derive(clap::Args)]
#[command(override_usage = "rpull uninstall [FLAGS]", disable_help_flag = true, disable_version_flag = true)]
pub(crate) struct Uninstall {
    /// Directory of the ctr to put back
    #[arg(help_heading = "Uninstall", long, value_name = "DIR", default_value = PREFIX, value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub(crate) prefix: PathBuf,
}
