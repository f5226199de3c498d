//! Against a model with one cell per byte.

use proptest::prelude::*;

use super::*;

const CELLS: usize = 64;
const SIZE: u64 = CELLS as u64;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Cell {
    Missing,
    Granted,
    Done,
}

#[derive(Clone, Debug)]
enum Step {
    Grant(u64, u64),
    Write(usize, u64),
    Shrink(usize, u64),
    Drop(usize),
}

/// What a `Grant` keeps of itself.
struct Held {
    start: u64,
    position: u64,
    end: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..SIZE, 1..20_u64).prop_map(|(start, len)| Step::Grant(start, start + len)),
        5 => (any::<usize>(), 1..12_u64).prop_map(|(which, len)| Step::Write(which, len)),
        1 => (any::<usize>(), 0..12_u64).prop_map(|(which, at)| Step::Shrink(which, at)),
        1 => any::<usize>().prop_map(Step::Drop),
    ];
    proptest::collection::vec(step, 0..200)
}

fn set(model: &mut [Cell], start: u64, end: u64, cell: Cell) {
    for offset in start..end {
        model[usize::try_from(offset).unwrap()] = cell;
    }
}

fn release(ledger: &mut Ledger, model: &mut [Cell], held: &Held) {
    ledger.release(held.start);
    set(model, held.position, held.end, Cell::Missing);
}

fn take(step: &Step, ledger: &mut Ledger, model: &mut [Cell], held: &mut Vec<Held>) {
    let count = held.len();
    match *step {
        Step::Grant(start, end) => {
            let free = end <= SIZE && (start..end).all(|at| model[usize::try_from(at).unwrap()] == Cell::Missing);
            assert_eq!(ledger.grant(ByteRange::new(start, end).unwrap()), free);
            if free {
                set(model, start, end, Cell::Granted);
                held.push(Held { start, position: start, end });
            }
        }
        Step::Write(which, len) if count > 0 => {
            let writer = &mut held[which % count];
            let end = (writer.position + len).min(writer.end);
            if let Some(range) = ByteRange::new(writer.position, end) {
                // Exactly once: nobody else may have written or hold these bytes.
                assert!((range.start()..end).all(|at| model[usize::try_from(at).unwrap()] == Cell::Granted));
                ledger.finish(range);
                set(model, writer.position, end, Cell::Done);
                writer.position = end;
            }
        }
        Step::Shrink(which, by) if count > 0 => {
            let writer = &mut held[which % count];
            let end = writer.position + by;
            if end < writer.end {
                ledger.shrink(writer.start, end);
                set(model, end, writer.end, Cell::Missing);
                writer.end = end;
                if writer.position == end {
                    let over = held.remove(which % count);
                    release(ledger, model, &over);
                }
            }
        }
        Step::Drop(which) if count > 0 => {
            let over = held.remove(which % count);
            release(ledger, model, &over);
        }
        _ => {}
    }
}

fn same(ledger: &Ledger, model: &[Cell]) {
    let mut missing = [false; CELLS];
    let mut last = None;
    for range in ledger.missing() {
        assert!(last.is_none_or(|end| end < range.start()), "in order, and neighbours are one range");
        last = Some(range.end());
        missing[usize::try_from(range.start()).unwrap()..usize::try_from(range.end()).unwrap()].fill(true);
    }
    for (offset, cell) in model.iter().enumerate() {
        assert_eq!(missing[offset], *cell == Cell::Missing, "byte {offset}");
        let byte = ByteRange::new(offset as u64, offset as u64 + 1).unwrap();
        assert_eq!(ledger.is_done(byte), *cell == Cell::Done, "byte {offset}");
    }
    let prefix = model.iter().take_while(|cell| **cell == Cell::Done).count() as u64;
    assert_eq!(ledger.prefix(), prefix);
    assert_eq!(ledger.is_complete(), prefix == SIZE);
}

proptest! {
    #[test]
    fn any_interleaving_gives_every_byte_one_owner(steps in steps()) {
        let mut ledger = Ledger::new(SIZE);
        let mut model = [Cell::Missing; CELLS];
        let mut held = Vec::new();
        for step in &steps {
            take(step, &mut ledger, &mut model, &mut held);
            same(&ledger, &model);
        }
        // Whatever happened, what is left can be granted and the blob ends complete.
        for writer in held.drain(..) {
            release(&mut ledger, &mut model, &writer);
        }
        for range in ledger.missing() {
            prop_assert!(ledger.grant(range));
            ledger.finish(range);
            ledger.release(range.start());
        }
        prop_assert!(ledger.is_complete());
        prop_assert!(ledger.missing().is_empty());
    }
}
