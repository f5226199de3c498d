//! Diagnostics on stderr for `--debug` and `--http-dump`. Progress and results are not logged, they are rendered (see [`crate::render`]).

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

/// Where `registry` writes requests and answers, secrets removed.
const DUMP: &str = "http";

/// Sends diagnostics to stderr: warnings, everything of ours with `debug`, requests and answers with `http_dump`.
pub(crate) fn start(debug: bool, http_dump: bool) {
    let level = |wanted| if wanted { LevelFilter::DEBUG } else { LevelFilter::WARN };
    let levels = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_targets(OURS.map(|target| (target, level(debug))))
        .with_target(DUMP, level(http_dump));
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(lines).with(levels).init();
}
