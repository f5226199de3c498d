//! One request in flight, and how fast it is.

use std::{collections::VecDeque, time::Duration};

use oci::ByteRange;

use super::{BlobId, Cause, HostId};

/// Memory of the recent rate. 300 ms: a connection that got stuck is seen soon, a single late frame is not.
const MEMORY: Duration = Duration::from_millis(300);
/// Memory of the momentary rate, by which a connection is seen to be stuck.
const SHORT_MEMORY: Duration = Duration::from_millis(40);
/// Distance of the samples from which the rate over a longer span is taken.
const SAMPLE: Duration = Duration::from_secs(1);

/// A connection from the order to ask until its end.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) blob: BlobId,
    /// Index of the host among the blob's sources.
    pub(super) source: usize,
    pub(super) host: HostId,
    pub(super) range: ByteRange,
    /// End of what was received.
    pub(super) offset: u64,
    pub(super) asked_at: Duration,
    pub(super) last_byte: Duration,
    /// When it last waited for the limit of the run's rate.
    pub(super) held_at: Option<Duration>,
    pub(super) rate: Rate,
    pub(super) state: State,
    /// Failures of this range on this host before.
    pub(super) attempts: u32,
    /// Answers of this host for this range that cannot be right, before.
    pub(super) corrupt: u32,
    /// Sources that are used up for this range, a bit each.
    pub(super) spent: u64,
    /// Opened to see whether a fresh connection is faster than this many bytes per second.
    pub(super) probe: Option<f64>,
    /// How often the range was moved because it was the slow tail.
    pub(super) moves: u32,
}

#[derive(Debug)]
pub(super) enum State {
    Asking,
    Reading,
    /// Told to end earlier, answer outstanding.
    Shrinking,
    /// Told to close; `strike` is counted against the range when it has.
    Dropping {
        strike: Option<Cause>,
    },
}

impl Connection {
    pub(super) fn is_reading(&self) -> bool {
        matches!(self.state, State::Reading)
    }

    pub(super) fn is_dropping(&self) -> bool {
        matches!(self.state, State::Dropping { .. })
    }

    /// Did it wait for the limit of the run's rate within `span`?
    pub(super) fn is_held(&self, now: Duration, span: Duration) -> bool {
        self.held_at.is_some_and(|at| now.saturating_sub(at) < span)
    }

    /// Bytes still to come.
    pub(super) fn rest(&self) -> u64 {
        self.range.end().saturating_sub(self.offset)
    }

    pub(super) fn received(&self) -> u64 {
        self.offset.saturating_sub(self.range.start())
    }
}

/// Bytes per second of one connection, recent and over longer spans.
#[derive(Debug)]
pub(super) struct Rate {
    since: Duration,
    at: Duration,
    bytes: u64,
    recent: f64,
    momentary: f64,
    samples: VecDeque<(Duration, u64)>,
}

impl Rate {
    pub(super) fn new(now: Duration) -> Self {
        Self { since: now, at: now, bytes: 0, recent: 0.0, momentary: 0.0, samples: VecDeque::from([(now, 0)]) }
    }

    /// Takes note that `bytes` in all had arrived by `now`.
    pub(super) fn note(&mut self, now: Duration, bytes: u64, keep: Duration) {
        let step = now.saturating_sub(self.at);
        if step.is_zero() {
            return;
        }
        let seconds = step.as_secs_f64();
        let momentary = (bytes - self.bytes) as f64 / seconds;
        // While young, the mean of everything; later the exponentially weighted mean.
        let age = now.saturating_sub(self.since).as_secs_f64();
        let weight = |memory: Duration| (seconds / age).max(1.0 - (-seconds / memory.as_secs_f64()).exp());
        self.recent += weight(MEMORY) * (momentary - self.recent);
        self.momentary += weight(SHORT_MEMORY) * (momentary - self.momentary);
        (self.at, self.bytes) = (now, bytes);
        if self.samples.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= SAMPLE) {
            self.samples.push_back((now, bytes));
        }
        while self.samples.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= keep) {
            self.samples.pop_front();
        }
    }

    /// Lately, as of the last note.
    pub(super) fn recent(&self) -> f64 {
        self.recent
    }

    /// Lately or at this moment, whichever is less.
    pub(super) fn now(&self) -> f64 {
        self.recent.min(self.momentary)
    }

    /// Over the last `span`; `None` while younger than that.
    pub(super) fn over(&self, now: Duration, span: Duration) -> Option<f64> {
        let (at, bytes) = self.samples.front()?;
        let covered = now.saturating_sub(*at);
        (covered >= span).then(|| (self.bytes - bytes) as f64 / covered.as_secs_f64())
    }

    /// Since the request was made.
    pub(super) fn mean(&self, now: Duration) -> f64 {
        self.bytes as f64 / now.saturating_sub(self.since).as_secs_f64().max(0.001)
    }
}

/// The middle of some rates, `None` for no rates.
pub(super) fn median(mut rates: Vec<f64>) -> Option<f64> {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied()
}
