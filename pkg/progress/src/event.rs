//! Events and the handle that carries them.

use std::{fmt, sync::Arc, time::Duration};

use oci::Digest;

use crate::{Meter, RangeSpan, StepSpan, Written};

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
        /// Blobs that will cross the network, each once, with their sizes.
        to_fetch: Vec<(Digest, u64)>,
    },
    /// A blob's transfer begins.
    FetchStarted {
        /// The blob.
        blob: Digest,
        /// Its size.
        size: u64,
        /// Bytes already in the spool from an earlier run.
        resumed: u64,
        /// Bytes in the spool, whenever it is looked at.
        written: Written,
    },
    /// A blob is whole and its digest proved.
    FetchFinished {
        /// The blob.
        blob: Digest,
    },
    /// A request failed and will be made again.
    Retrying {
        /// The blob; of a document or a reference only what is in `cause`.
        blob: Option<Digest>,
        /// Host it failed on.
        host: String,
        /// Why, redacted.
        cause: String,
        /// Pause before the next try.
        after: Duration,
    },
    /// A host failed, and another one that has the blob too goes first from now on.
    MirrorLeft {
        /// The blob.
        blob: Digest,
        /// The host that is left.
        host: String,
        /// Why, redacted.
        cause: String,
    },
    /// Waiting for another process or writer that holds a blob.
    Waiting {
        /// The blob.
        blob: Digest,
        /// For whom.
        whom: String,
    },
    /// A layer's snapshot is committed.
    LayerCommitted {
        /// Position, 0 is the bottom.
        index: usize,
        /// The blob.
        blob: Digest,
        /// Its data stays in the registry.
        lazy: bool,
    },
    /// A request for bytes of a blob is over.
    RangeDone(RangeSpan),
    /// A step of the pull is over.
    StepDone(StepSpan),
    /// Something a person should know that is no failure.
    Warning {
        /// One line.
        text: String,
    },
}

/// Cheap handle on whoever listens, and a meter: the run's, or that of one image of the run.
#[derive(Clone)]
pub struct Progress {
    listener: Arc<Listener>,
    image: Option<Arc<str>>,
    meter: Arc<Meter>,
    #[expect(clippy::disallowed_types, reason = "what really took how long is told, also where a test simulates time")]
    started: std::time::Instant,
}

type Listener = dyn Fn(Option<&Arc<str>>, &Event) + Send + Sync;

impl Progress {
    /// Events go to `listener`, on the thread where they happen: it must be quick. It is told the image they are about, where the
    /// run is divided into images ([`Progress::image`]).
    pub fn new(listener: impl Fn(Option<&Arc<str>>, &Event) + Send + Sync + 'static) -> Self {
        #[expect(clippy::disallowed_types, reason = "as in the field")]
        let started = std::time::Instant::now();
        Self { listener: Arc::new(listener), image: None, meter: Arc::default(), started }
    }

    /// The same run, heard by `another` as well.
    #[must_use]
    pub fn heard_by(self, another: impl Fn(Option<&Arc<str>>, &Event) + Send + Sync + 'static) -> Self {
        let first = self.listener;
        let both = move |image: Option<&Arc<str>>, event: &Event| {
            first(image, event);
            another(image, event);
        };
        Self { listener: Arc::new(both), ..self }
    }

    /// Nobody listens.
    pub fn silent() -> Self {
        Self::new(|_, _| {})
    }

    /// The part of the run that is about one image: the same listener, and a meter that counts for the run as well.
    #[must_use]
    pub fn image(&self, name: &str) -> Self {
        Self {
            listener: Arc::clone(&self.listener),
            image: Some(name.into()),
            meter: Arc::new(Meter::within(Arc::clone(&self.meter))),
            started: self.started,
        }
    }

    /// Tells the listener.
    pub fn emit(&self, event: &Event) {
        (self.listener)(self.image.as_ref(), event);
    }

    /// Time since the run began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The counters of the image, or of the run.
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
        let progress = Progress::new(move |_, event| {
            if let Event::LayerCommitted { index, .. } = event {
                ears.lock().unwrap_or_else(PoisonError::into_inner).push(*index);
            }
        });
        let clone = progress.clone();
        for (handle, index) in [(&progress, 0), (&clone, 1), (&progress, 2)] {
            handle.emit(&Event::LayerCommitted { index, blob: Digest::of(b"layer"), lazy: false });
            handle.meter().add_fetched(10);
        }
        assert_eq!(*heard.lock().unwrap(), [0, 1, 2]);
        assert_eq!(clone.meter().tally().fetched, 30);
    }

    #[test]
    fn an_image_is_named_and_counts_for_the_run() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ears = Arc::clone(&heard);
        let run = Progress::new(move |image, _| ears.lock().unwrap().push(image.map(ToString::to_string)));
        let images = ["r/a:1", "r/b:1"].map(|name| run.image(name));
        for progress in images.iter().chain([&run]) {
            progress.emit(&Event::Warning { text: String::new() });
            progress.meter().add_fetched(10);
            progress.meter().add_host("r:443", 10);
        }
        assert_eq!(*heard.lock().unwrap(), [Some("r/a:1".to_owned()), Some("r/b:1".to_owned()), None]);
        assert_eq!(images[0].meter().tally().fetched, 10);
        let tally = run.meter().tally();
        assert_eq!((tally.fetched, tally.by_host["r:443"]), (30, 30));
    }

    #[test]
    fn two_may_listen_to_one_run() {
        let heard = Arc::new(Mutex::new(String::new()));
        let ears = |name: char| {
            let heard = Arc::clone(&heard);
            move |_: Option<&Arc<str>>, _: &Event| heard.lock().unwrap().push(name)
        };
        let first = Progress::new(ears('a'));
        let both = first.clone().heard_by(ears('b'));
        both.emit(&Event::Warning { text: "both".to_owned() });
        first.emit(&Event::Warning { text: "the first alone".to_owned() });
        both.meter().add_retry();
        assert_eq!((heard.lock().unwrap().as_str(), first.meter().tally().retries), ("aba", 1));
    }

    #[test]
    fn events_pass_when_nobody_listens() {
        Progress::silent().emit(&Event::Warning { text: "unheard".to_owned() });
    }
}
