//! The run as one picture: time from left to right, a row for each connection, a colour for each blob.
//!
//! Nothing is smoothed or left out for looks: a range is as wide as it took, its pale part is the wait for the first byte, and what
//! failed or was given up is marked. Ranges too narrow to be told apart are drawn as one.

mod legend;
mod paint;
mod plot;

use std::io::{self, Write};

use progress::{StepSpan, Subject, Tally};

use super::{
    log::{Log, Range, micros},
    rows::rows,
};
use crate::render::size;
use paint::{Canvas, INK, SOFT, WIDTH};
use plot::Scale;

/// Pictures are for reading; more rows than this are drawn thinner and thinner.
const ROOM_FOR_CONNECTIONS: f64 = 420.0;

/// Writes an SVG.
pub(super) fn write(log: &Log, tally: &Tally, out: &mut dyn Write) -> io::Result<()> {
    let picture = Picture::of(log, tally);
    picture.draw(out)
}

/// What is drawn, laid out.
struct Picture<'a> {
    log: &'a Log,
    tally: &'a Tally,
    scale: Scale,
    /// Names of the images and their steps.
    images: Vec<(&'a str, Vec<&'a StepSpan>)>,
    ranges: Vec<(&'a Range, usize)>,
    connections: usize,
    content: Lanes<'a>,
    snapshots: Lanes<'a>,
}

/// Steps at containerd with their rows.
struct Lanes<'a> {
    steps: Vec<(&'a StepSpan, usize)>,
    rows: usize,
}

impl<'a> Lanes<'a> {
    fn of(log: &'a Log, wanted: impl Fn(&StepSpan) -> bool) -> Self {
        let steps = log.steps_in_order(|step| matches!(step.subject, Subject::Blob(_)) && wanted(step));
        let (placed, rows) = rows(steps.iter().map(|step| (micros(step.started), micros(step.ended), None::<()>)));
        Self { steps: steps.into_iter().zip(placed).collect(), rows }
    }
}

impl<'a> Picture<'a> {
    fn of(log: &'a Log, tally: &'a Tally) -> Self {
        let mut images: Vec<(&str, Vec<&StepSpan>)> = Vec::new();
        for step in log.steps_in_order(|step| matches!(step.subject, Subject::Image(_))) {
            let Subject::Image(name) = &step.subject else { continue };
            match images.iter_mut().find(|(known, _)| known == name) {
                Some((_, steps)) => steps.push(step),
                None => images.push((name, vec![step])),
            }
        }
        let ordered = log.ranges_in_order();
        let (placed, connections) =
            rows(ordered.iter().map(|range| (range.started, range.ended, Some(range.port).filter(|port| *port > 0))));
        let is_content = |step: &StepSpan| step.step == progress::Step::Content;
        Self {
            log,
            tally,
            scale: Scale::to(micros(log.ended)),
            images,
            ranges: ordered.into_iter().zip(placed).collect(),
            connections,
            content: Lanes::of(log, is_content),
            snapshots: Lanes::of(log, |step| !is_content(step)),
        }
    }

    fn draw(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut canvas = Canvas::default();
        let mut y = self.head(&mut canvas);
        let top = y;
        y = plot::rate(&mut canvas, &self.scale, self.ranges.iter().map(|(range, _)| *range), y);
        for (name, steps) in &self.images {
            let label = if self.images.len() == 1 { "pull" } else { short(name) };
            y = plot::phases(&mut canvas, &self.scale, label, steps, y);
        }
        y = plot::connections(&mut canvas, self.log, &self.scale, &self.ranges, (self.connections, self.row_height()), y + 6.0);
        y = plot::lanes(&mut canvas, self.log, &self.scale, ("content", &self.content.steps, self.content.rows), y + 6.0);
        y = plot::lanes(&mut canvas, self.log, &self.scale, ("snapshots", &self.snapshots.steps, self.snapshots.rows), y);
        plot::axis(&mut canvas, &self.scale, (top, y));
        y = legend::draw(&mut canvas, self.log, y + 42.0);
        canvas.write(y, out)
    }

    fn row_height(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a number of rows")]
        let rows = self.connections.max(1) as f64;
        (ROOM_FOR_CONNECTIONS / rows).clamp(5.0, 20.0)
    }

    /// What was pulled and how it went, in two lines.
    fn head(&self, canvas: &mut Canvas) -> f64 {
        let title = match self.images.as_slice() {
            [] => "no image".to_owned(),
            [(name, _)] => (*name).to_owned(),
            [(name, _), others @ ..] => format!("{name} and {} more", others.len()),
        };
        canvas.text((24.0, 34.0), &title, &format!("font-size=\"17\" font-weight=\"600\" fill=\"{INK}\""));
        let end = if self.log.code == 0 { "done".to_owned() } else { format!("ended with exit code {}", self.log.code) };
        let colour = if self.log.code == 0 { SOFT } else { paint::RED };
        let end_at = format!("font-size=\"13\" text-anchor=\"end\" font-weight=\"600\" fill=\"{colour}\"");
        canvas.text((WIDTH - 24.0, 34.0), &format!("{end} after {}", seconds(micros(self.log.ended))), &end_at);
        canvas.text((24.0, 55.0), &self.summary(), &format!("font-size=\"13\" fill=\"{SOFT}\""));
        70.0
    }

    fn summary(&self) -> String {
        let bytes: u64 = self.tally.by_host.values().sum();
        let first = self.ranges.iter().map(|(range, _)| range.started).min();
        let last = self.ranges.iter().map(|(range, _)| range.ended).max();
        let Some((first, last)) = first.zip(last) else {
            return "no byte of a layer crossed the network".to_owned();
        };
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation,
            reason = "shown in one decimal"
        )]
        let rate = (bytes as f64 / ((last - first).max(1) as f64 / 1e6)) as u64;
        let hosts: Vec<&str> = self.tally.by_host.keys().map(String::as_str).collect();
        let from = match hosts.as_slice() {
            [] => String::new(),
            [host] => format!(" from {host}"),
            hosts => format!(" from {} hosts", hosts.len()),
        };
        let ranges = self.ranges.len() as u64 + self.log.left_out.ranges;
        format!(
            "{}{from} in {} ({}/s)  ·  {}  ·  {}  ·  {}  ·  {}",
            size(bytes),
            seconds(last - first),
            size(rate),
            count(self.connections as u64, "connection"),
            count(ranges, "range"),
            if self.tally.retries == 1 { "1 retry".to_owned() } else { format!("{} retries", self.tally.retries) },
            count(self.tally.stalls.total(), "slow one") + " given up",
        )
    }
}

/// The last part of a name, which tells images of one run apart.
fn short(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A span as people read it.
fn seconds(micros: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
    let value = micros as f64 / 1e6;
    match micros {
        0..1_000_000 => format!("{:.0} ms", value * 1e3),
        1_000_000..10_000_000 => format!("{value:.2} s"),
        10_000_000..120_000_000 => format!("{value:.1} s"),
        _ => format!("{}:{:02} min", micros / 60_000_000, micros / 1_000_000 % 60),
    }
}

#[cfg(test)]
mod tests;
