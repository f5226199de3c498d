//! What an answer or the end of a connection means: go on, ask again and when, ask someone else, start over.

use std::{sync::Arc, time::Duration};

use oci::ByteRange;
use registry::{Class, Fault};

use super::{Answer, Cause, Connection, ConnectionId, Order, Schedule, State, Status, blob::Piece};

/// Wrong once or twice may be a cache's accident, wrong again is what the host has: waiting does not mend it.
const CORRUPT_ATTEMPTS: u32 = 3;

impl Schedule {
    pub(super) fn accepted(&mut self, now: Duration, id: ConnectionId, answer: Answer) {
        let alone = self.is_alone(id);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.last_byte = now;
        if let Some(host) = self.hosts.get_mut(&connection.host) {
            host.answered();
        }
        if connection.is_dropping() {
            return;
        }
        let Some(blob) = self.blobs.get_mut(&connection.blob) else { return };
        let whole = ByteRange::new(0, blob.size);
        let source = &mut blob.sources[connection.source];
        match answer {
            Answer::Range => {
                (source.status, source.refusals) = (Status::Ranges, 0);
                connection.state = State::Reading;
            }
            Answer::Whole if alone && blob.missing == blob.size => {
                if source.status != Status::Plain {
                    source.status = Status::Single;
                }
                blob.pieces.clear();
                connection.range = whole.unwrap_or(connection.range);
                connection.offset = 0;
                connection.state = State::Reading;
                self.orders.push(Order::TakeWhole { connection: id });
            }
            Answer::Whole => {
                source.status = Status::Single;
                source.refusals += 1;
                self.drop_connection(id, Some(Cause::NoRanges), None);
            }
        }
    }

    fn is_alone(&self, id: ConnectionId) -> bool {
        let blob = self.connections.get(&id).map(|connection| connection.blob);
        self.connections.values().filter(|connection| Some(connection.blob) == blob).count() == 1
    }

    pub(super) fn shrunk(&mut self, id: ConnectionId, end: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if matches!(connection.state, State::Shrinking) {
            connection.state = State::Reading;
        }
        let old = connection.range;
        let (Some(kept), Some(freed)) = (ByteRange::new(old.start(), end), ByteRange::new(end, old.end())) else { return };
        connection.range = kept;
        let (spent, blob) = (connection.spent, connection.blob);
        if let Some(blob) = self.blobs.get_mut(&blob) {
            blob.give_back(Piece { spent, ..Piece::fresh(freed) });
        }
    }

    pub(super) fn ended(&mut self, now: Duration, id: ConnectionId, offset: u64, fault: Option<Arc<Fault>>) {
        self.arrived(now, id, offset);
        self.judge_reopened(now, id);
        let Some(mut connection) = self.connections.remove(&id) else { return };
        connection.rate.note(now, connection.received(), self.limits.slow_span);
        let Some(blob) = self.blobs.get_mut(&connection.blob) else { return };
        let source = &mut blob.sources[connection.source];
        if source.status == Status::Asking(id) {
            source.status = Status::Unknown;
        }
        if let Some(host) = self.hosts.get_mut(&connection.host).filter(|_| connection.received() >= self.retry.progress) {
            host.served_at(connection.rate.mean(now));
        }
        let written = offset.saturating_sub(connection.range.start());
        blob.missing -= written.min(connection.range.len());
        let Some(rest) = ByteRange::new(offset.max(connection.range.start()), connection.range.end()) else {
            if let Some(host) = self.hosts.get_mut(&connection.host) {
                host.finished_range();
            }
            return;
        };
        let mut piece = Piece {
            range: rest,
            attempts: if written >= self.retry.progress { 0 } else { connection.attempts },
            corrupt: if written >= self.retry.progress { 0 } else { connection.corrupt },
            not_before: now,
            spent: connection.spent,
            probe: connection.probe,
            moves: connection.moves,
        };
        let cause = match (&connection.state, fault) {
            (State::Dropping { strike }, _) => strike.clone(),
            (_, fault) => Some(fault.map_or(Cause::Short, Cause::Fault)),
        };
        match cause {
            None => blob.give_back(piece),
            Some(cause) => {
                piece.attempts += 1;
                self.struck(now, &connection, piece, cause);
            }
        }
    }

    /// Decides about a range whose request failed: the same host later, another host, or none.
    fn struck(&mut self, now: Duration, connection: &Connection, mut piece: Piece, cause: Cause) {
        let Some(blob) = self.blobs.get_mut(&connection.blob) else { return };
        let others = (0..blob.sources.len()).any(|index| {
            index != connection.source && piece.spent >> index & 1 == 0 && blob.sources[index].status != Status::Spent
        });
        blob.last = Some((connection.host, piece.attempts, cause.clone()));
        blob.sources[connection.source].last = Some(cause.clone());
        if let Some(host) = self.hosts.get_mut(&connection.host) {
            if matches!(cause, Cause::Stalled(_)) { host.hung() } else { host.struck() }
        }
        let spend = |piece: &mut Piece| {
            piece.spent |= 1 << connection.source;
            (piece.attempts, piece.corrupt) = (0, 0);
        };
        let mut pause = self.retry.pause(piece.attempts, &mut self.rng);
        match class_of(&cause) {
            Class::Transient { after } => {
                if let Some(host) = self.hosts.get_mut(&connection.host) {
                    let asked = after.unwrap_or_default().min(self.retry.longest_wait);
                    if pushes_back(&cause) {
                        host.pushed_back(now, asked, &self.limits);
                    }
                    if connects(&cause) {
                        // A host that never answered is tried often for a short while, then given up.
                        pause = pause.min(self.retry.unreached / 5);
                        host.unreached(now, now + pause, self.retry.unreached, &cause);
                    }
                    // The pause is the host's: another one is not kept waiting.
                    pause = if others { pause } else { pause.max(asked) };
                    if matches!(connection.state, State::Asking) {
                        let longest = if connects(&cause) { self.retry.unreached / 5 } else { self.retry.longest_pause };
                        let (retry, rng) = (&self.retry, &mut self.rng);
                        host.failed(now, |failures| retry.pause(failures, rng).min(longest));
                    }
                }
                if piece.attempts >= self.retry.attempts {
                    spend(&mut piece);
                }
            }
            Class::Corrupt => {
                // Counted apart from resets and the like, which say nothing about what the host has.
                piece.corrupt += 1;
                if others || piece.corrupt >= CORRUPT_ATTEMPTS {
                    spend(&mut piece);
                }
            }
            Class::NoRange => blob.sources[connection.source].status = Status::Plain,
            _ => blob.sources[connection.source].status = Status::Spent,
        }
        let source = &blob.sources[connection.source];
        let refused = piece.spent >> connection.source & 1 == 1 || source.status == Status::Spent || source.needs_all();
        let shunned = self.hosts.get(&connection.host).is_none_or(|host| host.is_doubted(now) || !host.is_alive());
        piece.not_before = now + pause;
        blob.give_back(piece);
        if others && (refused || shunned) {
            self.orders.push(Order::Leave { blob: connection.blob, host: connection.host, cause: cause.clone() });
        }
        self.orders.push(Order::Retry { blob: connection.blob, host: connection.host, cause, after: pause });
    }
}

/// Failures that we found ourselves are as good as a reset.
fn class_of(cause: &Cause) -> Class {
    match cause {
        Cause::Fault(fault) => fault.class,
        Cause::Stalled(_) | Cause::Slow | Cause::Short | Cause::NoRanges => Class::Transient { after: None },
    }
}

fn pushes_back(cause: &Cause) -> bool {
    matches!(cause, Cause::Fault(fault) if fault.busy)
}

fn connects(cause: &Cause) -> bool {
    matches!(cause, Cause::Fault(fault) if fault.connect)
}
