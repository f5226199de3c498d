//! Go's duration text, as `dial_timeout` has it.

use std::time::Duration;

/// `1h30m`, `1.5s`, `300ms`, `0`. `None` for anything Go refuses and for negative ones, which make no time limit.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|at| *at > 0)?;
        let (value, after) = rest.split_at(number);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let value: f64 = value.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(value * seconds).ok()?)?;
        rest = after;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, millis) in [
            ("0", Some(0)),
            ("3s", Some(3000)),
            ("1.5s", Some(1500)),
            ("1h30m", Some(5_400_000)),
            ("1m0.5s", Some(60_500)),
            ("300ms", Some(300)),
            ("", None),
            ("3", None),
            ("s", None),
            ("-1s", None),
            ("3 s", None),
            ("1..5s", None),
            ("3d", None),
        ] {
            assert_eq!(parse(text).map(|duration| duration.as_millis()), millis, "{text}");
        }
    }
}
