//! Content of this namespace: what is there, its labels, and documents small enough to be whole in memory.
//!
//! Layers do not come through here but through [`crate::Store`].

use std::{
    collections::{BTreeMap, HashMap},
    io,
};

use containerd_client::services::v1 as api;
use oci::{Descriptor, Digest};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tonic::{Code, Status, Streaming};

use crate::{Committed, Error, How, Session, ingest::Ingest};

/// Labels of content, snapshots and images. A key with an empty value is taken off where labels are merged.
pub type Labels = BTreeMap<String, String>;

/// What containerd says of one blob.
#[derive(Clone, Debug)]
pub struct ContentInfo {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its labels.
    pub labels: Labels,
}

impl Session {
    /// What this namespace knows of a blob; `None` when it does not hold it.
    pub async fn content(&self, digest: Digest) -> Result<Option<ContentInfo>, Error> {
        let mut client = self.content_client();
        match self.call(client.info(api::InfoRequest { digest: digest.to_string() })).await {
            Ok(api::InfoResponse { info: Some(info) }) => {
                let size = u64::try_from(info.size).map_err(|_| answer(digest, "its size is negative"))?;
                Ok(Some(ContentInfo { digest, size, labels: info.labels.into_iter().collect() }))
            }
            Ok(_) => Err(answer(digest, "it is empty")),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.refused(format!("to tell about {digest}"), status)),
        }
    }

    /// Reads a blob of at most `limit` bytes and checks it against its digest.
    pub async fn read_content(&self, digest: Digest, limit: u64) -> Result<Vec<u8>, Error> {
        let info = self.content(digest).await?.ok_or_else(|| Error::Gone { what: format!("content {digest}") })?;
        if info.size > limit {
            return Err(answer(digest, &format!("it has {} bytes, at most {limit} are read", info.size)));
        }
        let mut bytes = Vec::new();
        self.read_each(digest, |piece| bytes.extend_from_slice(piece)).await?;
        if Digest::of(&bytes) == digest { Ok(bytes) } else { Err(self.damaged(digest)) }
    }

    /// Reads a blob of any size through containerd and says whether its bytes are those of its digest.
    pub(crate) async fn content_is_right(&self, digest: Digest) -> Result<bool, Error> {
        let mut hasher = oci::Hasher::default();
        self.read_each(digest, |piece| hasher.update(piece)).await?;
        Ok(hasher.finish() == digest)
    }

    /// Writes a document (manifest, index, config) in one message, under the ref every other client uses for it. When this namespace
    /// holds it already its labels are merged. What containerd has in the end is read back: under the shared policy a namespace is
    /// given the file another one has, whatever was written.
    pub async fn write_document(&self, descriptor: &Descriptor, bytes: &[u8], labels: &Labels) -> Result<Committed, Error> {
        let digest = descriptor.digest;
        if self.content(digest).await?.is_some() {
            self.hold_content(digest).await?;
            self.label_content(digest, labels).await?;
            return Ok(Committed::new(digest, descriptor.size(), How::Trusted, None));
        }
        let message = api::WriteContentRequest {
            data: bytes.to_vec(),
            offset: 0,
            ..Ingest::commit_message(&random_ref(digest), digest, descriptor.size(), labels)
        };
        match Ingest::single(self, message).await {
            Ok(()) => {}
            Err(status) if status.code() == Code::AlreadyExists => self.label_content(digest, labels).await?,
            Err(status) => return Err(self.not_taken(digest, status)),
        }
        let limit = descriptor.size();
        if let Err(error) = self.read_content(digest, limit).await {
            if error.is_damage() {
                self.delete_content(digest).await?;
            }
            return Err(error);
        }
        Ok(Committed::new(digest, descriptor.size(), How::Hashed, None))
    }

    /// Sets these labels and leaves all others as they are. An empty value takes a label off.
    pub async fn label_content(&self, digest: Digest, labels: &Labels) -> Result<(), Error> {
        if labels.is_empty() {
            return Ok(());
        }
        let info = api::Info { digest: digest.to_string(), labels: to_wire(labels), ..api::Info::default() };
        let request = api::UpdateRequest { info: Some(info), update_mask: Some(label_mask(labels)) };
        let mut client = self.content_client();
        match self.call(client.update(request)).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::NotFound => Err(Error::Gone { what: format!("content {digest}") }),
            Err(status) => Err(self.refused(format!("to label {digest}"), status)),
        }
    }

    /// Takes a blob out of this namespace; one that is not there is no error.
    pub async fn delete_content(&self, digest: Digest) -> Result<(), Error> {
        let mut client = self.content_client();
        match self.call(client.delete(api::DeleteContentRequest { digest: digest.to_string() })).await {
            Err(status) if status.code() != Code::NotFound => Err(self.refused(format!("to delete {digest}"), status)),
            _ => Ok(()),
        }
    }

    /// The error for a refused write: containerd's own hash, or anything else.
    pub(crate) fn not_taken(&self, digest: Digest, status: Status) -> Error {
        match status.code() {
            Code::FailedPrecondition => Error::Mismatch { digest, source: status.into() },
            _ => self.refused(format!("to take {digest}"), status),
        }
    }

    fn damaged(&self, digest: Digest) -> Error {
        Error::Damaged { digest, place: format!("content of namespace {}", self.namespace()) }
    }

    /// Writes a blob of any size, as containerd reads it, into `out`; its bytes are not compared with its digest.
    ///
    /// # Errors
    /// The outer one is containerd's, the inner one that of `out`.
    pub async fn copy_content(&self, digest: Digest, out: &mut (impl AsyncWrite + Unpin)) -> Result<io::Result<()>, Error> {
        let mut pieces = self.pieces(digest).await?;
        while let Some(piece) = self.next_piece(digest, &mut pieces).await? {
            if let Err(error) = out.write_all(&piece.data).await {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    async fn read_each(&self, digest: Digest, mut piece: impl FnMut(&[u8])) -> Result<(), Error> {
        let mut pieces = self.pieces(digest).await?;
        while let Some(next) = self.next_piece(digest, &mut pieces).await? {
            piece(&next.data);
        }
        Ok(())
    }

    async fn pieces(&self, digest: Digest) -> Result<Streaming<api::ReadContentResponse>, Error> {
        let mut client = self.content_client();
        let request = api::ReadContentRequest { digest: digest.to_string(), offset: 0, size: 0 };
        self.call(client.read(request)).await.map_err(|status| self.unread(digest, status))
    }

    async fn next_piece(
        &self,
        digest: Digest,
        pieces: &mut Streaming<api::ReadContentResponse>,
    ) -> Result<Option<api::ReadContentResponse>, Error> {
        self.attend(pieces.message()).await.map_err(|status| self.unread(digest, status))
    }

    /// Its record may be there and its file gone: containerd looks for the file only when it is read.
    fn unread(&self, digest: Digest, status: Status) -> Error {
        match status.code() {
            Code::NotFound => Error::Gone { what: format!("content {digest}") },
            _ => self.refused(format!("to read {digest}"), status),
        }
    }
}

/// A ref nobody else uses, so that its write waits for nobody (safety 8).
pub(crate) fn random_ref(digest: Digest) -> String {
    format!("rpull-{digest}-{:016x}", fastrand::u64(..))
}

pub(crate) fn to_wire(labels: &Labels) -> HashMap<String, String> {
    labels.clone().into_iter().collect()
}

/// One mask path per key: without them containerd replaces all labels.
pub(crate) fn label_mask(labels: &Labels) -> prost_types::FieldMask {
    prost_types::FieldMask { paths: labels.keys().map(|key| format!("labels.{key}")).collect() }
}

fn answer(digest: Digest, why: &str) -> Error {
    Error::Answer { what: digest.to_string(), why: why.to_owned() }
}
