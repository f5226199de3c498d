//! Counters of a run, read by whoever draws or reports.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Bytes and incidents of a run. All methods may be called from any thread.
#[derive(Debug, Default)]
pub struct Meter {
    fetched: AtomicU64,
    connections: AtomicU64,
    retries: AtomicU64,
    stalls: AtomicU64,
    refetched: AtomicU64,
    by_host: Mutex<BTreeMap<String, u64>>,
}

/// A [`Meter`] at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Body bytes received, layers only.
    pub fetched: u64,
    /// Connections with a request open now.
    pub connections: u64,
    /// Requests made again.
    pub retries: u64,
    /// Connections dropped because they stalled or trickled.
    pub stalls: u64,
    /// Bytes received that another answer had brought already.
    pub refetched: u64,
    /// Body bytes by host and port.
    pub by_host: BTreeMap<String, u64>,
}

impl Meter {
    /// `bytes` of a layer arrived.
    pub fn add_fetched(&self, bytes: u64) {
        self.fetched.fetch_add(bytes, Relaxed);
    }

    /// `bytes` came from `host`; called once a request, not once a frame.
    pub fn add_host(&self, host: &str, bytes: u64) {
        let mut by_host = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
        *by_host.entry(host.to_owned()).or_default() += bytes;
    }

    /// A request is open.
    pub fn connection_opened(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// It is over.
    pub fn connection_closed(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// A request is made again.
    pub fn add_retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    /// A connection was dropped for being too slow.
    pub fn add_stall(&self) {
        self.stalls.fetch_add(1, Relaxed);
    }

    /// `bytes` were received twice.
    pub fn add_refetched(&self, bytes: u64) {
        self.refetched.fetch_add(bytes, Relaxed);
    }

    /// All counters now.
    pub fn tally(&self) -> Tally {
        Tally {
            fetched: self.fetched.load(Relaxed),
            connections: self.connections.load(Relaxed),
            retries: self.retries.load(Relaxed),
            stalls: self.stalls.load(Relaxed),
            refetched: self.refetched.load(Relaxed),
            by_host: self.by_host.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_tally_has_everything_counted_by_all_threads() {
        let meter = Meter::default();
        thread::scope(|scope| {
            for host in ["mirror:5000", "registry:443", "registry:443"] {
                let meter = &meter;
                scope.spawn(move || {
                    meter.connection_opened();
                    for _ in 0..100 {
                        meter.add_fetched(7);
                    }
                    meter.add_host(host, 700);
                    meter.add_retry();
                    meter.add_stall();
                    meter.add_refetched(5);
                    meter.connection_closed();
                });
            }
        });
        meter.connection_opened();
        let by_host = BTreeMap::from([("mirror:5000".to_owned(), 700), ("registry:443".to_owned(), 1400)]);
        assert_eq!(meter.tally(), Tally { fetched: 2100, connections: 1, retries: 3, stalls: 3, refetched: 15, by_host });
    }
}
