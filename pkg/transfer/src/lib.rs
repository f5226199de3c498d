#![allow(missing_docs, unused, clippy::all, clippy::pedantic)]
//! Which range next, on how many connections, and what to do when one is slow or fails.
use oci::{ByteRange, Descriptor};
use progress::Progress;
use registry::Repository;
use spool::{Entry, Verified};

/// Limits of a run, all settable.
#[derive(Clone, Debug)]
pub struct Limits { pub max_connections: std::num::NonZeroUsize, pub range_size: std::num::NonZeroU64 /* , … */ }
/// Retry rules.
#[derive(Clone, Debug)]
pub struct RetryPolicy {}
#[derive(thiserror::Error, Debug)]
#[error("x")]
#[non_exhaustive]
pub enum Error {}

/// Carries out the schedule: one queue for all blobs of all images of the run. Cheap to clone.
#[derive(Clone)]
pub struct Engine;
impl Engine {
    pub fn new(limits: Limits, retry: RetryPolicy, progress: Progress) -> Self { todo!() }
    /// Fetches what the entry misses and proves it. Dropping the future cancels that blob (awaiting running writes).
    pub async fn fetch(&self, repository: &Repository, entry: Entry) -> Result<Verified, Error> { todo!() }
}
