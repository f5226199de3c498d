//! The kit itself against the real components.

mod daemons;
mod image;
mod snapshotter;
mod stage;
