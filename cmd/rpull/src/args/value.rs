//! Values of flags that are no plain text: Go's durations, sizes, labels.

use std::{fmt, num::NonZeroU64, time::Duration};

/// Smallest and largest range. Below, the round trips are all there is; above, nothing is left to resume or to steal.
const RANGE_SIZES: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;
/// Slowest limit. Below, the pauses of our own making could not be told from a registry that stalls.
const SLOWEST: u64 = 64 << 10;
/// containerd refuses longer labels (`labels.Validate`).
const MAX_LABEL: usize = 4096;

/// A value that cannot be used, with the cure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ValueError {
    why: String,
    pub(super) hint: &'static str,
}

impl ValueError {
    pub(super) fn new(why: impl Into<String>, hint: &'static str) -> Self {
        Self { why: why.into(), hint }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for ValueError {}

/// Go's `time.ParseDuration`: `1h30m`, `1.5s`, `100ms`, `0`. Negative ones make no sense for a time limit.
pub(super) fn duration(text: &str) -> Result<Duration, ValueError> {
    parse_duration(text, None, "durations are written as 90s, 1.5s, 1h30m, 100ms, or 0 for none")
}

/// The same with `d` for days of 24 hours, which nobody wants to write as hours.
pub(super) fn age(text: &str) -> Result<Duration, ValueError> {
    parse_duration(text, Some("d"), "durations are written as 7d, 36h, 1d12h, or 0 to keep nothing")
}

fn parse_duration(text: &str, day: Option<&str>, hint: &'static str) -> Result<Duration, ValueError> {
    let refused = |why: String| ValueError { why, hint };
    let malformed = || refused("not a duration".to_owned());
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(malformed());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(rest.len()));
        let (unit, behind) = behind.split_at(behind.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(behind.len()));
        let nanoseconds: u128 = match unit {
            "" if number.is_empty() => return Err(malformed()),
            "" => return Err(refused(format!("no unit behind {number}"))),
            "ns" => 1,
            // Micro sign and Greek letter mu.
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            unit if day == Some(unit) => 86_400_000_000_000,
            other => return Err(refused(format!("unknown unit {other:?}"))),
        };
        total += decimal(number, nanoseconds).ok_or_else(malformed)?;
        if total > i64::MAX as u128 {
            return Err(refused("longer than 292 years".to_owned()));
        }
        rest = behind;
    }
    if negative && total > 0 {
        return Err(refused("must not be negative".to_owned()));
    }
    Ok(Duration::from_nanos(u64::try_from(total).expect("checked against i64::MAX")))
}

/// `number`, as in `1`, `1.5`, `.5` or `1.`, times `unit`, rounded down.
fn decimal(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // Only digits are left in here, and of the fraction more than 18 of them make no difference at this scale.
    let fraction = &fraction[..fraction.len().min(18)];
    let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u64>().ok().map(u128::from) };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    Some(digits(whole)? * unit + digits(fraction)? * unit / scale)
}

/// Bytes with an optional suffix K, M or G (1024-based), within reason for a range.
pub(super) fn range_size(text: &str) -> Result<NonZeroU64, ValueError> {
    let hint = "sizes are bytes with an optional suffix K, M or G, from 64K to 1G, for example 8M";
    let refused = |why: &str| ValueError { why: why.to_owned(), hint };
    let bytes = bytes(text).ok_or_else(|| refused("not a size"))?;
    NonZeroU64::new(bytes).filter(|bytes| RANGE_SIZES.contains(&bytes.get())).ok_or_else(|| refused("not from 64K to 1G"))
}

/// Bytes per second, written like a size; 0 for no limit.
pub(super) fn rate(text: &str) -> Result<u64, ValueError> {
    let hint = "rates are bytes per second with an optional suffix K, M or G, for example 100M, or 0 for no limit";
    let refused = |why: &str| ValueError { why: why.to_owned(), hint };
    let rate = bytes(text).ok_or_else(|| refused("not a rate"))?;
    if (1..SLOWEST).contains(&rate) { Err(refused("slower than 64K")) } else { Ok(rate) }
}

/// A number with an optional suffix K, M or G, 1024-based. What overflows is as large as can be.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, shift) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| number.parse::<u64>().map_or(u64::MAX, |number| number.saturating_mul(1 << shift)))
}

/// `key=value`; a key alone has the value `true` (reference 1.2). Commas do not separate.
pub(super) fn label(text: &str) -> Result<(String, String), ValueError> {
    let refused = |why: &str| ValueError { why: why.to_owned(), hint: "labels are written as KEY=VALUE, or KEY for KEY=true" };
    let (key, value) = text.split_once('=').unwrap_or((text, "true"));
    if key.is_empty() {
        return Err(refused("no key"));
    }
    if key.len() + value.len() > MAX_LABEL {
        return Err(refused("longer than the 4096 bytes containerd takes"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        let (ms, s) = (1_000_000, 1_000_000_000);
        for (text, nanoseconds) in [
            ("0", 0),
            ("+0", 0),
            ("-0", 0),
            ("0s", 0),
            ("-0s", 0),
            ("5s", 5 * s),
            ("+5s", 5 * s),
            ("30s", 30 * s),
            ("5.0s", 5 * s),
            ("5.6s", 5_600 * ms),
            ("5.s", 5 * s),
            (".5s", 500 * ms),
            ("1.5s", 1_500 * ms),
            ("100ms", 100 * ms),
            ("10ns", 10),
            ("11us", 11_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("1h30m", 5_400 * s),
            ("3h30m", 12_600 * s),
            ("10.5s4m", 250_500 * ms),
            ("1h2m3s4ms5us6ns", 3_723 * s + 4_005_006),
            ("52763797000ns", 52_763_797_000),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("9223372036854775807ns", i64::MAX as u64),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "not a duration"),
            ("3", "no unit behind 3"),
            ("-", "not a duration"),
            ("s", "not a duration"),
            (".", "no unit"),
            (".s", "not a duration"),
            ("-.s", "not a duration"),
            ("1..5s", "not a duration"),
            ("1x", "unknown unit \"x\""),
            ("1d", "unknown unit \"d\""),
            ("1 s", "unknown unit \" s\""),
            ("1S", "unknown unit \"S\""),
            ("--1s", "unknown unit"),
            ("-1s", "negative"),
            ("9223372036854775808ns", "longer"),
            ("3000000h", "longer"),
            ("99999999999999999999999h", "not a duration"),
        ] {
            let error = duration(text).unwrap_err();
            assert!(error.why.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn range_sizes_have_suffixes_and_bounds() {
        for (text, bytes) in [("8M", 8 << 20), ("64k", 64 << 10), ("1G", 1 << 30), ("1048576", 1 << 20)] {
            assert_eq!(range_size(text).unwrap().get(), bytes, "{text}");
        }
        for text in ["", "M", "8MB", "8 M", "-8M", "+8M", "1.5M", "0", "63K", "2G", "99999999999G", "99999999999999999999", "8µ"]
        {
            assert!(range_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_is_written_like_a_size_and_has_no_upper_bound() {
        for (text, rate) in [("100M", 100 << 20), ("64k", 64 << 10), ("10G", 10 << 30), ("0", 0), ("65536", 65536)] {
            assert_eq!(super::rate(text), Ok(rate), "{text}");
        }
        for (text, why) in
            [("", "not a rate"), ("100MB", "not a rate"), ("1.5M", "not a rate"), ("-1", "not a rate"), ("63K", "64K")]
        {
            assert!(super::rate(text).unwrap_err().why.contains(why), "{text}");
        }
        assert_eq!(super::rate("99999999999999999999G"), Ok(u64::MAX));
    }

    #[test]
    fn an_age_may_be_written_in_days() {
        const DAY: u64 = 24 * 3600;
        for (text, seconds) in
            [("7d", 7 * DAY), ("1.5d", 36 * 3600), ("1d12h30m", 36 * 3600 + 1800), ("36h", 36 * 3600), ("0", 0)]
        {
            assert_eq!(age(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["7", "7D", "7days", "d", "-1d", "200000d", ""] {
            assert!(age(text).is_err(), "{text}");
        }
    }

    #[test]
    fn labels_are_split_at_the_first_equals_sign() {
        for (text, key, value) in [("a=1,b=2", "a", "1,b=2"), ("a", "a", "true"), ("a=", "a", ""), ("a.b/c=d e", "a.b/c", "d e")]
        {
            assert_eq!(label(text), Ok((key.to_owned(), value.to_owned())), "{text}");
        }
        for text in ["", "=v", &format!("k={}", "v".repeat(4096))] {
            assert!(label(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC*|[0-9.a-z+-]{0,30}") {
            let _ = (duration(&text), age(&text), range_size(&text), rate(&text), label(&text));
        }
    }
}
