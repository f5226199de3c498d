//! Which bytes of a blob are written, granted, missing: pure bookkeeping, no file.

use std::collections::BTreeMap;

use oci::ByteRange;

/// Sets of bytes as disjoint spans, start → end; neighbours that touch are one span.
#[derive(Default, Debug)]
struct Spans(BTreeMap<u64, u64>);

/// The account of one blob. A byte is missing, granted to exactly one writer, or done.
#[derive(Debug)]
pub(crate) struct Ledger {
    size: u64,
    done: Spans,
    /// Grants by the offset they began at → the end they have now.
    granted: BTreeMap<u64, u64>,
}

impl Spans {
    /// Adds bytes. Extending a span at its end, what a writer does all the time, allocates nothing.
    fn insert(&mut self, range: ByteRange) {
        let mut end = range.end();
        while let Some((&start, &other)) = self.0.range(range.start() + 1..=end).next() {
            end = end.max(other);
            self.0.remove(&start);
        }
        match self.0.range_mut(..=range.start()).next_back() {
            Some((_, last)) if *last >= range.start() => *last = end.max(*last),
            _ => {
                self.0.insert(range.start(), end);
            }
        }
    }

    /// End of the span that holds `offset`, or `offset` itself when none does.
    fn run(&self, offset: u64) -> u64 {
        self.0.range(..=offset).next_back().map_or(offset, |(_, &end)| end.max(offset))
    }
}

fn touches(spans: &BTreeMap<u64, u64>, range: ByteRange) -> bool {
    spans.range(..range.end()).next_back().is_some_and(|(_, &end)| end > range.start())
}

impl Ledger {
    pub(crate) fn new(size: u64) -> Self {
        Self { size, done: Spans::default(), granted: BTreeMap::new() }
    }

    /// Bytes neither done nor granted, in order.
    pub(crate) fn missing(&self) -> Vec<ByteRange> {
        let mut taken = Spans::default();
        for (&start, &end) in self.done.0.iter().chain(&self.granted) {
            taken.0.entry(start).and_modify(|other| *other = end.max(*other)).or_insert(end);
        }
        let mut at = 0;
        let mut missing = Vec::new();
        for (start, end) in taken.0.into_iter().chain([(self.size, self.size)]) {
            missing.extend(ByteRange::new(at, start));
            at = at.max(end);
        }
        missing
    }

    /// Gives the range to one writer, if every byte of it is missing.
    pub(crate) fn grant(&mut self, range: ByteRange) -> bool {
        let free = range.end() <= self.size && !touches(&self.done.0, range) && !touches(&self.granted, range);
        if free {
            self.granted.insert(range.start(), range.end());
        }
        free
    }

    /// The grant that began at `start` now ends at `end`.
    pub(crate) fn shrink(&mut self, start: u64, end: u64) {
        if let Some(current) = self.granted.get_mut(&start) {
            *current = end;
        }
    }

    /// The grant that began at `start` is over; what it did not write is missing again.
    pub(crate) fn release(&mut self, start: u64) {
        self.granted.remove(&start);
    }

    pub(crate) fn finish(&mut self, range: ByteRange) {
        self.done.insert(range);
    }

    pub(crate) fn is_done(&self, range: ByteRange) -> bool {
        self.done.run(range.start()) >= range.end()
    }

    /// End of the finished bytes that begin at `offset`.
    pub(crate) fn run(&self, offset: u64) -> u64 {
        self.done.run(offset)
    }

    pub(crate) fn prefix(&self) -> u64 {
        self.done.run(0)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.prefix() == self.size
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.done.0.is_empty()
    }

    pub(crate) fn is_granted(&self) -> bool {
        !self.granted.is_empty()
    }
}

#[cfg(test)]
mod tests;
