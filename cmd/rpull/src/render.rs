//! What a person or a script sees of a pull, made from [`progress`] events. stdout has progress and results, stderr warnings and
//! errors.
//!
//! A [`Screen`] is what the run talks to. It hands everything to a thread of its own, which draws: a terminal that is stopped, or a
//! pipe that nobody reads, never holds up a transfer.

mod bar;
mod board;
mod figures;
mod frame;
mod json;
mod plain;
mod quiet;
mod text;

use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use progress::{Event, Progress};
use tokio::time::Instant;

use crate::{
    failure::Failure,
    report::{self, Ink},
};
use bar::Bar;
use json::Json;
use plain::Plain;
use quiet::Quiet;
pub(crate) use text::{print, size};

/// Which way to draw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Lines that change, on a terminal.
    Bar,
    /// Lines.
    Plain,
    /// Objects, one a line.
    Json,
    /// Nothing but `done`.
    Quiet,
    /// Nothing.
    None,
}

/// What the run talks to.
pub(crate) struct Screen {
    told: Sender<Told>,
    drawing: JoinHandle<()>,
}

/// One who stopped a run does not wait for a reader that does not read.
const STOPPED_LIMIT: Duration = Duration::from_secs(1);

/// What a screen is told.
pub(crate) enum Told {
    /// Something happened, where it is known to which image.
    Event { image: Option<Arc<str>>, event: Event },
    /// A line of a result.
    Line(String),
    /// An image is whole.
    Pulled { image: String, fetched: u64 },
    /// Something failed, an image perhaps, and the rest goes on.
    Failed { image: Option<String>, failure: Failure },
    /// The pull is over.
    Ended(Result<Summary, Failure>),
    /// Nothing more will be told.
    Closed,
}

/// A pull that ended well.
pub(crate) struct Summary {
    /// Images that were pulled.
    pub(crate) images: usize,
    /// Layer bytes that came over the network.
    pub(crate) fetched: u64,
}

/// A way to draw.
trait Draw: Send {
    /// Time between two [`Draw::tick`]s.
    fn beat(&self) -> Option<Duration> {
        None
    }

    /// `now` counts from the start of the run.
    fn hear(&mut self, now: Duration, told: Told, streams: &mut Streams<'_>);

    /// A beat has passed.
    fn tick(&mut self, _now: Duration, _streams: &mut Streams<'_>) {}
}

/// Where lines go.
struct Streams<'a> {
    out: &'a mut dyn io::Write,
    err: &'a mut dyn io::Write,
    /// Of `err`.
    ink: Ink,
}

impl Streams<'_> {
    /// Progress and results.
    fn line(&mut self, text: &str) {
        print(self.out, &format!("{text}\n"));
    }

    fn warning(&mut self, text: &str) {
        report::warning(self.err, self.ink, text);
    }

    fn failure(&mut self, failure: &Failure) {
        report::failure(self.err, self.ink, &failure.message, failure.hint.as_deref());
    }
}

impl Screen {
    /// A handle for those who move bytes, and what must be told how it ended. `several` images may be under way at once.
    pub(crate) fn start(kind: Kind, several: bool) -> (Progress, Self) {
        let (told, receiver) = mpsc::channel();
        let sender = told.clone();
        let progress = Progress::new(move |image, event| {
            // There are thousands of these, and no screen shows them.
            if matches!(event, Event::RangeDone(_) | Event::StepDone(_)) {
                return;
            }
            let _ = sender.send(Told::Event { image: image.cloned(), event: event.clone() });
        });
        let mut drawing: Box<dyn Draw> = match kind {
            Kind::Bar => Box::new(Bar::new(several, progress.clone(), bar::terminal)),
            Kind::Plain => Box::new(Plain::new(several, progress.clone())),
            Kind::Json => Box::new(Json::new(progress.clone())),
            Kind::Quiet => Box::new(Quiet { says_done: true }),
            Kind::None => Box::new(Quiet { says_done: false }),
        };
        let drawing = thread::spawn(move || {
            let (mut out, mut err) = (io::stdout(), io::stderr());
            draw(&receiver, drawing.as_mut(), &mut Streams { out: &mut out, err: &mut err, ink: Ink::of_stderr() });
        });
        (progress, Self { told, drawing })
    }

    /// A line of a result.
    pub(crate) fn line(&self, text: String) {
        self.tell(Told::Line(text));
    }

    /// An image is whole; so many layer bytes came over the network for it.
    pub(crate) fn pulled(&self, image: &str, fetched: u64) {
        self.tell(Told::Pulled { image: image.to_owned(), fetched });
    }

    /// A failure in its place among the results, of an image where it is known; the rest goes on.
    pub(crate) fn failed(&self, image: Option<&str>, failure: Failure) {
        self.tell(Told::Failed { image: image.map(str::to_owned), failure });
    }

    /// Says how the pull ended and waits until everything is written; after a signal not for long.
    pub(crate) fn end(self, outcome: Result<Summary, Failure>) {
        let stopped = outcome.as_ref().is_err_and(|failure| failure.code.is_signal());
        self.tell(Told::Ended(outcome));
        if stopped {
            self.tell(Told::Closed);
            let asked = Instant::now();
            while !self.drawing.is_finished() && asked.elapsed() < STOPPED_LIMIT {
                thread::sleep(STOPPED_LIMIT / 100);
            }
        } else {
            self.close();
        }
    }

    /// Waits until everything is written.
    pub(crate) fn close(self) {
        self.tell(Told::Closed);
        let _ = self.drawing.join();
    }

    fn tell(&self, told: Told) {
        // A thread that is gone has nobody to draw for.
        let _ = self.told.send(told);
    }
}

/// Draws what comes, and in between at every beat.
fn draw(told: &Receiver<Told>, drawing: &mut dyn Draw, streams: &mut Streams<'_>) {
    /// Nothing is drawn by itself.
    const LONG: Duration = Duration::from_secs(3600);
    let started = Instant::now();
    let beat = drawing.beat();
    let mut next = beat.unwrap_or(LONG);
    loop {
        let heard = told.recv_timeout(next.saturating_sub(started.elapsed()));
        let now = started.elapsed();
        match heard {
            Ok(Told::Closed) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(told) => drawing.hear(now, told, streams),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if now >= next {
            if beat.is_some() {
                drawing.tick(now, streams);
            }
            next = now + beat.unwrap_or(LONG);
        }
    }
}

#[cfg(test)]
mod tests;
