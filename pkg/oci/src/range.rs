//! A span of bytes of one blob.

use std::fmt;

/// Bytes `start..end` of a blob, half open, never empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

impl ByteRange {
    /// `None` when the range would be empty.
    pub fn new(start: u64, end: u64) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    /// Offset of the first byte.
    pub fn start(self) -> u64 {
        self.start
    }

    /// Offset behind the last byte.
    pub fn end(self) -> u64 {
        self.end
    }

    /// Number of bytes, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Do the two share a byte?
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// As the `Range` header has it (RFC 9110 14.1.2): closed, `first-last`.
impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_bytes_and_is_shown_closed() {
        assert_eq!(ByteRange::new(5, 5), None);
        assert_eq!(ByteRange::new(6, 5), None);
        let range = ByteRange::new(0, 8).unwrap();
        assert_eq!((range.len(), range.to_string().as_str()), (8, "0-7"));
    }

    #[test]
    fn neighbours_share_no_byte() {
        let range = |start, end| ByteRange::new(start, end).unwrap();
        assert!(!range(0, 8).overlaps(range(8, 9)));
        assert!(range(0, 8).overlaps(range(7, 9)));
        assert!(range(0, 8).overlaps(range(3, 4)));
    }
}
