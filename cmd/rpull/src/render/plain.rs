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

/// Draws a pull as lines. Of several images each line names the one it is about.
pub(super) struct Plain {
    several: bool,
    board: Board,
    gauge: Gauge,
}

impl Plain {
    pub(super) fn new(several: bool, progress: Progress) -> Self {
        Self { several, board: Board::default(), gauge: Gauge::new(progress) }
    }

    fn event(&mut self, image: Option<&Arc<str>>, event: &Event, streams: &mut Streams<'_>) {
        self.board.hear(image, event);
        let text = match event {
            Event::Resolved { reference, target } => return streams.line(&format!("{reference}: {target}")),
            Event::Planned { layers, to_fetch } => {
                let bytes = to_fetch.iter().map(|(_, bytes)| bytes).sum();
                format!("{}, {} to fetch", count(*layers, "layer"), size(bytes))
            }
            Event::Waiting { blob, whom } => format!("{}: waiting for {}", blob.short(), one_line(whom)),
            Event::MirrorLeft { blob, host, cause } => {
                format!("{}: {} is left for the next host: {}", blob.short(), one_line(host), one_line(cause))
            }
            Event::LayerCommitted { index, blob } => {
                let how = match self.board.fetched(*blob) {
                    Some(bytes) => format!("{} fetched", size(bytes)),
                    None => "was here".to_owned(),
                };
                format!("layer {}/{} {}: {how}", index + 1, self.board.image(image).map_or(0, |image| image.layers), blob.short())
            }
            Event::Warning { text } => return streams.warning(&of_image(self.several, image, text)),
            _ => return,
        };
        streams.line(&of_image(self.several, image, &text));
    }
}

impl Draw for Plain {
    fn beat(&self) -> Option<Duration> {
        Some(BEAT)
    }

    fn hear(&mut self, _now: Duration, told: Told, streams: &mut Streams<'_>) {
        match told {
            Told::Event { image, event } => self.event(image.as_ref(), &event, streams),
            Told::Line(text) => streams.line(&text),
            Told::Pulled { image, .. } if self.several => streams.line(&format!("{image}: pulled")),
            Told::Pulled { .. } | Told::Closed => {}
            Told::Failed { image, failure } => {
                if let Some(image) = &image {
                    self.board.forget(image);
                }
                streams.failure(&failure);
            }
            Told::Ended(Err(failure)) => streams.failure(&failure),
            Told::Ended(Ok(summary)) => {
                if self.several {
                    streams.line(&sum(&summary));
                }
                streams.line("done");
            }
        }
    }

    fn tick(&mut self, now: Duration, streams: &mut Streams<'_>) {
        let figures = self.gauge.read(now, &self.board);
        let trouble = self.board.take_trouble();
        if figures.done < figures.total {
            streams.line(&so_far(&figures));
        }
        if let Some(cause) = trouble {
            streams.line(&format!("trying again: {}", one_line(&cause)));
        }
    }
}

/// `1.2 GiB of 4.5 GiB (27 %), 512.0 MiB/s, 6s left, 32 connections, 2 retries`
pub(super) fn so_far(figures: &Figures) -> String {
    let Figures { done, total, connections, retries, rate, left } = figures;
    let counted = |number: u64, noun| (number > 0).then(|| count(usize::try_from(number).unwrap_or(usize::MAX), noun));
    let parts = [
        Some(format!("{} of {} ({} %)", size(*done), size(*total), figures.percent())),
        Some(format!("{}/s", size(*rate))),
        left.map(|left| format!("{} left", span(left))),
        counted(*connections, "connection"),
        counted(*retries, "retry"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `IMAGE: TEXT` where there are several.
fn of_image(several: bool, image: Option<&Arc<str>>, text: &str) -> String {
    match image {
        Some(image) if several => format!("{image}: {text}"),
        _ => text.to_owned(),
    }
}

/// `3 images, 1.2 GiB fetched`
fn sum(summary: &Summary) -> String {
    format!("{}, {} fetched", count(summary.images, "image"), size(summary.fetched))
}
