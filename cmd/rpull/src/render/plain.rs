//! Plain lines without escapes: one per finished layer, `done` last.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
};

use oci::Digest;
use progress::{Event, Progress};

use crate::{
    render::{print, size},
    report::one_line,
};

/// Draws a pull as lines. The lines are written by a thread of their own: a terminal that is stopped, or a pipe that nobody
/// reads, never holds up a transfer.
pub(crate) struct Plain {
    lines: Sender<Line>,
    writer: JoinHandle<()>,
}

/// Where a line goes.
#[derive(PartialEq, Eq, Debug)]
enum Line {
    /// stdout: progress and results.
    Out(String),
    /// stderr: warnings.
    Err(String),
    /// No more lines.
    End,
}

impl Plain {
    /// A handle for those who move bytes, and what must be told how it ended.
    pub(crate) fn start() -> (Progress, Self) {
        let (lines, receiver) = mpsc::channel();
        let writer = thread::spawn(move || write(&receiver, &mut io::stdout(), &mut io::stderr()));
        let sender = lines.clone();
        let story = Mutex::new(Story::default());
        let progress = Progress::new(move |event| {
            // Under the lock, so that lines keep the order of the events.
            let mut story = story.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(line) = story.line(event) {
                let _ = sender.send(line);
            }
        });
        (progress, Self { lines, writer })
    }

    /// A line of a result.
    pub(crate) fn out(&self, text: String) {
        let _ = self.lines.send(Line::Out(text));
    }

    /// What a failure has to say, in its place among the results.
    pub(crate) fn err(&self, text: String) {
        let _ = self.lines.send(Line::Err(text));
    }

    /// Says `done` and waits until everything is written.
    pub(crate) fn done(self) {
        self.out("done".to_owned());
        self.end();
    }

    /// Waits until everything is written: what follows on stderr comes after it.
    pub(crate) fn end(self) {
        let _ = self.lines.send(Line::End);
        let _ = self.writer.join();
    }
}

fn write(lines: &Receiver<Line>, out: &mut impl io::Write, err: &mut impl io::Write) {
    for line in lines {
        match line {
            Line::Out(text) => print(out, &format!("{text}\n")),
            Line::Err(text) => print(err, &format!("{text}\n")),
            Line::End => break,
        }
    }
}

/// What was heard so far, as far as later lines need it.
#[derive(Default)]
struct Story {
    layers: usize,
    fetched: BTreeMap<Digest, u64>,
}

impl Story {
    fn line(&mut self, event: &Event) -> Option<Line> {
        match event {
            Event::Resolved { reference, target } => Some(Line::Out(format!("{reference}: {target}"))),
            Event::Planned { layers, to_fetch } => {
                self.layers = *layers;
                let plural = if *layers == 1 { "" } else { "s" };
                Some(Line::Out(format!("{layers} layer{plural}, {} to fetch", size(*to_fetch))))
            }
            Event::FetchStarted { blob, size, .. } => {
                self.fetched.insert(*blob, *size);
                None
            }
            Event::Waiting { blob, whom } => Some(Line::Out(format!("{}: waiting for {}", blob.short(), one_line(whom)))),
            Event::LayerCommitted { index, blob } => {
                let how = match self.fetched.get(blob) {
                    Some(bytes) => format!("{} fetched", size(*bytes)),
                    None => "was here".to_owned(),
                };
                Some(Line::Out(format!("layer {}/{} {}: {how}", index + 1, self.layers, blob.short())))
            }
            Event::Warning { text } => Some(Line::Err(format!("rpull: warning: {}", one_line(text)))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_one_line_per_layer() {
        let (fetched, kept) = (Digest::of(b"fetched"), Digest::of(b"kept"));
        let mut story = Story::default();
        let events = [
            Event::Resolved { reference: "r/a:1".to_owned(), target: kept },
            Event::Planned { layers: 2, to_fetch: 4_739_584 },
            Event::FetchStarted { blob: fetched, size: 4_739_584, resumed: 0 },
            Event::Waiting { blob: fetched, whom: "process 7".to_owned() },
            Event::Warning { text: "one\u{1b}thing".to_owned() },
            Event::LayerCommitted { index: 0, blob: kept },
            Event::FetchFinished { blob: fetched },
            Event::LayerCommitted { index: 1, blob: fetched },
        ];
        let lines: Vec<Line> = events.iter().filter_map(|event| story.line(event)).collect();
        assert_eq!(
            lines,
            [
                Line::Out(format!("r/a:1: {kept}")),
                Line::Out("2 layers, 4.5 MiB to fetch".to_owned()),
                Line::Out(format!("{}: waiting for process 7", fetched.short())),
                Line::Err("rpull: warning: one\\u{1b}thing".to_owned()),
                Line::Out(format!("layer 1/2 {}: was here", kept.short())),
                Line::Out(format!("layer 2/2 {}: 4.5 MiB fetched", fetched.short())),
            ]
        );
    }

    #[test]
    fn the_writer_ends_at_the_end_though_handles_live_on() {
        let (sender, receiver) = mpsc::channel();
        for line in [Line::Out("out".to_owned()), Line::Err("err".to_owned()), Line::End, Line::Out("late".to_owned())] {
            sender.send(line).unwrap();
        }
        let (mut out, mut err) = (Vec::new(), Vec::new());
        write(&receiver, &mut out, &mut err);
        assert_eq!((out.as_slice(), err.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    }
}
