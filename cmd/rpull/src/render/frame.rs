//! Lines at the bottom of a terminal that are drawn over and over.
//!
//! A frame is written over the one before in one piece, and what is left of that is cleared behind each line: nothing is ever
//! blank in between.

use std::fmt::Write as _;

/// What stands on the terminal, by the lengths of its lines. The cursor is behind the last one.
#[derive(Default)]
pub(super) struct Frame {
    drawn: Vec<usize>,
}

impl Frame {
    /// Text that draws these lines in the place of the last ones. `columns` is the width of the terminal now.
    pub(super) fn draw(&mut self, lines: &[String], columns: usize) -> String {
        if lines.is_empty() {
            return self.erase(columns);
        }
        let mut text = self.back(columns);
        for (index, line) in lines.iter().enumerate() {
            let end = if index == 0 { "" } else { "\r\n" };
            write!(text, "{end}{line}\x1b[K").expect("writing to a string does not fail");
        }
        text.push_str("\x1b[J");
        self.drawn = lines.iter().map(String::len).collect();
        text
    }

    /// Text that clears the frame away and leaves the cursor where it began.
    pub(super) fn erase(&mut self, columns: usize) -> String {
        if self.drawn.is_empty() {
            return String::new();
        }
        let text = format!("{}\x1b[J", self.back(columns));
        self.drawn.clear();
        text
    }

    /// To the beginning of the first line. On a terminal that became narrower the lines have wrapped since.
    fn back(&self, columns: usize) -> String {
        let rows: usize = self.drawn.iter().map(|length| length.div_ceil(columns.max(1)).max(1)).sum();
        match rows {
            0 | 1 => "\r".to_owned(),
            rows => format!("\r\x1b[{}A", rows - 1),
        }
    }
}
