//! The adapter against real containerds: Debian's, and the one `CONTAINERD_2` names.

mod connect;
mod daemon;
mod lease;
mod records;
mod store;
