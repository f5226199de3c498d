//! What is still to be asked for of one blob, and whom to ask.

use std::{collections::BTreeMap, time::Duration};

use oci::ByteRange;

use super::{Cause, ConnectionId, HostId, host::Host};

/// 200 answers to a range that are dropped while bytes are in hand, before the bytes are given up instead. 2: a cold
/// pull-through cache has the blob by then, a server without ranges never will.
const REFUSALS: u32 = 2;

/// One blob of the run.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) size: u64,
    /// Bytes that are not written for good.
    pub(super) missing: u64,
    /// What no connection holds, by offset.
    pub(super) pieces: Vec<Piece>,
    pub(super) sources: Vec<Source>,
    pub(super) restart: Restart,
    /// How often it was started over.
    pub(super) restarts: u32,
    pub(super) last: Option<(HostId, u32, Cause)>,
}

/// Is the blob being started over?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restart {
    No,
    /// As soon as its connections are gone.
    Wanted,
    Ordered,
}

/// A range waiting for a connection.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) range: ByteRange,
    pub(super) attempts: u32,
    /// See `Connection::corrupt`.
    pub(super) corrupt: u32,
    pub(super) not_before: Duration,
    /// Sources that are used up for it, a bit each.
    pub(super) spent: u64,
    /// See `Connection::probe`.
    pub(super) probe: Option<f64>,
    /// See `Connection::moves`.
    pub(super) moves: u32,
}

impl Piece {
    pub(super) fn fresh(range: ByteRange) -> Self {
        Self { range, attempts: 0, corrupt: 0, not_before: Duration::ZERO, spent: 0, probe: None, moves: 0 }
    }
}

/// A host as far as this blob is concerned.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) host: HostId,
    pub(super) status: Status,
    /// 200 answers in a row that could not be used.
    pub(super) refusals: u32,
    /// Its last failure.
    pub(super) last: Option<Cause>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Not asked yet.
    Unknown,
    /// The one request that decides is out.
    Asking(ConnectionId),
    /// Serves ranges.
    Ranges,
    /// Answered a range with the whole blob: one connection at a time.
    Single,
    /// Refuses ranges: asked for the whole blob only.
    Plain,
    /// Does not have the blob, or not for us.
    Spent,
}

impl Source {
    /// Can only be used from byte 0.
    pub(super) fn needs_all(&self) -> bool {
        self.status == Status::Plain || self.refusals >= REFUSALS
    }
}

impl Blob {
    pub(super) fn new(size: u64, missing: Vec<ByteRange>, hosts: Vec<HostId>) -> Self {
        Self {
            size,
            missing: missing.iter().map(|range| range.len()).sum(),
            pieces: missing.into_iter().map(Piece::fresh).collect(),
            sources: hosts.into_iter().map(|host| Source { host, status: Status::Unknown, refusals: 0, last: None }).collect(),
            restart: Restart::No,
            restarts: 0,
            last: None,
        }
    }

    /// Bytes that no connection holds.
    pub(super) fn pending(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.range.len()).sum()
    }

    /// Nothing written yet.
    pub(super) fn is_empty(&self) -> bool {
        self.missing == self.size
    }

    pub(super) fn give_back(&mut self, piece: Piece) {
        let at = self.pieces.partition_point(|other| other.range.start() < piece.range.start());
        self.pieces.insert(at, piece);
    }

    /// Takes at most `most` bytes off piece `index`, from its front.
    pub(super) fn take(&mut self, index: usize, most: u64) -> Piece {
        let range = self.pieces[index].range;
        let cut = range.start() + range.len().min(most);
        match ByteRange::new(cut, range.end()) {
            None => self.pieces.remove(index),
            Some(rest) => {
                let mut piece = self.pieces[index].clone();
                self.pieces[index].range = rest;
                piece.range = ByteRange::new(range.start(), cut).expect("`most` is not zero");
                piece
            }
        }
    }

    /// The source to ask for a piece: of those left the first that answers, serves ranges, does not fail, comes first.
    pub(super) fn source(&self, now: Duration, piece: &Piece, hosts: &BTreeMap<HostId, Host>) -> Option<usize> {
        let usable = |index: &usize| {
            let source = &self.sources[*index];
            source.status != Status::Spent && piece.spent >> index & 1 == 0 && hosts.get(&source.host).is_some_and(Host::is_alive)
        };
        (0..self.sources.len()).filter(usable).min_by_key(|index| {
            let source = &self.sources[*index];
            let host = hosts.get(&source.host);
            // Bytes in hand count for more than a doubt.
            (host.is_some_and(Host::is_suspect), source.needs_all(), host.is_some_and(|host| host.is_doubted(now)), *index)
        })
    }

    /// Would asking this source need the bytes in hand to be given up first?
    pub(super) fn must_restart_for(&self, source: usize) -> bool {
        self.sources[source].needs_all() && !self.is_empty()
    }

    /// Everything is missing again.
    pub(super) fn start_over(&mut self) {
        self.missing = self.size;
        self.pieces = ByteRange::new(0, self.size).map(Piece::fresh).into_iter().collect();
        self.restart = Restart::No;
    }
}
