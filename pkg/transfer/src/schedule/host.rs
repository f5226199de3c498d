//! How many connections one host gets: grows while goodput grows, halves when the host pushes back.

use std::time::Duration;

use super::{Cause, connection::median};
use crate::Limits;

/// Shortest wait for new connections to come up to speed before goodput is measured.
const SETTLE: Duration = Duration::from_millis(30);
/// Windows with the first number of connections, the best of which counts.
const FIRST_LOOKS: usize = 2;
/// Windows before the search ends, the middle one of which counts.
const LAST_LOOKS: usize = 3;
/// Bytes a connection that a window must have seen, whatever time that takes: a few frames more or less make no gain.
const WINDOW_BYTES: u64 = 256 << 10;
/// But no longer than this.
const LONGEST_WINDOW: Duration = Duration::from_secs(4);
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
    /// Failures in a row in place of an answer.
    failures: u32,
    /// Pause of our own after them.
    rests_until: Duration,
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

/// Goodput while one number of connections is at work.
#[derive(Debug)]
struct Window {
    from: Duration,
    /// Time and bytes of the looks so far, none before `from`.
    looks: Vec<(Duration, u64)>,
    /// Measured before with as many connections.
    rates: Vec<f64>,
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
            failures: 0,
            rests_until: Duration::ZERO,
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

    /// Neither it nor we asked for a pause.
    pub(super) fn is_ready(&self, now: Duration) -> bool {
        self.ready_at() <= now
    }

    pub(super) fn ready_at(&self) -> Duration {
        self.not_before.max(self.rests_until)
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
        self.failures = 0;
        self.answered = true;
        self.unreached_since = None;
    }

    /// A request failed before its answer. One among many is the range's trouble. When it is one after the other, asking for another
    /// range instead would only be more of the same: the whole host rests, each time longer.
    pub(super) fn failed(&mut self, now: Duration, pause: impl FnOnce(u32) -> Duration) {
        if now < self.rests_until {
            // Made before the pause was known.
            return;
        }
        if self.failures > 0 {
            self.rests_until = now + pause(self.failures);
        }
        self.failures += 1;
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
                if !full {
                    *window = None;
                    return;
                }
                let at_work = window.get_or_insert_with(|| Window { from: now + wait, looks: Vec::new(), rates: Vec::new() });
                let Some(rate) = at_work.look(now, bytes, span, WINDOW_BYTES * self.target as u64) else { return };
                at_work.rates.push(rate);
                *at_work = Window { from: now, looks: Vec::new(), rates: std::mem::take(&mut at_work.rates) };
                let (before, rates) = (*before, at_work.rates.clone());
                self.step(now, before, rates, limits);
            }
        }
    }

    /// Goes on at once where that helps. Where it does not seem to, or where all the rest is compared with it, the machine may just
    /// have been busy with something else: that is looked at again.
    fn step(&mut self, now: Duration, before: Option<(usize, f64)>, rates: Vec<f64>, limits: &Limits) {
        let next = (self.target * 2).min(limits.max_connections.get());
        let looks = rates.len();
        let (rate, enough) = match before {
            None => (rates.into_iter().fold(0.0, f64::max), looks >= FIRST_LOOKS),
            Some(_) => (median(rates).unwrap_or_default(), looks >= LAST_LOOKS),
        };
        // 0: nothing gained, 1: goodput grew as the number of connections did.
        let gain = before.map(|(count, base)| (rate / base.max(1.0) - 1.0) / (self.target as f64 / count as f64 - 1.0));
        let helps = gain.is_none_or(|gain| gain >= limits.growth_gain) && next > self.target;
        if helps && (enough || before.is_some()) {
            self.growth = Growth::Growing { before: Some((self.target, rate)), window: None };
            self.target = next;
            return;
        }
        if !enough && next > self.target {
            return;
        }
        let gain = gain.unwrap_or(1.0);
        if let Some((count, _)) = before.filter(|_| gain < WORTH_KEEPING) {
            self.target = count;
        }
        self.growth = Growth::Calm { until: now + limits.calm };
    }
}

impl Window {
    /// Bytes per second, once the window has passed.
    fn look(&mut self, now: Duration, bytes: u64, span: Duration, least: u64) -> Option<f64> {
        if now < self.from {
            return None;
        }
        self.looks.push((now, bytes));
        let (from, before) = self.looks[0];
        let covered = now.saturating_sub(from);
        if covered < span || (bytes - before < least && covered < LONGEST_WINDOW) {
            return None;
        }
        let rate = |from: (Duration, u64), to: (Duration, u64)| {
            (to.1 - from.1) as f64 / to.0.saturating_sub(from.0).as_secs_f64().max(0.001)
        };
        // The median leaves out moments in which this machine did something else; where few frames arrive at all it is too low.
        let moments = self.looks.windows(2).map(|pair| rate(pair[0], pair[1]));
        median(moments.collect()).map(|usual| usual.max(rate((from, before), (now, bytes))))
    }
}
