//! What happened, as data: events, meters, the report folded from them.
//!
//! Everyone who moves bytes says so here; nobody here knows who listens. Emitting is cheap, never blocks on a listener that
//! is slow for long, and can never fail a transfer.

mod event;
mod meter;

pub use event::{Event, Progress};
pub use meter::{Meter, Tally};
