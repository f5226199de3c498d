//! The kit itself against the real components.

mod daemons;
mod snapshotter;
mod stage;
