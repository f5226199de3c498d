//! One JSON object a line, for programs: docs/progress.md says what is in them, docs/progress.schema.json how they look.

use std::{sync::Arc, time::Duration};

use oci::Digest;
use progress::{Event, Progress};
use serde::Serialize;

use super::{Draw, Streams, Told, board::Board, figures::Gauge, text::print};
use crate::{exit::ExitCode, failure::Failure};

/// Raised when a field changes its meaning or goes.
const VERSION: u32 = 1;

/// Time between two `advanced` events.
const BEAT: Duration = Duration::from_millis(250);

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    v: u32,
    /// Seconds since the start of the run.
    at: f64,
    #[serde(flatten)]
    said: Said<'a>,
}

/// What a line says. `image` is the name of the image's record.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Said<'a> {
    Resolved {
        image: &'a str,
        target: Digest,
    },
    Planned {
        image: &'a str,
        layers: usize,
        fetch: Fetch,
    },
    Advanced {
        bytes: Bytes,
        images: Vec<Part<'a>>,
        connections: u64,
        retries: u64,
        /// Bytes a second.
        rate: u64,
        /// Seconds.
        eta: Option<u64>,
    },
    Retrying {
        image: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        blob: Option<Digest>,
        host: &'a str,
        cause: &'a str,
        /// Seconds.
        after: f64,
    },
    MirrorLeft {
        image: &'a str,
        blob: Digest,
        host: &'a str,
        cause: &'a str,
    },
    Waiting {
        image: &'a str,
        blob: Digest,
        whom: &'a str,
    },
    LayerCommitted {
        image: &'a str,
        layer: usize,
        blob: Digest,
        fetched: u64,
    },
    Warning {
        #[serde(skip_serializing_if = "Option::is_none")]
        image: Option<&'a str>,
        text: &'a str,
    },
    ImageDone {
        image: &'a str,
        fetched: u64,
    },
    ImageFailed {
        #[serde(skip_serializing_if = "Option::is_none")]
        image: Option<&'a str>,
        #[serde(flatten)]
        failed: Failed<'a>,
    },
    Done {
        images: usize,
        fetched: u64,
        exit: Exit,
    },
    Failed {
        #[serde(flatten)]
        failed: Failed<'a>,
    },
}

#[derive(Serialize)]
struct Fetch {
    blobs: usize,
    bytes: u64,
}

#[derive(Serialize)]
struct Bytes {
    done: u64,
    total: u64,
}

#[derive(Serialize)]
struct Part<'a> {
    image: &'a str,
    bytes: Bytes,
}

#[derive(Serialize)]
struct Exit {
    code: u8,
    name: &'static str,
}

#[derive(Serialize)]
struct Failed<'a> {
    exit: Exit,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

/// Tells programs of a pull.
pub(super) struct Json {
    board: Board,
    gauge: Gauge,
    /// Bytes done and connections, as told last.
    told: Option<(u64, u64)>,
}

impl Json {
    pub(super) fn new(progress: Progress) -> Self {
        Self { board: Board::default(), gauge: Gauge::new(progress), told: None }
    }

    fn event<'a>(&self, image: Option<&'a Arc<str>>, event: &'a Event) -> Option<Said<'a>> {
        if let Event::Warning { text } = event {
            return Some(Said::Warning { image: image.map(|image| &**image), text });
        }
        // All else is about one image.
        let image = image?;
        Some(match event {
            Event::Resolved { target, .. } => Said::Resolved { image, target: *target },
            Event::Planned { layers, to_fetch } => {
                let fetch = Fetch { blobs: to_fetch.len(), bytes: to_fetch.iter().map(|(_, size)| size).sum() };
                Said::Planned { image, layers: *layers, fetch }
            }
            Event::Retrying { blob, host, cause, after } => {
                Said::Retrying { image, blob: *blob, host, cause, after: thousandths(*after) }
            }
            Event::MirrorLeft { blob, host, cause } => Said::MirrorLeft { image, blob: *blob, host, cause },
            Event::Waiting { blob, whom } => Said::Waiting { image, blob: *blob, whom },
            Event::LayerCommitted { index, blob, .. } => {
                Said::LayerCommitted { image, layer: *index, blob: *blob, fetched: self.board.fetched(*blob).unwrap_or(0) }
            }
            _ => return None,
        })
    }
}

impl Draw for Json {
    fn beat(&self) -> Option<Duration> {
        Some(BEAT)
    }

    fn hear(&mut self, now: Duration, told: Told, streams: &mut Streams<'_>) {
        match told {
            Told::Event { image, event } => {
                self.board.hear(image.as_ref(), &event);
                if let Event::Warning { text } = &event {
                    streams.warning(text);
                }
                if let Some(said) = self.event(image.as_ref(), &event) {
                    say(now, said, streams);
                }
            }
            Told::Line(_) | Told::Closed => {}
            Told::Pulled { image, fetched } => say(now, Said::ImageDone { image: &image, fetched }, streams),
            Told::Failed { image, failure } => {
                if let Some(image) = &image {
                    self.board.forget(image);
                }
                say(now, Said::ImageFailed { image: image.as_deref(), failed: Failed::from(&failure) }, streams);
                streams.failure(&failure);
            }
            Told::Ended(Ok(summary)) => {
                let (images, fetched) = (summary.images, summary.fetched);
                say(now, Said::Done { images, fetched, exit: ExitCode::Done.into() }, streams);
            }
            Told::Ended(Err(failure)) => {
                say(now, Said::Failed { failed: Failed::from(&failure) }, streams);
                streams.failure(&failure);
            }
        }
    }

    fn tick(&mut self, now: Duration, streams: &mut Streams<'_>) {
        let figures = self.gauge.read(now, &self.board);
        let told = (figures.done, figures.connections);
        if figures.total == 0 || self.told.replace(told) == Some(told) {
            return;
        }
        let part = |(image, done, total)| Part { image, bytes: Bytes { done, total } };
        let said = Said::Advanced {
            bytes: Bytes { done: figures.done, total: figures.total },
            images: self.board.images().map(part).collect(),
            connections: figures.connections,
            retries: figures.retries,
            rate: figures.rate,
            eta: figures.left.map(|left| left.as_secs()),
        };
        say(now, said, streams);
    }
}

impl From<ExitCode> for Exit {
    fn from(code: ExitCode) -> Self {
        Self { code: code as u8, name: code.name() }
    }
}

impl<'a> From<&'a Failure> for Failed<'a> {
    fn from(failure: &'a Failure) -> Self {
        Self { exit: failure.code.into(), message: &failure.message, hint: failure.hint.as_deref() }
    }
}

fn say(now: Duration, said: Said<'_>, streams: &mut Streams<'_>) {
    let line = Line { v: VERSION, at: thousandths(now), said };
    let text = serde_json::to_string(&line).expect("text and numbers can be written as JSON");
    print(streams.out, &format!("{text}\n"));
}

/// Seconds; more digits than a millisecond has say nothing.
fn thousandths(span: Duration) -> f64 {
    Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)).as_secs_f64()
}
