//! How far, how fast, how long still.

use std::{collections::VecDeque, time::Duration};

use progress::Progress;

use super::board::Board;

/// The rate is that of so many seconds: short enough to follow the network, long enough to be read.
const WINDOW: Duration = Duration::from_secs(5);

/// A run at one moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Figures {
    /// Bytes that are here of those to fetch.
    pub(super) done: u64,
    /// Bytes to fetch.
    pub(super) total: u64,
    /// Connections with a request open.
    pub(super) connections: u64,
    /// Requests made again so far.
    pub(super) retries: u64,
    /// Bytes per second lately.
    pub(super) rate: u64,
    /// At that rate; unknown while nothing comes.
    pub(super) left: Option<Duration>,
}

/// Makes [`Figures`].
pub(super) struct Gauge {
    progress: Progress,
    /// Times, and bytes received by then. The first is the last before the window.
    samples: VecDeque<(Duration, u64)>,
}

impl Gauge {
    pub(super) fn new(progress: Progress) -> Self {
        Self { progress, samples: VecDeque::from([(Duration::ZERO, 0)]) }
    }

    pub(super) fn read(&mut self, now: Duration, board: &Board) -> Figures {
        let tally = self.progress.meter().tally();
        let rate = self.rate(now, tally.fetched);
        let (done, total) = board.bytes();
        let left = (total - done).checked_div(rate).map(Duration::from_secs);
        Figures { done, total, connections: tally.connections, retries: tally.retries, rate, left }
    }

    fn rate(&mut self, now: Duration, bytes: u64) -> u64 {
        self.samples.push_back((now, bytes));
        while self.samples.get(1).is_some_and(|(at, _)| *at + WINDOW <= now) {
            self.samples.pop_front();
        }
        let (from, before) = self.samples[0];
        let millis = u64::try_from(now.saturating_sub(from).as_millis()).unwrap_or(u64::MAX);
        ((bytes - before) * 1000).checked_div(millis).unwrap_or(0)
    }
}

impl Figures {
    /// Hundredths, rounded down: 100 is all of it.
    pub(super) fn percent(&self) -> u64 {
        (u128::from(self.done) * 100).checked_div(self.total.into()).map_or(100, |percent| u64::try_from(percent).unwrap_or(100))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut gauge = Gauge::new(Progress::silent());
        let mut rate = |second, bytes| gauge.rate(Duration::from_secs(second), bytes);
        assert_eq!(rate(0, 0), 0);
        assert_eq!(rate(1, 1000), 1000);
        assert_eq!(rate(2, 4000), 2000);
        for second in 3..7 {
            rate(second, 4000);
        }
        assert_eq!(rate(7, 4000), 0, "nothing came for five seconds");
        assert_eq!(rate(8, 9000), 1000);
    }

    #[test]
    fn all_of_nothing_is_all() {
        let figures = |done, total| Figures { done, total, connections: 0, retries: 0, rate: 0, left: None };
        assert_eq!(figures(0, 0).percent(), 100);
        assert_eq!(figures(999, 1000).percent(), 99);
        assert_eq!(figures(u64::MAX, u64::MAX).percent(), 100);
    }
}
