//! Snapshots of ours that must not outlive the pull: active extractions and probe views.
//!
//! A pull may be dropped at any await (signal, failure of a sibling). Every key is written down before containerd hears of it,
//! and the call that makes it runs on a task of its own, so that [`Scratch::clear`] finds all of them, also one whose reply
//! nobody waited for.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use containerd::Session;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use crate::Error;

/// Keys of one pull's unfinished snapshots. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Scratch {
    session: Session,
    snapshotter: String,
    keys: Arc<Mutex<BTreeSet<String>>>,
    /// Read-held by every call that makes a snapshot.
    calls: Arc<RwLock<()>>,
}

impl Scratch {
    pub(crate) fn new(session: Session, snapshotter: String) -> Self {
        Self { session, snapshotter, keys: Arc::default(), calls: Arc::default() }
    }

    /// Runs `call`, which makes snapshot `key`, to its end even if the caller is dropped.
    pub(crate) async fn make<T: Send + 'static>(
        &self,
        key: &str,
        call: impl Future<Output = Result<T, containerd::Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let held = Arc::clone(&self.calls).read_owned().await;
        self.keys().insert(key.to_owned());
        run(held, call).await
    }

    /// Runs `call`, which makes something else that is cleared away after [`Scratch::clear`], likewise to its end.
    pub(crate) async fn to_its_end<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, containerd::Error>> + Send + 'static,
    ) -> Result<T, Error> {
        run(Arc::clone(&self.calls).read_owned().await, call).await
    }

    /// `key` became a committed snapshot and is no longer ours to remove.
    pub(crate) fn forget(&self, key: &str) {
        self.keys().remove(key);
    }

    /// Removes `key` now.
    pub(crate) async fn remove(&self, key: &str) -> Result<(), Error> {
        self.session.remove(&self.snapshotter, key).await?;
        self.forget(key);
        Ok(())
    }

    /// Removes every snapshot that is still ours. Best effort: what cannot be removed is named in the result.
    pub(crate) async fn clear(&self) -> Vec<String> {
        let _quiet = self.calls.write().await;
        let keys: Vec<String> = self.keys().iter().cloned().collect();
        let mut left = Vec::new();
        for key in keys {
            if let Err(error) = self.remove(&key).await {
                tracing::info!(key, %error, "snapshot not removed");
                left.push(key);
            }
        }
        left
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// On a task of its own, which nobody drops.
async fn run<T: Send + 'static>(
    held: OwnedRwLockReadGuard<()>,
    call: impl Future<Output = Result<T, containerd::Error>> + Send + 'static,
) -> Result<T, Error> {
    let task = tokio::spawn(async move {
        let _held = held;
        call.await
    });
    Ok(task.await??)
}
