//! Next to nothing: `done` or not even that, and on stderr what went wrong.

use std::time::Duration;

use progress::Event;

use super::{Draw, Streams, Told};

/// Shows no progress.
pub(super) struct Quiet {
    /// Does it say `done`?
    pub(super) says_done: bool,
}

impl Draw for Quiet {
    fn hear(&mut self, _now: Duration, told: Told, streams: &mut Streams<'_>) {
        match told {
            Told::Event { event: Event::Warning { text }, .. } => streams.warning(&text),
            Told::Failed { failure, .. } | Told::Ended(Err(failure)) => streams.failure(&failure),
            Told::Ended(Ok(_)) if self.says_done => streams.line("done"),
            Told::Line(text) => streams.line(&text),
            Told::Event { .. } | Told::Pulled { .. } | Told::Ended(_) | Told::Closed => {}
        }
    }
}
