//! A mirror that fails is left for the next host, and nothing that came from it is lost. (That no byte is fetched twice the
//! simulator checks by itself.)

use std::time::Duration;

use registry::Class;

use super::{
    FAST, MIB, limits, seconds,
    sim::{AGAIN, Ask, Reply, Sim, fault},
};
use crate::{BlobId, Cause, Failure, HostId, Limits};

/// A blob from a mirror that answers so, or else from the registry.
fn pulled(mirror: impl Fn(Ask) -> Reply) -> (Duration, usize) {
    let mut sim = Sim::new(limits(8), |ask| if ask.host == HostId(0) { mirror(ask) } else { Reply::ranges(FAST) });
    sim.add(1, 256 * MIB, &[0, 1]);
    let took = sim.run();
    assert!(sim.failed.is_empty(), "{:?}", sim.failed);
    assert_eq!(sim.restarts, 0);
    // Who watches is told: it is asked no more, or nearly so.
    let last = sim.asks.iter().rev().take(10).all(|ask| ask.host == HostId(1));
    assert_eq!(sim.left.contains(&(BlobId(1), HostId(0))), last, "{:?}", sim.left);
    assert!(!sim.left.contains(&(BlobId(1), HostId(1))), "{:?}", sim.left);
    (took, sim.asks.iter().filter(|ask| ask.host == HostId(0)).count())
}

#[test]
fn a_mirror_that_stops_sending_costs_one_wait() {
    for after in [0, MIB] {
        let (took, asked) = pulled(|_| Reply { slows: Some((after, 0.0)), ..Reply::ranges(FAST) });
        // Eight connections, and what each was given after its first range.
        assert!(seconds(took) < 34.0 && asked <= 16, "{after}: {took:?}, asked {asked} times");
    }
}

#[test]
fn a_mirror_that_never_answers_costs_one_wait() {
    let (took, asked) = pulled(|_| Reply { latency: Duration::from_secs(3600), ..Reply::ranges(FAST) });
    assert!(seconds(took) < 34.0 && asked == 1, "{took:?}, asked {asked} times");
}

#[test]
fn a_mirror_that_drips_is_left_before_a_minute_is_over() {
    let (took, _) = pulled(|_| Reply { slows: Some((MIB, 100.0)), ..Reply::ranges(FAST) });
    assert!(seconds(took) < 60.0, "{took:?}");
}

#[test]
fn a_mirror_that_breaks_every_answer_is_left_soon() {
    for breaks in [0, 300_000] {
        let (took, asked) = pulled(|_| Reply { breaks: Some((breaks, fault(AGAIN))), ..Reply::ranges(FAST) });
        assert!(seconds(took) < 3.0 && asked <= 12, "{breaks}: {took:?}, asked {asked} times");
    }
}

#[test]
fn a_mirror_that_answers_other_ranges_is_left_soon() {
    let (_, asked) = pulled(|_| Reply::fault(Class::Corrupt));
    assert!(asked <= 3, "asked {asked} times");
}

#[test]
fn a_mirror_that_fails_now_and_then_is_kept() {
    let (_, asked) = pulled(|ask| {
        let breaks = (ask.number % 5 == 4).then(|| (300_000, fault(AGAIN)));
        Reply { breaks, ..Reply::ranges(FAST) }
    });
    assert!(asked > 32, "asked {asked} times");
}

#[test]
fn a_pause_that_a_mirror_asks_for_holds_nobody_up() {
    let minutes = Class::Transient { after: Some(Duration::from_secs(120)) };
    let (took, asked) = pulled(|_| Reply::fault(minutes));
    assert!(seconds(took) < 3.0 && asked == 1, "{took:?}, asked {asked} times");
}

#[test]
fn every_host_that_failed_is_named_with_its_cause() {
    let class = |ask: Ask| [Class::Missing, Class::Fatal, Class::Denied][ask.host.0];
    let mut sim = Sim::new(Limits::default(), |ask| Reply::fault(class(ask)));
    sim.add(1, 64 * MIB, &[0, 1, 2]);
    sim.run();
    let Failure::Refused { host, cause, others, .. } = &sim.failed[&BlobId(1)].1 else { panic!("{:?}", sim.failed) };
    let said = |cause: &Cause| cause.to_string();
    let others: Vec<_> = others.iter().map(|(host, cause)| (*host, said(cause))).collect();
    assert_eq!((*host, said(cause)), (HostId(2), "r.example: Denied".to_owned()));
    let expected = [(HostId(0), "r.example: Missing"), (HostId(1), "r.example: Fatal")];
    assert_eq!(others, expected.map(|(host, words)| (host, words.to_owned())));
}
