//! Diagnostics on stderr for `--debug`. Progress and results are not logged, they are rendered (see [`crate::render`]).

use std::io;

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// The rooms of rpull. Other crates stay at warnings also with `--debug`: HTTP libraries log whole headers, and with them
/// tokens.
const OURS: [&str; 7] = ["rpull", "pull", "transfer", "registry", "spool", "containerd", "oci"];

/// Sends diagnostics to stderr: warnings, and everything of ours with `debug`.
pub(crate) fn start(debug: bool) {
    let ours = if debug { LevelFilter::DEBUG } else { LevelFilter::WARN };
    let levels = Targets::new().with_default(LevelFilter::WARN).with_targets(OURS.map(|target| (target, ours)));
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(lines).with(levels).init();
}
