//! The adapter against real containerds: Debian's, and those that `CONTAINERD_17` and `CONTAINERD_2` name.

mod connect;
mod daemon;
mod lease;
mod records;
mod store;
