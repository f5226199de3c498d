//! What took how long: the ranges of the transfer and the steps around them, for whoever draws them afterwards.
//!
//! Times are spans since the run's [`Progress`] was made, so that all of them can be laid beside each other.

use std::{future::Future, net::SocketAddr, time::Duration};

use oci::Digest;

use crate::{Event, Progress, Stall};

/// One request for bytes of a blob, from asking until its last write has returned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RangeSpan {
    /// The blob.
    pub blob: Digest,
    /// Host and port that was asked.
    pub host: String,
    /// Who answered, if anybody did.
    pub answered: Option<Answered>,
    /// 1 for the first request for these bytes at this host, more when it is made again.
    pub attempt: u32,
    /// First byte that was asked for.
    pub offset: u64,
    /// Bytes from there that were written. All ranges of a blob together cover each byte once, unless it is started over.
    pub bytes: u64,
    /// When it was asked for.
    pub started: Duration,
    /// When its first byte came.
    pub first_byte: Option<Duration>,
    /// When it was over.
    pub ended: Duration,
    /// How it ended.
    pub ending: Ending,
}

/// Who gave an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answered {
    /// Host and port: the host that was asked, or the storage it redirects to.
    pub server: String,
    /// Our end and the other end of the connection it came on; the other end may be a proxy's.
    pub connection: Option<(SocketAddr, SocketAddr)>,
}

/// How a request ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// All its bytes are written.
    Whole,
    /// A faster connection took its rest over.
    Shortened,
    /// It was given up as too slow.
    Slow(Stall),
    /// It was closed because nobody wanted its bytes any more, or not from there.
    Closed,
    /// It failed.
    Failed {
        /// Why, redacted.
        cause: String,
    },
}

/// A step of a pull.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepSpan {
    /// Which.
    pub step: Step,
    /// Of what.
    pub subject: Subject,
    /// Its beginning.
    pub started: Duration,
    /// Its end.
    pub ended: Duration,
    /// Did it come to its end? Else it failed, or was cut off.
    pub complete: bool,
}

/// Of what a step is one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// An image, by the name of its record.
    Image(String),
    /// A blob.
    Blob(Digest),
}

/// Steps of an image, then steps of a blob at containerd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// From the reference to the list of layers.
    Resolve,
    /// What is here, what is missing, is there room.
    Plan,
    /// Until the last layer is committed.
    Layers,
    /// containerd and the disk are asked again for everything.
    Prove,
    /// The image record is set, and what it stands on looked at once more.
    Publish,
    /// The blob becomes content.
    Content,
    /// A snapshot is begun.
    Prepare,
    /// The blob is put into its snapshot.
    Link,
    /// containerd unpacks the blob into its snapshot.
    Unpack,
    /// The snapshot is committed.
    Snapshot,
}

impl Progress {
    /// Does `work`, and says afterwards how long it took; also when it fails, or is dropped before its end.
    pub fn step<T, E>(
        &self,
        step: Step,
        subject: Subject,
        work: impl Future<Output = Result<T, E>>,
    ) -> impl Future<Output = Result<T, E>> {
        // Steps are large and lie inside each other: not all of them in one future.
        self.timed(step, subject, Box::pin(work))
    }

    async fn timed<T, E>(&self, step: Step, subject: Subject, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let started = self.elapsed();
        let span = StepSpan { step, subject, started, ended: started, complete: false };
        let mut running = Running { progress: self, span };
        let result = work.await;
        running.span.complete = result.is_ok();
        result
    }
}

/// A step that says when it goes.
struct Running<'a> {
    progress: &'a Progress,
    span: StepSpan,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.span.ended = self.progress.elapsed();
        self.progress.emit(&Event::StepDone(self.span.clone()));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{Arc, Mutex},
        task::{Context, Poll, Waker},
    };

    use super::*;

    #[test]
    fn a_step_is_told_when_it_succeeds_fails_or_is_dropped() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ears = Arc::clone(&heard);
        let progress = Progress::new(move |_, event| {
            if let Event::StepDone(span) = event {
                ears.lock().unwrap().push((span.step, span.complete, span.ended >= span.started));
            }
        });
        let subject = || Subject::Blob(Digest::of(b"layer"));
        let mut context = Context::from_waker(Waker::noop());
        let done = pin!(progress.step(Step::Link, subject(), async { Ok::<_, ()>(7) })).poll(&mut context);
        assert_eq!(done, Poll::Ready(Ok(7)));
        let failed = pin!(progress.step(Step::Prove, subject(), async { Err::<(), _>(8) })).poll(&mut context);
        assert_eq!(failed, Poll::Ready(Err(8)));
        {
            let mut dropped = pin!(progress.step(Step::Plan, subject(), std::future::pending::<Result<(), ()>>()));
            assert!(dropped.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(*heard.lock().unwrap(), [(Step::Link, true, true), (Step::Prove, false, true), (Step::Plan, false, true)]);
    }
}
