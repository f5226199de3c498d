//! Carries out the schedule: one driver task with one queue for all blobs of the run, one task per open request.

mod bucket;
mod driver;
mod lane;
mod record;
mod trust;

use std::{
    future::Future,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use progress::{Event, Progress, Written};
use registry::{Fault, Repository};
use spool::{Entry, Verified};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{BlobId, Cause, Error, Limits, RetryPolicy};
use driver::{Driver, Job, Message, Served};
use trust::{Liars, Lie, Trust};

/// Fetches blobs; all that are under way share its queue and its connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    progress: Progress,
}

/// A blob that was fetched and proved.
#[derive(Debug)]
pub struct Fetched {
    /// The blob.
    pub verified: Verified,
    /// Hosts that were left because their bytes were others, a line each.
    pub warnings: Vec<String>,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    retry: RetryPolicy,
    next_blob: AtomicU64,
    liars: Liars,
    /// Made at the first fetch, where there is a runtime.
    driver: OnceLock<mpsc::UnboundedSender<Message>>,
}

impl Engine {
    /// An engine that has nothing to do yet.
    pub fn new(limits: Limits, retry: RetryPolicy, progress: Progress) -> Self {
        let shared = Shared {
            limits: limits.within_rate(),
            retry,
            next_blob: AtomicU64::new(0),
            liars: Liars::default(),
            driver: OnceLock::new(),
        };
        Self { shared: Arc::new(shared), progress }
    }

    /// The same engine, the same queue and the same connections; what is asked of this handle is told to `progress`.
    #[must_use]
    pub fn telling(&self, progress: Progress) -> Self {
        Self { shared: Arc::clone(&self.shared), progress }
    }

    /// Fetches what the entry misses and proves it. Dropping the future withdraws the blob: its connections end after the
    /// write that runs, and hold the entry's lock until then.
    ///
    /// A host whose bytes have another digest is left for the next one, and asked last for every later blob; the last that is left
    /// is asked once more.
    pub async fn fetch(&self, repository: &Repository, entry: Entry) -> Result<Fetched, Error> {
        let progress = &self.progress;
        let blob = entry.blob().digest;
        let (size, resumed, written) = (entry.blob().size(), entry.resumed(), Written::new(entry.resumed()));
        progress.emit(&Event::FetchStarted { blob, size, resumed, written: written.clone() });
        let mut trust = Trust::new(repository, &self.shared.liars, entry.resumed() > 0);
        loop {
            let (served, proved) = self.transfer_and_prove(repository, &entry, trust.hosts(), &written).await?;
            match proved {
                Ok(verified) => {
                    progress.emit(&Event::FetchFinished { blob });
                    return Ok(Fetched { verified, warnings: trust.warnings() });
                }
                Err(spool::Error::Mismatch { actual, .. }) => {
                    let Lie { text, left } = trust.lied(blob, actual, &served)?;
                    progress.emit(&Event::Warning { text });
                    if let Some(host) = left {
                        let cause = format!("its bytes have digest {actual}");
                        progress.emit(&Event::MirrorLeft { blob, host, cause });
                    }
                    progress.meter().add_refetched(entry.blob().size());
                    written.reset();
                    entry.restart().map_err(|source| Error::Spool { blob, source })?;
                }
                Err(source) => return Err(Error::Spool { blob, source }),
            }
        }
    }

    /// Makes a request that is not a blob's (a document's, a token's) until it succeeds, by the same rules: only what may
    /// work the next time is tried again. `what` names the object in the error.
    pub async fn attempt<T, F>(&self, what: &str, mut call: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let retry = &self.shared.retry;
        let mut rng = retry.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let started = Instant::now();
        let mut attempts = 0;
        loop {
            let fault = match call().await {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            attempts += 1;
            let mut pause = retry.pause(attempts, &mut rng);
            let again = match fault.class {
                registry::Class::Transient { after } => {
                    if fault.connect {
                        pause = pause.min(retry.unreached / 5);
                    }
                    pause = pause.max(after.unwrap_or_default().min(retry.longest_wait));
                    attempts < retry.attempts && !(fault.connect && started.elapsed() + pause > retry.unreached)
                }
                _ => false,
            };
            if !again {
                let host = fault.host.clone();
                return Err(Error::Refused {
                    what: what.to_owned(),
                    host,
                    attempts,
                    source: Cause::Fault(Arc::new(fault)),
                    others: Vec::new(),
                });
            }
            self.progress.meter().add_retry();
            let (host, cause) = (fault.host.clone(), format!("{what}: {fault}"));
            self.progress.emit(&Event::Retrying { blob: None, host, cause, after: pause });
            tracing::info!(what, host = fault.host, cause = %fault, ?pause, "trying again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Who sent the bytes, and what came of their proof. The outer error ends the fetch.
    async fn transfer_and_prove(
        &self,
        repository: &Repository,
        entry: &Entry,
        hosts: &[usize],
        written: &Written,
    ) -> Result<(Served, Result<Verified, spool::Error>), Error> {
        let transfer = self.transfer(repository, entry, hosts, written);
        // The proof hashes the finished prefix while the rest arrives. It begins anew when the schedule starts the blob over.
        let proof = async {
            loop {
                match entry.prove().await {
                    Err(spool::Error::Restarted { .. }) => tokio::task::yield_now().await,
                    proved => return proved,
                }
            }
        };
        tokio::pin!(transfer, proof);
        tokio::select! {
            done = &mut transfer => Ok((done?, proof.await)),
            proved = &mut proof => match proved {
                Ok(_) | Err(spool::Error::Mismatch { .. }) => Ok((transfer.await?, proved)),
                Err(_) => Ok((Served::new(), proved)),
            }
        }
    }

    async fn transfer(
        &self,
        repository: &Repository,
        entry: &Entry,
        hosts: &[usize],
        written: &Written,
    ) -> Result<Served, Error> {
        let blob = BlobId(self.shared.next_blob.fetch_add(1, Relaxed));
        let digest = entry.blob().digest;
        let driver = self.shared.driver.get_or_init(|| Driver::start(&self.shared.limits, &self.shared.retry));
        let (done, outcome) = oneshot::channel();
        let (repository, progress) = (repository.clone(), self.progress.clone());
        let job = Job { blob, repository, entry: entry.clone(), hosts: hosts.to_vec(), progress, written: written.clone(), done };
        let withdraw = Withdraw { blob, driver };
        if driver.send(Message::Add(job)).is_err() {
            return Err(Error::Stopped { blob: digest });
        }
        let outcome = outcome.await.unwrap_or(Err(Error::Stopped { blob: digest }));
        drop(withdraw);
        outcome
    }
}

/// Tells the driver when nobody waits for the blob any more; after its end that is no news.
struct Withdraw<'a> {
    blob: BlobId,
    driver: &'a mpsc::UnboundedSender<Message>,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        // A driver that is gone has nothing left to withdraw.
        let _ = self.driver.send(Message::Withdraw(self.blob));
    }
}
