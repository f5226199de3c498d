//! How a run ends when it does not end well: exit code, message, hint.

use std::io;

use pull::Cause;

use crate::{args::Refusal, exit::ExitCode, report};

/// How a run ended, when it did not end well.
pub(crate) struct Failure {
    pub(crate) code: ExitCode,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn other(message: &str, error: &io::Error) -> Self {
        Self { code: ExitCode::Other, message: format!("{message}: {error}"), hint: None }
    }

    /// Ended from outside, in the middle of something that may have `fetched` bytes.
    pub(crate) fn stopped(code: ExitCode, message: &str, fetched: bool) -> Self {
        let hint = fetched.then(|| "what was downloaded is kept; run rpull again to go on".to_owned());
        Self { code, message: message.to_owned(), hint }
    }

    /// Names the image where the message does not.
    pub(crate) fn of(mut self, image: &str) -> Self {
        if !self.message.contains(image) {
            self.message = format!("{image}: {}", self.message);
        }
        self
    }

    pub(crate) fn leaving(mut self, what: &str) -> Self {
        self.message = format!("{}; what it made may be left: {what}", self.message);
        self
    }
}

impl From<pull::Error> for Failure {
    fn from(error: pull::Error) -> Self {
        let code = match error.cause() {
            Cause::Usage => ExitCode::Usage,
            Cause::Denied => ExitCode::Denied,
            Cause::NotFound => ExitCode::NotFound,
            Cause::Registry => ExitCode::Registry,
            Cause::Corrupt => ExitCode::Corrupt,
            Cause::Containerd => ExitCode::Containerd,
            Cause::Disk => ExitCode::Disk,
            Cause::Damaged => ExitCode::Damaged,
            _ => ExitCode::Other,
        };
        Self { code, message: report::chain(&error), hint: error.hint() }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Usage { message, hint } => Self { code: ExitCode::Usage, message, hint: Some(hint) },
            Refusal::Information(message) => Self { code: ExitCode::Usage, message, hint: None },
        }
    }
}
