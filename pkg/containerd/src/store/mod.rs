//! Where proved blobs become content: the direct store (hard link and one COMMIT) or the api store (streamed Write).
//!
//! The design is the repository's `docs`: in direct mode nobody hashes after us, so every way in goes through [`spool::Verified`].

mod adopt;
mod blobs;
mod reach;
mod upload;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use oci::{Descriptor, Digest};
use spool::{Spool, Verified};
use tokio::sync::Semaphore;

use crate::{Error, Labels, Session, ingest::InPlace};
use blobs::{Blobs, Placed};
pub use upload::Upload;

/// A garbage collector that sweeps the same file more often than this in a row is not raced any longer (safety 8).
const SWEEPS: usize = 5;

/// Streams opened before their blob is complete. Each keeps a few megabytes in flight, and the memory of a whole pull is bounded.
const EARLY_UPLOADS: usize = 4;

/// Which store the user wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StoreChoice {
    /// Direct where its conditions hold, else api.
    #[default]
    Auto,
    /// Direct or nothing.
    Direct,
    /// Api, even where direct would work.
    Api,
}

/// Which store is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Files are linked into the content root; containerd writes metadata only.
    Direct,
    /// Bytes are streamed to containerd, which hashes them again.
    Api,
}

impl Mode {
    /// `direct` or `api`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Api => "api",
        }
    }
}

/// Is a blob's digest known to be right?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// Its bytes were hashed by this process or, in the api store, by containerd for it.
    Hashed,
    /// This namespace held it before; it is trusted as containerd trusts it.
    Trusted,
}

/// Content this namespace holds under the session's lease. Only this crate makes one: out of a successful COMMIT, or of content found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    digest: Digest,
    size: u64,
    how: How,
    path: Option<PathBuf>,
}

impl Committed {
    pub(crate) fn new(digest: Digest, size: u64, how: How, path: Option<PathBuf>) -> Self {
        Self { digest, size, how, path }
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What is known of its bytes.
    pub fn how(&self) -> How {
        self.how
    }

    /// Its file, where the content root is in reach.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

/// What a user may want to hear while a blob becomes content.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// Another client is writing this blob; it is waited for. Said again as it goes on.
    Waiting {
        /// The blob.
        digest: Digest,
        /// The ingest's ref.
        reference: String,
        /// Bytes the other client has written.
        offset: u64,
    },
    /// A file in the content store does not have the bytes of its digest. It is replaced when the blob was fetched.
    Rotten {
        /// The digest it is kept under.
        digest: Digest,
        /// The file.
        file: PathBuf,
    },
    /// That file now has the right bytes.
    Replaced {
        /// The digest.
        digest: Digest,
        /// The file.
        file: PathBuf,
    },
    /// This blob goes through the api store although the direct store is in use.
    Fallback {
        /// The blob.
        digest: Digest,
        /// Why.
        why: String,
    },
}

type Watch = Arc<dyn Fn(Notice) + Send + Sync>;

/// Where blobs become content. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    session: Session,
    spool: Spool,
    /// The content root, proved to be this containerd's.
    root: Option<PathBuf>,
    isolated: bool,
    blobs: Option<Arc<Blobs>>,
    why: Arc<str>,
    uploads: Arc<Semaphore>,
    watch: Watch,
}

impl Session {
    /// Decides the store and opens the spool: `spool_dir`, or a directory beside the content root, or one of the user's own.
    pub async fn open_store(&self, choice: StoreChoice, spool_dir: Option<&Path>) -> Result<Store, Error> {
        let layout = self.layout().await?;
        let root = self.reachable_root(&layout).await?;
        let isolated = layout.isolated.then(|| self.namespace());
        let spool = match spool_dir {
            Some(dir) => Spool::open(dir, isolated)?,
            None => reach::open_spool(root.as_deref().ok(), isolated)?,
        };
        let direct = match (&root, choice) {
            (_, StoreChoice::Api) => Err("it was asked for".to_owned()),
            (Err(why), _) => Err(why.clone()),
            (Ok(_), _) if layout.isolated => Err("containerd's content policy is isolated".to_owned()),
            (Ok(root), _) => Blobs::open(root, &spool),
        };
        let (blobs, why) = match direct {
            Ok(blobs) => (Some(Arc::new(blobs)), "the content root is in reach, on the filesystem of the spool".to_owned()),
            Err(why) if choice == StoreChoice::Direct => return Err(Error::NoDirect { why }),
            Err(why) => (None, why),
        };
        Ok(Store {
            session: self.clone(),
            spool,
            root: root.ok(),
            isolated: layout.isolated,
            blobs,
            why: why.into(),
            uploads: Arc::new(Semaphore::new(EARLY_UPLOADS)),
            watch: Arc::new(|_| {}),
        })
    }
}

impl Store {
    /// The same store, with somebody to tell what happens.
    #[must_use]
    pub fn watched(self, watch: impl Fn(Notice) + Send + Sync + 'static) -> Self {
        Self { watch: Arc::new(watch), ..self }
    }

    /// Which store it is.
    pub fn mode(&self) -> Mode {
        if self.blobs.is_some() { Mode::Direct } else { Mode::Api }
    }

    /// Why it is this one, for the receipt.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The spool that goes with it.
    pub fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Names a proved file in the content store, under the session's lease.
    pub async fn commit(&self, verified: &Verified, labels: &Labels) -> Result<Committed, Error> {
        match self.commit_direct(verified, labels).await? {
            Some(committed) => Ok(committed),
            None => self.commit_api(None, verified, labels).await,
        }
    }

    /// Link, one COMMIT, and again if a garbage collector was in between. `None` where a link cannot be made.
    async fn commit_direct(&self, verified: &Verified, labels: &Labels) -> Result<Option<Committed>, Error> {
        let (digest, size) = (verified.digest(), verified.size());
        let Some(blobs) = &self.blobs else { return Ok(None) };
        for _ in 0..SWEEPS {
            if let Some(why) = self.place(blobs, verified).await? {
                self.notice(Notice::Fallback { digest, why });
                return Ok(None);
            }
            if self.session.commit_in_place(digest, size, labels).await? == InPlace::Swept {
                continue;
            }
            // Nothing can sweep it now. Had it gone just before the record was made, this puts it back; else it costs one call.
            self.place(blobs, verified).await?;
            return Ok(Some(self.committed(digest, size, How::Hashed)));
        }
        self.notice(Notice::Fallback { digest, why: format!("a garbage collector swept the file {SWEEPS} times") });
        Ok(None)
    }

    /// Puts the file among the blobs; answers why not, if it cannot be linked.
    async fn place(&self, blobs: &Arc<Blobs>, verified: &Verified) -> Result<Option<String>, Error> {
        let (blobs, verified) = (Arc::clone(blobs), verified.clone());
        let digest = verified.digest();
        let placed = blocking(move || blobs.place(&verified)).await?;
        Ok(match placed {
            Placed::There => None,
            Placed::Replaced { file } => {
                self.notice(Notice::Replaced { digest, file });
                None
            }
            Placed::Cannot { why } => Some(why),
        })
    }

    fn committed(&self, digest: Digest, size: u64, how: How) -> Committed {
        Committed::new(digest, size, how, self.file(digest))
    }

    fn file(&self, digest: Digest) -> Option<PathBuf> {
        self.root.as_ref().map(|root| root.join("blobs").join("sha256").join(digest.hex()))
    }

    fn notice(&self, notice: Notice) {
        (self.watch)(notice);
    }

    /// Adds what this namespace holds already to the lease, unhashed; `None` when it holds no such blob.
    pub async fn present(&self, blob: &Descriptor) -> Result<Option<Committed>, Error> {
        let digest = blob.digest;
        let Some(info) = self.session.content(digest).await? else { return Ok(None) };
        if let Some(file) = self.file(digest) {
            let length = file.symlink_metadata().ok().filter(std::fs::Metadata::is_file).map(|found| found.len());
            if length != Some(blob.size()) || info.size != blob.size() {
                return self.rotten(digest, file);
            }
        } else if info.size != blob.size() {
            return Err(Error::Damaged { digest, place: format!("content of namespace {}", self.session.namespace()) });
        }
        match self.session.hold_content(digest).await {
            Ok(()) => Ok(Some(self.committed(digest, blob.size(), How::Trusted))),
            Err(Error::Gone { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Direct: nothing is there, as far as the caller is concerned; what it fetches then takes the file's place. Api: containerd keeps
    /// the file whatever is sent, so there is no way on.
    fn rotten<T>(&self, digest: Digest, file: PathBuf) -> Result<Option<T>, Error> {
        if self.blobs.is_none() {
            return Err(Error::Damaged { digest, place: file.display().to_string() });
        }
        self.notice(Notice::Rotten { digest, file });
        Ok(None)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("mode", &self.mode())
            .field("why", &self.why)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// Runs what waits for the disk off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
