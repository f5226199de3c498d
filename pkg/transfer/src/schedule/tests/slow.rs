//! Connections that stall, trickle or hold others up.

use super::*;

#[test]
fn a_stuck_tail_is_taken_over() {
    let stick = |ask: Ask| {
        let slows = (ask.number == 3).then_some((MIB, 1024.0));
        Reply { slows, ..Reply::ranges(FAST) }
    };
    let mut sim = Sim::new(limits(8), stick);
    sim.add(1, 256 * MIB, &[0]);
    let took = sim.run();
    // 256 MiB at up to 400 MiB/s take 0.7 s with the start; a range takes 0.16 s.
    assert!(seconds(took) < 1.1, "{took:?}");
}

#[test]
fn a_slow_connection_in_eight_costs_little() {
    let one_in_eight = |ask: Ask| Reply::ranges(if ask.number % 8 == 5 { FAST / 25.0 } else { FAST });
    let mut sim = Sim::new(Limits::default(), one_in_eight);
    sim.add(1, 512 * MIB, &[0]);
    let took = sim.run();
    assert!(seconds(took) < 1.2, "{took:?}");
}

#[test]
fn a_host_that_does_not_answer_a_request_is_asked_again_after_30_s() {
    let mute = |ask: Ask| {
        let latency = Duration::from_secs(if ask.number == 0 { 3600 } else { 0 });
        Reply { latency, ..Reply::ranges(FAST) }
    };
    let mut sim = Sim::new(limits(1), mute);
    sim.add(1, 16 * MIB, &[0]);
    let took = sim.run();
    assert!((30.0..32.0).contains(&seconds(took)), "{took:?}");
    assert_eq!((sim.stalls.silent, sim.stalls.total()), (1, 1));
}

#[test]
fn a_lone_connection_that_falls_silent_is_reopened() {
    let stall = |ask: Ask| {
        let slows = (ask.number == 0).then_some((MIB, 0.0));
        Reply { slows, ..Reply::ranges(FAST) }
    };
    let mut sim = Sim::new(limits(1), stall);
    sim.add(1, 16 * MIB, &[0]);
    let took = sim.run();
    assert!(seconds(took) < 32.0, "{took:?}");
    assert_eq!(sim.stalls.total(), 1);
}

#[test]
fn a_trickling_connection_goes_when_its_peers_are_eight_times_faster() {
    // Within the span no front is waited for yet.
    let limits = Limits { slow_span: Duration::from_secs(4), ..limits(4) };
    let trickle = |ask: Ask| Reply::ranges(if ask.number == 2 { 1000.0 } else { MIB as f64 });
    let mut sim = Sim::new(limits, trickle);
    sim.add(1, 128 * MIB, &[0]);
    while sim.now < Duration::from_secs(3) {
        sim.step();
    }
    assert_eq!(sim.stalls.total(), 0);
    while sim.now < Duration::from_secs(6) {
        sim.step();
    }
    assert_eq!((sim.stalls.trickling, sim.stalls.total()), (1, 1));
    sim.run();
}

#[test]
fn a_slow_link_is_kept_and_progress_goes_on() {
    let mut sim = Sim::new(limits(1), |_| Reply::ranges(8.0 * 1024.0));
    sim.add(1, MIB, &[0]);
    let took = sim.run();
    // 128 s at that rate; one probe a minute.
    assert!(seconds(took) < 130.0, "{took:?}");
    assert!((1..=3).contains(&sim.stalls.floor) && sim.stalls.total() == sim.stalls.floor, "{:?}", sim.stalls);
}

#[test]
fn when_a_reopened_connection_is_faster_the_others_follow() {
    let tired = |ask: Ask| Reply::ranges(if ask.now < Duration::from_secs(5) { 1024.0 } else { MIB as f64 });
    let mut sim = Sim::new(limits(4), tired);
    sim.add(1, 32 * MIB, &[0]);
    let took = sim.run();
    assert!(seconds(took) < 45.0, "{took:?}");
}

#[test]
fn silence_ends_the_run_with_the_last_cause() {
    for most in [1, 4] {
        // Whatever is tried, a megabyte comes and then nothing.
        let mute = |ask: Ask| Reply { slows: Some((if ask.number < 8 { MIB } else { 0 }, 0.0)), ..Reply::ranges(FAST) };
        let mut sim = Sim::new(limits(most), mute);
        sim.add(1, 64 * MIB, &[0]);
        sim.run();
        let (at, failure) = &sim.failed[&BlobId(1)];
        match failure {
            Failure::Silent { span, last: Some((HostId(0), Cause::Stalled(_) | Cause::Slow)) } => {
                assert_eq!(*span, Duration::from_secs(300));
            }
            Failure::Refused { cause: Cause::Stalled(_), attempts: 8, .. } => {}
            other => panic!("{other:?}"),
        }
        // The last megabyte may come with the eighth request, each given up after 30 s.
        assert!(*at <= Duration::from_secs(8 * 30 + 300), "{at:?}");
    }
}

#[test]
fn a_host_that_never_answers_a_request_ends_the_run_too() {
    for most in [1, 32] {
        let limits = Limits { stall: Duration::from_secs(3600), ..limits(most) };
        let mut sim = Sim::new(limits, |_| Reply { latency: Duration::from_secs(7200), ..Reply::ranges(FAST) });
        sim.add(1, 64 * MIB, &[0]);
        sim.run();
        let (at, failure) = &sim.failed[&BlobId(1)];
        assert!(matches!(failure, Failure::Silent { .. }), "{failure:?}");
        assert!((300.0..301.0).contains(&seconds(*at)), "{at:?}");
    }
}

/// The median of how long ranges took.
fn usual(sim: &Sim<'_>) -> Duration {
    let mut spans: Vec<_> = sim.asks.iter().map(|ask| sim.took(*ask)).collect();
    spans.sort_unstable();
    spans[spans.len() / 2]
}

#[test]
fn a_tail_stuck_at_a_kilobyte_a_second_ends_within_twice_the_usual_time() {
    // The last ranges come when the blob is nearly done; each of them in turn is the one that gets stuck, here or there.
    for (back, after) in [(1, 0), (2, 0), (3, 0), (1, MIB), (2, MIB), (4, MIB / 2)] {
        let run = |stuck: Option<u64>| {
            let stick = move |ask: Ask| {
                let slows = (stuck == Some(ask.number)).then_some((after, 1024.0));
                Reply { slows, ..Reply::ranges(FAST) }
            };
            let limits = Limits { first_connections: NonZeroUsize::new(8).unwrap(), ..limits(8) };
            let mut sim = Sim::new(limits, stick);
            sim.add(1, 256 * MIB, &[0]);
            sim.run();
            sim
        };
        let stuck = run(None).asks.len() as u64 - back;
        let sim = run(Some(stuck));
        let (took, usual) = (sim.took(sim.asks[usize::try_from(stuck).unwrap()]), usual(&sim));
        assert!(took <= 2 * usual, "{back} {after}: {took:?}, usually {usual:?}");
    }
}

#[test]
fn a_slow_front_does_not_hold_back_what_can_be_hashed() {
    let mut dice = fastrand::Rng::with_seed(1);
    let one_in_eight = move |_: Ask| Reply::ranges(if dice.u32(..8) == 0 { FAST / 25.0 } else { FAST });
    let mut sim = Sim::new(limits(8), one_in_eight);
    sim.most_ahead = Some(0);
    sim.add(1, 1024 * MIB, &[0]);
    sim.run();
    // Eight connections bring 400 MiB a second; the slow range alone takes four.
    let most = sim.most_ahead.unwrap();
    assert!(most <= 400 * MIB, "{} MiB", most / MIB);
}

#[test]
fn a_link_that_is_slow_for_all_moves_no_range() {
    let mut sim = Sim::new(limits(8), |_| Reply::ranges(100.0 * 1024.0));
    sim.add(1, 64 * MIB, &[0]);
    sim.run();
    assert_eq!(sim.stalls, Stalls::default());
}

#[test]
fn what_waits_for_our_own_limit_is_not_slow() {
    let mut sim = Sim::new(limits(4), |_| Reply::ranges(10.0));
    sim.add(1, 16 << 10, &[0]);
    while sim.finished.is_empty() {
        sim.step();
        for connection in sim.open() {
            sim.tell(Fact::Held { connection });
        }
    }
    assert_eq!(sim.stalls, Stalls::default());
}
