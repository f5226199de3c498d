//! How many connections one host gets: grows while goodput grows, halves when the host pushes back.

use std::time::Duration;

use super::Cause;
use crate::Limits;

/// Shortest wait for new connections to come up to speed before goodput is measured.
const SETTLE: Duration = Duration::from_millis(30);
/// Push-backs closer together than this are one: they answer requests that were made before the first was known.
const ONE_PUSH: Duration = Duration::from_secs(1);
/// Failures in a row, no range finished between them, after which other hosts go first. 3: one reset or two are the network's.
const DOUBTFUL: u32 = 3;
/// A step that brought less than this part of the proportional gain is taken back; one in between is kept, as the last.
const WORTH_KEEPING: f64 = 0.2;

/// One host of the run.
#[derive(Debug)]
pub(super) struct Host {
    /// Connections it may have.
    target: usize,
    growth: Growth,
    /// Bytes received from it in all.
    bytes: u64,
    /// Typical time from asking to the first byte.
    first_byte: Duration,
    /// Typical bytes per second of one finished connection.
    usual: f64,
    /// It asked for a pause until then.
    pub(super) not_before: Duration,
    pushed_at: Option<Duration>,
    answered: bool,
    /// First connect failure while it had never answered.
    unreached_since: Option<Duration>,
    /// Failures since it last finished a range.
    strikes: u32,
    /// Other hosts go first for the rest of the run.
    doubted: bool,
    /// Given up, with the last cause.
    pub(super) dead: Option<Cause>,
}

/// Where the search for the right number stands.
#[derive(Debug)]
enum Growth {
    /// Number and goodput of the step before, and the measurement that runs.
    Growing { before: Option<(usize, f64)>, window: Option<Window> },
    /// Found, or the host pushed back; another step is tried then, links change.
    Calm { until: Duration },
}

#[derive(Clone, Copy, Debug)]
struct Window {
    from: Duration,
    /// Bytes at `from`, taken when `from` is reached.
    bytes: Option<u64>,
}

impl Host {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            target: limits.first_connections.get().min(limits.max_connections.get()),
            growth: Growth::Growing { before: None, window: None },
            bytes: 0,
            first_byte: Duration::ZERO,
            usual: 0.0,
            not_before: Duration::ZERO,
            pushed_at: None,
            answered: false,
            unreached_since: None,
            strikes: 0,
            doubted: false,
            dead: None,
        }
    }

    pub(super) fn target(&self) -> usize {
        self.target
    }

    pub(super) fn first_byte(&self) -> Duration {
        self.first_byte
    }

    pub(super) fn is_alive(&self) -> bool {
        self.dead.is_none()
    }

    /// Never answered, and failed to connect.
    pub(super) fn is_suspect(&self) -> bool {
        self.unreached_since.is_some()
    }

    /// Fails too often, or asked for a pause: one that has the same blob goes before it.
    pub(super) fn is_doubted(&self, now: Duration) -> bool {
        self.doubted || self.not_before > now
    }

    /// A request to it failed.
    pub(super) fn struck(&mut self) {
        self.strikes += 1;
        self.doubted |= self.strikes >= DOUBTFUL;
    }

    /// It holds a connection and sends nothing, or next to nothing: waiting for the next one would cost as much again.
    pub(super) fn hung(&mut self) {
        self.doubted = true;
    }

    /// It sent a range to its end.
    pub(super) fn finished_range(&mut self) {
        self.strikes = 0;
    }

    pub(super) fn answered(&mut self) {
        self.answered = true;
        self.unreached_since = None;
    }

    /// A connect failed, the next try would be at `next`. Gives the host up when it never answered for `patience`.
    pub(super) fn unreached(&mut self, now: Duration, next: Duration, patience: Duration, cause: &Cause) {
        if !self.answered {
            let since = *self.unreached_since.get_or_insert(now);
            if next.saturating_sub(since) > patience {
                self.dead = Some(cause.clone());
            }
        }
    }

    /// A new run of blobs begins: what was given up may be back.
    pub(super) fn forgive(&mut self) {
        self.dead = None;
        self.unreached_since = None;
        (self.strikes, self.doubted) = (0, false);
    }

    pub(super) fn arrived(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    pub(super) fn first_byte_after(&mut self, span: Duration) {
        self.first_byte = if self.first_byte.is_zero() { span } else { (self.first_byte * 7 + span) / 8 };
    }

    pub(super) fn usual(&self) -> f64 {
        self.usual
    }

    pub(super) fn served_at(&mut self, rate: f64) {
        self.usual = if self.usual == 0.0 { rate } else { (self.usual * 7.0 + rate) / 8.0 };
    }

    /// 429, 503 or a `Retry-After`: half the connections, and none before the pause is over.
    pub(super) fn pushed_back(&mut self, now: Duration, pause: Duration, limits: &Limits) {
        self.not_before = self.not_before.max(now + pause);
        if self.pushed_at.is_none_or(|at| now.saturating_sub(at) >= ONE_PUSH) {
            self.pushed_at = Some(now);
            self.target = (self.target / 2).max(1);
            self.growth = Growth::Calm { until: self.not_before + limits.calm };
        }
    }

    /// Looks at goodput with `open` connections at work; call it often.
    pub(super) fn review(&mut self, now: Duration, open: usize, limits: &Limits) {
        let wait = SETTLE.max(self.first_byte * 2);
        let span = limits.growth_window.max(self.first_byte * 2);
        let (bytes, full) = (self.bytes, open >= self.target);
        match &mut self.growth {
            Growth::Calm { until } if now >= *until => self.growth = Growth::Growing { before: None, window: None },
            Growth::Calm { .. } => {}
            Growth::Growing { before, window } => {
                let Some(rate) = measure(window, now, bytes, full, wait, span) else { return };
                let before = *before;
                self.step(now, before, rate, limits);
            }
        }
    }

    fn step(&mut self, now: Duration, before: Option<(usize, f64)>, rate: f64, limits: &Limits) {
        // 0: nothing gained, 1: goodput grew as the number of connections did.
        let gain = before.map_or(1.0, |(count, base)| (rate / base.max(1.0) - 1.0) / (self.target as f64 / count as f64 - 1.0));
        let next = (self.target * 2).min(limits.max_connections.get());
        if gain >= limits.growth_gain && next > self.target {
            self.growth = Growth::Growing { before: Some((self.target, rate)), window: None };
            self.target = next;
            return;
        }
        if let Some((count, _)) = before.filter(|_| gain < WORTH_KEEPING) {
            self.target = count;
        }
        self.growth = Growth::Calm { until: now + limits.calm };
    }
}

/// Bytes per second once a full window has passed with all connections at work.
fn measure(window: &mut Option<Window>, now: Duration, bytes: u64, full: bool, wait: Duration, span: Duration) -> Option<f64> {
    if !full {
        *window = None;
        return None;
    }
    let window_now = window.get_or_insert(Window { from: now + wait, bytes: None });
    if now < window_now.from {
        return None;
    }
    let Some(from_bytes) = window_now.bytes else {
        *window_now = Window { from: now, bytes: Some(bytes) };
        return None;
    };
    let covered = now.saturating_sub(window_now.from);
    if covered < span {
        return None;
    }
    *window = None;
    Some((bytes - from_bytes) as f64 / covered.as_secs_f64())
}
