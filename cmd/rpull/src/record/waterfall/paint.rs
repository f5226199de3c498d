//! Shapes, texts and colours of an SVG.

use std::{
    fmt::{Display, Write as _},
    io::{self, Write},
};

/// Width of the picture; its height is what it needs.
pub(super) const WIDTH: f64 = 1200.0;
/// Where the time begins and ends.
pub(super) const LEFT: f64 = 128.0;
pub(super) const RIGHT: f64 = WIDTH - 24.0;

pub(super) const INK: &str = "#1f2328";
pub(super) const SOFT: &str = "#656d76";
const LINE: &str = "#d8dee4";
pub(super) const RED: &str = "#d1242f";
pub(super) const ORANGE: &str = "#d4760a";

/// Colours of the first blobs, told apart also by those who see few colours; none is the red of a failure.
const FIRST: [&str; 12] = [
    "#3b6fb6", "#e3a23c", "#3f9d6b", "#8a63b8", "#45b3c4", "#b5793f", "#7d93dd", "#a3b13a", "#b06aa2", "#5d7f8c", "#d9c043",
    "#2f8a86",
];

/// Colour of a blob.
pub(super) fn colour(number: usize) -> String {
    if let Some(colour) = FIRST.get(number) {
        return (*colour).to_owned();
    }
    // Golden angle: neighbours are far apart however many there are. The reds are left out.
    let (hue, light) = (25 + (number * 137) % 310, [46, 60, 38][number % 3]);
    format!("hsl({hue},48%,{light}%)")
}

/// An SVG on its way.
#[derive(Default)]
pub(super) struct Canvas {
    /// Backgrounds and the lines of the scale, beneath everything else.
    ground: String,
    body: String,
}

impl Canvas {
    pub(super) fn put(&mut self, shape: impl Display) {
        let _ = writeln!(self.body, "{shape}");
    }

    /// `more` are attributes, `hint` is shown under the pointer.
    pub(super) fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), more: &str, hint: &str) {
        let place = format!("x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" {more}");
        if hint.is_empty() {
            self.put(format_args!("<rect {place}/>"));
        } else {
            self.put(format_args!("<rect {place}><title>{}</title></rect>", escaped(hint)));
        }
    }

    /// A background.
    pub(super) fn ground(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str) {
        let _ = writeln!(
            self.ground,
            "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" fill=\"{fill}\"/>"
        );
    }

    /// A line on the backgrounds.
    pub(super) fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let _ = writeln!(
            self.ground,
            "<line x1=\"{x1:.2}\" y1=\"{y1:.2}\" x2=\"{x2:.2}\" y2=\"{y2:.2}\" stroke=\"{LINE}\" stroke-width=\"0.8\"/>"
        );
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), text: &str, more: &str) {
        self.put(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" {more}>{}</text>", escaped(text)));
    }

    /// A cross: something failed here.
    pub(super) fn cross(&mut self, (x, y): (f64, f64), reach: f64, hint: &str) {
        let (left, right, top, bottom) = (x - reach, x + reach, y - reach, y + reach);
        self.put(format_args!(
            "<path d=\"M{left:.2} {top:.2}L{right:.2} {bottom:.2}M{left:.2} {bottom:.2}L{right:.2} {top:.2}\" stroke=\"{RED}\" \
             stroke-width=\"2\" fill=\"none\"><title>{}</title></path>",
            escaped(hint)
        ));
    }

    /// A triangle that points back: given up here.
    pub(super) fn triangle(&mut self, (x, y): (f64, f64), reach: f64, hint: &str) {
        let (left, right, top, bottom) = (x - reach * 1.6, x, y - reach, y + reach);
        self.put(format_args!(
            "<path d=\"M{right:.2} {top:.2}L{left:.2} {y:.2}L{right:.2} {bottom:.2}Z\" fill=\"{ORANGE}\" stroke=\"#fff\" \
             stroke-width=\"0.7\"><title>{}</title></path>",
            escaped(hint)
        ));
    }

    /// A ring: asked for again.
    pub(super) fn ring(&mut self, (x, y): (f64, f64), radius: f64, hint: &str) {
        self.put(format_args!(
            "<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"{radius:.2}\" fill=\"#fff\" stroke=\"{RED}\" stroke-width=\"1.4\">\
             <title>{}</title></circle>",
            escaped(hint)
        ));
    }

    pub(super) fn write(&self, height: f64, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {WIDTH:.0} {height:.0}\" font-family=\"system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif\">\n\
             <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#fff\"/>"
        )?;
        out.write_all(self.ground.as_bytes())?;
        out.write_all(self.body.as_bytes())?;
        out.write_all(b"</svg>\n")
    }
}

/// Text inside XML. Characters that XML cannot hold are left out.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars().filter(|character| !character.is_control()) {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            other => safe.push(other),
        }
    }
    safe
}
