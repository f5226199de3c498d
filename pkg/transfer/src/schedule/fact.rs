//! What the schedule is told and what it orders.

use std::{fmt, sync::Arc, time::Duration};

use oci::ByteRange;
use progress::Stall;
use registry::Fault;

/// One blob of the run. Given by the caller, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BlobId(pub u64);

/// One host of the run, shared by all blobs that it serves. Given by the caller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(pub usize);

/// One request and its answer. Given by the schedule, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);

/// What a host's status line said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// 206 with exactly the range asked for.
    Range,
    /// 200: the whole blob from byte 0.
    Whole,
}

/// Something that happened. Offsets count from the start of the blob.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A blob is to be fetched from these hosts, the first preferred.
    Added {
        /// A new id.
        blob: BlobId,
        /// Its size.
        size: u64,
        /// What is not there yet, in order.
        missing: Vec<ByteRange>,
        /// Where it may be had, at most 64.
        hosts: Vec<HostId>,
    },
    /// The status line is known. After `Whole` nothing is read until `TakeWhole` or `Drop`.
    Accepted {
        /// Whose.
        connection: ConnectionId,
        /// What it says.
        answer: Answer,
    },
    /// Bytes up to `offset` were received.
    Arrived {
        /// By whom.
        connection: ConnectionId,
        /// End of what was received.
        offset: u64,
    },
    /// The connection reads nothing at present because the rate of the run is limited.
    Held {
        /// Which.
        connection: ConnectionId,
    },
    /// The order to shrink was carried out; the connection writes nothing from `end` on.
    Shrunk {
        /// Which.
        connection: ConnectionId,
        /// Where it ends now; later than ordered if it was further already.
        end: u64,
    },
    /// The connection is over and its last write has returned: finished, dropped as ordered, or failed.
    Ended {
        /// Which.
        connection: ConnectionId,
        /// End of what was written.
        offset: u64,
        /// Why, when it was neither finished nor dropped by order.
        fault: Option<Arc<Fault>>,
    },
    /// Nobody wants the blob any more.
    Withdrawn {
        /// Which.
        blob: BlobId,
    },
    /// The order to restart was carried out, nothing of the blob is there.
    Restarted {
        /// Which.
        blob: BlobId,
    },
    /// Time has passed.
    Tick,
}

/// Something to be done.
#[derive(Clone, Debug)]
pub enum Order {
    /// Request a range and write it. `ranged` false: request the whole blob without a `Range` header.
    Ask {
        /// Id of the new connection.
        connection: ConnectionId,
        /// Of which blob.
        blob: BlobId,
        /// From which host.
        host: HostId,
        /// What to write.
        range: ByteRange,
        /// With a `Range` header?
        ranged: bool,
        /// 1, or more when these bytes were asked for there before.
        attempt: u32,
    },
    /// Write the 200 answer as one stream from byte 0.
    TakeWhole {
        /// Which.
        connection: ConnectionId,
    },
    /// Stop at `end`, say `Shrunk` as soon as nothing can be written behind it.
    Shrink {
        /// Which.
        connection: ConnectionId,
        /// Where to stop.
        end: u64,
    },
    /// Close the connection, say `Ended` when its last write has returned.
    Drop {
        /// Which.
        connection: ConnectionId,
        /// The rule by which it was too slow, if that is why.
        stall: Option<Stall>,
    },
    /// A request failed and will be made again; for those who watch.
    Retry {
        /// For which blob.
        blob: BlobId,
        /// Where it failed.
        host: HostId,
        /// Why.
        cause: Cause,
        /// Pause before the next try.
        after: Duration,
    },
    /// Another host that has the blob goes first from now on; for those who watch. May come more than once.
    Leave {
        /// For which blob.
        blob: BlobId,
        /// Which host.
        host: HostId,
        /// Its last word.
        cause: Cause,
    },
    /// Forget all bytes of the blob (no connection of it is open), then say `Restarted`.
    Restart {
        /// Which.
        blob: BlobId,
    },
    /// All bytes of the blob are written.
    Finished {
        /// Which.
        blob: BlobId,
    },
    /// The blob cannot be had. Its connections were ordered to drop.
    Failed {
        /// Which.
        blob: BlobId,
        /// Why.
        failure: Failure,
    },
}

/// Why one request failed.
#[derive(Clone, Debug)]
pub enum Cause {
    /// The registry said so, or the way to it did.
    Fault(Arc<Fault>),
    /// No byte for this long.
    Stalled(Duration),
    /// Far slower than its peers.
    Slow,
    /// The body ended before the range did.
    Short,
    /// The host answers every range with the whole blob.
    NoRanges,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Stalled(span) => write!(f, "no byte for {} s", span.as_secs()),
            Self::Slow => f.write_str("far slower than the other connections"),
            Self::Short => f.write_str("the body ended early"),
            Self::NoRanges => f.write_str("the host answers ranges with the whole blob"),
        }
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Fault(fault) => fault.source(),
            _ => None,
        }
    }
}

/// Why a blob cannot be had.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The last host that was left said no, or said no too often.
    Refused {
        /// Which.
        host: HostId,
        /// How often it was asked for the last range.
        attempts: u32,
        /// Its last word.
        cause: Cause,
        /// The hosts before it, each with its last word.
        others: Vec<(HostId, Cause)>,
    },
    /// No byte arrived on any connection of the run for this long.
    Silent {
        /// How long.
        span: Duration,
        /// The blob's last failure, if there was one.
        last: Option<(HostId, Cause)>,
    },
    /// There is no host to ask.
    NoHost,
}
