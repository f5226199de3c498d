//! What was heard of a run, small: a pull of 20 GiB has thousands of ranges, one of a bad line many more.

use std::{collections::HashMap, time::Duration};

use oci::Digest;
use progress::{Ending, Event, RangeSpan, Stall, Step, StepSpan, Subject};

/// Ranges kept: 3 MiB of them. At 8 MiB a range that is a pull of 400 GiB.
const MOST_RANGES: usize = 50_000;
/// Steps kept: there are five a layer and a few an image.
const MOST_STEPS: usize = 20_000;
/// Different causes of failures kept, each of at most [`LONGEST_CAUSE`] characters.
const MOST_CAUSES: usize = 500;
const LONGEST_CAUSE: usize = 300;

/// Everything heard, in the order of its end.
#[derive(Default)]
pub(super) struct Log {
    pub(super) ranges: Vec<Range>,
    pub(super) steps: Vec<StepSpan>,
    /// All blobs, those to be fetched first, bottom first.
    pub(super) blobs: Vec<Blob>,
    /// Images as far as they were resolved, by name, with what the name points at.
    pub(super) images: Vec<(String, Digest)>,
    /// What there was no room for.
    pub(super) left_out: LeftOut,
    /// When the run ended.
    pub(super) ended: Duration,
    pub(super) code: u8,
    names: Names,
    known: HashMap<Digest, u32>,
}

/// What is not in the log.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct LeftOut {
    pub(super) ranges: u64,
    pub(super) bytes: u64,
    pub(super) steps: u64,
}

/// A blob of the run.
pub(super) struct Blob {
    pub(super) digest: Digest,
    /// `None` while only a step of it was heard of.
    pub(super) size: Option<u64>,
}

/// A [`RangeSpan`] in 64 bytes. Times in microseconds.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) started: u64,
    pub(super) ended: u64,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    /// From the start to the first byte; `u32::MAX` when none came.
    wait: u32,
    pub(super) blob: u32,
    attempt: u16,
    host: u16,
    server: Option<u16>,
    peer: Option<u16>,
    /// Our port of the connection, 0 when there was none.
    pub(super) port: u16,
    pub(super) ending: End,
}

/// An [`Ending`] in four bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Whole,
    Shortened,
    Slow(Stall),
    Closed,
    Failed(u16),
}

/// Texts by number.
#[derive(Default)]
struct Names {
    list: Vec<String>,
    numbers: HashMap<String, u16>,
    causes: usize,
}

impl Names {
    fn number(&mut self, text: &str) -> u16 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        // Hosts and addresses are few; a run that has 65535 of them is told by the last one.
        let number = u16::try_from(self.list.len()).unwrap_or(u16::MAX);
        if number < u16::MAX {
            self.list.push(text.to_owned());
            self.numbers.insert(text.to_owned(), number);
        }
        number
    }

    fn cause(&mut self, cause: &str) -> u16 {
        let short: String = cause.chars().take(LONGEST_CAUSE).collect();
        if !self.numbers.contains_key(&short) {
            if self.causes >= MOST_CAUSES {
                return self.number("one of many other causes");
            }
            self.causes += 1;
        }
        self.number(&short)
    }

    fn text(&self, number: u16) -> &str {
        self.list.get(usize::from(number)).map_or("?", String::as_str)
    }
}

impl Log {
    pub(super) fn hear(&mut self, event: &Event) {
        match event {
            Event::Resolved { reference, target } => self.images.push((reference.clone(), *target)),
            Event::Planned { to_fetch, .. } => {
                for (blob, size) in to_fetch {
                    self.blob(*blob, Some(*size));
                }
            }
            Event::FetchStarted { blob, size, .. } => drop(self.blob(*blob, Some(*size))),
            Event::RangeDone(range) => self.range(range),
            Event::StepDone(step) => self.step(step),
            _ => {}
        }
    }

    /// The run is over.
    pub(super) fn end(&mut self, at: Duration, code: u8) {
        (self.ended, self.code) = (at, code);
    }

    /// Number of a blob.
    fn blob(&mut self, digest: Digest, size: Option<u64>) -> u32 {
        let blobs = &mut self.blobs;
        let number = *self.known.entry(digest).or_insert_with(|| {
            blobs.push(Blob { digest, size: None });
            u32::try_from(blobs.len() - 1).expect("an image has at most a few thousand layers")
        });
        let blob = &mut blobs[number as usize];
        blob.size = blob.size.or(size);
        number
    }

    fn range(&mut self, span: &RangeSpan) {
        if self.ranges.len() >= MOST_RANGES {
            self.left_out.ranges += 1;
            self.left_out.bytes += span.bytes;
            return;
        }
        let blob = self.blob(span.blob, None);
        let connection = span.answered.as_ref().and_then(|answered| answered.connection);
        let wait = span.first_byte.map(|at| micros(at).saturating_sub(micros(span.started)));
        self.ranges.push(Range {
            started: micros(span.started),
            ended: micros(span.ended),
            offset: span.offset,
            bytes: span.bytes,
            wait: wait.map_or(u32::MAX, |wait| u32::try_from(wait).unwrap_or(u32::MAX - 1)),
            blob,
            attempt: u16::try_from(span.attempt).unwrap_or(u16::MAX),
            host: self.names.number(&span.host),
            server: span.answered.as_ref().map(|answered| self.names.number(&answered.server)),
            peer: connection.map(|(_, peer)| self.names.number(&peer.to_string())),
            port: connection.map_or(0, |(ours, _)| ours.port()),
            ending: match &span.ending {
                Ending::Whole => End::Whole,
                Ending::Shortened => End::Shortened,
                Ending::Slow(stall) => End::Slow(*stall),
                Ending::Closed => End::Closed,
                Ending::Failed { cause } => End::Failed(self.names.cause(cause)),
            },
        });
    }

    fn step(&mut self, span: &StepSpan) {
        if self.steps.len() >= MOST_STEPS {
            self.left_out.steps += 1;
            return;
        }
        if let Subject::Blob(blob) = span.subject {
            self.blob(blob, None);
        }
        self.steps.push(span.clone());
    }

    /// Number of a blob that was heard of.
    pub(super) fn number_of(&self, blob: &Digest) -> usize {
        self.known.get(blob).map_or(0, |number| *number as usize)
    }

    pub(super) fn digest_of(&self, range: &Range) -> Digest {
        self.blobs[range.blob as usize].digest
    }

    pub(super) fn host_of(&self, range: &Range) -> &str {
        self.names.text(range.host)
    }

    pub(super) fn server_of(&self, range: &Range) -> Option<&str> {
        range.server.map(|number| self.names.text(number))
    }

    pub(super) fn peer_of(&self, range: &Range) -> Option<&str> {
        range.peer.map(|number| self.names.text(number))
    }

    pub(super) fn cause_of(&self, range: &Range) -> Option<&str> {
        if let End::Failed(cause) = range.ending { Some(self.names.text(cause)) } else { None }
    }

    /// Steps of images, or of blobs at containerd, in the order in which they began.
    pub(super) fn steps_in_order(&self, wanted: impl Fn(&StepSpan) -> bool) -> Vec<&StepSpan> {
        let mut steps: Vec<_> = self.steps.iter().filter(|step| wanted(step)).collect();
        steps.sort_by_key(|step| (step.started, step.ended));
        steps
    }

    /// Ranges in the order in which they began.
    pub(super) fn ranges_in_order(&self) -> Vec<&Range> {
        let mut ranges: Vec<_> = self.ranges.iter().collect();
        ranges.sort_by_key(|range| (range.started, range.ended));
        ranges
    }
}

impl Range {
    /// When its first byte came, in microseconds.
    pub(super) fn first_byte(&self) -> Option<u64> {
        (self.wait != u32::MAX).then(|| self.started + u64::from(self.wait))
    }

    /// 1 for the first request for these bytes.
    pub(super) fn attempt(&self) -> u16 {
        self.attempt
    }
}

impl End {
    /// Word for those who read a file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Shortened => "rest taken over by another connection",
            Self::Slow(Stall::Silent) => "given up: silent",
            Self::Slow(Stall::Trickling) => "given up: far slower than the others",
            Self::Slow(Stall::Floor) => "given up: reopened to see whether a fresh connection is faster",
            Self::Slow(Stall::Waited) => "given up: all others waited for it",
            Self::Closed => "closed",
            Self::Failed(_) => "failed",
        }
    }
}

/// Word for those who read a file.
pub(super) fn step_name(step: Step) -> &'static str {
    match step {
        Step::Resolve => "resolve",
        Step::Plan => "plan",
        Step::Layers => "fetch and commit",
        Step::Prove => "prove",
        Step::Publish => "publish",
        Step::Content => "commit content",
        Step::Prepare => "prepare snapshot",
        Step::Link => "link",
        Step::Unpack => "unpack",
        Step::Snapshot => "commit snapshot",
    }
}

/// Whole microseconds.
pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A short pull with everything in it: two blobs, three connections, a failure and its retry, a slow one, a stolen rest.
    pub(in crate::record) fn example() -> Log {
        let mut log = Log::default();
        for event in events() {
            log.hear(&event);
        }
        log.end(Duration::from_millis(90), 0);
        log
    }

    pub(in crate::record) fn blobs() -> [Digest; 2] {
        [Digest::of(b"bottom"), Digest::of(b"top")]
    }

    fn events() -> Vec<Event> {
        let ms = Duration::from_millis;
        let [bottom, top] = blobs();
        let answered = |port: u16| {
            let ends = (([127, 0, 0, 1], port).into(), ([127, 0, 0, 1], 5000).into());
            Some(progress::Answered { server: "r.example:5000".to_owned(), connection: Some(ends) })
        };
        let range = |blob, offset, bytes, times: (u64, Option<u64>, u64), port, ending| {
            Event::RangeDone(RangeSpan {
                blob,
                host: "r.example:5000".to_owned(),
                answered: answered(port).filter(|_| port > 0),
                attempt: if times.0 == 41 { 2 } else { 1 },
                offset,
                bytes,
                started: ms(times.0),
                first_byte: times.1.map(ms),
                ended: ms(times.2),
                ending,
            })
        };
        let step = |step, subject: Subject, from, to| {
            Event::StepDone(StepSpan { step, subject, started: ms(from), ended: ms(to), complete: step != Step::Unpack })
        };
        let image = || Subject::Image("r.example:5000/a:1".to_owned());
        let failed = Ending::Failed { cause: "r.example:5000: blob: reset by \"peer\" <here>".to_owned() };
        vec![
            step(Step::Resolve, image(), 1, 10),
            Event::Resolved { reference: "r.example:5000/a:1".to_owned(), target: bottom },
            step(Step::Plan, image(), 10, 14),
            Event::Planned { layers: 2, to_fetch: vec![(bottom, 1000), (top, 500)] },
            step(Step::Prepare, Subject::Blob(bottom), 15, 18),
            range(bottom, 600, 0, (16, None, 20), 0, failed),
            range(bottom, 0, 600, (15, Some(20), 40), 40001, Ending::Shortened),
            range(top, 0, 100, (21, Some(24), 50), 40002, Ending::Slow(Stall::Trickling)),
            range(bottom, 600, 400, (41, Some(42), 55), 40001, Ending::Whole),
            range(top, 100, 400, (51, Some(53), 60), 40003, Ending::Whole),
            step(Step::Content, Subject::Blob(bottom), 56, 62),
            step(Step::Content, Subject::Blob(top), 61, 66),
            step(Step::Link, Subject::Blob(bottom), 62, 63),
            step(Step::Snapshot, Subject::Blob(bottom), 63, 68),
            step(Step::Unpack, Subject::Blob(top), 70, 75),
            step(Step::Layers, image(), 14, 76),
            step(Step::Prove, image(), 76, 84),
            step(Step::Publish, image(), 84, 89),
        ]
    }

    #[test]
    fn a_range_is_small_and_what_there_is_no_room_for_is_counted() {
        assert!(size_of::<Range>() <= 64, "{}", size_of::<Range>());
        let mut log = example();
        let blob = blobs()[0];
        let span = RangeSpan {
            blob,
            host: "r.example:5000".to_owned(),
            answered: None,
            attempt: 1,
            offset: 0,
            bytes: 7,
            started: Duration::ZERO,
            first_byte: None,
            ended: Duration::ZERO,
            ending: Ending::Closed,
        };
        for number in 0..MOST_RANGES {
            let ending = Ending::Failed { cause: format!("cause {number} {}", "x".repeat(400)) };
            log.hear(&Event::RangeDone(RangeSpan { ending, ..span.clone() }));
        }
        assert_eq!(log.ranges.len(), MOST_RANGES);
        assert_eq!(log.left_out, LeftOut { ranges: 5, bytes: 35, steps: 0 });
        assert_eq!(log.cause_of(log.ranges.last().unwrap()), Some("one of many other causes"));
        assert!(log.names.list.len() < MOST_CAUSES + 10);
    }
}
