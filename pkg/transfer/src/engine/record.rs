//! What is told of a request when it is over ([`RangeSpan`]).

use std::{error::Error as _, time::Duration};

use oci::ByteRange;
use progress::{Answered, Ending, Event, Progress, RangeSpan};
use registry::{Body, Fault};

use super::lane::{Request, Trouble};

/// A request as far as it has come.
#[derive(Debug)]
pub(super) struct Record {
    started: Duration,
    first_byte: Option<Duration>,
    answered: Option<Answered>,
    start: u64,
    /// Where it is to end by now.
    pub(super) end: u64,
    /// End of what is written.
    pub(super) written: u64,
    /// Where it was to end before a faster connection took the rest over.
    asked_end: u64,
}

impl Record {
    pub(super) fn begin(progress: &Progress, range: ByteRange) -> Self {
        let (start, end) = (range.start(), range.end());
        Self { started: progress.elapsed(), first_byte: None, answered: None, start, end, written: start, asked_end: end }
    }

    pub(super) fn answered(&mut self, body: &Body) {
        self.answered = Some(Answered { server: body.server().to_owned(), connection: body.connection() });
    }

    /// What the answer has in it, which may be the whole blob.
    pub(super) fn writes(&mut self, range: ByteRange) {
        (self.start, self.written) = (range.start(), range.start());
        (self.end, self.asked_end) = (range.end(), range.end());
    }

    pub(super) fn arrives(&mut self, progress: &Progress) {
        self.first_byte.get_or_insert_with(|| progress.elapsed());
    }

    /// Tells who listens.
    pub(super) fn tell(&self, request: &Request, result: &Result<(), Trouble>) {
        let Request { asked, repository, entry, lane, progress, .. } = request;
        let ending = match (result, lane.stall()) {
            (Err(Trouble::Registry(fault)), _) => Ending::Failed { cause: words(fault) },
            (Err(Trouble::Disk(error)), _) => Ending::Failed { cause: error.to_string() },
            (_, Some(stall)) if self.written < self.end => Ending::Slow(stall),
            _ if self.written < self.end => Ending::Closed,
            _ if self.end < self.asked_end => Ending::Shortened,
            _ => Ending::Whole,
        };
        progress.emit(&Event::RangeDone(RangeSpan {
            blob: entry.blob().digest,
            host: repository.host_name(lane.host).to_owned(),
            answered: self.answered.clone(),
            attempt: asked.attempt,
            offset: self.start,
            bytes: self.written - self.start,
            started: self.started,
            first_byte: self.first_byte,
            ended: progress.elapsed(),
            ending,
        }));
    }
}

/// What happened, and what is below it.
fn words(fault: &Fault) -> String {
    match fault.source() {
        Some(source) => format!("{fault}: {source}"),
        None => fault.to_string(),
    }
}
