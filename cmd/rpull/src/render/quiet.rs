//! `done`, and on stderr what went wrong.

use std::time::Duration;

use progress::Event;

use super::{Draw, Streams, Told};

pub(super) struct Quiet;

impl Draw for Quiet {
    fn hear(&mut self, _now: Duration, told: Told, streams: &mut Streams<'_>) {
        match told {
            Told::Event { event: Event::Warning { text }, .. } => streams.warning(&text),
            Told::Failed(failure) | Told::Ended(Err(failure)) => streams.failure(&failure),
            Told::Ended(Ok(_)) => streams.line("done"),
            Told::Event { .. } | Told::Line(_) | Told::Pulled { .. } | Told::Closed => {}
        }
    }
}
