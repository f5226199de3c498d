//! Index, manifest and config of an image that is here, each hashed before it is parsed.

use std::collections::BTreeSet;

use containerd::{Examined, ImageRecord, Labels, Session, Store};
use oci::{Config, Descriptor, Digest, Document, Image, Index, Manifest, Platform, PlatformMatcher};
use registry::Repository;
use transfer::Engine;

use super::report::{Damage, Part, Place};
use crate::{Error, records, resolve};

/// What was found of an image's documents.
pub(crate) struct Documents {
    /// The documents that were looked at.
    pub(crate) parts: Vec<Part>,
    /// Those that are not right here, as the registry has them; only where it was asked.
    pub(crate) fetched: Vec<(Descriptor, Vec<u8>)>,
    /// What was remarkable about the hosts that were asked.
    pub(crate) warnings: Vec<String>,
    /// The image; `None` when a document that leads to its layers cannot be read.
    pub(crate) image: Option<Image>,
}

/// Reads documents from the content store, and from the registry if there is one to ask.
pub(crate) struct Reader<'a> {
    pub(crate) session: &'a Session,
    pub(crate) store: &'a Store,
    pub(crate) platform: Option<&'a Platform>,
    pub(crate) snapshotter: &'a str,
    pub(crate) registry: Option<(&'a Engine, &'a Repository)>,
}

impl Reader<'_> {
    /// Reads what the record points at. An index leads to the manifest of the platform that was asked for, else to the one that the
    /// record says is whole here, else to that of this machine.
    pub(crate) async fn read(&self, record: &ImageRecord) -> Result<Documents, Error> {
        let target = record.target.descriptor()?;
        let mut found = Documents { parts: Vec::new(), fetched: Vec::new(), warnings: Vec::new(), image: None };
        let place = if target.media_type.is_index() { Place::Index } else { Place::Manifest };
        let Some(target_bytes) = self.document(place, &target, &mut found).await? else { return Ok(found) };
        let (index, manifest_descriptor, manifest_bytes, manifest) = match Document::parse(&target, &target_bytes)? {
            Document::Manifest(manifest) => (None, target.clone(), target_bytes, manifest),
            Document::Index(index) => {
                let chosen = self.choose(&index, record)?;
                let Some(bytes) = self.document(Place::Manifest, &chosen, &mut found).await? else { return Ok(found) };
                let manifest = resolve::manifest_of(&chosen, &bytes)?;
                (Some((index, target_bytes)), chosen, bytes, manifest)
            }
        };
        let Manifest { config, .. } = &manifest;
        let Some(config_bytes) = self.document(Place::Config, config, &mut found).await? else { return Ok(found) };
        let diff_ids = Config::parse(config.digest, &config_bytes)?.diff_ids;
        let layers = Image::layers(manifest_descriptor.digest, &manifest, &diff_ids)?;
        let config = manifest.config;
        let image = Image { target, index, manifest: manifest_descriptor, manifest_bytes, config, config_bytes, layers };
        self.look_at_labels(&image, &mut found.parts).await?;
        found.image = Some(image);
        Ok(found)
    }

    fn choose(&self, index: &Index, record: &ImageRecord) -> Result<Descriptor, Error> {
        let whole = record.labels.get(records::COMPLETE).and_then(|digest| digest.parse::<Digest>().ok());
        let named = index.manifests.iter().find(|manifest| Some(manifest.digest) == whole);
        match (self.platform, named) {
            (None, Some(manifest)) => Ok(manifest.clone()),
            (platform, _) => {
                let matcher = PlatformMatcher::only(&platform.cloned().unwrap_or_else(Platform::host));
                Ok(index.choose(&matcher)?.clone())
            }
        }
    }

    /// Bytes of one document, proved; `None` when they cannot be had.
    async fn document(&self, place: Place, descriptor: &Descriptor, found: &mut Documents) -> Result<Option<Vec<u8>>, Error> {
        let digest = descriptor.digest;
        let damage = match self.store.examine(descriptor).await? {
            Examined::Right(_) => {
                found.parts.push(Part { place, digest, damage: Vec::new() });
                return Ok(Some(self.session.read_content(digest, registry::MAX_DOCUMENT).await?));
            }
            Examined::Absent => Damage::NoContent,
            Examined::Wrong { file, why } => Damage::Content { file, why },
        };
        found.parts.push(Part { place, digest, damage: vec![damage] });
        let Some((engine, repository)) = self.registry else { return Ok(None) };
        // Only a file that somebody else could write to has the right bytes.
        let here = self.session.read_content(digest, registry::MAX_DOCUMENT).await;
        let bytes = if let Ok(bytes) = here {
            bytes
        } else {
            let proved = engine.attempt(&digest.to_string(), || repository.document(descriptor)).await?;
            found.warnings.extend(proved.warnings);
            proved.bytes
        };
        found.fetched.push((descriptor.clone(), bytes.clone()));
        Ok(Some(bytes))
    }

    /// Does every document hold what is below it? Other clients name some of these labels in other ways, so only what they hold is
    /// compared (reference 5.3).
    async fn look_at_labels(&self, image: &Image, parts: &mut [Part]) -> Result<(), Error> {
        let top = image.layers.last().map(|layer| layer.chain_id);
        for part in parts.iter_mut().filter(|part| part.damage.is_empty()) {
            let labels = self.session.content(part.digest).await?.map(|info| info.labels).unwrap_or_default();
            let content = held(&labels, "containerd.io/gc.ref.content");
            let snapshots = held(&labels, &format!("containerd.io/gc.ref.snapshot.{}", self.snapshotter));
            let needed: Vec<(String, Digest, &BTreeSet<&str>)> = match part.place {
                Place::Index => vec![("the manifest".to_owned(), image.manifest.digest, &content)],
                Place::Manifest => std::iter::once(("the config".to_owned(), image.config.digest, &content))
                    .chain(
                        image
                            .layers
                            .iter()
                            .map(|layer| (format!("layer {}", layer.index + 1), layer.descriptor.digest, &content)),
                    )
                    .collect(),
                _ => top.map(|top| ("the snapshots".to_owned(), top, &snapshots)).into_iter().collect(),
            };
            let unheld = needed.into_iter().filter(|(_, digest, held)| !held.contains(digest.to_string().as_str()));
            part.damage.extend(unheld.map(|(of, ..)| Damage::Label { of }));
        }
        Ok(())
    }
}

/// Values of the labels that begin with `prefix` and end there, or go on with one of the marks that containerd knows.
fn held<'a>(labels: &'a Labels, prefix: &str) -> BTreeSet<&'a str> {
    let ours = |key: &str| key.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '/']));
    labels.iter().filter(|(key, _)| ours(key)).map(|(_, value)| value.as_str()).collect()
}
