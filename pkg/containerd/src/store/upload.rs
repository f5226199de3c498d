//! The api store: bytes go to containerd while the rest still arrives; COMMIT is sent only for a [`Verified`].
//!
//! The ref is the one every other client uses for a layer, so two clients do not send the same blob twice: the second waits for the
//! first (safety 11). What a dead client left under it is aborted, not continued: containerd would hash it again from the start, and
//! on top of that under the lock of its database.

use std::{error::Error as _, sync::Arc, time::Duration};

use oci::{Descriptor, Digest, MediaType};
use spool::{Entry, Verified};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinHandle,
};
use tonic::{Code, Status};

use super::{How, Store, blocking, rotten::Found};
use crate::{Committed, Error, Labels, ingest::Ingest};

/// Bytes per message: half of what containerd's own client sends, which is as fast and takes half the memory in both processes.
const PIECE: usize = 512 << 10;

/// How often another client's write is looked at. containerd 1.6 itself sits on every try for most of a second.
const LOOK: Duration = Duration::from_millis(250);

/// Streams opened before their blob is complete. Each keeps a few megabytes in flight, and the memory of a whole run is bounded.
const EARLY: usize = 2;

/// Proved blobs sent at once, for the same reason: many small ones are proved together, and each stream takes its megabytes.
const LATE: usize = 2;

/// Turns at sending to containerd. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Uploads {
    early: Arc<Semaphore>,
    late: Arc<Semaphore>,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { early: Arc::new(Semaphore::new(EARLY)), late: Arc::new(Semaphore::new(LATE)) }
    }
}

/// A blob on its way into the store. Dropped before [`Upload::commit`] it leaves no content, and what was sent of it is left to
/// [`Session::abort_ingests`](crate::Session::abort_ingests).
#[derive(Debug)]
pub struct Upload {
    store: Store,
    early: Option<Early>,
}

/// The stream that runs ahead of the proof.
#[derive(Debug)]
struct Early {
    task: JoinHandle<Result<Option<Ingest>, Error>>,
    proved: Arc<Notify>,
}

impl Drop for Early {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Store {
    /// To be called when the fetch of `entry` begins. The api store then sends the finished prefix while the rest arrives; the direct
    /// store has nothing to do yet. Holds the entry until it is committed or dropped.
    pub fn begin(&self, entry: &Entry) -> Upload {
        let early = self.blobs.is_none().then(|| {
            let proved = Arc::new(Notify::new());
            let task = tokio::spawn(self.clone().run_ahead(entry.clone(), Arc::clone(&proved)));
            Early { task, proved }
        });
        Upload { store: self.clone(), early }
    }

    /// Sends what is there until all is sent or the proof is done, whichever comes first.
    async fn run_ahead(self, entry: Entry, proved: Arc<Notify>) -> Result<Option<Ingest>, Error> {
        let blob = entry.blob().clone();
        let opening = async {
            let permit = Arc::clone(&self.session.uploads().early).acquire_owned().await.expect("the semaphore is never closed");
            Ok::<_, Error>((permit, self.open(blob.digest, blob.size()).await?))
        };
        let (_permit, mut ingest) = tokio::select! {
            opened = opening => match opened? {
                (permit, Some(ingest)) => (permit, ingest),
                (_, None) => return Ok(None),
            },
            () = proved.notified() => return Ok(None),
        };
        while ingest.offset() < blob.size() {
            let ready = tokio::select! {
                ready = entry.prefix(ingest.offset()) => match ready {
                    Ok(ready) => ready,
                    // The entry started over, most likely: what was sent is not what will be proved.
                    Err(error) => {
                        ingest.abort().await;
                        return Err(error.into());
                    }
                },
                () = proved.notified() => break,
            };
            let sent = async {
                while ingest.offset() < ready {
                    let piece = read(entry.clone(), Entry::read_at, ingest.offset(), ready).await?;
                    ingest.write(piece).await.map_err(|status| self.session.not_taken(blob.digest, status))?;
                }
                Ok(())
            };
            if let Err(error) = sent.await {
                ingest.abort().await;
                return Err(error);
            }
        }
        Ok(Some(ingest))
    }

    pub(super) async fn commit_api(
        &self,
        early: Option<Ingest>,
        verified: &Verified,
        labels: &Labels,
    ) -> Result<Committed, Error> {
        let (digest, size) = (verified.digest(), verified.size());
        let blob = Descriptor::new(MediaType::new(""), digest, size).expect("a proved blob has a size a blob can have");
        if self.session.content(digest).await?.is_none()
            && let Some(committed) = self.adopt_foreign(&blob, labels).await?
        {
            if let Some(ingest) = early {
                ingest.abort().await;
            }
            return Ok(committed);
        }
        // Where the direct store fell back to this one. Whatever is sent now, containerd would keep the file.
        if self.blobs.is_some()
            && let Some(file) = self.file(digest)
            && let Found::Rotten { .. } = self.look(&file, digest, size).await?
        {
            return Err(Error::Damaged { digest, place: file.display().to_string() });
        }
        if let Some(ingest) = early {
            match self.finish(ingest, verified, labels).await {
                Ok(committed) => return Ok(committed),
                // A connection broken meanwhile, or an entry begun anew behind its back: once more, with nothing but proved bytes.
                Err(error) => tracing::debug!(%digest, %error, "early upload not used"),
            }
        }
        if let Some(ingest) = self.open(digest, size).await? {
            return self.finish(ingest, verified, labels).await;
        }
        let found = self.adopt(&blob, labels).await?;
        found.ok_or_else(|| Error::Gone { what: format!("content {digest}") })
    }

    /// Sends the rest and lets containerd judge.
    async fn finish(&self, mut ingest: Ingest, verified: &Verified, labels: &Labels) -> Result<Committed, Error> {
        let (digest, size) = (verified.digest(), verified.size());
        let _sending = self.session.uploads().late.acquire().await.expect("the semaphore is never closed");
        let sent = async {
            while ingest.offset() < size {
                let piece = read(verified.clone(), Verified::read_at, ingest.offset(), size).await.map_err(Failure::Spool)?;
                ingest.write(piece).await.map_err(Failure::Status)?;
            }
            ingest.commit(digest, labels).await.map_err(Failure::Status)
        };
        match sent.await {
            Ok(()) => {}
            Err(Failure::Status(status)) if status.code() == Code::AlreadyExists => {
                self.session.label_content(digest, labels).await?;
            }
            Err(failure) => {
                // Left as it is, a complete ingest with a wrong digest would fail every later client as well.
                ingest.abort().await;
                return Err(match failure {
                    Failure::Spool(error) => error,
                    Failure::Status(status) => self.session.not_taken(digest, status),
                });
            }
        }
        if ingest.lease_changed() {
            self.session.hold_content(digest).await?;
        }
        Ok(self.committed(digest, size, How::Hashed))
    }

    /// Gets the ref, waiting as long as another client has it. `None`: that client finished the blob.
    async fn open(&self, digest: Digest, size: u64) -> Result<Option<Ingest>, Error> {
        let reference = format!("layer-{digest}");
        loop {
            match self.try_open(&reference, size).await {
                Ok(ingest) => return Ok(Some(ingest)),
                Err(Failure::Spool(error)) => return Err(error),
                Err(Failure::Status(status)) if is_locked(&status) => {}
                Err(Failure::Status(status)) => return Err(self.session.not_taken(digest, status)),
            }
            let other = self.session.ingest(&reference).await?;
            if self.session.content(digest).await?.is_some() {
                return Ok(None);
            }
            self.waiting(digest, &reference, other.map(|status| status.offset).unwrap_or_default());
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn try_open(&self, reference: &str, size: u64) -> Result<Ingest, Failure> {
        if let Some(left) = self.session.ingest(reference).await.map_err(Failure::Spool)?.filter(|left| left.offset > 0) {
            // With a total other than the one on record containerd takes the lock and does not read what is there.
            let total = if u64::try_from(left.total) == Ok(size) { size + 1 } else { size };
            let left = Ingest::open(&self.session, reference, total, None).await.map_err(Failure::Status)?;
            left.abort().await;
        }
        // Without `expected`: with it a shared store would answer that all is there, rotten or not.
        let ingest = Ingest::open(&self.session, reference, size, None).await.map_err(Failure::Status)?;
        if ingest.offset() == 0 {
            return Ok(ingest);
        }
        ingest.abort().await;
        Err(Failure::Status(Status::unavailable("another client was here in between")))
    }
}

impl Upload {
    /// Makes the proved blob content, under the session's lease.
    pub async fn commit(mut self, verified: &Verified, labels: &Labels) -> Result<Committed, Error> {
        let Some(mut early) = self.early.take() else { return self.store.commit(verified, labels).await };
        early.proved.notify_one();
        let ahead = match (&mut early.task).await {
            Ok(Ok(ingest)) => ingest,
            Ok(Err(error)) => {
                tracing::debug!(digest = %verified.digest(), %error, "early upload ended");
                None
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        self.store.commit_api(ahead, verified, labels).await
    }
}

enum Failure {
    Spool(Error),
    Status(Status),
}

/// Is the ref held by another stream? A broken connection has the same code, and a source.
fn is_locked(status: &Status) -> bool {
    status.code() == Code::Unavailable && status.source().is_none()
}

/// The next piece of a blob, at most to `end`.
async fn read<F: Send + 'static>(
    file: F,
    read_at: impl Fn(&F, u64, &mut [u8]) -> Result<usize, spool::Error> + Send + 'static,
    offset: u64,
    end: u64,
) -> Result<Vec<u8>, Error> {
    let length = usize::try_from(end - offset).map_or(PIECE, |left| left.min(PIECE));
    blocking(move || {
        let mut piece = vec![0; length];
        let read = read_at(&file, offset, &mut piece)?;
        piece.truncate(read);
        if piece.is_empty() {
            return Err(Error::Gone { what: format!("the spool's bytes from {offset} on") });
        }
        Ok(piece)
    })
    .await
}
