//! Lays spans into as few rows as there are at one time.

/// A row for each span, in the order given, which must be that of their starts. A span goes on in the row that had its `key` last
/// (the same connection) where that is free, else in the first free row whose key does not come again.
pub(super) fn rows<K: PartialEq>(spans: impl IntoIterator<Item = (u64, u64, Option<K>)>) -> (Vec<usize>, usize) {
    let spans: Vec<_> = spans.into_iter().collect();
    let mut rows: Vec<(u64, Option<&K>)> = Vec::new();
    let mut placed = Vec::with_capacity(spans.len());
    for (at, (start, end, key)) in spans.iter().enumerate() {
        let key = key.as_ref();
        let is_free = |row: &(u64, Option<&K>)| row.0 <= *start;
        let same = || rows.iter().position(|row| is_free(row) && key.is_some() && row.1 == key);
        // Looked for only a little ahead: a long trace must not take quadratic time.
        let comes_again =
            |key: Option<&K>| key.is_some() && spans[at..].iter().take(64).any(|(_, _, later)| later.as_ref() == key);
        let done = || rows.iter().position(|row| is_free(row) && !comes_again(row.1));
        let row = same().or_else(done).or_else(|| rows.iter().position(is_free));
        let row = row.unwrap_or_else(|| {
            rows.push((0, None));
            rows.len() - 1
        });
        rows[row] = (*end, key);
        placed.push(row);
    }
    (placed, rows.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_rows_as_spans_at_one_time_and_a_connection_keeps_its_row() {
        let spans = [
            (0, 10, Some('a')),
            (0, 12, Some('b')),
            (12, 20, Some('b')),
            (13, 15, Some('c')),
            (15, 30, Some('a')),
            (20, 25, None),
            (26, 27, Some('d')),
        ];
        assert_eq!(rows(spans), (vec![0, 1, 1, 0, 0, 1, 1], 2));
        assert_eq!(rows::<u8>([]), (vec![], 0));
    }
}
