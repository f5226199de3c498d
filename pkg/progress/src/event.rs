//! Events and the handle that carries them.

use std::{fmt, sync::Arc, time::Duration};

use oci::Digest;

use crate::Meter;

/// One thing that happened. Sizes in bytes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The reference points at this image.
    Resolved {
        /// Record name.
        reference: String,
        /// Digest of the target (index or manifest).
        target: Digest,
    },
    /// The plan stands.
    Planned {
        /// Layers in all.
        layers: usize,
        /// Bytes that will cross the network.
        to_fetch: u64,
    },
    /// A blob's transfer begins.
    FetchStarted {
        /// The blob.
        blob: Digest,
        /// Its size.
        size: u64,
        /// Bytes already in the spool from an earlier run.
        resumed: u64,
    },
    /// A blob is whole and its digest proved.
    FetchFinished {
        /// The blob.
        blob: Digest,
    },
    /// A request failed and will be made again.
    Retrying {
        /// The blob.
        blob: Digest,
        /// Host it failed on.
        host: String,
        /// Why, redacted.
        cause: String,
        /// Pause before the next try.
        after: Duration,
    },
    /// Waiting for another process or writer that holds a blob.
    Waiting {
        /// The blob.
        blob: Digest,
        /// For whom.
        whom: String,
    },
    /// A layer's snapshot is committed and whole.
    LayerCommitted {
        /// Position, 0 is the bottom.
        index: usize,
        /// The blob.
        blob: Digest,
    },
    /// Something a person should know that is no failure.
    Warning {
        /// One line.
        text: String,
    },
}

/// Cheap handle on whoever listens, and the run's meter.
#[derive(Clone)]
pub struct Progress {
    listener: Arc<dyn Fn(&Event) + Send + Sync>,
    meter: Arc<Meter>,
}

impl Progress {
    /// Events go to `listener`, on the thread where they happen: it must be quick.
    pub fn new(listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self { listener: Arc::new(listener), meter: Arc::default() }
    }

    /// Nobody listens.
    pub fn silent() -> Self {
        Self::new(|_| {})
    }

    /// Tells the listener.
    pub fn emit(&self, event: &Event) {
        (self.listener)(event);
    }

    /// The run's counters.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("meter", &self.meter).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    #[test]
    fn clones_tell_one_listener_in_order_and_share_one_meter() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ears = Arc::clone(&heard);
        let progress = Progress::new(move |event| {
            if let Event::LayerCommitted { index, .. } = event {
                ears.lock().unwrap_or_else(PoisonError::into_inner).push(*index);
            }
        });
        let clone = progress.clone();
        for (handle, index) in [(&progress, 0), (&clone, 1), (&progress, 2)] {
            handle.emit(&Event::LayerCommitted { index, blob: Digest::of(b"layer") });
            handle.meter().add_fetched(10);
        }
        assert_eq!(*heard.lock().unwrap(), [0, 1, 2]);
        assert_eq!(clone.meter().tally().fetched, 30);
    }

    #[test]
    fn events_pass_when_nobody_listens() {
        Progress::silent().emit(&Event::Warning { text: "unheard".to_owned() });
    }
}
