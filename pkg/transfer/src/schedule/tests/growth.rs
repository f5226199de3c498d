//! How many connections: enough for a limit on each, no more than a full link has use for, fewer when the host says so.

use super::*;

/// The noise of a busy machine, so many times.
const SEEDS: u64 = 40;

#[test]
fn a_limit_per_connection_is_met_with_more_connections() {
    let mut sim = Sim::new(Limits::default(), |_| Reply::ranges(FAST));
    sim.add(1, 512 * MIB, &[0]);
    let took = sim.run();
    assert!(sim.first_open[&16] < Duration::from_millis(500), "{:?}", sim.first_open);
    assert!(seconds(took) < 0.8, "{took:?}");
}

#[test]
fn a_full_link_is_not_given_more_connections_than_help() {
    let mut sim = Sim::new(Limits::default(), |_| Reply::ranges(2000.0 * MIB as f64));
    sim.link = 1000.0 * MIB as f64;
    sim.add(1, 4096 * MIB, &[0]);
    let took = sim.run();
    assert!(sim.most_open <= 8, "{}", sim.most_open);
    // Each range ends on a step of the simulator, 4.1 s would be the link alone.
    assert!(seconds(took) < 5.5, "{took:?}");
}

#[test]
fn distance_does_not_look_like_a_full_link() {
    let mut sim = Sim::new(Limits::default(), |_| Reply { latency: Duration::from_millis(100), ..Reply::ranges(FAST) });
    sim.add(1, 1024 * MIB, &[0]);
    sim.run();
    assert!(sim.most_open >= 16, "{}", sim.most_open);
}

#[test]
fn one_connection_is_a_plain_sequential_pull() {
    let mut sim = Sim::new(limits(1), |_| Reply::ranges(FAST));
    sim.add(1, 64 * MIB, &[0]);
    sim.run();
    assert_eq!(sim.most_open, 1);
    let starts: Vec<_> = sim.asks.iter().map(|ask| ask.range.start()).collect();
    assert!(starts.is_sorted());
}

#[test]
fn push_back_halves_and_calm_brings_growth_back() {
    let too_many = registry::Fault { busy: true, ..fault(AGAIN) };
    let busy = |ask: Ask| Reply {
        answer: if ask.number == 10 { Err(too_many.clone()) } else { Ok(Answer::Range) },
        ..Reply::ranges(FAST / 10.0)
    };
    let mut sim = Sim::new(limits(8), busy);
    sim.add(1, 2048 * MIB, &[0]);
    while sim.asks.len() < 12 {
        sim.step();
    }
    let at = sim.now;
    while sim.now < at + Duration::from_secs(8) {
        sim.step();
    }
    sim.most_open = 0;
    let asked = sim.asks.len();
    while sim.asks.len() < asked + 3 {
        sim.step();
    }
    assert!(sim.most_open <= 4, "{}", sim.most_open);
    sim.run();
    assert_eq!(sim.most_open, 8);
}

#[test]
fn a_pause_that_the_host_asks_for_holds_all_its_connections() {
    let wait = Class::Transient { after: Some(Duration::from_secs(7)) };
    let busy = |ask: Ask| {
        if ask.now < Duration::from_secs(3) && ask.number >= 4 { Reply::fault(wait) } else { Reply::ranges(FAST / 10.0) }
    };
    let mut sim = Sim::new(Limits::default(), busy);
    sim.add(1, 128 * MIB, &[0]);
    sim.run();
    let refused = sim.asks[4].now;
    let next = sim.asks.iter().find(|ask| ask.now > refused + Duration::from_millis(50)).unwrap();
    assert!(next.now >= refused + Duration::from_secs(7), "{refused:?} {:?}", next.now);
}

#[test]
fn a_noisy_limit_per_connection_has_sixteen_within_half_a_second() {
    for seed in 0..SEEDS {
        let mut sim = Sim::new(Limits::default(), |_| Reply::ranges(FAST));
        sim.noise = Some(fastrand::Rng::with_seed(seed));
        sim.add(1, 1024 * MIB, &[0]);
        sim.run();
        assert!(sim.first_open.get(&16).is_some_and(|at| *at < Duration::from_millis(500)), "{seed}: {:?}", sim.first_open);
    }
}

#[test]
fn a_noisy_full_link_has_eight_at_most() {
    for seed in 0..SEEDS {
        let mut sim = Sim::new(Limits::default(), |_| Reply::ranges(2000.0 * MIB as f64));
        sim.link = 1000.0 * MIB as f64;
        sim.noise = Some(fastrand::Rng::with_seed(seed));
        sim.add(1, 2048 * MIB, &[0]);
        sim.run();
        assert!(sim.most_open <= 8, "{seed}: {:?}", sim.first_open);
    }
}

#[test]
fn each_host_has_its_own_number_and_the_run_its_limit() {
    // Host 0 is a full link of its own, host 1 limits each connection.
    let mut sim = Sim::new(limits(20), |ask| Reply::ranges(if ask.host.0 == 0 { 2.0 * MIB as f64 } else { FAST }));
    sim.add(1, 1024 * MIB, &[1]);
    sim.add(2, 8 * MIB, &[0]);
    sim.run();
    assert_eq!(sim.most_open, 20);
}
