//! Content another namespace brought (safety 9).
//!
//! Under the shared policy containerd gives a namespace any blob it names, on the word of its size alone. So the bytes are hashed
//! before this namespace takes them, or, where no file is in reach, before anybody hears that it did.

use oci::Descriptor;
use tonic::Code;

use super::{
    How, Notice, Store,
    rotten::{self, Found},
};
use crate::{
    Committed, Error, Labels,
    content::random_ref,
    ingest::{InPlace, Ingest},
};

impl Store {
    /// Takes a blob that is on this machine already, of this namespace or of another. `None`: it has to be fetched.
    pub async fn adopt(&self, blob: &Descriptor, labels: &Labels) -> Result<Option<Committed>, Error> {
        if let Some(committed) = self.present(blob).await? {
            self.session.label_content(blob.digest, labels).await?;
            return Ok(Some(committed));
        }
        self.adopt_foreign(blob, labels).await
    }

    /// Has another namespace a file of this blob's size under its digest, that [`Store::adopt`] would hash and take? To be asked only
    /// of blobs this namespace does not hold. Nothing is hashed or taken here. Blocking.
    pub fn is_elsewhere(&self, blob: &Descriptor) -> bool {
        let file = self.file(blob.digest).filter(|_| !self.isolated);
        file.is_some_and(|file| rotten::length(&file) == Some(blob.size()))
    }

    /// What [`Store::adopt`] does for a blob this namespace does not hold.
    pub(super) async fn adopt_foreign(&self, blob: &Descriptor, labels: &Labels) -> Result<Option<Committed>, Error> {
        if self.isolated {
            return Ok(None);
        }
        match self.file(blob.digest) {
            Some(file) => self.adopt_file(blob, file, labels).await,
            None => self.adopt_unseen(blob, labels).await,
        }
    }

    async fn adopt_file(&self, blob: &Descriptor, file: std::path::PathBuf, labels: &Labels) -> Result<Option<Committed>, Error> {
        let (digest, size) = (blob.digest, blob.size());
        let verified = match self.look(&file, digest, size).await? {
            Found::Right(verified) => verified,
            Found::OtherSize(actual) => return Err(Error::WrongSize { digest, claimed: size, actual }),
            Found::Rotten { known } => return self.rotten(digest, file, known),
            Found::Nothing => return Ok(None),
        };
        if self.blobs.is_some() {
            return match self.commit_direct(&verified, labels).await {
                // Swept by its own namespace since it was hashed: a file without any name cannot be linked.
                Err(Error::Spool(error)) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => Ok(None),
                other => other,
            };
        }
        match self.session.commit_in_place(digest, size, labels).await? {
            InPlace::Named => Ok(Some(self.committed(digest, size, How::Hashed).with_proof(verified))),
            InPlace::Swept => Ok(None),
        }
    }

    /// No file is in reach: take it, read it through containerd, and let go of it again if it is bad.
    async fn adopt_unseen(&self, blob: &Descriptor, labels: &Labels) -> Result<Option<Committed>, Error> {
        let (digest, size) = (blob.digest, blob.size());
        let mut ingest = match Ingest::open(&self.session, &random_ref(digest), size, Some(digest)).await {
            Ok(ingest) => ingest,
            Err(status) if status.code() == Code::AlreadyExists => return self.present(blob).await,
            Err(status) => return Err(self.session.not_taken(digest, status)),
        };
        if ingest.offset() != size {
            ingest.abort().await;
            return Ok(None);
        }
        match ingest.commit(digest, labels).await {
            Ok(()) => {}
            Err(status) if status.code() == Code::AlreadyExists => {}
            Err(status) => return Err(self.session.not_taken(digest, status)),
        }
        if self.session.content_is_right(digest).await? {
            return Ok(Some(self.committed(digest, size, How::Hashed)));
        }
        self.session.delete_content(digest).await?;
        Err(Error::Damaged { digest, place: "content of another namespace".to_owned() })
    }

    pub(super) fn waiting(&self, digest: oci::Digest, reference: &str, offset: i64) {
        let offset = u64::try_from(offset).unwrap_or_default();
        self.notice(Notice::Waiting { digest, reference: reference.to_owned(), offset });
    }
}
