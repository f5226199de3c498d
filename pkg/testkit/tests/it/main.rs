//! The kit itself against the real components.

mod daemons;
