//! Servers and links in simulated time, carrying out the schedule's orders and checking its promises.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use oci::ByteRange;
use progress::{Stall, Stalls};
use registry::{Class, Fault};

use crate::{Answer, BlobId, ConnectionId, Fact, Failure, HostId, Limits, Order, RetryPolicy, Schedule};

const STEP: Duration = Duration::from_millis(5);

/// What a host does with one request.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) latency: Duration,
    pub(crate) answer: Result<Answer, Fault>,
    /// Bytes per second.
    pub(crate) rate: f64,
    /// After so many bytes the body breaks.
    pub(crate) breaks: Option<(u64, Fault)>,
    /// After so many bytes it goes on with that many bytes per second.
    pub(crate) slows: Option<(u64, f64)>,
}

impl Reply {
    pub(crate) fn ranges(rate: f64) -> Self {
        Self { latency: Duration::from_millis(2), answer: Ok(Answer::Range), rate, breaks: None, slows: None }
    }

    pub(crate) fn whole(rate: f64) -> Self {
        Self { answer: Ok(Answer::Whole), ..Self::ranges(rate) }
    }

    pub(crate) fn fault(class: Class) -> Self {
        Self { answer: Err(fault(class)), ..Self::ranges(1.0) }
    }
}

pub(crate) fn fault(class: Class) -> Fault {
    let busy = matches!(class, Class::Transient { after: Some(_) });
    Fault { class, host: "r.example".to_owned(), what: format!("{class:?}"), hint: None, connect: false, busy, source: None }
}

pub(crate) const AGAIN: Class = Class::Transient { after: None };

/// One request as the host sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) blob: BlobId,
    pub(crate) host: HostId,
    pub(crate) range: ByteRange,
    pub(crate) ranged: bool,
    /// Requests before it.
    pub(crate) number: u64,
    pub(crate) now: Duration,
}

/// Bytes that were written, and when the connection ended.
struct Written {
    blob: BlobId,
    start: u64,
    end: u64,
    at: Duration,
}

/// An order that takes its time.
enum Late {
    Shrink(u64),
    Drop,
}

struct Flight {
    blob: BlobId,
    host: HostId,
    start: u64,
    end: u64,
    position: f64,
    due: Duration,
    accepted: bool,
    reads: bool,
    reply: Reply,
}

pub(crate) struct Sim<'a> {
    pub(crate) schedule: Schedule,
    pub(crate) now: Duration,
    /// Bytes per second of the whole link.
    pub(crate) link: f64,
    /// Makes the rates of a busy machine: uneven, and now and then nothing at all.
    pub(crate) noise: Option<fastrand::Rng>,
    /// Nothing moves before then.
    stands_until: Duration,
    /// Delays what is ordered.
    pub(crate) delay: Option<fastrand::Rng>,
    late: Vec<(Duration, ConnectionId, Late)>,
    history: Vec<Written>,
    /// Most bytes of a blob that were there behind its first gap, where that is looked at.
    pub(crate) most_ahead: Option<u64>,
    host: Box<dyn FnMut(Ask) -> Reply + 'a>,
    flights: BTreeMap<ConnectionId, Flight>,
    sizes: BTreeMap<BlobId, u64>,
    written: BTreeMap<BlobId, Vec<(u64, u64)>>,
    pub(crate) asks: Vec<Ask>,
    /// Hosts that were left for others.
    pub(crate) left: Vec<(BlobId, HostId)>,
    pub(crate) finished: BTreeMap<BlobId, Duration>,
    pub(crate) failed: BTreeMap<BlobId, (Duration, Failure)>,
    pub(crate) restarts: usize,
    pub(crate) most_open: usize,
    /// When so many connections were open first.
    pub(crate) first_open: BTreeMap<usize, Duration>,
    /// By rule.
    pub(crate) stalls: Stalls,
    budget: usize,
}

impl<'a> Sim<'a> {
    pub(crate) fn new(limits: Limits, host: impl FnMut(Ask) -> Reply + 'a) -> Self {
        let retry = RetryPolicy { seed: Some(7), ..RetryPolicy::default() };
        Self {
            budget: limits.max_connections.get(),
            schedule: Schedule::new(limits, retry),
            now: Duration::ZERO,
            link: f64::INFINITY,
            noise: None,
            stands_until: Duration::ZERO,
            delay: None,
            late: Vec::new(),
            history: Vec::new(),
            most_ahead: None,
            host: Box::new(host),
            flights: BTreeMap::new(),
            sizes: BTreeMap::new(),
            written: BTreeMap::new(),
            asks: Vec::new(),
            left: Vec::new(),
            finished: BTreeMap::new(),
            failed: BTreeMap::new(),
            restarts: 0,
            most_open: 0,
            first_open: BTreeMap::new(),
            stalls: Stalls::default(),
        }
    }

    pub(crate) fn add(&mut self, blob: u64, size: u64, hosts: &[usize]) {
        self.add_missing(blob, size, vec![ByteRange::new(0, size).unwrap()], hosts);
    }

    pub(crate) fn add_missing(&mut self, blob: u64, size: u64, missing: Vec<ByteRange>, hosts: &[usize]) {
        let blob = BlobId(blob);
        let mut have = Vec::new();
        let mut at = 0;
        for range in &missing {
            have.push((at, range.start()));
            at = range.end();
        }
        have.push((at, size));
        have.retain(|(start, end)| start < end);
        self.sizes.insert(blob, size);
        self.written.insert(blob, have);
        let hosts = hosts.iter().copied().map(HostId).collect();
        self.tell(Fact::Added { blob, size, missing, hosts });
    }

    /// Until every blob has an outcome.
    pub(crate) fn run(&mut self) -> Duration {
        let mut steps = 0_u64;
        while self.finished.len() + self.failed.len() < self.sizes.len() {
            self.step();
            steps += 1;
            assert!(steps < 2_000_000, "no end in sight at {:?}: {:?}", self.now, self.schedule);
        }
        self.now
    }

    pub(crate) fn step(&mut self) {
        if self.flights.is_empty() {
            // Nothing moves: straight to the schedule's alarm.
            let wake = self.schedule.wake(self.now).expect("something is under way");
            self.now = self.now.max(wake);
        } else {
            self.now += STEP;
        }
        self.move_bytes();
        self.carry_out_late();
        for id in self.flights.keys().copied().collect::<Vec<_>>() {
            self.advance(id);
        }
        self.tell(Fact::Tick);
        self.check();
        self.look_ahead();
    }

    fn move_bytes(&mut self) {
        let rate = |flight: &Flight| match flight.reply.slows {
            Some((after, slow)) if flight.position - flight.start as f64 >= after as f64 => slow,
            _ => flight.reply.rate,
        };
        let wanted: f64 = self.flights.values().filter(|flight| flight.reads).map(rate).sum();
        let share = (self.link / wanted).min(1.0);
        let moving = self.now >= self.stands_until;
        if let Some(noise) = self.noise.as_mut()
            && moving
            && noise.u32(..100) < 2
        {
            self.stands_until = self.now + Duration::from_millis(noise.u64(10..40));
        }
        let stands = self.now < self.stands_until;
        for flight in self.flights.values_mut().filter(|flight| flight.reads && !stands) {
            let uneven = self.noise.as_mut().map_or(1.0, |noise| 0.4 + 1.2 * noise.f64());
            let mut next = flight.position + rate(flight) * share * uneven * STEP.as_secs_f64();
            if let Some((after, _)) = flight.reply.slows.filter(|(after, _)| flight.position < (flight.start + after) as f64) {
                next = next.min((flight.start + after) as f64);
            }
            flight.position = next.min(flight.end as f64);
        }
    }

    fn advance(&mut self, id: ConnectionId) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        if !flight.accepted {
            if self.now < flight.due {
                return;
            }
            flight.accepted = true;
            match flight.reply.answer.clone() {
                Ok(answer) => {
                    flight.reads = answer == Answer::Range;
                    self.tell(Fact::Accepted { connection: id, answer });
                }
                Err(fault) => self.end(id, Some(fault)),
            }
            return;
        }
        let offset = flight.position as u64;
        let broken = flight.reply.breaks.clone().filter(|(after, _)| offset >= flight.start + after);
        if let Some((after, fault)) = broken {
            flight.position = (flight.start + after) as f64;
            return self.end(id, Some(fault));
        }
        if flight.reads && offset >= flight.end {
            return self.end(id, None);
        }
        if flight.reads {
            self.tell(Fact::Arrived { connection: id, offset });
        }
    }

    fn end(&mut self, id: ConnectionId, fault: Option<Fault>) {
        let flight = self.flights.remove(&id).expect("in flight");
        let offset = flight.position as u64;
        if offset > flight.start {
            self.history.push(Written { blob: flight.blob, start: flight.start, end: offset, at: self.now });
            self.written.get_mut(&flight.blob).unwrap().push((flight.start, offset));
        }
        self.tell(Fact::Ended { connection: id, offset, fault: fault.map(Arc::new) });
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> Vec<ConnectionId> {
        self.flights.keys().copied().collect()
    }

    /// How long it took from this request until all that it asked for was there, whoever brought it.
    pub(crate) fn took(&self, ask: Ask) -> Duration {
        let overlaps = |part: &&Written| part.blob == ask.blob && part.start < ask.range.end() && part.end > ask.range.start();
        let last = self.history.iter().filter(overlaps).map(|part| part.at).max().unwrap_or_default();
        last.saturating_sub(ask.now)
    }

    pub(crate) fn tell(&mut self, fact: Fact) {
        for order in self.schedule.handle(self.now, fact) {
            self.carry_out(order);
        }
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Ask { connection, blob, host, range, ranged, .. } => {
                let target = self.schedule.hosts[&host].target();
                let busy = self.flights.values().filter(|flight| flight.host == host).count();
                assert!(busy < target, "{busy} connections open to {host:?}, which may have {target}");
                assert!(self.schedule.hosts[&host].is_ready(self.now), "{host:?} asked for a pause");
                let ask = Ask { blob, host, range, ranged, number: self.asks.len() as u64, now: self.now };
                self.asks.push(ask);
                let reply = (self.host)(ask);
                let due = self.now + reply.latency;
                let (start, end) = (range.start(), range.end());
                let flight = Flight { blob, host, start, end, position: start as f64, due, accepted: false, reads: false, reply };
                self.flights.insert(connection, flight);
                let open = self.flights.len();
                assert!(open <= self.budget, "{open} connections open");
                self.most_open = self.most_open.max(open);
                self.first_open.entry(open).or_insert(self.now);
            }
            Order::TakeWhole { connection } => {
                let flight = self.flights.get_mut(&connection).unwrap();
                (flight.start, flight.end, flight.position, flight.reads) = (0, self.sizes[&flight.blob], 0.0, true);
            }
            Order::Shrink { connection, end } => {
                self.later(connection, Late::Shrink(end));
            }
            Order::Drop { connection, stall } => {
                match stall {
                    Some(Stall::Silent) => self.stalls.silent += 1,
                    Some(Stall::Trickling) => self.stalls.trickling += 1,
                    Some(Stall::Floor) => self.stalls.floor += 1,
                    Some(Stall::Waited) => self.stalls.waited += 1,
                    None => {}
                }
                self.later(connection, Late::Drop);
            }
            Order::Restart { blob } => {
                self.restarts += 1;
                assert!(self.flights.values().all(|flight| flight.blob != blob), "restarted under a connection");
                self.written.get_mut(&blob).unwrap().clear();
                self.tell(Fact::Restarted { blob });
            }
            Order::Retry { .. } => {}
            Order::Leave { blob, host, .. } => self.left.push((blob, host)),
            Order::Finished { blob } => {
                let mut written = self.written[&blob].clone();
                written.sort_unstable();
                let mut at = 0;
                for (start, end) in written {
                    assert_eq!(start, at, "{blob:?} is covered exactly once");
                    at = end;
                }
                assert_eq!(at, self.sizes[&blob], "{blob:?} is whole");
                assert!(self.finished.insert(blob, self.now).is_none());
            }
            Order::Failed { blob, failure } => {
                assert!(self.failed.insert(blob, (self.now, failure)).is_none());
            }
        }
    }

    fn later(&mut self, connection: ConnectionId, order: Late) {
        match &mut self.delay {
            Some(delay) => self.late.push((self.now + Duration::from_millis(delay.u64(..30)), connection, order)),
            None => self.obey(connection, &order),
        }
    }

    fn carry_out_late(&mut self) {
        let now = self.now;
        let due: Vec<_> = self.late.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, connection, order) in due {
            self.obey(connection, &order);
        }
    }

    fn obey(&mut self, connection: ConnectionId, order: &Late) {
        let Some(flight) = self.flights.get_mut(&connection) else { return };
        match order {
            Late::Drop => self.end(connection, None),
            Late::Shrink(end) => {
                let end = (*end).max(flight.position as u64).min(flight.end);
                flight.end = end;
                self.tell(Fact::Shrunk { connection, end });
            }
        }
    }

    fn look_ahead(&mut self) {
        let Some(most) = self.most_ahead else { return };
        let ahead = self.sizes.keys().map(|blob| {
            let mut parts = self.written[blob].clone();
            parts.extend(
                self.flights.values().filter(|flight| flight.blob == *blob).map(|flight| (flight.start, flight.position as u64)),
            );
            parts.sort_unstable();
            let prefix = parts.iter().fold(0, |at, (start, end)| if *start <= at { at.max(*end) } else { at });
            parts.iter().map(|(start, end)| end - start).sum::<u64>() - prefix
        });
        self.most_ahead = Some(ahead.max().unwrap_or_default().max(most));
    }

    /// No byte has two owners.
    fn check(&self) {
        let mut owned = BTreeSet::new();
        for flight in self.flights.values() {
            owned.insert((flight.blob, flight.position as u64, flight.end));
        }
        for pair in owned.iter().zip(owned.iter().skip(1)) {
            let ((one, _, end), (other, start, _)) = pair;
            // An answer with the whole blob that waits for its verdict holds nothing yet.
            assert!(one != other || end <= start, "two connections hold the same byte of {one:?}: {end} > {start}");
        }
    }
}
