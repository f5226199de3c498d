//! What the colours and marks mean, and what is not in the picture.

use super::{
    super::log::Log,
    paint::{self, Canvas, INK, LEFT, SOFT, WIDTH, colour},
};
use crate::render::size;

const ROW: f64 = 19.0;
const COLUMNS: usize = 5;

/// Draws it from `y` on; where it ends.
pub(super) fn draw(canvas: &mut Canvas, log: &Log, y: f64) -> f64 {
    let y = blobs(canvas, log, y);
    marks(canvas, log, y + 12.0)
}

fn blobs(canvas: &mut Canvas, log: &Log, y: f64) -> f64 {
    canvas.text((24.0, y), "layers", &format!("font-size=\"12\" fill=\"{SOFT}\""));
    #[expect(clippy::cast_precision_loss, reason = "a few columns and rows")]
    let place = |number: usize| {
        let (column, row) = (number % COLUMNS, number / COLUMNS);
        (LEFT + column as f64 * (WIDTH - LEFT - 24.0) / COLUMNS as f64, y + row as f64 * ROW)
    };
    for (number, blob) in log.blobs.iter().enumerate() {
        let (x, y) = place(number);
        canvas.rect((x, y - 10.0), (12.0, 12.0), &format!("rx=\"2\" fill=\"{}\"", colour(number)), "");
        canvas.text(
            (x + 18.0, y),
            &blob.digest.short(),
            &format!("font-size=\"12\" font-family=\"ui-monospace,'DejaVu Sans Mono',monospace\" fill=\"{INK}\""),
        );
        let bytes = blob.size.map_or_else(|| "was here".to_owned(), size);
        canvas.text((x + 114.0, y), &bytes, &format!("font-size=\"12\" fill=\"{SOFT}\""));
    }
    place(log.blobs.len().saturating_sub(1)).1
}

fn marks(canvas: &mut Canvas, log: &Log, y: f64) -> f64 {
    let y = y + 12.0;
    let said = format!("font-size=\"12\" fill=\"{SOFT}\"");
    let sample = "rx=\"1.5\" fill=\"#5d7f8c\"";
    let mut x = LEFT;
    let mut say = |canvas: &mut Canvas, text: &str, width: f64| {
        canvas.text((x + 26.0, y), text, &said);
        let at = x;
        x += width;
        at
    };
    let at = say(canvas, "waits for the first byte, then receives", 270.0);
    canvas.rect((at, y - 9.0), (20.0, 10.0), &format!("{sample} fill-opacity=\"0.28\""), "");
    canvas.rect((at + 8.0, y - 9.0), (12.0, 10.0), sample, "");
    let at = say(canvas, "failed", 78.0);
    canvas.cross((at + 13.0, y - 4.0), 4.0, "");
    let at = say(canvas, "asked for again", 132.0);
    canvas.ring((at + 13.0, y - 4.0), 3.6, "");
    let at = say(canvas, "given up as too slow", 162.0);
    canvas.triangle((at + 17.0, y - 4.0), 4.5, "");
    let at = say(canvas, "rest taken over by another connection", 260.0);
    canvas.rect((at + 4.0, y - 9.0), (14.0, 10.0), sample, "");
    canvas.rect((at + 18.0, y - 10.0), (2.0, 12.0), &format!("fill=\"{INK}\""), "");
    let y = y + ROW;
    let rows = "pull: resolve, plan, fetch and commit, prove, publish  ·  content: a layer is committed  ·  snapshots: prepared (pale), \
                linked (dark edge), committed";
    canvas.text((LEFT, y), rows, &said);
    let y = y + ROW;
    let left_out = log.left_out;
    if left_out.ranges + left_out.steps > 0 {
        let text = format!(
            "not in the picture, for there were too many: {} ranges with {}, and {} steps",
            left_out.ranges,
            size(left_out.bytes),
            left_out.steps
        );
        canvas.text((LEFT, y), &text, &format!("font-size=\"12\" fill=\"{}\"", paint::RED));
        return y + ROW;
    }
    y
}
