//! What the images of one run share: how many blobs are open at once, and who brings a blob that several of them have.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use oci::Digest;
use tokio::sync::{OwnedMutexGuard, Semaphore, SemaphorePermit};

/// Blobs with a spool entry open at once: each holds four descriptors and a thread that hashes, and the default limit is 1024.
pub(crate) const OPEN_BLOBS: usize = 64;

/// Cheap to clone. A turn at a blob is taken before that at an open entry, so that nobody waits for a blob with an entry in hand.
#[derive(Clone)]
pub(crate) struct Turns {
    open: Arc<Semaphore>,
    /// One lock for each blob of the run, held by the image that brings it.
    blobs: Arc<Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { open: Arc::new(Semaphore::new(OPEN_BLOBS)), blobs: Arc::default() }
    }
}

impl Turns {
    /// Waits until no other image of this run brings the blob. What became of it there says nothing: it is looked for again.
    pub(crate) async fn at_blob(&self, digest: Digest) -> OwnedMutexGuard<()> {
        let turn = {
            let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(blobs.entry(digest).or_default())
        };
        turn.lock_owned().await
    }

    /// Waits until one more entry may be open.
    pub(crate) async fn to_open(&self) -> SemaphorePermit<'_> {
        self.open.acquire().await.expect("the semaphore is never closed")
    }
}
