//! Counters of a run, read by whoever draws or reports.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Bytes and incidents of a run, or of one image of it. All methods may be called from any thread.
#[derive(Debug, Default)]
pub struct Meter {
    /// The run's, which counts the same.
    run: Option<Arc<Meter>>,
    fetched: AtomicU64,
    connections: AtomicU64,
    retries: AtomicU64,
    stalls: [AtomicU64; 4],
    refetched: AtomicU64,
    by_host: Mutex<BTreeMap<String, u64>>,
    by_source: Mutex<BTreeMap<&'static str, u64>>,
}

/// Bytes of one blob that are in its spool entry. Cheap to clone, all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Written(Arc<AtomicU64>);

impl Written {
    /// So many are there already.
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(bytes.into()))
    }

    /// So many more are there.
    pub fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Relaxed);
    }

    /// None is there any more: the blob is started over.
    pub fn reset(&self) {
        self.0.store(0, Relaxed);
    }

    /// Now.
    pub fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Which rule gave a connection up for being slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stall {
    /// No byte for too long.
    Silent,
    /// Far slower than the others.
    Trickling,
    /// All are slow; it was reopened to see whether a fresh one is faster.
    Floor,
    /// Stuck while all others waited for the blob's end, or its front.
    Waited,
}

/// Connections given up for being slow, by rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stalls {
    /// See [`Stall::Silent`].
    pub silent: u64,
    /// See [`Stall::Trickling`].
    pub trickling: u64,
    /// See [`Stall::Floor`].
    pub floor: u64,
    /// See [`Stall::Waited`].
    pub waited: u64,
}

impl Stalls {
    /// By whatever rule.
    pub fn total(&self) -> u64 {
        self.silent + self.trickling + self.floor + self.waited
    }
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
    pub stalls: Stalls,
    /// Bytes received that another answer had brought already.
    pub refetched: u64,
    /// Body bytes by host and port.
    pub by_host: BTreeMap<String, u64>,
    /// Bytes that came another way than as ranges of layers, by the name of where they came from.
    pub by_source: BTreeMap<&'static str, u64>,
}

impl Meter {
    /// A meter of a part; `run` counts all parts.
    pub(crate) fn within(run: Arc<Self>) -> Self {
        Self { run: Some(run), ..Self::default() }
    }

    /// This one and the run's.
    fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.run.as_deref())
    }

    /// `bytes` of a layer arrived.
    pub fn add_fetched(&self, bytes: u64) {
        for meter in self.all() {
            meter.fetched.fetch_add(bytes, Relaxed);
        }
    }

    /// `bytes` came from `host`; called once a request, not once a frame.
    pub fn add_host(&self, host: &str, bytes: u64) {
        for meter in self.all() {
            let mut by_host = meter.by_host.lock().unwrap_or_else(PoisonError::into_inner);
            *by_host.entry(host.to_owned()).or_default() += bytes;
        }
    }

    /// `bytes` came from `source`, which is no range of a layer.
    pub fn add_source(&self, source: &'static str, bytes: u64) {
        for meter in self.all() {
            let mut by_source = meter.by_source.lock().unwrap_or_else(PoisonError::into_inner);
            *by_source.entry(source).or_default() += bytes;
        }
    }

    /// A request is open.
    pub fn connection_opened(&self) {
        for meter in self.all() {
            meter.connections.fetch_add(1, Relaxed);
        }
    }

    /// It is over.
    pub fn connection_closed(&self) {
        for meter in self.all() {
            meter.connections.fetch_sub(1, Relaxed);
        }
    }

    /// A request is made again.
    pub fn add_retry(&self) {
        for meter in self.all() {
            meter.retries.fetch_add(1, Relaxed);
        }
    }

    /// A connection was dropped for being too slow.
    pub fn add_stall(&self, stall: Stall) {
        for meter in self.all() {
            meter.stalls[stall as usize].fetch_add(1, Relaxed);
        }
    }

    /// `bytes` were received twice.
    pub fn add_refetched(&self, bytes: u64) {
        for meter in self.all() {
            meter.refetched.fetch_add(bytes, Relaxed);
        }
    }

    /// All counters now.
    pub fn tally(&self) -> Tally {
        let stalls = |stall: Stall| self.stalls[stall as usize].load(Relaxed);
        Tally {
            fetched: self.fetched.load(Relaxed),
            connections: self.connections.load(Relaxed),
            retries: self.retries.load(Relaxed),
            stalls: Stalls {
                silent: stalls(Stall::Silent),
                trickling: stalls(Stall::Trickling),
                floor: stalls(Stall::Floor),
                waited: stalls(Stall::Waited),
            },
            refetched: self.refetched.load(Relaxed),
            by_host: self.by_host.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            by_source: self.by_source.lock().unwrap_or_else(PoisonError::into_inner).clone(),
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
                    meter.add_source("spool", 2);
                    meter.add_retry();
                    meter.add_stall(Stall::Silent);
                    meter.add_stall(Stall::Waited);
                    meter.add_refetched(5);
                    meter.connection_closed();
                });
            }
        });
        meter.connection_opened();
        let by_host = BTreeMap::from([("mirror:5000".to_owned(), 700), ("registry:443".to_owned(), 1400)]);
        let stalls = Stalls { silent: 3, waited: 3, ..Stalls::default() };
        assert_eq!(stalls.total(), 6);
        let by_source = BTreeMap::from([("spool", 6)]);
        let expected = Tally { fetched: 2100, connections: 1, retries: 3, stalls, refetched: 15, by_host, by_source };
        assert_eq!(meter.tally(), expected);
    }
}
