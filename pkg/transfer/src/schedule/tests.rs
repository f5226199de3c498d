//! The rules, each in simulated time; then any interleaving at all.

mod fail_over;
mod growth;
mod sim;
mod slow;

use std::{num::NonZeroUsize, time::Duration};

use oci::ByteRange;
use progress::Stalls;
use proptest::prelude::*;
use registry::Class;

use super::*;
use sim::{AGAIN, Ask, Reply, Sim, fault};

const MIB: u64 = 1 << 20;
const FAST: f64 = 50.0 * MIB as f64;

fn limits(most: usize) -> Limits {
    Limits { max_connections: NonZeroUsize::new(most).unwrap(), ..Limits::default() }
}

fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

#[test]
fn one_request_decides_before_others_join() {
    let mut sim = Sim::new(Limits::default(), |_| Reply { latency: Duration::from_millis(300), ..Reply::ranges(FAST) });
    sim.add(1, 256 * MIB, &[0]);
    while sim.now < Duration::from_millis(290) {
        sim.step();
    }
    assert_eq!(sim.asks.len(), 1);
    sim.step();
    sim.step();
    sim.step();
    assert_eq!(sim.asks.len(), 4);
    sim.run();
}

#[test]
fn small_blobs_fill_the_gaps_and_the_largest_is_not_left_to_the_end() {
    let mut sim = Sim::new(limits(8), |_| Reply::ranges(FAST));
    for blob in 1..=20 {
        sim.add(blob, 2 * MIB, &[0]);
    }
    sim.add(99, 400 * MIB, &[0]);
    let took = sim.run();
    // 440 MiB over at most 8 × 50 MiB/s are 1.1 s.
    assert!(seconds(took) < 1.5, "{took:?}");
}

#[test]
fn eight_attempts_without_progress_end_a_blob() {
    let mut sim = Sim::new(limits(1), |_| Reply { breaks: Some((1000, fault(AGAIN))), ..Reply::ranges(FAST) });
    sim.add(1, 2 * MIB, &[0]);
    sim.run();
    assert!(matches!(sim.failed[&BlobId(1)].1, Failure::Refused { attempts: 8, .. }), "{:?}", sim.failed);
    assert_eq!(sim.asks.len(), 8);
}

#[test]
fn a_host_that_fails_for_every_range_is_not_asked_for_one_after_the_other() {
    for busy in [false, true] {
        let broken = registry::Fault { busy, ..fault(AGAIN) };
        let mut sim = Sim::new(Limits::default(), |_| Reply { answer: Err(broken.clone()), ..Reply::ranges(FAST) });
        sim.add(1, 1024 * MIB, &[0]);
        sim.add(2, 1024 * MIB, &[0]);
        let took = sim.run();
        // Eight for each range that is given up, a few for others; and not all at once.
        assert!(sim.asks.len() <= 24, "{}", sim.asks.len());
        assert!(seconds(took) > 10.0, "{took:?}");
        assert_eq!(sim.failed.len(), 2);
    }
}

#[test]
fn one_failure_in_many_holds_nobody_up() {
    let rare = |ask: Ask| if ask.number % 10 == 9 { Reply::fault(AGAIN) } else { Reply::ranges(FAST) };
    let mut sim = Sim::new(limits(8), rare);
    sim.add(1, 256 * MIB, &[0]);
    let took = sim.run();
    assert!(seconds(took) < 1.1, "{took:?}");
}

/// The clock goes on between a fact and the question when to wake: a retry that becomes due just then is nobody else's to start.
#[test]
fn a_retry_that_is_due_when_the_question_comes_is_not_forgotten() {
    let mut schedule = Schedule::new(limits(1), RetryPolicy::default());
    let (blob, host) = (BlobId(1), HostId(0));
    let missing = vec![ByteRange::new(0, MIB).unwrap()];
    let orders = schedule.handle(Duration::ZERO, Fact::Added { blob, size: MIB, missing, hosts: vec![host] });
    let [Order::Ask { connection, .. }] = orders[..] else { panic!("{orders:?}") };
    let ended = Fact::Ended { connection, offset: 0, fault: Some(std::sync::Arc::new(fault(AGAIN))) };
    schedule.handle(Duration::from_millis(1), ended);
    let late = Duration::from_secs(2);
    assert_eq!(schedule.wake(late), Some(late + Duration::from_millis(1)));
    let orders = schedule.handle(late, Fact::Tick);
    assert!(matches!(orders[..], [Order::Ask { .. }]), "{orders:?}");
}

#[test]
fn progress_resets_the_attempts() {
    let mut sim = Sim::new(limits(4), |_| Reply { breaks: Some((256 << 10, fault(AGAIN))), ..Reply::ranges(FAST) });
    sim.add(1, 32 * MIB, &[0]);
    sim.run();
    assert!(sim.failed.is_empty());
}

#[test]
fn a_host_that_never_answered_is_given_up_within_ten_seconds() {
    let mut refused = fault(AGAIN);
    refused.connect = true;
    let mut sim = Sim::new(Limits::default(), |_| Reply { answer: Err(refused.clone()), ..Reply::ranges(1.0) });
    sim.add(1, 64 * MIB, &[0]);
    let took = sim.run();
    assert!((2.0..=10.0).contains(&seconds(took)), "{took:?}");
    assert_eq!(sim.failed.len(), 1);
}

#[test]
fn the_next_host_serves_what_the_first_does_not() {
    let connect = Reply { answer: Err(registry::Fault { connect: true, ..fault(AGAIN) }), ..Reply::ranges(1.0) };
    for reply in [
        Reply::fault(Class::Missing),
        Reply::fault(Class::Denied),
        Reply::fault(Class::Corrupt),
        Reply::fault(Class::NoRange),
        Reply::fault(Class::Fatal),
        Reply::fault(AGAIN),
        connect,
    ] {
        let mut sim = Sim::new(Limits::default(), |ask| if ask.host.0 == 0 { reply.clone() } else { Reply::ranges(FAST) });
        sim.add(1, 64 * MIB, &[0, 1]);
        let took = sim.run();
        assert!(sim.failed.is_empty(), "{reply:?}: {:?}", sim.failed);
        assert!(seconds(took) < 60.0, "{reply:?}: {took:?}");
    }
}

#[test]
fn only_when_all_hosts_are_used_up_the_blob_fails() {
    let mut sim = Sim::new(Limits::default(), |ask| Reply::fault(if ask.host.0 == 0 { Class::Missing } else { Class::Denied }));
    sim.add(1, 64 * MIB, &[0, 1]);
    sim.run();
    assert_eq!(sim.asks.len(), 2);
    assert!(matches!(&sim.failed[&BlobId(1)].1, Failure::Refused { host: HostId(1), .. }), "{:?}", sim.failed);
}

#[test]
fn a_whole_body_for_the_first_range_is_one_stream() {
    let mut sim = Sim::new(Limits::default(), |_| Reply::whole(FAST));
    sim.add(1, 64 * MIB, &[0]);
    sim.run();
    assert_eq!((sim.asks.len(), sim.restarts), (1, 0));
}

#[test]
fn a_whole_body_with_bytes_in_hand_is_not_spliced() {
    // A cache that is cold for the first two requests.
    let cold = |ask: Ask| if ask.number < 2 { Reply::whole(FAST) } else { Reply::ranges(FAST) };
    let mut sim = Sim::new(Limits::default(), cold);
    sim.add_missing(1, 64 * MIB, vec![ByteRange::new(10 * MIB, 64 * MIB).unwrap()], &[0]);
    sim.run();
    assert!(sim.restarts <= 1);
    // A server that never serves ranges costs the bytes in hand, not the blob.
    let mut sim = Sim::new(Limits::default(), |_| Reply::whole(FAST));
    sim.add_missing(1, 64 * MIB, vec![ByteRange::new(10 * MIB, 64 * MIB).unwrap()], &[0]);
    sim.run();
    assert_eq!((sim.restarts, sim.failed.len()), (1, 0));
}

#[test]
fn a_server_that_refuses_ranges_is_asked_for_the_whole() {
    let mut sim = Sim::new(Limits::default(), |ask| if ask.ranged { Reply::fault(Class::NoRange) } else { Reply::whole(FAST) });
    sim.add(1, 64 * MIB, &[0]);
    sim.run();
    assert_eq!((sim.asks.len(), sim.restarts, sim.failed.len()), (2, 0, 0));
}

#[test]
fn nothing_missing_is_finished_at_once() {
    let mut sim = Sim::new(Limits::default(), |_| Reply::ranges(FAST));
    sim.add_missing(1, MIB, vec![], &[0]);
    assert_eq!(sim.finished.len(), 1);
}

#[test]
fn a_withdrawn_blob_lets_go_of_its_connections() {
    let mut sim = Sim::new(limits(4), |_| Reply::ranges(FAST));
    sim.add(1, 64 * MIB, &[0]);
    sim.add(2, 64 * MIB, &[0]);
    for _ in 0..10 {
        sim.step();
    }
    sim.tell(Fact::Withdrawn { blob: BlobId(1) });
    sim.failed.insert(BlobId(1), (sim.now, Failure::NoHost));
    sim.run();
    assert!(sim.finished.contains_key(&BlobId(2)));
}

/// What may happen to a request, by weight.
fn any_reply() -> impl Strategy<Value = Reply> {
    let rate = prop_oneof![4 => Just(FAST), 1 => Just(FAST / 20.0), 1 => Just(3000.0)];
    let after = prop_oneof![Just(None), (0_u64..3).prop_map(|s| Some(Duration::from_secs(s)))];
    let class = prop_oneof![4 => after.prop_map(|after| Class::Transient { after }), 1 => Just(Class::Corrupt)];
    let breaks = proptest::option::weighted(0.3, (0..4 * MIB, class.clone().prop_map(fault)));
    let slows = proptest::option::weighted(0.1, (0..4 * MIB, prop_oneof![Just(0.0), Just(1024.0)]));
    let answer = prop_oneof![
        10 => Just(Ok(Answer::Range)),
        1 => Just(Ok(Answer::Whole)),
        2 => class.prop_map(|class| Err(fault(class))),
        1 => Just(Err(fault(Class::NoRange))),
    ];
    (0_u64..200, answer, rate, breaks, slows).prop_map(|(latency, answer, rate, breaks, slows)| Reply {
        latency: Duration::from_millis(latency),
        answer,
        rate,
        breaks,
        slows,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The simulator asserts that no byte has two owners, that each is written once and that the budgets of the run and of each
    /// host hold.
    #[test]
    fn any_interleaving_ends_with_every_byte_once(
        replies in proptest::collection::vec(any_reply(), 1..60),
        sizes in proptest::collection::vec(1_u64..40 * MIB, 1..5),
        most in 1_usize..12,
        hosts in 1_usize..3,
        delay in 0_u64..1000,
    ) {
        let mut sim = Sim::new(limits(most), |ask| {
            let calm = Reply { answer: Ok(if ask.ranged { Answer::Range } else { Answer::Whole }), ..Reply::ranges(FAST) };
            let mut reply = replies.get(usize::try_from(ask.number).unwrap()).cloned().unwrap_or(calm);
            if !ask.ranged && matches!(reply.answer, Ok(Answer::Range)) {
                reply.answer = Ok(Answer::Whole);
            }
            reply
        });
        // Orders take up to 30 ms: facts cross them in every order.
        sim.delay = Some(fastrand::Rng::with_seed(delay));
        let hosts: Vec<_> = (0..hosts).collect();
        for (blob, size) in sizes.iter().enumerate() {
            sim.add(blob as u64, *size, &hosts);
        }
        sim.run();
    }
}
