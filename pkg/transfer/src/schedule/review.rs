//! What only time shows: connections that stalled or trickle, hosts that could take more, a run in which nothing arrives.
//!
//! There is no deadline on a transfer that moves, however slowly.

use std::time::Duration;

use progress::Stall;

use super::{
    Cause, Connection, ConnectionId, Failure, HostId, Order, Schedule,
    blob::{Blob, Status},
    connection::median,
};

/// A reopened connection must be this much faster for its peers to be reopened too.
const CLEARLY_FASTER: f64 = 2.0;

impl Schedule {
    pub(super) fn review(&mut self, now: Duration) {
        let keep = self.limits.slow_span;
        for connection in self.connections.values_mut() {
            let received = connection.received();
            connection.rate.note(now, received, keep);
        }
        let hosts: Vec<_> = self.hosts.keys().copied().collect();
        for id in hosts {
            let open = self.connections.values().filter(|connection| connection.host == id).count();
            if let Some(host) = self.hosts.get_mut(&id) {
                host.review(now, open, &self.limits);
            }
        }
        self.drop_stalled(now);
        self.drop_slow(now);
        self.judge_probes(now);
        self.reopen_under_floor(now);
        if !self.blobs.is_empty() && now >= self.silent_at() {
            self.give_up();
        }
    }

    fn drop_stalled(&mut self, now: Duration) {
        let stall = self.limits.stall;
        let quiet = |connection: &Connection| now.saturating_sub(connection.last_byte) >= stall;
        for id in self.matching(quiet) {
            self.drop_connection(id, Some(Cause::Stalled(stall)), Some(Stall::Silent));
        }
    }

    /// A connection far below its peers at the same host goes to a fresh one.
    fn drop_slow(&mut self, now: Duration) {
        let span = self.limits.slow_span;
        let slow: Vec<_> = self
            .matching(|connection| connection.rate.over(now, span).is_some() && !connection.is_held(now, span))
            .into_iter()
            .filter(|id| {
                let connection = &self.connections[id];
                let rate = connection.rate.over(now, span).unwrap_or_default();
                let usual = self.peers(*id, connection.host, now);
                usual.is_some_and(|usual| rate * self.limits.slow_divisor < usual)
            })
            .collect();
        for id in slow {
            self.drop_connection(id, Some(Cause::Slow), Some(Stall::Trickling));
        }
    }

    /// The middle rate of the other connections to that host.
    fn peers(&self, id: ConnectionId, host: HostId, now: Duration) -> Option<f64> {
        let others = self.connections.iter().filter(|(other, peer)| **other != id && peer.host == host && peer.is_reading());
        median(others.map(|(_, peer)| peer.rate.over(now, self.limits.slow_span).unwrap_or(peer.rate.recent())).collect())
    }

    /// When all crawl, the link may be slow or each connection stuck: one is reopened to find out.
    fn reopen_under_floor(&mut self, now: Duration) {
        if now < self.next_reopen || self.connections.is_empty() {
            return;
        }
        let (span, floor) = (self.limits.slow_span, self.limits.floor);
        let rates = self.connections.iter().map(|(id, connection)| {
            let rate = connection.rate.over(now, span).filter(|rate| *rate < floor && connection.is_reading());
            let rate = rate.filter(|_| !connection.is_held(now, span));
            rate.map(|rate| (*id, rate))
        });
        let Some(rates) = rates.collect::<Option<Vec<_>>>() else { return };
        let Some((slowest, _)) = rates.iter().copied().min_by(|one, other| one.1.total_cmp(&other.1)) else { return };
        let usual = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
        if let Some(connection) = self.connections.get_mut(&slowest) {
            connection.probe = Some(usual);
        }
        // The probe goes to another host, if there is one.
        self.hangs(slowest);
        self.next_reopen = now + self.limits.reopen_pause;
        self.drop_connection(slowest, None, Some(Stall::Floor));
    }

    fn judge_probes(&mut self, now: Duration) {
        let span = self.limits.slow_span;
        for id in self.matching(|connection| connection.probe.is_some() && connection.rate.over(now, span).is_some()) {
            self.judge_reopened(now, id);
        }
    }

    /// Faster than the others were: they follow. Not: that is the link, all are kept.
    pub(super) fn judge_reopened(&mut self, now: Duration, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id).filter(|connection| !connection.is_dropping()) else { return };
        let Some(before) = connection.probe.take() else { return };
        connection.rate.note(now, connection.received(), self.limits.slow_span);
        if connection.rate.mean(now) < before.max(1.0) * CLEARLY_FASTER {
            return;
        }
        let (span, floor) = (self.limits.slow_span, self.limits.floor);
        for id in self.matching(|peer| peer.rate.over(now, span).is_some_and(|rate| rate < floor)) {
            self.drop_connection(id, None, Some(Stall::Floor));
        }
    }

    /// Other hosts go before that of the connection, which is told where there are any.
    pub(super) fn hangs(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (blob, host) = (connection.blob, connection.host);
        if let Some(host) = self.hosts.get_mut(&host) {
            host.hung();
        }
        let others = |blob: &Blob| blob.sources.iter().any(|source| source.host != host && source.status != Status::Spent);
        if self.blobs.get(&blob).is_some_and(others) {
            self.orders.push(Order::Leave { blob, host, cause: Cause::Slow });
        }
    }

    fn give_up(&mut self) {
        let ids: Vec<_> = self.blobs.keys().copied().collect();
        for id in ids {
            let last = self.blobs.get(&id).and_then(|blob| blob.last.clone()).map(|(host, _, cause)| (host, cause));
            self.fail(id, Failure::Silent { span: self.limits.silence, last });
        }
    }

    /// Connections not yet told to close that fit.
    fn matching(&self, fits: impl Fn(&Connection) -> bool) -> Vec<ConnectionId> {
        let open = self.connections.iter().filter(|(_, connection)| !connection.is_dropping() && fits(connection));
        open.map(|(id, _)| *id).collect()
    }
}
