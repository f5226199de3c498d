//! The blob on disk before it has a name: file, journal, lock, prefix hash, proof.
//!
//! `transfer` writes an [`Entry`] through [`Grant`]s, `containerd` takes the [`Verified`] that comes out of it. A `Verified`
//! can only be made by hashing, so bytes nobody has proved have no type that lets them into a content store. This crate
//! knows no HTTP, no gRPC and no image.

mod core;
mod directory;
mod entry;
mod error;
mod follower;
mod grant;
mod journal;
mod key;
mod ledger;
mod lock;
mod resume;
mod spool;
mod verified;

pub use entry::Entry;
pub use error::Error;
pub use grant::Grant;
pub use spool::Spool;
pub use verified::{Identity, Verified};
