//! Is what this namespace holds of a blob right? And how it is put right.
//!
//! A pull trusts content as containerd trusts it; verification does not, and hashes it. What replaces a bad blob was proved before
//! anything is touched (safety 22).

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use oci::{Descriptor, Digest};
use spool::Verified;

use super::{Committed, How, Store, blocking, rotten::Found};
use crate::{Error, Labels};

/// Permission bits that no blob has: with them somebody could write to it, or run it.
const FORBIDDEN: u32 = 0o7333;

/// What this namespace has of a blob.
#[derive(Debug)]
pub enum Examined {
    /// Nothing, as far as containerd knows.
    Absent,
    /// The blob. It was hashed, and is under the lease.
    Right(Committed),
    /// Something that is not the blob, or that may become something else.
    Wrong {
        /// Its file, where the content root is in reach.
        file: Option<PathBuf>,
        /// What shows it.
        why: String,
    },
}

impl Store {
    /// Hashes what this namespace holds of `blob`.
    pub async fn examine(&self, blob: &Descriptor) -> Result<Examined, Error> {
        let (digest, size) = (blob.digest, blob.size());
        let Some(info) = self.session.content(digest).await? else { return Ok(Examined::Absent) };
        match self.session.hold_content(digest).await {
            Ok(()) => {}
            Err(Error::Gone { .. }) => return Ok(Examined::Absent),
            Err(error) => return Err(error),
        }
        if info.size != size {
            let why = format!("it is recorded with {} bytes, the image says {size}", info.size);
            return Ok(Examined::Wrong { file: self.file(digest), why });
        }
        match self.file(digest) {
            Some(file) => self.examine_file(blob, file).await,
            None => self.examine_unseen(blob).await,
        }
    }

    async fn examine_file(&self, blob: &Descriptor, file: PathBuf) -> Result<Examined, Error> {
        let (digest, size) = (blob.digest, blob.size());
        let found = self.look(&file, digest, size).await?;
        let (root, path) = (self.root.clone(), file.clone());
        let why = match found {
            Found::Right(verified) => match blocking(move || weakness(root.as_deref(), &path)).await {
                None => return Ok(Examined::Right(self.committed(digest, size, How::Hashed).with_proof(verified))),
                Some(why) => why,
            },
            Found::OtherSize(actual) => format!("it has {actual} bytes, the image says {size}"),
            Found::Rotten { .. } | Found::Nothing => blocking(move || fault(&path, size)).await,
        };
        Ok(Examined::Wrong { file: Some(file), why })
    }

    /// Where no file is in reach, containerd reads it to us.
    async fn examine_unseen(&self, blob: &Descriptor) -> Result<Examined, Error> {
        let (digest, size) = (blob.digest, blob.size());
        let why = match self.session.content_is_right(digest).await {
            Ok(true) => return Ok(Examined::Right(self.committed(digest, size, How::Hashed))),
            Ok(false) => "its bytes are not those of its digest".to_owned(),
            Err(Error::Gone { .. }) => "containerd has a record of it and no file".to_owned(),
            Err(Error::Refused { source, .. }) => format!("containerd cannot read it: {source}"),
            Err(error) => return Err(error),
        };
        Ok(Examined::Wrong { file: None, why })
    }

    /// Device and number of the file that is kept under a digest now; `None` where there is none, or none in reach.
    pub fn inode(&self, digest: Digest) -> Option<(u64, u64)> {
        let found = self.file(digest)?.symlink_metadata().ok()?;
        Some((found.dev(), found.ino()))
    }

    /// The file that is kept under a digest, where the content root is in reach.
    pub fn path(&self, digest: Digest) -> Option<PathBuf> {
        self.file(digest)
    }

    /// May this file be named in the content store as it is, or has it to be copied first?
    pub fn takes(&self, verified: &Verified) -> Result<bool, Error> {
        self.blobs.as_ref().map_or(Ok(true), |blobs| blobs.takes(verified))
    }

    /// Puts a proved file in the place of what is kept under its digest. Direct: renamed over it, for all namespaces at once. Api:
    /// containerd keeps a file as long as any namespace holds it, whatever it is sent; so it is deleted and sent anew, which is not
    /// done when that would bring the old file back.
    ///
    /// # Errors
    /// [`Error::Held`]: nothing was touched.
    pub async fn replace(&self, verified: &Verified) -> Result<Committed, Error> {
        let digest = verified.digest();
        if let Some(committed) = self.commit_direct(verified, &Labels::new()).await? {
            return Ok(committed);
        }
        let namespaces = self.session.other_holders(digest).await?;
        if !namespaces.is_empty() {
            return Err(Error::Held { digest, namespaces });
        }
        let labels = self.session.content(digest).await?.map(|info| info.labels).unwrap_or_default();
        self.session.delete_content(digest).await?;
        self.session.collect().await?;
        self.commit_api(None, verified, &labels).await
    }
}

/// What makes the file of a right blob unsafe all the same.
fn weakness(root: Option<&Path>, file: &Path) -> Option<String> {
    let found = file.symlink_metadata().ok()?;
    if found.mode() & FORBIDDEN != 0 {
        return Some(format!("its mode is {:o}, that of a blob is 444", found.mode() & 0o7777));
    }
    let owner = root?.metadata().ok().map(|root| (root.uid(), root.gid()))?;
    let its = (found.uid(), found.gid());
    (its != owner).then(|| format!("its owner is {}:{}, that of the content store is {}:{}", its.0, its.1, owner.0, owner.1))
}

/// What is wrong with a file that is not the blob of `size` bytes.
fn fault(file: &Path, size: u64) -> String {
    match file.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "it is gone".to_owned(),
        Err(error) => error.to_string(),
        Ok(found) if !found.is_file() => "it is not a regular file".to_owned(),
        Ok(found) if found.len() != size => format!("it has {} bytes instead of {size}", found.len()),
        Ok(_) => "its bytes are not those of its digest".to_owned(),
    }
}
