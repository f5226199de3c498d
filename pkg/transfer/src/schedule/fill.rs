//! Gives idle connections work: the next range of the blob with most to hand out, or the tail of a slow range.

use std::{cmp::Reverse, time::Duration};

use super::{
    BlobId, Connection, ConnectionId, HostId, Order, Schedule, State, Status,
    blob::{Blob, Restart},
    connection::{Rate, median},
    host::Host,
};

/// What is left to a slow owner when its tail is taken over; less is not worth keeping its connection for.
const LEAST_KEPT: u64 = 64 << 10;
/// Times the usual time to the first byte that a tail must last to be worth a new request.
const STEAL_ROUND_TRIPS: u32 = 3;
/// A request without an answer is moved no sooner than this; busy registries take their time.
const UNANSWERED: Duration = Duration::from_secs(1);

impl Schedule {
    /// Opens connections while there are work and room.
    pub(super) fn fill(&mut self, now: Duration) {
        while self.connections.len() < self.limits.max_connections.get() {
            let Some((blob, piece, source)) = self.next_range(now) else { break };
            self.ask(now, blob, piece, source);
        }
        self.steal(now);
    }

    /// Largest rest first, so that no large blob is left to the end alone; what it cannot use yet goes to smaller ones.
    fn next_range(&self, now: Duration) -> Option<(BlobId, usize, usize)> {
        let mut blobs: Vec<_> = self.blobs.iter().filter(|(_, blob)| blob.restart == Restart::No).collect();
        blobs.sort_by_key(|(_, blob)| Reverse(blob.pending()));
        blobs.into_iter().find_map(|(id, blob)| {
            let due = blob.pieces.iter().enumerate().filter(|(_, piece)| piece.not_before <= now);
            due.filter_map(|(index, piece)| Some((index, blob.source(now, piece, &self.hosts)?)))
                .find(|(_, source)| self.may_ask(now, *id, blob, *source))
                .map(|(index, source)| (*id, index, source))
        })
    }

    fn may_ask(&self, now: Duration, id: BlobId, blob: &Blob, source: usize) -> bool {
        let source = &blob.sources[source];
        let alone = || !self.connections.values().any(|connection| connection.blob == id);
        let status = match source.status {
            Status::Unknown | Status::Ranges => true,
            Status::Single | Status::Plain => alone(),
            Status::Asking(_) | Status::Spent => false,
        };
        status && self.room(now, source.host) > 0
    }

    /// Connections that a host may still get.
    fn room(&self, now: Duration, host: HostId) -> usize {
        let open = self.connections.values().filter(|connection| connection.host == host).count();
        self.hosts.get(&host).filter(|host| host.not_before <= now).map_or(0, |host| host.target().saturating_sub(open))
    }

    /// Ranges get smaller when little is left, so that all connections end at about the same time.
    fn range_size(&self, host: HostId) -> u64 {
        let pending: u64 = self.blobs.values().map(Blob::pending).sum();
        let target = self.hosts.get(&host).map_or(1, |host| host.target() as u64);
        let most = self.limits.range_size.get();
        (pending / (2 * target)).clamp(self.limits.least_range.get().min(most), most)
    }

    fn ask(&mut self, now: Duration, id: BlobId, index: usize, source: usize) {
        let Some(host) = self.blobs.get(&id).map(|blob| blob.sources[source].host) else { return };
        let most = self.range_size(host);
        let Some(blob) = self.blobs.get_mut(&id) else { return };
        let ranged = blob.sources[source].status != Status::Plain;
        let piece = blob.take(index, if ranged { most } else { blob.size });
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        if blob.sources[source].status == Status::Unknown {
            blob.sources[source].status = Status::Asking(connection);
        }
        self.connections.insert(
            connection,
            Connection {
                blob: id,
                source,
                host,
                range: piece.range,
                offset: piece.range.start(),
                asked_at: now,
                last_byte: now,
                rate: Rate::new(now),
                state: State::Asking,
                attempts: piece.attempts,
                corrupt: piece.corrupt,
                spent: piece.spent,
                probe: piece.probe,
                moves: piece.moves,
            },
        );
        self.orders.push(Order::Ask { connection, blob: id, host, range: piece.range, ranged });
    }

    /// With nothing left to hand out, idle connections take over the end of the range that would last longest.
    fn steal(&mut self, now: Duration) {
        if self.blobs.values().any(|blob| blob.pieces.iter().any(|piece| piece.not_before <= now)) {
            return;
        }
        let under_way = self.connections.values().filter(|connection| matches!(connection.state, State::Shrinking)).count();
        let idle = self.limits.max_connections.get().saturating_sub(self.connections.len());
        for _ in under_way..idle {
            let Some(id) = self.victim(now) else { return };
            self.take_over(id);
        }
    }

    /// The connection with the longest estimated rest, if that is long enough.
    fn victim(&self, now: Duration) -> Option<ConnectionId> {
        let estimates = self.connections.iter().filter(|(_, connection)| self.may_lose(now, connection));
        let (id, rest) = estimates
            .map(|(id, connection)| (*id, connection.rest() as f64 / connection.rate.recent().max(1.0)))
            .max_by(|(_, one), (_, other)| one.total_cmp(other))?;
        let first_byte = self.hosts.get(&self.connections.get(&id)?.host)?.first_byte();
        (rest > self.limits.steal_above.max(first_byte * STEAL_ROUND_TRIPS).as_secs_f64()).then_some(id)
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
        old && ranges && connection.rest() > 0 && self.room(now, connection.host) > 0
    }

    /// Splits so that both parts end together: the middle for an owner of usual speed, all of it for one that is stuck.
    fn take_over(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else { return };
        let peers = self.connections.iter().filter(|(peer, other)| **peer != id && other.is_reading());
        let own = connection.rate.recent();
        let known = self.hosts.get(&connection.host).map_or(0.0, Host::usual);
        let usual = median(peers.map(|(_, peer)| peer.rate.recent()).collect()).unwrap_or(known).max(own).max(1.0);
        let kept = (connection.rest() as f64 * own / (own + usual)) as u64;
        let stuck = kept < LEAST_KEPT && own * self.limits.slow_divisor < usual;
        let end = (connection.offset + kept).next_multiple_of(4096);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if stuck || !connection.is_reading() {
            connection.moves += 1;
            if let Some(host) = self.hosts.get_mut(&connection.host) {
                host.struck();
            }
            self.drop_connection(id, None, true);
        } else if end < connection.range.end() {
            connection.state = State::Shrinking;
            self.orders.push(Order::Shrink { connection: id, end });
        }
    }
}
