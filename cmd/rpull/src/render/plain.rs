//! Plain lines without escapes: one per finished layer, every five seconds one that sums up, `done` last.

use std::{sync::Arc, time::Duration};

use progress::{Event, Progress};

use super::{
    Draw, Streams, Summary, Told,
    board::Board,
    figures::{Figures, Gauge},
    text::{count, size, span},
};
use crate::report::one_line;

/// Time between two lines that sum up.
const BEAT: Duration = Duration::from_secs(5);

/// Draws a pull as lines.
pub(super) struct Plain {
    naming: Naming,
    board: Board,
    gauge: Gauge,
}

/// Lines, each with the name of the image it is about where there are several.
#[derive(Clone, Copy)]
pub(super) struct Naming {
    pub(super) several: bool,
}

impl Plain {
    pub(super) fn new(several: bool, progress: Progress) -> Self {
        Self { naming: Naming { several }, board: Board::default(), gauge: Gauge::new(progress) }
    }
}

impl Draw for Plain {
    fn beat(&self) -> Option<Duration> {
        Some(BEAT)
    }

    fn hear(&mut self, _now: Duration, told: Told, streams: &mut Streams<'_>) {
        match told {
            Told::Event { image, event } => {
                self.board.hear(image.as_ref(), &event);
                match &event {
                    Event::Warning { text } => streams.warning(&self.naming.of(image.as_ref(), text)),
                    event => {
                        if let Some(line) = self.naming.line(&self.board, image.as_ref(), event) {
                            streams.line(&line);
                        }
                    }
                }
            }
            Told::Line(text) => streams.line(&text),
            Told::Pulled { image, .. } if self.naming.several => streams.line(&format!("{image}: pulled")),
            Told::Pulled { .. } | Told::Closed => {}
            Told::Failed { image, failure } => {
                if let Some(image) = &image {
                    self.board.forget(image);
                }
                streams.failure(&failure);
            }
            Told::Ended(Err(failure)) => streams.failure(&failure),
            Told::Ended(Ok(summary)) => {
                if self.naming.several {
                    streams.line(&self.naming.sum(&summary));
                }
                streams.line("done");
            }
        }
    }

    fn tick(&mut self, now: Duration, streams: &mut Streams<'_>) {
        let figures = self.gauge.read(now, &self.board);
        let trouble = self.board.take_trouble();
        if figures.done < figures.total {
            let mut parts = amounts(&figures);
            if let Some(bytes) = parts.first_mut() {
                *bytes = format!("{bytes} ({} %)", figures.percent());
            }
            streams.line(&parts.join(", "));
        }
        if let Some(cause) = trouble {
            streams.line(&format!("trying again: {}", one_line(&cause)));
        }
    }
}

impl Naming {
    /// `IMAGE: TEXT` where there are several.
    pub(super) fn of(self, image: Option<&Arc<str>>, text: &str) -> String {
        match image {
            Some(image) if self.several => format!("{image}: {text}"),
            _ => text.to_owned(),
        }
    }

    /// What is worth a line of its own, warnings apart.
    pub(super) fn line(self, board: &Board, image: Option<&Arc<str>>, event: &Event) -> Option<String> {
        let text = match event {
            Event::Resolved { reference, target } => return Some(format!("{reference}: {target}")),
            Event::Planned { layers, to_fetch } => {
                let bytes = to_fetch.iter().map(|(_, bytes)| bytes).sum();
                format!("{}, {} to fetch", count(*layers, "layer"), size(bytes))
            }
            Event::Waiting { blob, whom } => format!("{}: waiting for {}", blob.short(), one_line(whom)),
            Event::MirrorLeft { blob, host, cause } => {
                format!("{}: {} is left for the next host: {}", blob.short(), one_line(host), one_line(cause))
            }
            Event::LayerCommitted { index, blob, lazy } => {
                let how = match board.fetched(*blob) {
                    _ if *lazy => "lazy".to_owned(),
                    Some(bytes) => format!("{} fetched", size(bytes)),
                    None => "was here".to_owned(),
                };
                let layers = board.image(image).map_or(0, |image| image.layers);
                format!("layer {}/{layers} {}: {how}", index + 1, blob.short())
            }
            _ => return None,
        };
        Some(self.of(image, &text))
    }

    /// `3 images, 1.2 GiB fetched`
    pub(super) fn sum(self, summary: &Summary) -> String {
        let fetched = format!("{} fetched", size(summary.fetched));
        if self.several { format!("{}, {fetched}", count(summary.images, "image")) } else { fetched }
    }
}

/// `1.2 GiB of 4.5 GiB`, `512.0 MiB/s`, `6s left`, `32 connections`, `2 retries`, as far as there are any.
pub(super) fn amounts(figures: &Figures) -> Vec<String> {
    let Figures { done, total, connections, retries, rate, left } = figures;
    let counted = |number: u64, noun| (number > 0).then(|| count(usize::try_from(number).unwrap_or(usize::MAX), noun));
    let more = done < total;
    let parts = [
        Some(format!("{} of {}", size(*done), size(*total))),
        more.then(|| format!("{}/s", size(*rate))),
        left.filter(|_| more).map(|left| format!("{} left", span(left))),
        counted(*connections, "connection"),
        counted(*retries, "retry"),
    ];
    parts.into_iter().flatten().collect()
}
