//! `--progress bar`, on real terminals. `script` and `stty` are of every Debian.

use std::process::Command;

use testkit::secrets;

use super::Slow;
use crate::stage::{Stage, on_each_daemon};

/// rpull on a terminal of so many columns; its exit code, and everything that was sent to the terminal.
fn on_a_terminal(stage: &Stage, term: &str, columns: usize, args: &[&str]) -> (Option<i32>, String) {
    let rpull = stage.command(args);
    let words = std::iter::once(rpull.get_program()).chain(rpull.get_args()).map(|word| format!("'{}'", word.to_str().unwrap()));
    let line = format!("stty columns {columns} rows 24; exec {}", words.collect::<Vec<_>>().join(" "));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("TERM", term);
    let output = script.stdin(std::process::Stdio::null()).output().expect("script runs");
    let seen = String::from_utf8(output.stdout).unwrap();
    secrets::assert_none_in("the screen", &seen);
    (output.status.code(), seen)
}

/// The lines of all frames: each ends with the order to clear what is behind it.
fn frame_lines(seen: &str) -> Vec<&str> {
    let mut pieces: Vec<&str> = seen.split("\u{1b}[K").collect();
    pieces.pop();
    let start = |piece: &str| piece.rfind(['\n', '\r', 'A']).map_or(0, |at| at + 1);
    pieces.into_iter().map(|piece| &piece[start(piece)..]).collect()
}

#[test]
fn a_terminal_shows_what_is_on_its_way_however_narrow_it_is() {
    on_each_daemon("terminal", |stage| {
        for (seed, columns) in [(1700, 20), (1710, 80)] {
            let slow = Slow::new(seed, 1.5e6);
            let (code, seen) = on_a_terminal(&stage, "xterm", columns, &[&slow.reference()]);
            assert_eq!(code, Some(0), "{seen}");
            let lines = frame_lines(&seen);
            assert!(lines.iter().all(|line| line.len() < columns), "{lines:#?}");
            let sums = lines.iter().filter(|line| line.contains(" %, "));
            assert!(sums.count() >= 2, "{lines:#?}");
            let layers = slow.image.layers();
            let blob = layers[0].digest.short();
            assert!(lines.iter().any(|line| line.starts_with(&blob) && line.contains(" %")), "{lines:#?}");
            // Nothing of a frame is left beneath it.
            let end = seen.rsplit("\u{1b}[J").next().unwrap();
            let end: Vec<_> = end.lines().map(str::trim_end).collect();
            assert_eq!(end, [format!("{:.1} MiB fetched", slow.mebibytes()).as_str(), "done"], "{seen}");
            stage.assert_whole(&slow.reference(), &slow.image);
        }
    });
}

#[test]
fn a_terminal_that_cannot_move_its_cursor_has_lines() {
    on_each_daemon("dumb", |stage| {
        let slow = Slow::new(1720, 1e9);
        for (term, flags) in [("dumb", &["--progress", "auto"][..]), ("xterm", &["--debug"]), ("xterm", &["--progress", "plain"])]
        {
            let args: Vec<&str> = flags.to_vec();
            let reference = slow.reference();
            let (code, seen) = on_a_terminal(&stage, term, 80, &[args.as_slice(), &[&reference]].concat());
            assert_eq!(code, Some(0), "{seen}");
            assert!(!seen.contains('\u{1b}') && seen.contains("layer 1/2 "), "{term} {flags:?}: {seen}");
            assert!(seen.ends_with("done\r\n") || flags == ["--debug"], "{seen}");
        }
    });
}
