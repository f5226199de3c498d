//! Every number of the transfer, named, with the reason for its default. All can be set.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    time::Duration,
};

/// How much at once, how large, how patient.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections with a request open, over all hosts. 32: beyond that registries push back before the wire fills.
    pub max_connections: NonZeroUsize,
    /// Connections a host starts with. 4: fills most links at once and troubles no registry.
    pub first_connections: NonZeroUsize,
    /// Largest range asked for. 8 MiB: long against a round trip, short against a blob.
    pub range_size: NonZeroU64,
    /// Smallest range cut when little is left. 2 MiB: below that the round trips cost more than an even end saves.
    pub least_range: NonZeroU64,
    /// Bytes per second over the whole run, `None` for as fast as it goes.
    pub rate: Option<NonZeroU64>,
    /// How long goodput is measured before the number of connections changes. 80 ms: several looks, each at several frames of
    /// every connection.
    pub growth_window: Duration,
    /// Part of the proportional gain that a step must bring for another one. 0.6: doubling must bring 60 % more, above
    /// the noise of a busy machine and below the 100 % of a link that limits each connection.
    pub growth_gain: f64,
    /// Pause before another step is tried after one that brought nothing, or after a host pushed back.
    pub calm: Duration,
    /// A tail range that would end sooner than this is not worth a new request.
    pub steal_above: Duration,
    /// No byte for this long: the connection is dropped.
    pub stall: Duration,
    /// Span over which a connection is compared with its peers and with the floor.
    pub slow_span: Duration,
    /// A connection below this part of its peers' median is dropped. 8: far outside of any fair share.
    pub slow_divisor: f64,
    /// Bytes per second below which a connection is under suspicion even when all its peers are as slow.
    pub floor: f64,
    /// Pause between two reopenings under the floor; the link may just be like that.
    pub reopen_pause: Duration,
    /// No byte on any connection for this long ends the run.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: NonZeroUsize::new(32).expect("not zero"),
            first_connections: NonZeroUsize::new(4).expect("not zero"),
            range_size: NonZeroU64::new(8 << 20).expect("not zero"),
            least_range: NonZeroU64::new(2 << 20).expect("not zero"),
            rate: None,
            growth_window: Duration::from_millis(80),
            growth_gain: 0.6,
            calm: Duration::from_secs(10),
            steal_above: Duration::from_millis(100),
            stall: Duration::from_secs(30),
            slow_span: Duration::from_secs(10),
            slow_divisor: 8.0,
            floor: 16.0 * 1024.0,
            reopen_pause: Duration::from_secs(60),
            silence: Duration::from_secs(5 * 60),
        }
    }
}

/// Bytes per second that each connection has at least when those of the run are limited. 128 KiB: shared among more, each would
/// pause for seconds between two reads, which is what a stall looks like.
const RATE_OF_A_CONNECTION: u64 = 128 << 10;

impl Limits {
    /// No more connections than a limited rate is enough for.
    pub(crate) fn within_rate(self) -> Self {
        let Some(rate) = self.rate else { return self };
        let enough = usize::try_from(rate.get() / RATE_OF_A_CONNECTION).unwrap_or(usize::MAX);
        let enough = NonZeroUsize::new(enough).unwrap_or(NonZeroUsize::MIN);
        Self { max_connections: self.max_connections.min(enough), ..self }
    }
}

/// How often and how late a failed request is made again.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// Requests for one range on one host without progress. 8 spread over half a minute outlive a registry's restart.
    pub attempts: u32,
    /// Bytes that make an attempt count as progress and reset the count. 64 KiB: a frame or two, more than an error page.
    pub progress: u64,
    /// Pause after the first failure; it doubles with each one more.
    pub first_pause: Duration,
    /// Longest pause of our own.
    pub longest_pause: Duration,
    /// Longest `Retry-After` that is obeyed.
    pub longest_wait: Duration,
    /// A host that never answered is given up after this long.
    pub unreached: Duration,
    /// Seed of the jitter, so that a run can be repeated; `None` draws one.
    pub seed: Option<u64>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 8,
            progress: 64 << 10,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(30),
            longest_wait: Duration::from_secs(5 * 60),
            unreached: Duration::from_secs(10),
            seed: None,
        }
    }
}

impl RetryPolicy {
    /// Pause before attempt `attempts + 1`: doubling, the upper half of it drawn at random so that connections that failed
    /// together do not come back together.
    pub(crate) fn pause(&self, attempts: u32, rng: &mut fastrand::Rng) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << attempts.saturating_sub(1).min(16));
        doubled.min(self.longest_pause).mul_f64(0.5 + rng.f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_rate_is_shared_by_few_connections() {
        for (rate, connections) in [(0, 32), (64 << 10, 1), (1 << 20, 8), (100 << 20, 32), (u64::MAX, 32)] {
            let limits = Limits { rate: NonZeroU64::new(rate), ..Limits::default() }.within_rate();
            assert_eq!(limits.max_connections.get(), connections, "{rate}");
        }
    }
}
