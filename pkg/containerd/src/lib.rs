//! Speaks containerd's gRPC: session with namespace and lease, content, snapshots, diff, images, introspection.
//!
//! [`Session`] carries every call, [`Store`] turns a proved file into content. This crate knows containerd's rules and none of the
//! image's: what a label says and which layer comes next is the caller's business. It decides no retry.

mod content;
mod error;
mod images;
mod ingest;
mod layout;
mod lease;
mod namespaces;
mod owner;
mod session;
mod snapshots;
mod store;

pub use content::{ContentInfo, Labels};
pub use error::{Error, Said};
pub use images::{ImageRecord, Target};
pub use session::Session;
pub use snapshots::{Mount, Named, Prepared, SnapshotInfo};
pub use store::{Committed, Examined, How, Mode, Notice, Store, StoreChoice, Upload};
