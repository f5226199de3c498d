//! Commits the chain of snapshots, parent first, and puts every native layer's blob where overlaybd looks for it.
//!
//! A layer is prepared, filled (linked, or unpacked by containerd's differ) and committed. Prepare's reply names the directory;
//! it is believed only after its `config.v1.json` agrees (safety 13). Where the directory cannot be reached from here, containerd
//! unpacks native layers too.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use containerd::{Committed, Labels, Mount, Named, Prepared, Session};
use oci::{Digest, Layer};
use progress::{Progress, Step, Subject};

use crate::{
    Error, blocking,
    inventory::file_state,
    overlaybd::{self, How, LayerKind, Placed, State},
    probe::{self, Probe},
    scratch::Scratch,
    suspect,
};

/// What every layer of a chain needs.
pub(crate) struct Chain<'a> {
    pub(crate) session: &'a Session,
    pub(crate) scratch: &'a Scratch,
    pub(crate) probe: &'a Probe,
    pub(crate) snapshotter: &'a str,
    /// All layers, bottom first.
    pub(crate) layers: &'a [Layer],
    /// Name of the image record, for the label that tells the device where to read from.
    pub(crate) image_ref: &'a str,
    pub(crate) lazy: bool,
    pub(crate) progress: &'a Progress,
}

/// A snapshot on its way.
pub(crate) enum Begun {
    /// Ours, to be filled and committed.
    Active(Active),
    /// Committed by somebody else, or lazily by the snapshotter itself.
    Exists,
}

/// An active snapshot of ours.
pub(crate) struct Active {
    key: String,
    /// Sent with Prepare, and again with Commit, which replaces them (reference 7.3).
    labels: Labels,
    mounts: Vec<Mount>,
    /// Its directory, proved to be the layer's; `None` where it is out of reach or not needed.
    fs: Option<PathBuf>,
}

/// How a layer stands in its snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its `overlaybd.commit` was put there, or found right.
    File(Placed),
    /// containerd's differ unpacked the blob.
    Unpacked,
    /// Nothing of it is here; its device reads from the registry.
    Lazy,
    /// Committed before, its file right: linked or not.
    Found {
        /// Is it the blob's inode?
        linked: bool,
    },
    /// Committed before; its contents are trusted as containerd trusts them.
    Committed,
}

impl Chain<'_> {
    /// Begins the layer's snapshot; its parent's is committed. Done before the blob is here, so that a snapshotter that does not
    /// know overlaybd layers is found out before their bytes have crossed the network.
    pub(crate) async fn begin(&self, layer: &Layer, kind: LayerKind) -> Result<Begun, Error> {
        let labels = overlaybd::snapshot_labels(layer, kind, self.image_ref, self.lazy).labels;
        let key = format!("extract-{} {}", probe::unique(), layer.chain_id);
        let asked = SystemTime::now();
        let prepared = self.step(Step::Prepare, layer, self.prepare(&key, layer.parent, &labels)).await?;
        let Prepared::Active(mounts) = prepared else {
            self.scratch.forget(&key);
            return Ok(Begun::Exists);
        };
        let mut fs = None;
        if kind.links() {
            let directory = overlaybd::active_directory(&mounts)?;
            if directory.is_dir() {
                prove_directory(&directory, layer, Some(asked)).await?;
                fs = Some(directory);
            } else {
                overlaybd::check_reply(&mounts, layer.descriptor.digest)?;
            }
        }
        Ok(Begun::Active(Active { key, labels, mounts, fs }))
    }

    /// Fills and commits what was begun. `blob` is `None` only for a native layer of a lazy pull.
    pub(crate) async fn finish(
        &self,
        begun: Begun,
        layer: &Layer,
        kind: LayerKind,
        blob: Option<&Committed>,
    ) -> Result<Standing, Error> {
        let Begun::Active(active) = begun else { return self.join(layer, kind, blob).await };
        let standing = self.fill(layer, blob, &active).await?;
        let committing = async { Ok(self.session.commit(self.snapshotter, layer.chain_id, &active.key, &active.labels).await?) };
        let named = self.step(Step::Snapshot, layer, committing).await?;
        self.scratch.forget(&active.key);
        if named == Named::Theirs {
            // Another client committed the name first, perhaps lazily; ours is gone.
            return self.join(layer, kind, blob).await;
        }
        if let (Standing::File(_), Some(fs)) = (standing, &active.fs) {
            self.check_usage(layer, fs).await?;
        }
        Ok(standing)
    }

    /// Puts the blob into a snapshot that is committed already: lazy until now, or with a file that is not right or not the link.
    pub(crate) async fn attach(&self, layer: &Layer, blob: &Committed, fs: Option<&Path>) -> Result<Standing, Error> {
        match fs.filter(|_| blob.path().is_some()) {
            Some(fs) => {
                if let Some(label) = self.missing_label(layer).await? {
                    // Unpacked from a re-compressed copy of the image: the snapshotter knows the file by its first bytes, which
                    // the wrapped blob does not have. It is right, and stays (safety 14).
                    if matches!(file_state(fs.to_owned(), layer, Some(blob)).await?, State::Unwrapped { .. }) {
                        return Ok(Standing::Found { linked: false });
                    }
                    let why =
                        format!("its label {label} is missing or another layer's, so that no device would find the blob in it");
                    return Err(Error::Unusable { chain_id: layer.chain_id, layer: layer.descriptor.digest, why });
                }
                prove_directory(fs, layer, None).await?;
                let placed = self.step(Step::Link, layer, place(blob, fs)).await?;
                Ok(placed.map_or(Standing::Committed, Standing::File))
            }
            _ if self.is_lazy(layer).await? => {
                let why = "it was committed lazily, and its directory cannot be reached from here to make it whole".to_owned();
                Err(Error::Unusable { chain_id: layer.chain_id, layer: layer.descriptor.digest, why })
            }
            _ => Ok(Standing::Committed),
        }
    }

    async fn prepare(&self, key: &str, parent: Option<Digest>, labels: &Labels) -> Result<Prepared, Error> {
        let (session, snapshotter, labels) = (self.session.clone(), self.snapshotter.to_owned(), labels.clone());
        let name = key.to_owned();
        self.scratch.make(key, async move { session.prepare(&snapshotter, &name, parent, &labels).await }).await
    }

    /// The snapshot is there although this pull did not commit it.
    async fn join(&self, layer: &Layer, kind: LayerKind, blob: Option<&Committed>) -> Result<Standing, Error> {
        let Some(blob) = blob.filter(|_| kind.links()) else {
            return Ok(if kind.links() { Standing::Lazy } else { Standing::Committed });
        };
        let chain: Vec<Digest> = self.layers[..=layer.index].iter().map(|layer| layer.chain_id).collect();
        let directories = self.probe.directories(&chain).await?;
        self.attach(layer, blob, directories.get(&layer.chain_id).map(PathBuf::as_path)).await
    }

    /// Links the blob where the directory can be reached, else lets containerd unpack it.
    async fn fill(&self, layer: &Layer, blob: Option<&Committed>, active: &Active) -> Result<Standing, Error> {
        if let (Some(blob), Some(fs)) = (blob, &active.fs)
            && let Some(placed) = self.step(Step::Link, layer, place(blob, fs)).await?
        {
            return Ok(Standing::File(placed));
        }
        let unpacking = async { Ok(self.session.apply(&layer.descriptor, &active.mounts).await?) };
        let actual = self.step(Step::Unpack, layer, unpacking).await?;
        if actual != layer.diff_id {
            return Err(Error::DiffId { layer: layer.descriptor.digest, expected: layer.diff_id, actual });
        }
        Ok(Standing::Unpacked)
    }

    fn step<T>(
        &self,
        step: Step,
        layer: &Layer,
        work: impl Future<Output = Result<T, Error>>,
    ) -> impl Future<Output = Result<T, Error>> {
        self.progress.step(step, Subject::Blob(layer.descriptor.digest), work)
    }

    async fn is_lazy(&self, layer: &Layer) -> Result<bool, Error> {
        Ok(overlaybd::is_lazy(&self.committed_labels(layer).await?))
    }

    async fn missing_label(&self, layer: &Layer) -> Result<Option<&'static str>, Error> {
        Ok(overlaybd::missing_label(&self.committed_labels(layer).await?, layer, LayerKind::Native))
    }

    async fn committed_labels(&self, layer: &Layer) -> Result<Labels, Error> {
        let info = self.session.stat(self.snapshotter, &layer.chain_id.to_string()).await?;
        Ok(info.ok_or_else(|| Error::Gone { what: format!("snapshot {}", layer.chain_id) })?.labels)
    }

    /// The snapshotter must have counted the file we see: else it looked into another directory (safety 13).
    async fn check_usage(&self, layer: &Layer, fs: &Path) -> Result<(), Error> {
        let file = fs.join(overlaybd::NAME);
        let allocated = file.metadata().map_or(0, |meta| meta.blocks() * 512);
        let counted = self.session.usage(self.snapshotter, &layer.chain_id.to_string()).await?;
        if counted >= allocated {
            return Ok(());
        }
        Err(Error::Unproved {
            what: format!("snapshot {}", layer.chain_id),
            why: format!("the snapshotter counts {counted} bytes in it, {} has {allocated}", file.display()),
        })
    }
}

impl Standing {
    /// Word for the receipt.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::File(placed) => match placed.how {
                How::Linked => "linked",
                How::Cloned => "cloned",
                How::Copied => "copied",
                How::Kept => "kept",
            },
            Self::Found { linked: true } => "linked",
            Self::Found { linked: false } => "copied",
            Self::Unpacked => "unpacked",
            Self::Lazy => "lazy",
            Self::Committed => "committed",
        }
    }

    /// Disk bytes that replacing a second copy set free.
    pub(crate) fn freed(self) -> u64 {
        match self {
            Self::File(placed) => placed.freed,
            _ => 0,
        }
    }
}

async fn prove_directory(fs: &Path, layer: &Layer, since: Option<SystemTime>) -> Result<(), Error> {
    let (fs, digest) = (fs.to_owned(), layer.descriptor.digest);
    blocking(move || Ok(overlaybd::prove_directory(&fs, digest, since)?)).await
}

/// Puts the blob into `fs`. `None` where the content store is out of reach.
async fn place(blob: &Committed, fs: &Path) -> Result<Option<Placed>, Error> {
    let (blob, fs) = (blob.clone(), fs.to_owned());
    let placed = blocking(move || match suspect::open(&blob)? {
        Some((original, payload)) => Ok(Some(overlaybd::place(&fs, &original, payload)?)),
        None => Ok(None),
    });
    placed.await.map_err(|error| match error {
        // Both were there a moment ago: another client removed the blob or the snapshot.
        Error::Overlaybd(overlaybd::Error::Disk { path, source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Error::Gone { what: path.display().to_string() }
        }
        other => other,
    })
}
