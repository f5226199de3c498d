//! Looking without leaving a trace: what [`Puller::verify`](crate::Puller::verify) and [`Puller::plan`](crate::Puller::plan) have in
//! common.
//!
//! A garbage collector takes a View that no lease holds, so a look has a lease too, of a name of its own: what a failed pull left
//! under its lease is not ours to take over, nor to give up. However the look ends, the lease goes with it.

use std::{sync::atomic::Ordering, time::Duration};

use oci::Digest;
use progress::Event;

use crate::{Error, Puller};

/// Life of the lease of a look, which is renewed: a look that is killed holds what it saw for no longer.
const LOOK_LEASE: Duration = Duration::from_secs(60 * 60);

impl Puller {
    /// Runs `look` under a lease for `what`, and clears away whatever it made.
    pub(crate) async fn looking<T>(&self, what: &str, look: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.looks.store(true, Ordering::Relaxed);
        let outcome = self.under_lease(what, look).await;
        for left in self.abandon().await {
            self.progress.emit(&Event::Warning { text: format!("{left}, made to look, could not be removed") });
        }
        self.looks.store(false, Ordering::Relaxed);
        outcome
    }

    async fn under_lease<T>(&self, what: &str, look: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let (session, name) = (self.session.clone(), Digest::of(what.as_bytes()));
        let expiry = self.options.lease_expiry.min(LOOK_LEASE);
        self.scratch.to_its_end(async move { session.lease(expiry, name).await }).await?;
        tokio::select! {
            outcome = look => outcome,
            Err(error) = self.session.keep_lease() => Err(error.into()),
        }
    }
}
