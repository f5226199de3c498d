//! The rules of the transfer as a state machine: facts in, orders out, no I/O and no clock of its own.
//!
//! Time is the span since the run began and comes in with each fact. Whoever carries the orders out (`Engine`, a test's
//! simulator) promises: every connection ends with exactly one `Ended`, after its last write has returned. In return no
//! byte is ever held by two connections, and a byte once written is asked for again only after a `Restart`.

mod blob;
mod connection;
mod ending;
mod fact;
mod fill;
mod host;
mod review;
mod steal;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

pub use fact::{Answer, BlobId, Cause, ConnectionId, Fact, Failure, HostId, Order};

use progress::Stall;

use crate::{Limits, RetryPolicy};
use blob::{Blob, Restart, Status};
use connection::{Connection, State};
use host::Host;

/// How often the schedule wants to see what arrived while connections are open. 10 ms: a fraction of the growth window.
const BEAT: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Debug)]
pub struct Schedule {
    limits: Limits,
    retry: RetryPolicy,
    rng: fastrand::Rng,
    blobs: BTreeMap<BlobId, Blob>,
    connections: BTreeMap<ConnectionId, Connection>,
    hosts: BTreeMap<HostId, Host>,
    next_connection: u64,
    /// Since when no byte arrived.
    quiet_since: Duration,
    /// Not before then is a slow connection reopened to see whether the link or the connection is slow.
    next_reopen: Duration,
    /// When work was last handed out: all that was due by then was looked at.
    filled_at: Duration,
    orders: Vec<Order>,
}

impl Schedule {
    /// An empty schedule.
    pub fn new(limits: Limits, retry: RetryPolicy) -> Self {
        let rng = retry.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        Self {
            limits,
            retry,
            rng,
            blobs: BTreeMap::new(),
            connections: BTreeMap::new(),
            hosts: BTreeMap::new(),
            next_connection: 0,
            quiet_since: Duration::ZERO,
            next_reopen: Duration::ZERO,
            filled_at: Duration::ZERO,
            orders: Vec::new(),
        }
    }

    /// Takes a fact of time `now` and answers what is to be done. Facts about connections and blobs that are gone are
    /// no error: orders and facts cross.
    pub fn handle(&mut self, now: Duration, fact: Fact) -> Vec<Order> {
        match fact {
            Fact::Added { blob, size, missing, hosts } => self.added(now, blob, Blob::new(size, missing, hosts)),
            Fact::Accepted { connection, answer } => self.accepted(now, connection, answer),
            Fact::Arrived { connection, offset } => {
                self.arrived(now, connection, offset);
                return std::mem::take(&mut self.orders);
            }
            Fact::Held { connection } => {
                self.held(now, connection);
                return std::mem::take(&mut self.orders);
            }
            Fact::Shrunk { connection, end } => self.shrunk(connection, end),
            Fact::Ended { connection, offset, fault } => self.ended(now, connection, offset, fault),
            Fact::Withdrawn { blob } => self.forget(blob),
            Fact::Restarted { blob } => {
                if let Some(blob) = self.blobs.get_mut(&blob) {
                    blob.start_over();
                }
            }
            Fact::Tick => self.review(now),
        }
        self.settle(now);
        self.fill(now);
        self.filled_at = now;
        std::mem::take(&mut self.orders)
    }

    /// When the next `Tick` is due, if nothing else happens; `None` while there is nothing to do.
    pub fn wake(&self, now: Duration) -> Option<Duration> {
        if !self.connections.is_empty() {
            return Some(now + BEAT);
        }
        let hosts = self.hosts.values().map(Host::ready_at);
        let pieces = self.blobs.values().flat_map(|blob| &blob.pieces).map(|piece| piece.not_before);
        let silence = (!self.blobs.is_empty()).then_some(self.silent_at());
        // What became due between the last fact and this question was not looked at yet, although it is not ahead any more.
        let ahead = hosts.chain(pieces).filter(|at| *at > self.filled_at);
        ahead.chain(silence).min().map(|at| at.max(now + Duration::from_millis(1)))
    }

    fn added(&mut self, now: Duration, id: BlobId, blob: Blob) {
        if self.blobs.is_empty() {
            self.quiet_since = now;
            self.hosts.values_mut().for_each(Host::forgive);
        }
        for source in &blob.sources {
            self.hosts.entry(source.host).or_insert_with(|| Host::new(&self.limits));
        }
        self.blobs.insert(id, blob);
    }

    fn arrived(&mut self, now: Duration, id: ConnectionId, offset: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let news = offset.saturating_sub(connection.offset);
        if news == 0 {
            return;
        }
        let first = connection.received() == 0;
        connection.offset = offset;
        connection.last_byte = now;
        self.quiet_since = now;
        if let Some(host) = self.hosts.get_mut(&connection.host) {
            host.arrived(news);
            if first {
                host.first_byte_after(now.saturating_sub(connection.asked_at));
            }
        }
    }

    /// What waits for our own limit is neither silent nor slow.
    fn held(&mut self, now: Duration, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            (connection.held_at, connection.last_byte) = (Some(now), now);
            self.quiet_since = now;
        }
    }

    /// Declares blobs finished or failed, orders restarts.
    fn settle(&mut self, now: Duration) {
        let ids: Vec<_> = self.blobs.keys().copied().collect();
        for id in ids {
            let idle = !self.connections.values().any(|connection| connection.blob == id);
            let Some(blob) = self.blobs.get_mut(&id) else { continue };
            match blob.restart {
                Restart::Wanted if idle => {
                    blob.restart = Restart::Ordered;
                    self.orders.push(Order::Restart { blob: id });
                }
                Restart::Wanted | Restart::Ordered => {}
                Restart::No if blob.pieces.is_empty() && idle => {
                    self.blobs.remove(&id);
                    self.orders.push(Order::Finished { blob: id });
                }
                Restart::No => self.settle_pieces(now, id),
            }
        }
    }

    /// Every piece must have someone who can serve it; if that takes the bytes in hand, they are given up.
    fn settle_pieces(&mut self, now: Duration, id: BlobId) {
        let Some(blob) = self.blobs.get_mut(&id) else { return };
        let mut restart = false;
        for piece in &blob.pieces {
            match blob.source(now, piece, &self.hosts) {
                None => {
                    let failure = self.failure_of(id);
                    self.fail(id, failure);
                    return;
                }
                Some(source) => restart |= blob.must_restart_for(source),
            }
        }
        if restart {
            blob.restart = Restart::Wanted;
            blob.restarts += 1;
            if blob.restarts > self.retry.attempts {
                let failure = self.failure_of(id);
                self.fail(id, failure);
            } else {
                self.drop_all(id);
            }
        }
    }

    fn failure_of(&self, id: BlobId) -> Failure {
        let Some(blob) = self.blobs.get(&id) else { return Failure::NoHost };
        let dead = || {
            let source = blob.sources.last()?;
            let cause = self.hosts.get(&source.host)?.dead.clone()?;
            Some((source.host, 0, cause))
        };
        match blob.last.clone().or_else(dead) {
            Some((host, attempts, cause)) => Failure::Refused { host, attempts, cause, others: self.others_failed(blob, host) },
            None => Failure::NoHost,
        }
    }

    /// The blob's other hosts that failed, each with its last word.
    fn others_failed(&self, blob: &Blob, named: HostId) -> Vec<(HostId, Cause)> {
        let others = blob.sources.iter().filter(|source| source.host != named);
        let cause = |source: &blob::Source| source.last.clone().or_else(|| self.hosts.get(&source.host)?.dead.clone());
        others.filter_map(|source| Some((source.host, cause(source)?))).collect()
    }

    fn fail(&mut self, id: BlobId, failure: Failure) {
        self.forget(id);
        self.orders.push(Order::Failed { blob: id, failure });
    }

    fn forget(&mut self, id: BlobId) {
        self.drop_all(id);
        self.blobs.remove(&id);
    }

    fn drop_all(&mut self, id: BlobId) {
        let open = self.connections.iter().filter(|(_, connection)| connection.blob == id && !connection.is_dropping());
        let open: Vec<_> = open.map(|(id, _)| *id).collect();
        for connection in open {
            self.drop_connection(connection, None, None);
        }
    }

    fn drop_connection(&mut self, id: ConnectionId, strike: Option<Cause>, stall: Option<Stall>) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.state = State::Dropping { strike };
            self.orders.push(Order::Drop { connection: id, stall });
        }
    }

    fn silent_at(&self) -> Duration {
        // A pause that a host asked for is no silence.
        let asked = self.hosts.values().map(|host| host.not_before).max().unwrap_or_default();
        self.quiet_since.max(asked) + self.limits.silence
    }
}
