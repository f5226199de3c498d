//! The `Content-Range` header (RFC 9110 14.4).

use oci::ByteRange;

/// What the server says it sends, or, unsatisfied, how long the whole is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ContentRange {
    /// `bytes FIRST-LAST/TOTAL`; a total of `*` is unknown.
    Bytes { range: ByteRange, total: Option<u64> },
    /// `bytes */TOTAL`
    Unsatisfied { total: u64 },
}

/// `None` for anything that is not exactly one of the two forms.
pub(crate) fn parse(text: &str) -> Option<ContentRange> {
    let (unit, rest) = text.trim().split_once(' ')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (span, total) = rest.trim().split_once('/')?;
    if span == "*" {
        return Some(ContentRange::Unsatisfied { total: number(total)? });
    }
    let (first, last) = span.split_once('-')?;
    let range = ByteRange::new(number(first)?, number(last)?.checked_add(1)?)?;
    let total = if total == "*" { None } else { Some(number(total)?) };
    if total.is_some_and(|total| total < range.end()) {
        return None;
    }
    Some(ContentRange::Bytes { range, total })
}

/// Digits only: `str::parse` would take a sign.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_the_two_forms_and_nothing_else() {
        let bytes =
            |start, end, total| Some(ContentRange::Bytes { range: ByteRange::new(start, end).expect("not empty"), total });
        for (text, expected) in [
            ("bytes 0-99/1000", bytes(0, 100, Some(1000))),
            ("Bytes 5-5/6", bytes(5, 6, Some(6))),
            ("bytes 0-99/*", bytes(0, 100, None)),
            ("bytes */1000", Some(ContentRange::Unsatisfied { total: 1000 })),
            ("bytes */*", None),
            ("bytes 9-5/10", None),
            ("bytes 0-10/10", None),
            ("bytes 0-18446744073709551615/*", None),
            ("bytes +0-+5/10", None),
            ("bytes 0-99", None),
            ("bytes=0-99/1000", None),
            ("items 0-99/1000", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn reads_back_what_a_server_writes(start in 0..1u64 << 40, len in 1..1u64 << 40, more in 0..1u64 << 40) {
            let range = ByteRange::new(start, start + len).expect("not empty");
            let total = range.end() + more;
            let expected = ContentRange::Bytes { range, total: Some(total) };
            prop_assert_eq!(parse(&format!("bytes {range}/{total}")), Some(expected));
        }
    }
}
