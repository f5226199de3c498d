//! Brings one blob into the namespace's content store, from the nearest place that has it.
//!
//! In this order: this namespace, another namespace (hashed first), a file that only a snapshot still has, the spool of an
//! earlier run, the registry. Only a [`Committed`] comes out.

use std::{
    io::ErrorKind,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use containerd::{Committed, Examined, Labels, Store};
use oci::{ByteRange, Descriptor, Layer};
use progress::{Event, Meter, Progress, Step, Subject};
use registry::Repository;
use serde::Serialize;
use spool::{Entry, Verified};
use transfer::{Engine, Fetched};

use crate::{
    Error, blocking,
    overlaybd::{self, LayerKind},
    records,
    turns::Turns,
};

/// Bytes copied at once on this machine.
const COPY_BUFFER: usize = 1 << 20;

/// Everything a blob needs on its way. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Blobs {
    pub(crate) store: Store,
    pub(crate) engine: Engine,
    pub(crate) repository: Repository,
    pub(crate) progress: Progress,
    pub(crate) turns: Turns,
    /// Where content comes from, as containerd notes it.
    pub(crate) source: Labels,
    /// Those of the run.
    pub(crate) warnings: Arc<Mutex<Vec<String>>>,
}

/// From where a blob came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The registry.
    Network,
    /// Content of this namespace.
    SameNamespace,
    /// Content of another namespace.
    OtherNamespace,
    /// The spool of an earlier run.
    Spool,
    /// A file in a snapshot, given back to the content store.
    Snapshot,
}

/// A blob that is content of this namespace now.
#[derive(Clone)]
pub(crate) struct Arrived {
    pub(crate) committed: Committed,
    pub(crate) source: Source,
    /// Bytes an earlier run had left in the spool.
    pub(crate) resumed: u64,
}

impl Arrived {
    /// Adds it to the bytes by source, under the names that the receipt has for them.
    pub(crate) fn count(&self, size: u64, meter: &Meter) {
        let (source, bytes) = match self.source {
            Source::Network | Source::Spool => ("spool", self.resumed),
            Source::SameNamespace => ("same_namespace", size),
            Source::OtherNamespace => ("other_namespace", size),
            Source::Snapshot => ("snapshot", size),
        };
        meter.add_source(source, bytes);
    }
}

impl Blobs {
    /// Brings the layer's blob here. `file` is an `overlaybd.commit` of a snapshot that may hold exactly this blob.
    pub(crate) async fn bring(&self, layer: &Layer, kind: LayerKind, file: Option<PathBuf>) -> Result<Arrived, Error> {
        let blob = &layer.descriptor;
        let _turn = self.turns.at_blob(blob.digest).await;
        if let Some(arrived) = self.at_hand(blob).await? {
            return Ok(arrived);
        }
        if let Some(file) = file
            && let Some(verified) = intact(file, blob).await?
        {
            let labels = self.labels(layer, kind);
            let committing = async { Ok(self.store.commit(&verified, &labels).await?) };
            let committed = self.content(blob, committing).await?;
            return Ok(Arrived { committed, source: Source::Snapshot, resumed: 0 });
        }
        let _open = self.turns.to_open().await;
        let entry = self.entry(blob).await?;
        // Whoever held the lock may have finished the blob: its word is not taken, the store is asked again (safety 3).
        if let Some(arrived) = self.at_hand(blob).await? {
            blocking(move || Ok(entry.discard()?)).await?;
            return Ok(arrived);
        }
        let resumed = entry.resumed();
        let upload = self.store.begin(&entry);
        let verified = self.fetch(entry).await?;
        if let Err(error) = check(verified.clone(), kind).await {
            // Its bytes are what they should be and still no use: nothing to keep.
            drop(upload);
            blocking(move || Ok(verified.discard()?)).await?;
            return Err(error);
        }
        let labels = self.labels(layer, kind);
        let committing = async { Ok(upload.commit(&verified, &labels).await?) };
        let committed = self.content(blob, committing).await?;
        blocking(move || Ok(verified.discard()?)).await?;
        let source = if resumed == blob.size() { Source::Spool } else { Source::Network };
        Ok(Arrived { committed, source, resumed })
    }

    /// Brings the blob here in the place of what is kept under its digest, which is missing or wrong: from one of `files` that has
    /// its bytes, from the kept file itself if only its mode or owner is wrong, else from the registry. Only then is anything touched.
    pub(crate) async fn renew(&self, blob: &Descriptor, kind: LayerKind, files: Vec<PathBuf>) -> Result<Committed, Error> {
        if matches!(self.store.examine(blob).await?, Examined::Absent) {
            match self.store.adopt(blob, &Labels::new()).await {
                Ok(None) => {}
                Ok(Some(_)) => {
                    if let Examined::Right(committed) = self.store.examine(blob).await? {
                        return Ok(committed);
                    }
                }
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error.into()),
            }
        }
        for file in files.into_iter().chain(self.store.path(blob.digest)) {
            let Some(found) = intact(file, blob).await? else { continue };
            let verified = if self.store.takes(&found)? {
                found
            } else {
                self.spooled(blob, move |offset, buffer| found.read_at(offset, buffer)).await?
            };
            return self.put(verified).await;
        }
        let _open = self.turns.to_open().await;
        let verified = self.fetch(self.entry(blob).await?).await?;
        if let Err(error) = check(verified.clone(), kind).await {
            blocking(move || Ok(verified.discard()?)).await?;
            return Err(error);
        }
        self.put(verified).await
    }

    /// [`Blobs::renew`] for a document, whose bytes are at hand.
    pub(crate) async fn renew_document(&self, document: &Descriptor, bytes: Vec<u8>) -> Result<Committed, Error> {
        let read =
            move |offset, buffer: &mut [u8]| Ok(overlaybd::ReadAt::read_at(&bytes[..], offset, buffer).unwrap_or_default());
        let verified = self.spooled(document, read).await?;
        self.put(verified).await
    }

    /// Set with the commit they cost nothing; each change of labels later is a transaction of containerd's, which syncs its disk. The
    /// diff id of what is unpacked is not known before it is.
    fn labels(&self, layer: &Layer, kind: LayerKind) -> Labels {
        let mut labels = self.source.clone();
        if kind.links() {
            labels.extend(records::layer_labels(layer));
        }
        labels
    }

    fn content(
        &self,
        blob: &Descriptor,
        committing: impl Future<Output = Result<Committed, Error>>,
    ) -> impl Future<Output = Result<Committed, Error>> {
        self.progress.step(Step::Content, Subject::Blob(blob.digest), committing)
    }

    async fn fetch(&self, entry: Entry) -> Result<Verified, Error> {
        let Fetched { verified, warnings } = self.engine.fetch(&self.repository, entry).await?;
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).extend(warnings);
        Ok(verified)
    }

    async fn put(&self, verified: Verified) -> Result<Committed, Error> {
        let committed = self.store.replace(&verified).await?;
        blocking(move || Ok(verified.discard()?)).await?;
        Ok(committed)
    }

    /// Copies what `read` gives from each offset on into the spool, and proves it there.
    async fn spooled(
        &self,
        blob: &Descriptor,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<usize, spool::Error> + Send + 'static,
    ) -> Result<Verified, Error> {
        let entry = self.entry(blob).await?;
        let (copy, size) = (entry.clone(), blob.size());
        blocking(move || {
            // What an earlier run left of it may be anything.
            copy.restart()?;
            let mut grant = copy.grant(ByteRange::new(0, size).expect("no blob is empty"))?;
            let (mut buffer, mut done) = (vec![0; COPY_BUFFER], 0);
            while done < size {
                match read(done, &mut buffer)? {
                    0 => break,
                    count => grant.write(&buffer[..count])?,
                }
                done = grant.rest().map_or(size, ByteRange::start);
            }
            Ok(())
        })
        .await?;
        Ok(entry.prove().await?)
    }

    /// The blob's spool entry, as soon as nobody else has it.
    async fn entry(&self, blob: &Descriptor) -> Result<Entry, Error> {
        let (spool, wanted) = (self.store.spool().clone(), blob.clone());
        // What an earlier run left is read again here, which may take as long as fetching it.
        if let Some(entry) = blocking(move || Ok(spool.try_entry(&wanted)?)).await? {
            return Ok(entry);
        }
        self.progress.emit(&Event::Waiting { blob: blob.digest, whom: "another rpull".to_owned() });
        Ok(self.store.spool().entry(blob).await?)
    }

    /// The blob from this namespace or another one.
    async fn at_hand(&self, blob: &Descriptor) -> Result<Option<Arrived>, Error> {
        if let Some(committed) = self.store.present(blob).await? {
            return Ok(Some(Arrived { committed, source: Source::SameNamespace, resumed: 0 }));
        }
        let adopted = self.store.adopt(blob, &Labels::new()).await?;
        Ok(adopted.map(|committed| Arrived { committed, source: Source::OtherNamespace, resumed: 0 }))
    }
}

/// The file, if it holds exactly this blob.
async fn intact(file: PathBuf, blob: &Descriptor) -> Result<Option<Verified>, Error> {
    let (digest, size) = (blob.digest, blob.size());
    match blocking(move || Ok(Verified::of_file(&file, digest, size)?)).await {
        Ok(verified) => Ok(Some(verified)),
        Err(Error::Spool(error)) if error.is_damage() || error.io_kind() == Some(ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A right digest does not make it an overlaybd layer (safety 16).
async fn check(verified: Verified, kind: LayerKind) -> Result<(), Error> {
    if kind != LayerKind::Native {
        return Ok(());
    }
    blocking(move || {
        overlaybd::check(verified.digest(), &verified, verified.size())?;
        Ok(())
    })
    .await
}
