//! One request: asks, reads frames, writes them through a grant, does as the driver says in between.
//!
//! Memory is what is collected for one write and the frame being read, and while the disk is slower than the net few lanes
//! hold such a frame at once. A lane is never aborted: it ends by itself after the write that runs, so that the range it held
//! can go to another (safety rule 2).

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use oci::ByteRange;
use progress::{Progress, Stall, Written};
use registry::{Body, Fault, Repository, Span};
use spool::{Entry, Grant};
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit, mpsc},
    time::{Instant, sleep_until, timeout},
};

use super::{bucket::Bucket, driver::Message, record::Record};
use crate::{Answer, BlobId, ConnectionId, Fact};

/// Frames are collected up to this before they go to a blocking thread. 128 KiB: the hop costs a few microseconds, the
/// copy into the page cache fifty; more would count 32 times against the memory ceiling.
const COLLECT: usize = 128 << 10;
/// So many lanes may take a frame that waits for them, and write it. A frame keeps the read buffer of its connection, up to
/// 400 KiB, and the next one has been read behind it already: 32 lanes that wait for one disk would hold 64 of them.
pub(super) const WRITERS: usize = 8;
/// Collected bytes of a slow connection are written after this, so that a crash loses little.
const LINGER: Duration = Duration::from_millis(500);
/// How long the end of a body may take after its last byte; later the connection is closed instead of kept.
const END: Duration = Duration::from_secs(1);

/// What driver and request share.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) blob: BlobId,
    /// Index of the host in its repository.
    pub(super) host: usize,
    received: AtomicU64,
    served: AtomicBool,
    /// Waits for the limit of the run's rate.
    held: AtomicBool,
    control: Mutex<Control>,
    changed: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Control {
    end: u64,
    closed: bool,
    /// By which rule it was closed for being slow.
    stall: Option<Stall>,
    whole: bool,
}

/// What a request is to ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) connection: ConnectionId,
    pub(super) range: ByteRange,
    /// With a `Range` header?
    pub(super) ranged: bool,
    /// How often these bytes were asked for there, this time included.
    pub(super) attempt: u32,
}

/// Everything a request needs.
pub(super) struct Request {
    pub(super) asked: Asked,
    pub(super) repository: Repository,
    pub(super) entry: Entry,
    pub(super) lane: Arc<Lane>,
    pub(super) written: Written,
    pub(super) messages: mpsc::UnboundedSender<Message>,
    pub(super) progress: Progress,
    pub(super) bucket: Option<Arc<Bucket>>,
    /// [`WRITERS`] of the run.
    pub(super) writers: Arc<Semaphore>,
}

#[derive(Debug)]
pub(super) enum Trouble {
    Registry(Fault),
    Disk(spool::Error),
    /// The runtime ends.
    Stopped,
}

impl Lane {
    pub(super) fn new(blob: BlobId, host: usize, range: ByteRange) -> Self {
        let control = Control { end: range.end(), closed: false, stall: None, whole: false };
        Self {
            blob,
            host,
            received: AtomicU64::new(range.start()),
            served: AtomicBool::new(false),
            held: AtomicBool::new(false),
            control: Mutex::new(control),
            changed: Notify::new(),
        }
    }

    /// Did a byte of the blob come this way?
    pub(super) fn served(&self) -> bool {
        self.served.load(Relaxed)
    }

    /// End of what was received.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Does it wait for the limit of the run's rate?
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Relaxed)
    }

    pub(super) fn take_whole(&self) {
        self.received.store(0, Relaxed);
        self.change(|control| control.whole = true);
    }

    pub(super) fn shrink(&self, end: u64) {
        self.change(|control| control.end = end);
    }

    /// `stall` is the rule by which it was too slow, if that is why.
    pub(super) fn close(&self, stall: Option<Stall>) {
        self.change(|control| (control.closed, control.stall) = (true, stall));
    }

    /// The rule by which it was closed for being too slow, if it was.
    pub(super) fn stall(&self) -> Option<Stall> {
        self.control().stall
    }

    fn change(&self, change: impl FnOnce(&mut Control)) {
        change(&mut self.control.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    fn control(&self) -> Control {
        *self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wait_for(&self, reached: impl Fn(&Control) -> bool) -> Control {
        loop {
            let control = self.control();
            if reached(&control) {
                return control;
            }
            self.changed.notified().await;
        }
    }
}

impl Request {
    pub(super) async fn run(self) {
        let meter = self.progress.meter();
        meter.connection_opened();
        let mut record = Record::begin(&self.progress, self.asked.range);
        let result = self.exchange(&mut record).await;
        record.tell(&self, &result);
        meter.connection_closed();
        let (connection, offset) = (self.asked.connection, record.written);
        let message = match result {
            Ok(()) | Err(Trouble::Stopped) => Message::Fact(Fact::Ended { connection, offset, fault: None }),
            Err(Trouble::Registry(fault)) => Message::Fact(Fact::Ended { connection, offset, fault: Some(Arc::new(fault)) }),
            Err(Trouble::Disk(error)) => Message::Disk { connection, offset, error },
        };
        // A driver that is gone has dropped everything.
        let _ = self.messages.send(message);
    }

    fn say(&self, fact: Fact) {
        let _ = self.messages.send(Message::Fact(fact));
    }

    /// The record says what is written, also after an error.
    async fn exchange(&self, record: &mut Record) -> Result<(), Trouble> {
        let Asked { connection, ranged, .. } = self.asked;
        let asked = ranged.then_some(self.asked.range);
        let answer = tokio::select! {
            biased;
            _ = self.lane.wait_for(|control| control.closed) => return Ok(()),
            answer = self.repository.blob(self.lane.host, self.entry.blob(), asked) => answer,
        };
        let body = answer.map_err(Trouble::Registry)?;
        record.answered(&body);
        let mut range = self.asked.range;
        match body.span() {
            Span::Range(_) => self.say(Fact::Accepted { connection, answer: Answer::Range }),
            Span::Whole => {
                self.say(Fact::Accepted { connection, answer: Answer::Whole });
                if self.lane.wait_for(|control| control.closed || control.whole).await.closed {
                    return Ok(());
                }
                range = ByteRange::new(0, self.entry.blob().size()).unwrap_or(range);
                self.lane.change(|control| control.end = range.end());
            }
        }
        record.writes(range);
        let grant = self.entry.grant(range).map_err(Trouble::Disk)?;
        let (end, start) = (range.end(), range.start());
        let mut copy = Copy { request: self, grant: Some(grant), end, received: start, written: start, frames: Vec::new() };
        let result = copy.run(body, record).await;
        // What came before the trouble is good.
        let flushed = copy.flush().await;
        record.written = copy.written;
        record.end = copy.end;
        self.progress.meter().add_host(self.repository.host_name(self.lane.host), copy.received - range.start());
        flushed.and(result)
    }
}

/// The way of one body into the spool.
struct Copy<'a> {
    request: &'a Request,
    /// Away while a write runs.
    grant: Option<Grant>,
    end: u64,
    received: u64,
    written: u64,
    frames: Vec<Bytes>,
}

/// The next frame, not before `go_on`; one that waits already comes with a turn to write it. Safe to cancel, as the body is.
async fn next_frame<'a>(
    request: &'a Request,
    go_on: Instant,
    body: &mut Body,
) -> Result<(Option<Bytes>, Option<SemaphorePermit<'a>>), Fault> {
    let lane = &request.lane;
    lane.held.store(go_on > Instant::now(), Relaxed);
    sleep_until(go_on).await;
    lane.held.store(false, Relaxed);
    let turn = request.writers.acquire().await.expect("the semaphore is never closed");
    let mut frame = pin!(body.frame());
    match poll_fn(|context| Poll::Ready(frame.as_mut().poll(context))).await {
        Poll::Ready(frame) => Ok((frame?, Some(turn))),
        Poll::Pending => {
            drop(turn);
            Ok((frame.await?, None))
        }
    }
}

impl Copy<'_> {
    async fn run(&mut self, mut body: Body, record: &mut Record) -> Result<(), Trouble> {
        let lane = &self.request.lane;
        let asked_end = self.end;
        let mut go_on = Instant::now();
        let mut write_by = go_on;
        while self.received < self.end {
            let control = lane.control();
            if control.closed {
                return Ok(());
            }
            if control.end < self.end {
                self.shrink(control.end).await?;
                continue;
            }
            tokio::select! {
                biased;
                () = lane.changed.notified() => {}
                () = sleep_until(write_by), if !self.frames.is_empty() => self.flush().await?,
                next = next_frame(self.request, go_on, &mut body) => {
                    let (Some(frame), _turn) = next.map_err(Trouble::Registry)? else { return Ok(()) };
                    if self.frames.is_empty() {
                        write_by = Instant::now() + LINGER;
                    }
                    record.arrives(&self.request.progress);
                    if let Some(bucket) = &self.request.bucket {
                        go_on = bucket.take(frame.len() as u64);
                    }
                    self.take(frame);
                    if self.frames.iter().map(Bytes::len).sum::<usize>() >= COLLECT {
                        self.flush().await?;
                    }
                }
            }
        }
        if self.end == asked_end {
            // Read to its end, the connection can be used again.
            let _ = timeout(END, body.frame()).await;
        }
        Ok(())
    }

    fn take(&mut self, mut frame: Bytes) {
        let meter = self.request.progress.meter();
        meter.add_fetched(frame.len() as u64);
        let wanted = self.end - self.received;
        if let Some(excess) = (frame.len() as u64).checked_sub(wanted).filter(|excess| *excess > 0) {
            // Another connection has the rest.
            meter.add_refetched(excess);
            frame.truncate(usize::try_from(wanted).expect("less than the frame's length"));
        }
        self.received += frame.len() as u64;
        self.request.lane.received.store(self.received, Relaxed);
        self.request.lane.served.store(true, Relaxed);
        self.frames.push(frame);
    }

    /// Gives up everything behind `end`, or behind what was received if that is more.
    async fn shrink(&mut self, end: u64) -> Result<(), Trouble> {
        self.flush().await?;
        let end = end.max(self.received);
        if let Some(grant) = self.grant.as_mut().filter(|_| end < self.end) {
            grant.shrink(end).map_err(Trouble::Disk)?;
        }
        self.end = end;
        self.request.lane.change(|control| control.end = end);
        self.request.say(Fact::Shrunk { connection: self.request.asked.connection, end });
        Ok(())
    }

    /// Writes what is collected; the grant comes back only when the write has returned.
    async fn flush(&mut self) -> Result<(), Trouble> {
        if self.frames.is_empty() {
            return Ok(());
        }
        let Some(mut grant) = self.grant.take() else { return Err(Trouble::Stopped) };
        let frames = std::mem::take(&mut self.frames);
        let end = self.end;
        let write = move || {
            let result = frames.iter().try_for_each(|frame| grant.write(frame));
            // Before anybody else's turn.
            drop(frames);
            (grant, result)
        };
        let (grant, result) = tokio::task::spawn_blocking(write).await.map_err(|_| Trouble::Stopped)?;
        let before = std::mem::replace(&mut self.written, grant.rest().map_or(end, ByteRange::start));
        self.request.written.add(self.written - before);
        self.grant = Some(grant);
        result.map_err(Trouble::Disk)
    }
}
