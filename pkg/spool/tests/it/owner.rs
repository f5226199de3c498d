//! Safety 2: a byte has one owner.

use super::*;

#[tokio::test]
async fn a_loser_that_writes_late_never_reaches_the_file() {
    let bench = Bench::new();
    let entry = bench.entry();
    let cut = MIB + 300;
    let mut loser = entry.grant(range(0, bench.bytes.len())).unwrap();
    loser.write(&bench.bytes[..MIB + 100]).unwrap();

    // Not before the loser has let go…
    assert!(matches!(entry.grant(range(cut, bench.bytes.len())), Err(spool::Error::Taken { .. })));
    loser.shrink(cut as u64).unwrap();
    let winner = entry.grant(range(cut, bench.bytes.len())).unwrap();

    // …and then the loser cannot write there, not even with bytes that begin in its own part.
    assert!(matches!(loser.write(&vec![0xee; MIB]), Err(spool::Error::Outside { .. })));
    assert_eq!(loser.rest(), Some(range(MIB + 100, cut)));
    loser.write(&bench.bytes[MIB + 100..cut]).unwrap();
    assert_eq!(loser.rest(), None);
    assert!(matches!(loser.write(b"x"), Err(spool::Error::Outside { .. })));

    drop(winner);
    fill(&entry, &bench.bytes);
    entry.prove().await.unwrap();
    assert_eq!(std::fs::read(bench.data()).unwrap(), bench.bytes);
}

#[tokio::test]
async fn what_is_written_cannot_be_granted_again() {
    let bench = Bench::new();
    let entry = bench.entry();
    write(&entry, &bench.bytes, 0, 2 * MIB);
    for taken in [range(0, 1), range(2 * MIB - 1, 2 * MIB + 1), range(0, bench.bytes.len())] {
        assert!(matches!(entry.grant(taken), Err(spool::Error::Taken { .. })), "{taken}");
    }
    assert!(entry.grant(range(3 * MIB, bench.bytes.len() + 1)).is_err());
    fill(&entry, &bench.bytes);
    entry.prove().await.unwrap();
    assert!(entry.grant(range(0, 1)).is_err());
}

#[test]
fn a_dropped_grant_gives_its_rest_back() {
    let bench = Bench::new();
    let entry = bench.entry();
    let mut grant = entry.grant(range(MIB, 3 * MIB)).unwrap();
    assert_eq!(entry.missing(), [range(0, MIB), range(3 * MIB, bench.bytes.len())]);
    grant.write(&bench.bytes[MIB..MIB + 10]).unwrap();
    assert!(matches!(grant.shrink(MIB as u64 + 9), Err(spool::Error::Outside { .. })));
    drop(grant);
    assert_eq!(entry.missing(), [range(0, MIB), range(MIB + 10, bench.bytes.len())]);
}

#[tokio::test]
async fn an_entry_does_not_start_over_under_a_writer() {
    let bench = Bench::new();
    let entry = bench.entry();
    let grant = entry.grant(range(0, MIB)).unwrap();
    assert!(matches!(entry.restart(), Err(spool::Error::Busy { .. })));
    assert!(matches!(entry.clone().discard(), Err(spool::Error::Busy { .. })));
    drop(grant);
    entry.restart().unwrap();
    let other = Bench::new();
    let discarded = other.entry();
    discarded.clone().discard().unwrap();
    assert!(discarded.grant(range(0, MIB)).is_err(), "nor is it written after it went");
    fill(&entry, &bench.bytes);
    entry.prove().await.unwrap();
    assert!(matches!(entry.restart(), Err(spool::Error::Busy { .. })), "not after the proof");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_at_once_make_one_right_blob() {
    let home = tempfile::tempdir().unwrap();
    let spool = Spool::open(&home.path().join("spool"), None).unwrap();
    let bytes = noise(40 * MIB + 17);
    let blob = descriptor(&bytes);
    let entry = spool.try_entry(&blob).unwrap().unwrap();
    std::thread::scope(|scope| {
        for seed in 0..8 {
            let (entry, bytes) = (&entry, &bytes);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                while let Some(missing) = entry.missing().first().copied() {
                    let end = missing.end().min(missing.start() + random.u64(1..3_000_000));
                    let Ok(mut grant) = entry.grant(ByteRange::new(missing.start(), end).unwrap()) else { continue };
                    while let Some(rest) = grant.rest() {
                        let len = rest.len().min(random.u64(1..100_000));
                        let at = usize::try_from(rest.start()).unwrap();
                        grant.write(&bytes[at..at + usize::try_from(len).unwrap()]).unwrap();
                        match random.u8(..) {
                            0..8 => grant.shrink((rest.start() + len + 1000).min(rest.end())).unwrap(),
                            8..16 => break,
                            _ => {}
                        }
                    }
                }
            });
        }
    });
    entry.prove().await.unwrap();
}
