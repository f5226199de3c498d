//! Where proved blobs become content: the direct store (hard link and one COMMIT) or the api store (streamed Write).
//!
//! The design is the repository's `docs`: in direct mode nobody hashes after us, so every way in goes through [`spool::Verified`].

mod adopt;
mod blobs;
mod examine;
mod reach;
mod rotten;
mod upload;

use std::{
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use oci::{Descriptor, Digest};
use rustix::{fs::OFlags, io::Errno};
use spool::{Spool, Verified};

use crate::{Error, Labels, Session, ingest::InPlace};
use blobs::{Blobs, Placed};
pub use examine::Examined;
use rotten::{Found, Rotten};
pub use upload::Upload;
pub(crate) use upload::Uploads;

/// A garbage collector that sweeps the same file more often than this in a row is not raced any longer (safety 8).
const SWEEPS: usize = 5;

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
///
/// Keeps the file open that was hashed, where it was hashed here: not to be kept longer than needed.
#[derive(Clone, Debug)]
pub struct Committed {
    digest: Digest,
    size: u64,
    how: How,
    path: Option<PathBuf>,
    proof: Option<Verified>,
}

impl Committed {
    pub(crate) fn new(digest: Digest, size: u64, how: How, path: Option<PathBuf>) -> Self {
        Self { digest, size, how, path, proof: None }
    }

    fn with_proof(self, proof: Verified) -> Self {
        Self { proof: Some(proof), ..self }
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

    /// Opens its file to read: the very inode that was hashed here; else whatever is at its path, which must be no symbolic link.
    /// `None` where the content root is out of reach. Blocking.
    ///
    /// # Errors
    /// [`Error::Gone`] when there is no file any more, [`Error::Spool`] when it was written to since it was hashed.
    pub fn open(&self) -> Result<Option<File>, Error> {
        if let Some(proof) = &self.proof {
            return Ok(Some(proof.open()?));
        }
        let Some(path) = &self.path else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, rustix::fs::Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::NOENT) => Err(Error::Gone { what: format!("the file of content {}", self.digest) }),
            Err(error) => Err(Error::File { path: path.clone(), source: error.into() }),
        }
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
    rotten: Rotten,
    why: Arc<str>,
    watch: Watch,
}

impl Session {
    /// Decides the store and opens the spool: `spool_dir`, or a directory beside the content root, or one of the user's own.
    pub async fn open_store(&self, choice: StoreChoice, spool_dir: Option<&Path>) -> Result<Store, Error> {
        let layout = self.layout().await?;
        let root = self.reachable_root(&layout).await?;
        let isolated = layout.isolated.then(|| self.namespace().clone());
        let rotten = Rotten::default();
        let (place, dir, known) = (root.clone(), spool_dir.map(Path::to_owned), rotten.clone());
        let open = move || {
            let spool = match dir {
                Some(dir) => Spool::open(&dir, isolated.as_ref())?,
                None => reach::open_spool(place.as_deref().ok(), isolated.as_ref())?,
            };
            let direct = match (&place, choice) {
                (_, StoreChoice::Api) => Err("it was asked for".to_owned()),
                (Err(why), _) => Err(why.clone()),
                (Ok(_), _) if isolated.is_some() => Err("containerd's content policy is isolated".to_owned()),
                (Ok(root), _) => Blobs::open(root, &spool, known),
            };
            // What is streamed to containerd is on the disk when containerd has synced it; once by us as well would only take the
            // disk away from it.
            let spool = if direct.is_ok() { spool } else { spool.unsynced() };
            Ok::<_, Error>((spool, direct))
        };
        let (spool, direct) = blocking(open).await?;
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
            rotten,
            why: why.into(),
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

    /// The content root, where it was proved to be in reach.
    pub fn content_root(&self) -> Option<&Path> {
        self.root.as_deref()
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
            if let Err(why) = self.place(blobs, verified).await? {
                self.notice(Notice::Fallback { digest, why });
                return Ok(None);
            }
            if self.session.commit_in_place(digest, size, labels).await? == InPlace::Swept {
                continue;
            }
            // Nothing can sweep it now. Had it gone just before the record was made, this puts it back; else it costs one call.
            let committed = self.committed(digest, size, How::Hashed);
            return Ok(Some(match self.place(blobs, verified).await? {
                Ok(proof) => committed.with_proof(proof),
                Err(_) => committed,
            }));
        }
        self.notice(Notice::Fallback { digest, why: format!("a garbage collector swept the file {SWEEPS} times") });
        Ok(None)
    }

    /// Puts the file among the blobs. Answers with the proof of what is there, or why it cannot be linked.
    async fn place(&self, blobs: &Arc<Blobs>, verified: &Verified) -> Result<Result<Verified, String>, Error> {
        let (blobs, verified) = (Arc::clone(blobs), verified.clone());
        let digest = verified.digest();
        let placed = blocking(move || blobs.place(&verified)).await?;
        Ok(match placed {
            Placed::There(proof) => Ok(proof),
            Placed::Replaced { proof, file } => {
                self.notice(Notice::Replaced { digest, file });
                Ok(proof)
            }
            Placed::Cannot { why } => Err(why),
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
            let path = file.clone();
            let length = blocking(move || rotten::length(&path)).await;
            if length != Some(blob.size()) || info.size != blob.size() {
                return self.unlike(blob, info.size, file).await;
            }
        } else if info.size != blob.size() {
            if self.session.content_is_right(digest).await? {
                return Err(Error::WrongSize { digest, claimed: blob.size(), actual: info.size });
            }
            return Err(Error::Damaged { digest, place: format!("content of namespace {}", self.session.namespace()) });
        }
        match self.session.hold_content(digest).await {
            Ok(()) => Ok(Some(self.committed(digest, blob.size(), How::Trusted))),
            Err(Error::Gone { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// This namespace holds the blob with another size than the descriptor says: one of the two is wrong, and its bytes tell which.
    async fn unlike<T>(&self, blob: &Descriptor, recorded: u64, file: PathBuf) -> Result<Option<T>, Error> {
        let (digest, claimed) = (blob.digest, blob.size());
        match self.look(&file, digest, claimed).await? {
            Found::OtherSize(actual) => Err(Error::WrongSize { digest, claimed, actual }),
            // The record is wrong, and no commit changes it.
            Found::Right(_) => Err(Error::Answer {
                what: format!("content {digest}"),
                why: format!("it is recorded with {recorded} bytes, {} has {claimed}", file.display()),
            }),
            Found::Rotten { known } => self.rotten(digest, file, known),
            Found::Nothing => self.rotten(digest, file, false),
        }
    }

    async fn look(&self, file: &Path, digest: Digest, size: u64) -> Result<Found, Error> {
        let (rotten, path) = (self.rotten.clone(), file.to_owned());
        Ok(blocking(move || rotten.look(&path, digest, size)).await?)
    }

    /// Direct: nothing is there, as far as the caller is concerned; what it fetches then takes the file's place. Api: containerd keeps
    /// the file whatever is sent, so there is no way on. Told once, not where it is `known`.
    fn rotten<T>(&self, digest: Digest, file: PathBuf, known: bool) -> Result<Option<T>, Error> {
        if self.blobs.is_none() {
            return Err(Error::Damaged { digest, place: file.display().to_string() });
        }
        if !known {
            self.notice(Notice::Rotten { digest, file });
        }
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
