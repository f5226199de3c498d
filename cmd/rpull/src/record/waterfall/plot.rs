//! The rows of the picture, all on one scale of time.

use std::fmt::Write as _;

use progress::{Step, StepSpan, Subject};

use super::{
    super::log::{End, Log, Range, micros, step_name},
    paint::{Canvas, INK, LEFT, RED, RIGHT, SOFT, colour},
    seconds,
};
use crate::render::size;

/// Columns of the curve of the rate.
const BINS: usize = 200;
/// Height of the curve, and of a row that is no connection's.
const CURVE: f64 = 44.0;
const ROW: f64 = 15.0;
/// Narrower ranges of one blob that follow each other on a connection are drawn as one.
const NARROW: f64 = 2.0;

/// From microseconds to where they are in the picture.
pub(super) struct Scale {
    end: u64,
}

#[expect(clippy::cast_precision_loss, reason = "places in a picture")]
impl Scale {
    pub(super) fn to(end: u64) -> Self {
        Self { end: end.max(1000) }
    }

    pub(super) fn x(&self, at: u64) -> f64 {
        LEFT + (RIGHT - LEFT) * (at as f64 / self.end as f64).min(1.0)
    }

    /// Distance of the marks: 1, 2 or 5 times a power of ten, at most twelve of them.
    pub(super) fn step(&self) -> u64 {
        let mut ten = 1;
        loop {
            for step in [ten, ten * 2, ten * 5] {
                if self.end / step <= 12 {
                    return step;
                }
            }
            ten *= 10;
        }
    }
}

/// A label in the left margin, its right end before the rows.
fn label(canvas: &mut Canvas, text: &str, middle: f64, points: f64) {
    let text: String = if text.chars().count() > 17 { text.chars().take(16).chain(['…']).collect() } else { text.to_owned() };
    let more = format!("font-size=\"{points}\" text-anchor=\"end\" fill=\"{SOFT}\"");
    canvas.text((LEFT - 8.0, middle + points * 0.35), &text, &more);
}

/// Lines at the marks of the scale, and their times beneath.
pub(super) fn axis(canvas: &mut Canvas, scale: &Scale, (top, bottom): (f64, f64)) {
    let step = scale.step();
    for at in (0..=scale.end / step).map(|mark| mark * step) {
        let x = scale.x(at);
        canvas.line((x, top), (x, bottom + 4.0));
        let anchor = if at == 0 { "start" } else { "middle" };
        let more = format!("font-size=\"11\" text-anchor=\"{anchor}\" fill=\"{SOFT}\"");
        canvas.text((x, bottom + 16.0), &seconds(at), &more);
    }
    canvas.line((LEFT, bottom), (RIGHT, bottom));
}

/// How fast bytes came, each range's spread evenly from its first byte to its end.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "places in a picture")]
pub(super) fn rate<'a>(canvas: &mut Canvas, scale: &Scale, ranges: impl Iterator<Item = &'a Range>, y: f64) -> f64 {
    let wide = scale.end as f64 / BINS as f64;
    let mut bins = [0.0_f64; BINS];
    for range in ranges.filter(|range| range.bytes > 0) {
        let from = range.first_byte().unwrap_or(range.started) as f64;
        let to = (range.ended as f64).max(from + 1.0);
        let (first, last) = ((from / wide) as usize, (to / wide) as usize);
        for (bin, sum) in bins.iter_mut().enumerate().take(last + 1).skip(first) {
            let (start, end) = (bin as f64 * wide, (bin + 1) as f64 * wide);
            let part = (end.min(to) - start.max(from)).max(0.0) / (to - from);
            *sum += range.bytes as f64 * part;
        }
    }
    let most = bins.iter().copied().fold(0.0, f64::max);
    if most == 0.0 {
        return y;
    }
    let bottom = y + CURVE;
    let place = |bin: usize, sum: f64| (LEFT + (RIGHT - LEFT) * bin as f64 / BINS as f64, bottom - (CURVE - 6.0) * sum / most);
    let mut path = format!("M{LEFT:.1} {bottom:.1}");
    for (bin, sum) in bins.iter().enumerate() {
        for corner in [bin, bin + 1] {
            let (x, y) = place(corner, *sum);
            let _ = write!(path, "L{x:.1} {y:.1}");
        }
    }
    canvas.put(format_args!("<path d=\"{path}L{RIGHT:.1} {bottom:.1}Z\" fill=\"#b9cbe4\" fill-opacity=\"0.55\"/>"));
    label(canvas, "network", y + CURVE * 0.45, 12.0);
    let fastest = most / (wide / 1e6);
    label(canvas, &format!("≤ {}/s", size(fastest as u64)), y + CURVE * 0.8, 10.5);
    bottom + 8.0
}

/// The steps of an image, named where there is room.
pub(super) fn phases(canvas: &mut Canvas, scale: &Scale, name: &str, steps: &[&StepSpan], y: f64) -> f64 {
    label(canvas, name, y + ROW / 2.0, 12.0);
    for step in steps {
        let (from, to) = (micros(step.started), micros(step.ended));
        let (x, wide) = (scale.x(from), (scale.x(to) - scale.x(from)).max(1.0));
        let fill = if step.step == Step::Layers { "#dde7f3" } else { "#a9b8c9" };
        let edge = if step.complete { "#fff" } else { RED };
        let (word, ended) = (step_name(step.step), if step.complete { "" } else { ", failed or cut off" });
        let hint = format!("{word}: {}{ended}", seconds(to - from));
        canvas.rect(
            (x, y),
            (wide, ROW - 2.0),
            &format!("rx=\"2\" fill=\"{fill}\" stroke=\"{edge}\" stroke-width=\"0.8\""),
            &hint,
        );
        #[expect(clippy::cast_precision_loss, reason = "the length of a word")]
        if wide > word.len() as f64 * 6.0 + 6.0 {
            canvas.text((x + 4.0, y + ROW - 5.0), word, &format!("font-size=\"10.5\" fill=\"{INK}\""));
        }
        if !step.complete {
            canvas.cross((x + wide, y + ROW / 2.0 - 1.0), 4.0, &hint);
        }
    }
    y + ROW + 2.0
}

/// Rows of connections with their ranges.
pub(super) fn connections(
    canvas: &mut Canvas,
    log: &Log,
    scale: &Scale,
    ranges: &[(&Range, usize)],
    (rows, height): (usize, f64),
    y: f64,
) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a number of rows")]
    let top = |row: usize| y + row as f64 * height;
    let points = (height - 1.0).clamp(7.0, 12.0);
    for row in 0..rows {
        if height >= 9.0 || row % 4 == 0 || row + 1 == rows {
            let name = if row == 0 { "connection 1".to_owned() } else { (row + 1).to_string() };
            label(canvas, &name, top(row) + height / 2.0, points);
        }
        canvas.ground((LEFT, top(row) + 0.5), (RIGHT - LEFT, height - 1.0), "#f3f5f8");
    }
    for run in runs(scale, ranges) {
        draw_run(canvas, log, scale, &run, (top(run.row), height));
    }
    for (range, row) in ranges {
        mark(canvas, log, scale, range, (top(*row), height));
    }
    top(rows)
}

/// Ranges that are drawn as one rectangle, nearly always a single one.
struct Run<'a> {
    first: &'a Range,
    last: &'a Range,
    row: usize,
    ranges: u64,
    bytes: u64,
}

fn runs<'a>(scale: &Scale, ranges: &[(&'a Range, usize)]) -> Vec<Run<'a>> {
    let wide = |range: &Range| scale.x(range.ended) - scale.x(range.started);
    let mut runs: Vec<Run<'_>> = Vec::new();
    let mut last_of_row: Vec<Option<usize>> = Vec::new();
    for (range, row) in ranges {
        if last_of_row.len() <= *row {
            last_of_row.resize(row + 1, None);
        }
        if let Some(at) = last_of_row[*row] {
            let run = &mut runs[at];
            let follows = scale.x(range.started) - scale.x(run.last.ended) < 1.0;
            if run.last.blob == range.blob && follows && wide(range) < NARROW && wide(run.last) < NARROW {
                (run.last, run.ranges, run.bytes) = (range, run.ranges + 1, run.bytes + range.bytes);
                continue;
            }
        }
        last_of_row[*row] = Some(runs.len());
        runs.push(Run { first: range, last: range, row: *row, ranges: 1, bytes: range.bytes });
    }
    runs
}

fn draw_run(canvas: &mut Canvas, log: &Log, scale: &Scale, run: &Run<'_>, (y, height): (f64, f64)) {
    let (first, last) = (run.first, run.last);
    let (x, end) = (scale.x(first.started), scale.x(last.ended));
    let (y, height) = (y + 0.5, height - 1.0);
    let fill = colour(first.blob as usize);
    let hint = if run.ranges > 1 {
        let blob = log.digest_of(first).short();
        format!("{blob}: {} ranges with {} in {}", run.ranges, size(run.bytes), seconds(last.ended - first.started))
    } else {
        hint(log, first)
    };
    let wide = (end - x).max(0.6);
    canvas.rect((x, y), (wide, height), &format!("fill=\"{fill}\" fill-opacity=\"0.28\""), &hint);
    if let Some(from) = first.first_byte() {
        let from = if run.ranges > 1 { x } else { scale.x(from) };
        let edge = if end - from > 4.0 { "stroke=\"#fff\" stroke-width=\"0.6\"" } else { "" };
        canvas.rect((from, y), ((end - from).max(0.6), height), &format!("fill=\"{fill}\" {edge}"), &hint);
    }
}

/// What went otherwise than asked.
fn mark(canvas: &mut Canvas, log: &Log, scale: &Scale, range: &Range, (y, height): (f64, f64)) {
    let reach = (height * 0.32).clamp(2.2, 4.5);
    let (from, to, middle) = (scale.x(range.started), scale.x(range.ended), y + height / 2.0);
    if range.attempt() > 1 {
        canvas.ring((from + reach * 0.4, middle), reach * 0.8, &format!("request {} for these bytes", range.attempt()));
    }
    match range.ending {
        End::Failed(_) => canvas.cross((to, middle), reach, &hint(log, range)),
        End::Slow(_) => canvas.triangle((to, middle), reach, &hint(log, range)),
        End::Shortened => canvas.rect((to - 1.2, y), (1.2, height), &format!("fill=\"{INK}\" fill-opacity=\"0.8\""), ""),
        End::Whole | End::Closed => {}
    }
}

fn hint(log: &Log, range: &Range) -> String {
    let blob = log.digest_of(range).short();
    let wait = range.first_byte().map_or_else(
        || "no byte came".to_owned(),
        |at| format!("first byte after {}", seconds(at.saturating_sub(range.started))),
    );
    let from =
        log.peer_of(range).map_or_else(|| log.host_of(range).to_owned(), |peer| format!("{} ({peer})", log.host_of(range)));
    let cause = log.cause_of(range).map_or_else(String::new, |cause| format!(": {cause}"));
    let (took, ending) = (seconds(range.ended - range.started), range.ending.name());
    format!("{blob} from byte {}: {} in {took}, {wait}; {from}; {ending}{cause}", range.offset, size(range.bytes))
}

/// Rows of calls at containerd, coloured as the blobs they are about.
pub(super) fn lanes(
    canvas: &mut Canvas,
    log: &Log,
    scale: &Scale,
    (name, steps, rows): (&str, &[(&StepSpan, usize)], usize),
    y: f64,
) -> f64 {
    if rows == 0 {
        return y;
    }
    let height = if rows > 8 { 5.0 } else { 12.0 };
    #[expect(clippy::cast_precision_loss, reason = "a number of rows")]
    let (top, bottom) = (|row: usize| y + row as f64 * height, y + rows as f64 * height);
    label(canvas, name, y + (bottom - y).min(14.0) / 2.0, 12.0);
    canvas.ground((LEFT, y), (RIGHT - LEFT, bottom - y), "#faf7f2");
    for (step, row) in steps {
        let Subject::Blob(blob) = &step.subject else { continue };
        let (from, to) = (micros(step.started), micros(step.ended));
        let hint = format!("{} of {}: {}", step_name(step.step), blob.short(), seconds(to - from));
        let x = scale.x(from);
        let wide = (scale.x(to) - x).max(1.0);
        let opacity = if step.step == Step::Prepare { 0.4 } else { 1.0 };
        let more = format!("fill=\"{}\" fill-opacity=\"{opacity}\"", colour(log.number_of(blob)));
        canvas.rect((x, top(*row) + 0.5), (wide, height - 1.0), &more, &hint);
        if step.step == Step::Link {
            canvas.rect((x, top(*row) + 0.5), (1.4, height - 1.0), &format!("fill=\"{INK}\""), &hint);
        }
        if !step.complete {
            canvas.cross((x + wide, top(*row) + height / 2.0), (height * 0.35).min(4.0), &hint);
        }
    }
    bottom + 3.0
}
