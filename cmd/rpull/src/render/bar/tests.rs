use oci::Digest;
use progress::Written;

use super::*;
use crate::render::{
    Summary,
    tests::{event, failure},
};

const MIB: u64 = 1 << 20;

fn digest(index: usize) -> Digest {
    Digest::of(format!("blob {index}").as_bytes())
}

/// So many blobs on their way, each a quarter of 10 MiB there.
fn board(blobs: usize) -> Board {
    let mut board = Board::default();
    let image: Arc<str> = "r/a:1".into();
    let to_fetch = (0..blobs).map(|index| (digest(index), 10 * MIB)).collect();
    board.hear(Some(&image), &Event::Planned { layers: blobs + 1, to_fetch });
    for index in 0..blobs {
        let written = Written::new(10 * MIB / 4);
        board.hear(Some(&image), &Event::FetchStarted { blob: digest(index), size: 10 * MIB, resumed: 0, written });
    }
    board
}

fn figures(board: &Board) -> Figures {
    let (done, total) = board.bytes();
    Figures { done, total, connections: 8, retries: 2, rate: 5 * MIB, left: Some(Duration::from_secs(65)) }
}

fn drawn(blobs: usize, columns: usize, rows: usize) -> Vec<String> {
    let board = board(blobs);
    lines(&board, &figures(&board), columns, rows)
}

#[test]
fn each_blob_has_a_line_and_the_last_one_sums_up() {
    let [one, two] = [0, 1].map(|index| digest(index).short());
    assert_eq!(
        drawn(2, 100, 24),
        [
            format!("{one} [##########------------------------------]  25 % of 10.0 MiB"),
            format!("{two} [##########------------------------------]  25 % of 10.0 MiB"),
            "25 %, 5.0 MiB of 20.0 MiB, 5.0 MiB/s, 1m05s left, 0 of 3 layers, 8 connections, 2 retries".to_owned(),
        ]
    );
    assert_eq!(
        drawn(2, 20, 24),
        [format!("{one}  25 %"), format!("{two}  25 %"), "25 %, 5.0 MiB/s".to_owned()],
        "as much as there is room for"
    );
}

#[test]
fn no_line_reaches_the_last_column_and_no_frame_the_first_row() {
    for columns in 1..120 {
        for rows in [1, 2, 3, 5, 24] {
            for blobs in [0, 1, 8, 9, 64] {
                let lines = drawn(blobs, columns, rows);
                let widest = lines.iter().map(String::len).max().unwrap_or(0);
                assert!(widest < columns.max(2), "{columns}: {lines:?}");
                assert!(lines.len() < rows.max(2) && lines.len() <= MOST_BLOBS + 1, "{rows}: {lines:?}");
            }
        }
    }
    assert_eq!(drawn(64, 80, 24)[7], "and 57 more");
}

#[test]
fn before_the_plan_stands_only_trouble_is_drawn() {
    let mut board = Board::default();
    let drawn = |board: &Board| lines(board, &figures(board), 40, 24);
    assert_eq!(drawn(&board), Vec::<String>::new());
    let (host, after) = ("r:5000".to_owned(), Duration::from_secs(1));
    let cause = "r:5000: tcp connect error: connection refused".to_owned();
    board.hear(None, &Event::Retrying { blob: None, host, cause, after });
    assert_eq!(drawn(&board), ["trying again: r:5000: tcp connect error"]);
}

/// A terminal as far as frames need one: text, line ends, cursor up, clear to the end of line and screen.
struct Terminal {
    columns: usize,
    rows: Vec<String>,
    row: usize,
    column: usize,
}

impl Terminal {
    fn new(columns: usize) -> Self {
        Self { columns, rows: vec![String::new()], row: 0, column: 0 }
    }

    fn show(&mut self, text: &str) {
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            rest = &rest[next.len_utf8()..];
            match next {
                '\r' => self.column = 0,
                '\n' => {
                    (self.row, self.column) = (self.row + 1, 0);
                    self.rows.resize(self.rows.len().max(self.row + 1), String::new());
                }
                '\u{1b}' => {
                    let end = rest.find(|letter: char| letter.is_ascii_alphabetic()).expect("a sequence ends");
                    let (number, letter) = (rest[1..end].parse().unwrap_or(1), &rest[end..=end]);
                    rest = &rest[end + 1..];
                    match letter {
                        "A" => self.row = self.row.checked_sub(number).expect("the cursor stays on the screen"),
                        "K" => self.rows[self.row].truncate(self.column),
                        "J" => {
                            self.rows[self.row].truncate(self.column);
                            self.rows.truncate(self.row + 1);
                        }
                        other => panic!("no terminal needs {other}"),
                    }
                }
                letter => {
                    assert!(self.column < self.columns, "a line wraps: {:?}", self.rows[self.row]);
                    let row = &mut self.rows[self.row];
                    if self.column < row.len() {
                        row.replace_range(self.column..=self.column, &letter.to_string());
                    } else {
                        row.push(letter);
                    }
                    self.column += 1;
                }
            }
        }
    }

    /// Becomes narrower, as terminals do that wrap what is on them.
    fn narrow(&mut self, columns: usize) {
        let wrap = |row: &String| {
            let letters: Vec<char> = row.chars().collect();
            let rows: Vec<String> = letters.chunks(columns).map(|piece| piece.iter().collect()).collect();
            if rows.is_empty() { vec![String::new()] } else { rows }
        };
        self.rows = self.rows.iter().flat_map(wrap).collect();
        (self.columns, self.row) = (columns, self.rows.len() - 1);
        self.column = self.rows[self.row].len();
    }
}

fn text(lines: &[&str]) -> Vec<String> {
    lines.iter().map(ToString::to_string).collect()
}

#[test]
fn a_frame_takes_the_place_of_the_one_before() {
    let (mut terminal, mut frame) = (Terminal::new(30), Frame::default());
    terminal.show("above\n");
    for lines in
        [&["first blob", "second blob", "sum"][..], &["second", "sum"], &["a", "longer frame", "than before", "sum"], &["s"]]
    {
        let text = frame.draw(&text(lines), 30);
        let clear = text.find("\u{1b}[J");
        assert_eq!(clear, Some(text.len() - 3), "nothing is blank before it is written over: {text:?}");
        terminal.show(&text);
        assert_eq!(terminal.rows, [&["above"], lines].concat());
    }
    terminal.show(&frame.erase(30));
    terminal.show("done\n");
    assert_eq!(terminal.rows, ["above", "done", ""]);
    assert_eq!(frame.erase(30), "");
}

#[test]
fn a_frame_leaves_nothing_behind_on_a_terminal_that_became_narrower() {
    let (mut terminal, mut frame) = (Terminal::new(80), Frame::default());
    terminal.show("above\n");
    terminal.show(&frame.draw(&[lines_of(79), lines_of(50)], 80));
    terminal.narrow(20);
    terminal.show(&frame.draw(&text(&["short", "frame"]), 20));
    assert_eq!(terminal.rows, ["above", "short", "frame"]);
}

fn lines_of(length: usize) -> String {
    "#".repeat(length)
}

#[test]
fn what_stays_is_written_above_and_finished_layers_fold_away() {
    let progress = Progress::silent();
    let mut bar = Bar::new(false, progress, || (40, 24));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut terminal = Terminal::new(100);
    let mut tell = |told: Option<Told>, terminal: &mut Terminal| {
        let mut streams = Streams { out: &mut out, err: &mut err, ink: crate::report::Ink::Plain };
        match told {
            Some(told) => bar.hear(Duration::ZERO, told, &mut streams),
            None => bar.tick(Duration::from_secs(1), &mut streams),
        }
        terminal.show(&String::from_utf8(std::mem::take(&mut out)).unwrap());
        String::from_utf8(std::mem::take(&mut err)).unwrap()
    };
    let (blob, written) = (digest(0), Written::default());
    let planned = Event::Planned { layers: 1, to_fetch: vec![(blob, 100)] };
    tell(Some(event("r/a:1", planned)), &mut terminal);
    tell(Some(event("r/a:1", Event::FetchStarted { blob, size: 100, resumed: 0, written })), &mut terminal);
    tell(None, &mut terminal);
    let head = "1 layer, 100 B to fetch";
    let line = format!("{} [---------]   0 % of 100 B", blob.short());
    assert_eq!(terminal.rows, [head, &line, "0 %, 0 B of 100 B, 0 B/s, 0 of 1 layers"]);
    assert_eq!(tell(Some(event("r/a:1", Event::Warning { text: "odd".to_owned() })), &mut terminal), "rpull: warning: odd\n");
    assert_eq!(terminal.rows, [head, ""], "the frame makes room for stderr");
    tell(Some(event("r/a:1", Event::FetchFinished { blob })), &mut terminal);
    tell(Some(event("r/a:1", Event::LayerCommitted { index: 0, blob, lazy: false })), &mut terminal);
    tell(None, &mut terminal);
    assert_eq!(terminal.rows, [head, "100 %, 100 B of 100 B, 1 of 1 layers"], "its line is gone");
    tell(Some(Told::Ended(Ok(Summary { images: 1, fetched: 100 }))), &mut terminal);
    assert_eq!(terminal.rows, [head, "100 B fetched", "done", ""]);
    assert_eq!(tell(Some(Told::Ended(Err(failure("no")))), &mut terminal), "rpull: no\nhint: look there\n");
}
