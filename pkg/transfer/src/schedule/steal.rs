//! Takes bytes off slow connections that others would have to wait for: the tail when nothing else is left to fetch, and a
//! blob's front, without which nothing behind it can be hashed.
//!
//! The loser stops at its new end (safety rule 2), so no byte is asked for twice.

use std::time::Duration;

use progress::Stall;

use super::{Connection, ConnectionId, Order, Schedule, State, Status, blob::Restart, connection::median, host::Host};

/// What is left to a slow owner when its tail is taken over; less is not worth keeping its connection for.
const LEAST_KEPT: u64 = 64 << 10;
/// Times the usual time to the first byte that a tail must last to be worth a new request.
const STEAL_ROUND_TRIPS: u32 = 3;
/// A request without an answer is moved no sooner than this; busy registries take their time.
const UNANSWERED: Duration = Duration::from_secs(1);
/// Times as long as a whole range usually takes that the rest of a front may take.
const FRONT: f64 = 4.0;
/// A connection that we held back ourselves lately says nothing about the network.
const HELD: Duration = Duration::from_secs(10);
/// Moves of one range after which its host is taken to hang. 3: the third comes after some seconds without progress, a busy machine
/// makes one or two.
const HANGS: u32 = 3;

impl Schedule {
    pub(super) fn steal(&mut self, now: Duration) {
        if self.blobs.values().any(|blob| blob.pieces.iter().any(|piece| piece.not_before <= now)) {
            self.relieve_fronts(now);
        } else {
            self.share_tails(now);
        }
    }

    /// With nothing left to hand out, idle connections take over the end of the range that would last longest.
    fn share_tails(&mut self, now: Duration) {
        let under_way = self.connections.values().filter(|connection| matches!(connection.state, State::Shrinking)).count();
        let idle = self.limits.max_connections.get().saturating_sub(self.connections.len());
        for _ in under_way..idle {
            let Some(id) = self.longest_tail(now) else { return };
            self.take_over(id);
        }
    }

    /// The connection with the longest estimated rest, if that is long enough.
    fn longest_tail(&self, now: Duration) -> Option<ConnectionId> {
        let may_lose = |connection: &Connection| self.may_lose(now, connection) && self.room(now, connection.host) > 0;
        let estimates = self.connections.iter().filter(|(_, connection)| may_lose(connection));
        let (id, rest) = estimates
            .map(|(id, connection)| (*id, connection.rest() as f64 / connection.rate.now().max(1.0)))
            .max_by(|(_, one), (_, other)| one.total_cmp(other))?;
        let first_byte = self.hosts.get(&self.connections.get(&id)?.host)?.first_byte();
        (rest > self.limits.steal_above.max(first_byte * STEAL_ROUND_TRIPS).as_secs_f64()).then_some(id)
    }

    /// While there is other work, the front of a blob goes to the next free connection if its owner is far slower than its peers.
    fn relieve_fronts(&mut self, now: Duration) {
        let blobs: Vec<_> = self.blobs.keys().copied().collect();
        for blob in blobs {
            let open = self.connections.iter().filter(|(_, connection)| connection.blob == blob);
            let Some((id, front)) = open.min_by_key(|(_, connection)| connection.offset) else { continue };
            let is_behind = self.blobs[&blob].pieces.first().is_some_and(|piece| piece.range.start() < front.offset);
            let host = self.hosts.get(&front.host).filter(|host| host.is_ready(now));
            let usual = self.usual(*id);
            if is_behind || host.is_none() || !self.may_lose(now, front) {
                continue;
            }
            let whole = usual.map(|usual| self.limits.range_size.get() as f64 / usual.max(1.0));
            let rest = front.rest() as f64 / front.rate.now().max(1.0);
            if whole.is_some_and(|whole| rest > whole * FRONT && rest > self.limits.steal_above.as_secs_f64()) {
                self.take_over(*id);
            }
        }
    }

    fn may_lose(&self, now: Duration, connection: &Connection) -> bool {
        let Some(blob) = self.blobs.get(&connection.blob) else { return false };
        let ranges = blob.sources[connection.source].status == Status::Ranges && blob.restart == Restart::No;
        // Each move makes the next one later: on a link that has become slow moving on would be all that happens.
        let patience = self.limits.steal_above * 4_u32.saturating_pow(connection.moves);
        let patience = match connection.state {
            State::Reading => patience,
            State::Asking => patience.max(UNANSWERED),
            State::Shrinking | State::Dropping { .. } => return false,
        };
        let old = now.saturating_sub(connection.asked_at) >= patience;
        old && ranges && connection.rest() > 0 && !connection.is_held(now, HELD)
    }

    /// The middle rate of the other connections, of all hosts.
    fn usual(&self, id: ConnectionId) -> Option<f64> {
        let peers = self.connections.iter().filter(|(peer, other)| **peer != id && other.is_reading());
        median(peers.map(|(_, peer)| peer.rate.recent()).collect())
    }

    /// Splits so that both parts end together: the middle for an owner of usual speed, all of it for one that is stuck.
    fn take_over(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else { return };
        let own = connection.rate.now();
        let known = self.hosts.get(&connection.host).map_or(0.0, Host::usual);
        let usual = self.usual(id).unwrap_or(known).max(own).max(1.0);
        let kept = (connection.rest() as f64 * own / (own + usual)) as u64;
        let stuck = kept < LEAST_KEPT && own * self.limits.slow_divisor < usual;
        let end = (connection.offset + kept).next_multiple_of(4096);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if stuck || !connection.is_reading() {
            connection.moves += 1;
            if connection.moves >= HANGS {
                self.hangs(id);
            }
            self.drop_connection(id, None, Some(Stall::Waited));
        } else if end < connection.range.end() {
            connection.state = State::Shrinking;
            self.orders.push(Order::Shrink { connection: id, end });
        }
    }
}
