//! What an earlier run wrote is not fetched again, unless it is damaged.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::FileExt,
};

use super::*;

#[tokio::test]
async fn goes_on_where_the_last_run_stopped() {
    let bench = Bench::new();
    let entry = bench.entry();
    write(&entry, &bench.bytes, 0, MIB);
    write(&entry, &bench.bytes, 2 * MIB, bench.bytes.len());
    drop(entry);
    let entry = bench.entry();
    assert_eq!(entry.missing(), [range(MIB, 2 * MIB)]);
    assert_eq!(entry.resumed(), bench.blob.size() - MIB as u64);
    drop(entry);
    assert_eq!(bench.finish().await, bench.bytes);
}

#[tokio::test]
async fn a_piece_that_several_writers_filled_is_remembered() {
    let bench = Bench::new();
    let entry = bench.entry();
    // Out of order, so that none of the writers sees the whole piece.
    for (start, end) in [(500, MIB), (100, 500), (MIB + 5, 2 * MIB + 5), (0, 100), (MIB, MIB + 5)] {
        write(&entry, &bench.bytes, start, end);
    }
    drop(entry);
    assert_eq!(bench.entry().missing(), [range(2 * MIB, bench.bytes.len())]);
    assert_eq!(bench.finish().await, bench.bytes);
}

#[tokio::test]
async fn a_damaged_piece_alone_is_fetched_again() {
    let bench = Bench::new();
    let entry = bench.entry();
    write(&entry, &bench.bytes, 0, 3 * MIB);
    drop(entry);
    let file = fs::OpenOptions::new().write(true).open(bench.data()).unwrap();
    file.write_all_at(&[bench.bytes[MIB + 9] ^ 1], MIB as u64 + 9).unwrap();
    for _ in 0..2 {
        let entry = bench.entry();
        assert_eq!(entry.missing(), [range(MIB, 2 * MIB), range(3 * MIB, bench.bytes.len())]);
    }
    write(&bench.entry(), &bench.bytes, MIB, 2 * MIB);
    assert_eq!(bench.entry().missing(), [range(3 * MIB, bench.bytes.len())], "the piece fetched again is remembered");
    assert_eq!(bench.finish().await, bench.bytes);
}

#[tokio::test]
async fn a_torn_record_loses_one_piece() {
    let bench = Bench::new();
    bench.interrupted();
    let len = fs::metadata(bench.journal()).unwrap().len();
    fs::OpenOptions::new().write(true).open(bench.journal()).unwrap().set_len(len - 5).unwrap();
    assert_eq!(bench.entry().resumed(), MIB as u64);
    write(&bench.entry(), &bench.bytes, MIB, 2 * MIB);
    assert_eq!(bench.entry().resumed(), 2 * MIB as u64, "records after the torn one count");
    assert_eq!(bench.finish().await, bench.bytes);
}

#[tokio::test]
async fn a_file_of_another_size_or_a_lost_journal_starts_over() {
    type Meddle = fn(&Bench);
    let cases: [Meddle; 5] = [
        |bench| fs::OpenOptions::new().write(true).open(bench.data()).unwrap().set_len(bench.blob.size() + 1).unwrap(),
        |bench| fs::OpenOptions::new().write(true).open(bench.data()).unwrap().set_len(5).unwrap(),
        |bench| fs::remove_file(bench.journal()).unwrap(),
        |bench| fs::write(bench.journal(), "").unwrap(),
        |bench| {
            fs::remove_file(bench.data()).unwrap();
            fs::write(bench.data(), vec![0; bench.bytes.len()]).unwrap();
        },
    ];
    for meddle in cases {
        let bench = Bench::new();
        bench.interrupted();
        meddle(&bench);
        assert_eq!(bench.entry().missing(), [range(0, bench.bytes.len())]);
        assert_eq!(bench.finish().await, bench.bytes);
    }
}

#[tokio::test]
async fn complete_but_wrong_bytes_of_an_earlier_run_start_over() {
    let bench = Bench::new();
    let entry = bench.entry();
    fill(&entry, &vec![1; bench.bytes.len()]);
    drop(entry);
    assert_eq!(bench.entry().resumed(), 0);
    assert_eq!(bench.finish().await, bench.bytes);
}

#[test]
fn writes_many_ranges_at_once_until_killed() {
    let Some(spool) = spool_of_parent() else { return };
    let bytes = noise(64 * MIB);
    let entry = spool.try_entry(&descriptor(&bytes)).unwrap().expect("nobody else has it");
    let mut grants: Vec<_> = entry
        .missing()
        .into_iter()
        .flat_map(|missing| (missing.start()..missing.end()).step_by(8 * MIB).map(move |start| (start, missing.end())))
        .map(|(start, end)| entry.grant(ByteRange::new(start, end.min(start + 8 * MIB as u64)).unwrap()).unwrap())
        .collect();
    rustix::io::write(std::io::stdout(), format!("\nranges {}\n", grants.len()).as_bytes()).unwrap();
    while grants.iter().any(|grant| grant.rest().is_some()) {
        for grant in &mut grants {
            if let Some(rest) = grant.rest() {
                let start = usize::try_from(rest.start()).unwrap();
                let end = usize::try_from(rest.end()).unwrap().min(start + 50_000);
                grant.write(&bytes[start..end]).unwrap();
                let line = format!("\nwrote {}\n", end - start);
                rustix::io::write(std::io::stdout(), line.as_bytes()).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn kill_9_loses_less_than_one_piece_of_each_range_in_flight() {
    let home = tempfile::tempdir().unwrap();
    let spool = Spool::open(&home.path().join("spool"), None).unwrap();
    let bytes = noise(64 * MIB);
    let blob = descriptor(&bytes);
    let mut kept = 0;
    for stop in [9 * MIB, 14 * MIB, 5 * MIB] {
        let mut child = process("resume::writes_many_ranges_at_once_until_killed", spool.path());
        let (mut ranges, mut written) = (0, 0);
        for line in BufReader::new(child.stdout.as_mut().unwrap()).lines() {
            match line.unwrap().split_once(' ') {
                Some(("ranges", count)) => ranges = count.parse::<usize>().unwrap(),
                Some(("wrote", count)) => written += count.parse::<usize>().unwrap(),
                _ => {}
            }
            if written >= stop {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let resumed = usize::try_from(spool.try_entry(&blob).unwrap().unwrap().resumed()).unwrap();
        // A child that got to its end before the kill leaves no range to the next.
        assert!(resumed + ranges * MIB >= kept + written, "{resumed} of {kept} + {written}, {ranges} ranges");
        kept = resumed;
    }
    assert!(kept > 0);
    let entry = spool.entry(&blob).await.unwrap();
    fill(&entry, &bytes);
    entry.prove().await.unwrap();
}

#[test]
fn space_reserved_by_an_earlier_run_is_not_needed_again() {
    let bench = Bench::new();
    assert_eq!(bench.spool.needed(&bench.blob).unwrap(), bench.blob.size());
    bench.interrupted();
    assert!(bench.spool.needed(&bench.blob).unwrap() <= bench.blob.size() - 2 * MIB as u64);
}

#[test]
fn a_blob_that_does_not_fit_is_an_error_of_space_and_leaves_nothing() {
    // A filesystem in memory knows its limit at once; it is never 1 TiB.
    let home = tempfile::tempdir_in("/dev/shm").unwrap();
    let spool = Spool::open(&home.path().join("spool"), None).unwrap();
    let error = spool.try_entry(&sized(Digest::of(b"x"), oci::MAX_BLOB_SIZE)).unwrap_err();
    assert!(error.is_no_space(), "{error:?}");
    assert!(error.to_string().contains(spool.path().to_str().unwrap()) && error.hint().is_some());
    assert!(names(spool.path()).is_empty());
}
