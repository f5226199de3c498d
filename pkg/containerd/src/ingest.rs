//! One `Content.Write` stream, with the server's peculiarities of reference 3.2 handled in this file only.
//!
//! An offset of 0 truncates, also in COMMIT; COMMIT is answered twice; `expected` costs a look-up per message, so it goes into the
//! last one only; replies must be read while requests are sent.

use std::sync::Arc;

use containerd_client::services::v1 as api;
use oci::Digest;
use tokio::sync::{OwnedRwLockReadGuard, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::{Error, Labels, Session, content::to_wire, lease::Lease};

/// Requests that wait for the socket. One, beside the one that is being sent: the server is kept busy while the next is read.
const IN_FLIGHT: usize = 1;

/// An open write. Dropping it ends the stream; what was written stays as an ingest until it is aborted.
#[derive(Debug)]
pub(crate) struct Ingest {
    session: Session,
    reference: String,
    requests: mpsc::Sender<api::WriteContentRequest>,
    replies: Streaming<api::WriteContentResponse>,
    offset: u64,
    /// The stream named this lease in its headers: it must not be deleted before the stream ends.
    lease: Option<Arc<Lease>>,
    /// [`Session::abort_ingests`] waits for it.
    _open: OwnedRwLockReadGuard<()>,
}

impl Ingest {
    /// Opens `reference`. `expected` is given only to learn whether the backend has the blob (its offset is the size then).
    /// The call runs to its end even if the caller is dropped: what it makes must be found to be aborted.
    pub(crate) async fn open(session: &Session, reference: &str, total: u64, expected: Option<Digest>) -> Result<Self, Status> {
        let (session, reference) = (session.clone(), reference.to_owned());
        let opening = tokio::spawn(async move { Self::open_here(&session, &reference, total, expected).await });
        opening.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    async fn open_here(session: &Session, reference: &str, total: u64, expected: Option<Digest>) -> Result<Self, Status> {
        let first = api::WriteContentRequest {
            action: api::WriteAction::Stat.into(),
            r#ref: reference.to_owned(),
            total: wire_size(total),
            expected: expected.map(|digest| digest.to_string()).unwrap_or_default(),
            ..api::WriteContentRequest::default()
        };
        let mut ingest = Self::start(session, reference, first).await?;
        let reply = ingest.reply().await?.ok_or_else(|| Status::internal("the stream ended before its first reply"))?;
        ingest.offset = u64::try_from(reply.offset).map_err(|_| Status::internal("a negative offset"))?;
        Ok(ingest)
    }

    /// Sends one message that says it all, a COMMIT, and reads to the end.
    pub(crate) async fn single(session: &Session, message: api::WriteContentRequest) -> Result<(), Status> {
        let reference = message.r#ref.clone();
        let mut ingest = Self::start(session, &reference, message).await?;
        ingest.finish().await
    }

    /// The COMMIT of `size` bytes that are already there.
    pub(crate) fn commit_message(reference: &str, digest: Digest, size: u64, labels: &Labels) -> api::WriteContentRequest {
        api::WriteContentRequest {
            action: api::WriteAction::Commit.into(),
            r#ref: reference.to_owned(),
            total: wire_size(size),
            expected: digest.to_string(),
            offset: wire_size(size),
            data: Vec::new(),
            labels: to_wire(labels),
        }
    }

    /// Bytes containerd has, counting those on the way.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Was the stream opened under a lease that was renewed since?
    pub(crate) fn lease_changed(&self) -> bool {
        let current = self.session.leases().current().cloned();
        match (&self.lease, current) {
            (Some(mine), Some(current)) => !Arc::ptr_eq(mine, &current),
            (None, None) => false,
            _ => true,
        }
    }

    /// Sends the next bytes as soon as the connection takes them.
    pub(crate) async fn write(&mut self, data: Vec<u8>) -> Result<(), Status> {
        let length = data.len() as u64;
        let message = api::WriteContentRequest {
            action: api::WriteAction::Write.into(),
            offset: wire_size(self.offset),
            data,
            ..api::WriteContentRequest::default()
        };
        self.send(message).await?;
        self.offset += length;
        Ok(())
    }

    /// Lets containerd compare its own hash with `digest` and name the blob.
    pub(crate) async fn commit(&mut self, digest: Digest, labels: &Labels) -> Result<(), Status> {
        let message = Self::commit_message(&self.reference, digest, self.offset, labels);
        self.send(message).await?;
        self.finish().await
    }

    /// Removes what was written, then ends the stream and waits until the server has let go of the ref. In this order nobody else's
    /// ingest can be hit.
    pub(crate) async fn abort(self) {
        let Self { session, reference, requests, mut replies, .. } = self;
        session.abort(&reference).await;
        drop(requests);
        // Whatever it says now, nothing was asked of it.
        let _ = session
            .attend(async {
                while replies.message().await?.is_some() {}
                Ok(())
            })
            .await;
    }

    async fn start(session: &Session, reference: &str, first: api::WriteContentRequest) -> Result<Self, Status> {
        let open = session.opening().await;
        let lease = session.leases().current().cloned();
        let (requests, stream) = mpsc::channel(IN_FLIGHT);
        requests.try_send(first).expect("a fresh channel has room");
        let mut client = session.content_client();
        let replies = session.call(client.write(ReceiverStream::new(stream))).await?;
        Ok(Self { session: session.clone(), reference: reference.to_owned(), requests, replies, offset: 0, lease, _open: open })
    }

    async fn send(&mut self, message: api::WriteContentRequest) -> Result<(), Status> {
        let Self { session, requests, replies, .. } = self;
        let sent = session.attend(async {
            loop {
                tokio::select! {
                    biased;
                    reply = replies.message() => {
                        // An error of the server outranks the room its end leaves in the channel.
                        reply?.ok_or_else(ended)?;
                    }
                    room = requests.reserve() => {
                        room.map_err(|_| ended())?.send(message);
                        return Ok(());
                    }
                }
            }
        });
        sent.await
    }

    async fn reply(&mut self) -> Result<Option<api::WriteContentResponse>, Status> {
        let Self { session, replies, .. } = self;
        session.attend(replies.message()).await
    }

    async fn finish(&mut self) -> Result<(), Status> {
        let mut committed = false;
        while let Some(reply) = self.reply().await? {
            committed |= reply.action() == api::WriteAction::Commit;
            if committed {
                break;
            }
        }
        if committed { Ok(()) } else { Err(ended()) }
    }
}

impl Session {
    /// Removes an ingest, if it is there. It would go with the lease anyway, so a refusal is only noted.
    pub(crate) async fn abort(&self, reference: &str) {
        let mut client = self.content_client();
        match self.call(client.abort(api::AbortRequest { r#ref: reference.to_owned() })).await {
            Err(status) if status.code() != Code::NotFound => tracing::debug!(reference, %status, "ingest not aborted"),
            _ => {}
        }
    }

    /// Names a blob whose file is already among the content store's, in one message. What is left of it after a refusal is removed.
    pub(crate) async fn commit_in_place(&self, digest: Digest, size: u64, labels: &Labels) -> Result<InPlace, Error> {
        let reference = crate::content::random_ref(digest);
        match Ingest::single(self, Ingest::commit_message(&reference, digest, size, labels)).await {
            Ok(()) => Ok(InPlace::Named),
            Err(status) if status.code() == Code::AlreadyExists => {
                self.label_content(digest, labels).await?;
                Ok(InPlace::Named)
            }
            Err(status) => {
                self.abort(&reference).await;
                match status.code() {
                    Code::OutOfRange => Ok(InPlace::Swept),
                    _ => Err(self.not_taken(digest, status)),
                }
            }
        }
    }
}

/// What became of a commit without data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InPlace {
    /// This namespace holds the blob.
    Named,
    /// The garbage collector took the file before containerd looked.
    Swept,
}

/// Sizes are bounded by [`oci::MAX_BLOB_SIZE`], far below where the wire's signed numbers end.
fn wire_size(size: u64) -> i64 {
    i64::try_from(size).expect("a blob is at most 1 TiB")
}

fn ended() -> Status {
    Status::internal("containerd ended the write stream early")
}
