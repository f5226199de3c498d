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
        self.pay(Instant::now(), bytes)
    }

    fn pay(&self, now: Instant, bytes: u64) -> Instant {
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paid_until = (*paid_until).max(now) + Duration::from_secs_f64(bytes as f64 / self.rate.get() as f64);
        (*paid_until).checked_sub(BURST).map_or(now, |at| at.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that takers, each with frames of its own size, get in so many seconds of a clock of their own.
    fn simulate(rate: u64, frames: &[u64], seconds: u64) -> u64 {
        let bucket = Bucket::new(NonZeroU64::new(rate).unwrap());
        let begin = Instant::now();
        let end = begin + Duration::from_secs(seconds);
        let mut takers: Vec<_> = frames.iter().map(|frame| (begin, *frame)).collect();
        let mut taken = 0;
        while let Some((now, frame)) = takers.iter_mut().filter(|(at, _)| *at < end).min_by_key(|(at, _)| *at) {
            taken += *frame;
            *now = bucket.pay(*now, *frame);
        }
        taken
    }

    #[test]
    fn all_takers_together_keep_the_rate_and_use_all_of_it() {
        for (rate, frames, seconds) in [
            (100 << 20, vec![64 << 10; 32], 5),
            (1 << 20, vec![16 << 10; 8], 20),
            (64 << 10, vec![408 << 10], 60),
            (10_000_000, vec![1, 1460, 65536, 400_000], 10),
        ] {
            let taken = simulate(rate, &frames, seconds);
            // Everybody has at most one frame that is not paid for yet.
            let burst = rate / 10 + frames.iter().sum::<u64>();
            let allowed = rate * seconds;
            assert!(taken <= allowed + burst && taken + burst >= allowed, "{rate}: {taken} in {seconds} s");
        }
    }

    #[test]
    fn an_idle_time_is_not_saved_up() {
        let bucket = Bucket::new(NonZeroU64::new(1000).unwrap());
        let later = Instant::now() + Duration::from_secs(3600);
        assert_eq!(bucket.pay(later, 50), later);
        assert_eq!(bucket.pay(later, 1050), later + Duration::from_secs(1));
    }
}
