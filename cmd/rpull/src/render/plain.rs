//! Plain lines without escapes: one per finished layer, `done` last.

use std::{sync::Arc, time::Duration};

use progress::Event;

use super::{
    Draw, Streams, Summary, Told,
    board::Board,
    text::{count, size},
};
use crate::report::one_line;

/// Draws a pull as lines. Of several images each line names the one it is about.
pub(super) struct Plain {
    several: bool,
    board: Board,
}

impl Plain {
    pub(super) fn new(several: bool) -> Self {
        Self { several, board: Board::default() }
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
            Event::LayerCommitted { index, blob } => {
                let how = match self.board.fetched(*blob) {
                    Some(bytes) => format!("{} fetched", size(bytes)),
                    None => "was here".to_owned(),
                };
                format!("layer {}/{} {}: {how}", index + 1, self.board.layers(image), blob.short())
            }
            Event::Warning { text } => return streams.warning(&of_image(self.several, image, text)),
            _ => return,
        };
        streams.line(&of_image(self.several, image, &text));
    }
}

impl Draw for Plain {
    fn hear(&mut self, _now: Duration, told: Told, streams: &mut Streams<'_>) {
        match told {
            Told::Event { image, event } => self.event(image.as_ref(), &event, streams),
            Told::Line(text) => streams.line(&text),
            Told::Pulled { image } => streams.line(&format!("{image}: pulled")),
            Told::Failed(failure) | Told::Ended(Err(failure)) => streams.failure(&failure),
            Told::Ended(Ok(summary)) => {
                if self.several {
                    streams.line(&sum(&summary));
                }
                streams.line("done");
            }
            Told::Closed => {}
        }
    }
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
