//! The story of one pull: plan, run, overlaybd's rules, proof, receipt; and the look at an image that is here.
//!
//! [`Puller`] is what `cmd/rpull` drives. This crate knows no terminal and no command line; it decides what is whole and what
//! is not, and hands out a [`Receipt`] only for what was proved.

mod blobs;
mod chain;
mod cri;
mod documents;
mod error;
mod inventory;
mod look;
mod options;
pub mod overlaybd;
mod plan;
mod planned;
mod probe;
mod proof;
mod publish;
mod receipt;
mod records;
mod resolve;
mod run;
mod scratch;
mod space;
mod suspect;
mod tidy;
mod turns;
mod verify;
mod work;

pub use blobs::Source;
pub use cri::Cri;
pub use error::{Cause, Error};
pub use options::Options;
pub use planned::{Planned, PlannedAction, PlannedLayer};
pub use receipt::{Bytes, Came, Incidents, LayerReceipt, Proof, Receipt, StoreUse, Times};
pub use run::Puller;
pub use space::Room;
pub use verify::{Damage, Part, Place, Report};

/// Runs what waits for the disk off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await?
}
