//! What happened, as data: events and meters.
//!
//! Everyone who moves bytes says so here; nobody here knows who listens. Emitting is a call on the spot: a listener that may
//! be slow (a terminal, a pipe) hands the event on to a thread of its own. A listener cannot fail a transfer: it returns
//! nothing.

mod event;
mod meter;
mod span;

pub use event::{Event, Progress};
pub use meter::{Meter, Stall, Stalls, Tally, Written};
pub use span::{Answered, Ending, RangeSpan, Step, StepSpan, Subject};
