//! Which range next, on how many connections, and what to do when one is slow or fails.
//!
//! Called by `pull` for every blob of a run. [`Schedule`] decides, [`Engine`] carries out; nobody below retries, nobody
//! above needs to. Knows no images, snapshots or gRPC.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates and what follows from them are estimates, far below 2^52 bytes and never negative"
)]

mod engine;
mod error;
mod limits;
mod schedule;

pub use engine::{Engine, Fetched};
pub use error::{Class, Error};
pub use limits::{Limits, RetryPolicy};
pub use schedule::{Answer, BlobId, Cause, ConnectionId, Fact, Failure, HostId, Order, Schedule};
