//! The bytes per second of the whole run.

use std::{
    num::NonZeroU64,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// What may come at once before the pace is kept. 100 ms: several frames, yet nothing a router would notice.
const BURST: Duration = Duration::from_millis(100);

/// Token bucket in which every taker pays after the fact: frames have come already, so the next read waits.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: NonZeroU64,
    paid_until: Mutex<Instant>,
}

impl Bucket {
    pub(super) fn new(rate: NonZeroU64) -> Self {
        Self { rate, paid_until: Mutex::new(Instant::now()) }
    }

    /// Takes `bytes`; answers when the taker may go on.
    pub(super) fn take(&self, bytes: u64) -> Instant {
        let now = Instant::now();
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paid_until = (*paid_until).max(now) + Duration::from_secs_f64(bytes as f64 / self.rate.get() as f64);
        (*paid_until).checked_sub(BURST).map_or(now, |at| at.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_takers_pay_into_one_bucket() {
        let bucket = Bucket::new(NonZeroU64::new(1000).unwrap());
        let begin = Instant::now();
        bucket.take(1000);
        let second = bucket.take(2000);
        assert!(second >= begin + Duration::from_millis(2900));
        // Within the burst nobody waits.
        let idle = Bucket::new(NonZeroU64::new(1_000_000).unwrap());
        assert!(idle.take(1000) <= Instant::now());
    }
}
