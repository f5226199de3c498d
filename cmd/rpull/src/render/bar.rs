//! Lines that change, on a terminal: one for each blob on its way, and one that sums up. Finished layers fold away.

use std::{io, sync::Arc, time::Duration};

use progress::{Event, Progress};

use super::{
    Draw, Streams, Told,
    board::{Board, Fetching},
    figures::{Figures, Gauge},
    frame::Frame,
    plain::{Naming, amounts},
    text::{print, size},
};
use crate::report::one_line;

/// Time between two frames: it moves, and a slow line to the terminal is not filled by it.
const BEAT: Duration = Duration::from_millis(100);

/// Blobs shown at once, if the terminal is that high; there may be 64 on their way.
const MOST_BLOBS: usize = 8;

/// A bar shorter than this says nothing that the figure beside it does not.
const SHORTEST_BAR: usize = 8;
const LONGEST_BAR: usize = 40;

/// Columns and rows of a terminal.
type Size = (usize, usize);

/// Draws a pull on a terminal.
pub(super) struct Bar {
    naming: Naming,
    board: Board,
    gauge: Gauge,
    frame: Frame,
    size: fn() -> Size,
}

impl Bar {
    /// `size` is asked for every frame: the terminal may change.
    pub(super) fn new(several: bool, progress: Progress, size: fn() -> Size) -> Self {
        Self { naming: Naming { several }, board: Board::default(), gauge: Gauge::new(progress), frame: Frame::default(), size }
    }

    /// Writes lines that stay, above those that change; the next frame is not long in coming.
    fn above(&mut self, streams: &mut Streams<'_>, write: impl FnOnce(&mut Streams<'_>)) {
        let (columns, _) = (self.size)();
        print(streams.out, &self.frame.erase(columns));
        write(streams);
    }

    fn event(&mut self, image: Option<&Arc<str>>, event: &Event, streams: &mut Streams<'_>) {
        self.board.hear(image, event);
        if let Event::Warning { text } = event {
            let text = self.naming.of(image, text);
            return self.above(streams, |streams| streams.warning(&text));
        }
        // What a finished layer has to say is in the sum.
        if !matches!(event, Event::LayerCommitted { .. })
            && let Some(line) = self.naming.line(&self.board, image, event)
        {
            self.above(streams, |streams| streams.line(&line));
        }
    }
}

impl Draw for Bar {
    fn beat(&self) -> Option<Duration> {
        Some(BEAT)
    }

    fn hear(&mut self, _now: Duration, told: Told, streams: &mut Streams<'_>) {
        match told {
            Told::Event { image, event } => self.event(image.as_ref(), &event, streams),
            Told::Line(text) => self.above(streams, |streams| streams.line(&text)),
            Told::Pulled { image, .. } if self.naming.several => {
                self.above(streams, |streams| streams.line(&format!("{image}: pulled")));
            }
            Told::Pulled { .. } | Told::Closed => {}
            Told::Failed { image, failure } => {
                if let Some(image) = &image {
                    self.board.forget(image);
                }
                self.above(streams, |streams| streams.failure(&failure));
            }
            Told::Ended(Err(failure)) => self.above(streams, |streams| streams.failure(&failure)),
            Told::Ended(Ok(summary)) => {
                let sum = self.naming.sum(&summary);
                self.above(streams, |streams| {
                    streams.line(&sum);
                    streams.line("done");
                });
            }
        }
    }

    fn tick(&mut self, now: Duration, streams: &mut Streams<'_>) {
        let figures = self.gauge.read(now, &self.board);
        let (columns, rows) = (self.size)();
        let lines = lines(&self.board, &figures, columns, rows);
        print(streams.out, &self.frame.draw(&lines, columns));
    }
}

/// Columns and rows of the terminal behind stdout.
pub(super) fn terminal() -> Size {
    let size = rustix::termios::tcgetwinsize(io::stdout()).map_or((0, 0), |size| (size.ws_col, size.ws_row));
    match size {
        (0, _) | (_, 0) => (80, 24),
        (columns, rows) => (columns.into(), rows.into()),
    }
}

/// A frame; no line fills the last column, behind which terminals differ.
fn lines(board: &Board, figures: &Figures, columns: usize, rows: usize) -> Vec<String> {
    let width = columns.saturating_sub(1).max(1);
    let (committed, layers) = board.layers();
    if layers == 0 {
        // Before there is anything to fetch only a registry that does not answer takes time.
        return board.trouble().map(|cause| cut(&format!("trying again: {}", one_line(cause)), width)).into_iter().collect();
    }
    let blobs = board.fetching();
    // Below them is the sum, above them at least one line that stays.
    let room = MOST_BLOBS.min(rows.saturating_sub(2));
    let shown = if blobs.len() > room { room.saturating_sub(1) } else { blobs.len() };
    let mut lines: Vec<String> = blobs[..shown].iter().map(|blob| blob_line(blob, width)).collect();
    if blobs.len() > shown && room > 0 {
        lines.push(cut(&format!("and {} more", blobs.len() - shown), width));
    }
    let mut parts = vec![format!("{} %", figures.percent())];
    parts.extend(amounts(figures));
    parts.insert(parts.len().min(4), format!("{committed} of {layers} layers"));
    lines.push(fitting(&parts, width));
    lines
}

/// `a8b5fca80efa [#####-----]  45 % of 12.5 MiB`, as much of it as there is room for.
fn blob_line(blob: &Fetching, width: usize) -> String {
    let percent = (u128::from(blob.done) * 100).checked_div(blob.size.into()).unwrap_or(100);
    let (name, figure) = (blob.digest.short(), format!("{percent:>3} %"));
    let of = format!("{figure} of {}", size(blob.size));
    let bar = width.saturating_sub(name.len() + of.len() + 4).min(LONGEST_BAR);
    if bar >= SHORTEST_BAR {
        let full =
            usize::try_from((u128::from(blob.done) * bar as u128).checked_div(blob.size.into()).unwrap_or(0)).unwrap_or(bar);
        return format!("{name} [{}{}] {of}", "#".repeat(full), "-".repeat(bar - full));
    }
    let line = if name.len() + 1 + of.len() <= width { format!("{name} {of}") } else { format!("{name} {figure}") };
    cut(&line, width)
}

/// The parts in their order, without those for which there is no room.
fn fitting(parts: &[String], width: usize) -> String {
    let mut line = String::new();
    for part in parts {
        let comma = if line.is_empty() { "" } else { ", " };
        if line.len() + comma.len() + part.len() <= width {
            line = format!("{line}{comma}{part}");
        }
    }
    line
}

/// Of a letter that is wide or joins another only a terminal knows how much room it takes: what is shown here is ASCII.
fn cut(line: &str, width: usize) -> String {
    line.chars().filter(char::is_ascii).take(width).collect()
}

#[cfg(test)]
mod tests;
