//! Gives idle connections work: the next range of the blob with most to hand out.

use std::{cmp::Reverse, time::Duration};

use super::{
    BlobId, Connection, ConnectionId, HostId, Order, Schedule, State, Status,
    blob::{Blob, Restart},
    connection::Rate,
};

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
    pub(super) fn room(&self, now: Duration, host: HostId) -> usize {
        let open = self.connections.values().filter(|connection| connection.host == host).count();
        self.hosts.get(&host).filter(|host| host.is_ready(now)).map_or(0, |host| host.target().saturating_sub(open))
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
                held_at: None,
                rate: Rate::new(now),
                state: State::Asking,
                attempts: piece.attempts,
                corrupt: piece.corrupt,
                spent: piece.spent,
                probe: piece.probe,
                moves: piece.moves,
            },
        );
        self.orders.push(Order::Ask { connection, blob: id, host, range: piece.range, ranged, attempt: piece.attempts + 1 });
    }
}
