//! Every layer of an image that is here: its blob, its snapshot, and the file that a device reads.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use containerd::{Committed, Examined, Labels, Session, Store};
use oci::{Digest, Layer};
use spool::Verified;
use tokio::{sync::Semaphore, task::JoinHandle};

use super::{
    causes, deep,
    report::{Damage, Part, Place},
};
use crate::{
    Error, blocking,
    overlaybd::{self, LayerKind, State},
    probe::{Directories, Probe},
    proof, suspect,
};

/// Layers hashed at once. A disk reads one file as fast as four, a core hashes one; more would only evict what runs on the node.
const AT_ONCE: usize = 2;

/// Looks at layers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Look {
    pub(crate) session: Session,
    pub(crate) store: Store,
    pub(crate) probe: Probe,
    pub(crate) snapshotter: String,
    pub(crate) deep: bool,
}

/// What is known of a layer's snapshot before its file is looked at.
#[derive(Clone)]
struct Found {
    labels: Labels,
    /// What is wrong with it.
    damage: Option<Damage>,
    /// Its directory, where it is in reach.
    fs: Option<PathBuf>,
    /// Is it sound, and everything below it?
    sound: bool,
}

impl Look {
    /// Looks at all layers and tells of each, in order, as soon as it is known.
    pub(crate) async fn at(
        &self,
        layers: &[Layer],
        kinds: &[LayerKind],
        tell: &mut (dyn FnMut(&Part) + Send),
    ) -> Result<Vec<Part>, Error> {
        let snapshots = self.snapshots(layers, kinds).await?;
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let mut looks = Looks(Vec::new());
        for ((layer, &kind), found) in layers.iter().zip(kinds).zip(snapshots) {
            let (look, layer, of, turns) = (self.clone(), layer.clone(), layers.len(), Arc::clone(&turns));
            looks.0.push(tokio::spawn(async move {
                let _turn = turns.acquire_owned().await.expect("the semaphore is never closed");
                let place = Place::Layer { index: layer.index, of };
                Ok(Part { place, digest: layer.descriptor.digest, damage: look.damage(&layer, kind, found).await? })
            }));
        }
        let mut parts = Vec::with_capacity(layers.len());
        for look in &mut looks.0 {
            let part = look.await??;
            tell(&part);
            parts.push(part);
        }
        Ok(parts)
    }

    async fn snapshots(&self, layers: &[Layer], kinds: &[LayerKind]) -> Result<Vec<Found>, Error> {
        let mut snapshots = Vec::with_capacity(layers.len());
        let mut sound = true;
        for layer in layers {
            let (labels, damage) = self.snapshot(layer).await?;
            sound &= damage.is_none();
            snapshots.push(Found { labels, damage, fs: None, sound });
        }
        let chain: Vec<Digest> =
            layers.iter().zip(&snapshots).take_while(|(_, found)| found.sound).map(|(layer, _)| layer.chain_id).collect();
        let natives = kinds[..chain.len()].iter().any(|kind| kind.links());
        let mut directories = if natives { self.probe.directories(&chain).await? } else { Directories::new() };
        for (found, chain_id) in snapshots.iter_mut().zip(&chain) {
            found.fs = directories.remove(chain_id);
        }
        Ok(snapshots)
    }

    /// Labels of the layer's snapshot, and what is wrong with its place in the chain.
    async fn snapshot(&self, layer: &Layer) -> Result<(Labels, Option<Damage>), Error> {
        let name = layer.chain_id.to_string();
        let none = || Ok((Labels::new(), Some(Damage::NoSnapshot)));
        if self.session.stat(&self.snapshotter, &name).await?.is_none() {
            return none();
        }
        // A probe's View on it must not be the only thing that holds it.
        match self.session.hold_snapshot(&self.snapshotter, &name).await {
            Ok(()) => {}
            Err(containerd::Error::Gone { .. }) => return none(),
            Err(error) => return Err(error.into()),
        }
        match proof::check_snapshot(&self.session, &self.snapshotter, layer).await {
            Ok(labels) => Ok((labels, None)),
            Err(Error::Unproved { why, .. }) => Ok((Labels::new(), Some(Damage::Snapshot { why }))),
            Err(Error::Gone { .. }) => none(),
            Err(error) => Err(error),
        }
    }

    async fn damage(&self, layer: &Layer, kind: LayerKind, mut found: Found) -> Result<Vec<Damage>, Error> {
        let mut damage = Vec::new();
        let blob = match self.store.examine(&layer.descriptor).await? {
            Examined::Right(blob) => Some(blob),
            Examined::Absent => {
                damage.push(Damage::NoContent);
                None
            }
            Examined::Wrong { file, why } => {
                damage.push(Damage::Content { file, why });
                None
            }
        };
        if let Some(blob) = blob.as_ref().filter(|_| self.deep && !kind.links()) {
            damage.extend(self.unpack(layer, blob).await?);
        }
        damage.extend(match found.damage.take() {
            Some(damage) => Some(damage),
            None if kind == LayerKind::Turbo => Some(Damage::Lazy),
            None if !kind.links() => None,
            None => self.file(layer, blob, &found).await?,
        });
        if damage.contains(&Damage::Lazy) {
            // Then there is no need for a blob either.
            damage.retain(|damage| *damage != Damage::NoContent);
        }
        Ok(damage)
    }

    async fn unpack(&self, layer: &Layer, blob: &Committed) -> Result<Option<Damage>, Error> {
        Ok(match deep::diff_id(&self.session, blob).await? {
            Ok(actual) if actual == layer.diff_id => None,
            Ok(actual) => Some(Damage::DiffId { expected: layer.diff_id, actual }),
            Err(error) => Some(Damage::Broken { why: format!("it cannot be unpacked: {error}") }),
        })
    }

    /// What is wrong with the file of a native layer whose snapshot stands in its place.
    async fn file(&self, layer: &Layer, blob: Option<Committed>, found: &Found) -> Result<Option<Damage>, Error> {
        let Some(fs) = found.fs.clone() else {
            return if found.sound { self.weigh(layer, &found.labels).await } else { Ok(Some(Damage::Unseen)) };
        };
        let (layer, labels) = (layer.clone(), found.labels.clone());
        blocking(move || {
            let file = fs.join(overlaybd::NAME);
            let state = match blob.as_ref().map(|blob| compare(&fs, blob)).transpose() {
                Ok(state) => state.flatten(),
                Err(Error::Overlaybd(error @ overlaybd::Error::Blob { .. })) => {
                    return Ok(Some(Damage::Broken { why: format!("it is not an overlaybd blob: {}", causes(&error)) }));
                }
                Err(error) => return Err(error),
            };
            let state = match state {
                Some(state) => state,
                None => alone(&fs, &layer)?,
            };
            let label = overlaybd::missing_label(&labels, &layer, LayerKind::Native);
            Ok(match state {
                State::Missing if overlaybd::is_lazy(&labels) => Some(Damage::Lazy),
                State::Missing => Some(Damage::NoFile { file }),
                State::Wrong { why } => Some(Damage::File { file, why }),
                // Unpacked from a re-compressed copy of the image: the snapshotter knows it by its first bytes (reference 7.3).
                State::Unwrapped { .. } if label.is_some() => weakness(&fs, file),
                _ if label.is_some() => {
                    let label = label.unwrap_or_default();
                    Some(Damage::Snapshot { why: format!("its label {label} is missing or another layer's") })
                }
                State::Linked => configured(&fs, &layer),
                _ => configured(&fs, &layer).or_else(|| weakness(&fs, file)),
            })
        })
        .await
    }

    /// Where no file can be looked at, the snapshot must at least not be lazy, and weigh what its layer does.
    async fn weigh(&self, layer: &Layer, labels: &Labels) -> Result<Option<Damage>, Error> {
        Ok(match proof::check_weight(&self.session, &self.snapshotter, layer, LayerKind::Native, labels).await {
            Ok(()) => None,
            Err(Error::Unusable { .. }) if overlaybd::is_lazy(labels) => Some(Damage::Lazy),
            Err(Error::Unusable { why, .. }) => Some(Damage::Snapshot { why }),
            Err(error) => return Err(error),
        })
    }
}

/// Looks under way; dropping them ends them.
struct Looks(Vec<JoinHandle<Result<Part, Error>>>);

impl Drop for Looks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// How the file in `fs` stands to its blob, which was hashed. `None` where the content store is out of reach.
fn compare(fs: &Path, blob: &Committed) -> Result<Option<State>, Error> {
    let Some((original, payload)) = suspect::open(blob)? else { return Ok(None) };
    Ok(Some(overlaybd::state(fs, &original, payload)?))
}

/// What the file in `fs` is by itself, with no blob to compare it with: only a copy of the whole blob has its digest.
fn alone(fs: &Path, layer: &Layer) -> Result<State, Error> {
    let (digest, size) = (layer.descriptor.digest, layer.descriptor.size());
    match overlaybd::glance(fs, size)? {
        State::Unproved => match Verified::of_file(&fs.join(overlaybd::NAME), digest, size) {
            Ok(_) => Ok(State::Copy { linkable: false }),
            Err(error) if error.is_damage() => Ok(State::Wrong { why: "its bytes are not those of the layer".to_owned() }),
            Err(error) => Err(error.into()),
        },
        // Perhaps the blob without the tar around it, which nobody can say before the blob is here again.
        State::Wrong { why } => Ok(State::Wrong { why: format!("{why}, and there is no blob to compare it with") }),
        other => Ok(other),
    }
}

/// Does the snapshotter's own record of the directory agree?
fn configured(fs: &Path, layer: &Layer) -> Option<Damage> {
    let error = overlaybd::prove_directory(fs, layer.descriptor.digest, None).err()?;
    Some(Damage::Snapshot { why: causes(&error) })
}

/// A copy has an inode of its own, which should be nobody else's to write to.
fn weakness(fs: &Path, file: PathBuf) -> Option<Damage> {
    overlaybd::weakness(fs).map(|why| Damage::File { file, why })
}
