//! Numbers as people read them, and writing that cannot fail.

use std::{io, time::Duration};

/// Writes and flushes. A reader that went away (`| head -1`) does not make a pull fail: errors are dropped. The Rust runtime
/// ignores SIGPIPE, so that nothing ends the program either.
pub(crate) fn print(out: &mut (impl io::Write + ?Sized), text: &str) {
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Bytes: one decimal, units of 1024, as `ctr` has them.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // Not 1024: 1023.96 would be shown as `1024.0`.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A span, in whole seconds: `7s`, `1m05s`, `2h03m`.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}

/// `1 layer`, `2 layers`, `3 retries`.
pub(super) fn count(number: usize, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal_and_units_of_1024() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (4_739_584, "4.5 MiB"),
            ((1 << 30) - 1, "1.0 GiB"),
            (1 << 40, "1.0 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn spans_have_their_two_largest_units() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (65, "1m05s"), (3600, "1h00m"), (90_061, "25h01m")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        print(&mut writer, "into the void");
    }
}
