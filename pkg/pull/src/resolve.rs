//! From a reference to an image: target, index, manifest, config, layers. Only documents cross the network here.

use oci::{Config, Document, Image, Manifest, Platform, PlatformMatcher, Reference};
use registry::{Proved, Repository};
use transfer::Engine;

use crate::Error;

/// An image and what was remarkable on the way to it.
pub(crate) struct Found {
    pub(crate) image: Image,
    pub(crate) warnings: Vec<String>,
    /// Bytes of documents that came over the network.
    pub(crate) document_bytes: u64,
}

/// Resolves the reference for `platform`, the host's when `None` (reference 5.5).
pub(crate) async fn resolve(
    engine: &Engine,
    repository: &Repository,
    reference: &Reference,
    platform: Option<&Platform>,
) -> Result<Found, Error> {
    let named = platform.is_some();
    let matcher = &PlatformMatcher::only(&platform.cloned().unwrap_or_else(Platform::host));
    let resolved = engine.attempt(reference.name(), || repository.resolve()).await?;
    let target = resolved.descriptor;
    let mut document_bytes = target.size();
    let mut warnings = resolved.warnings;
    let (index, manifest_descriptor, manifest_bytes, manifest) = match Document::parse(&target, &resolved.bytes)? {
        Document::Manifest(manifest) => (None, target.clone(), resolved.bytes, manifest),
        Document::Index(index) => {
            let chosen = index.choose(matcher)?.clone();
            let Proved { bytes, warnings: passed } =
                engine.attempt(&chosen.digest.to_string(), || repository.document(&chosen)).await?;
            warnings.extend(passed);
            document_bytes += chosen.size();
            let manifest = manifest_of(&chosen, &bytes)?;
            (Some((index, resolved.bytes)), chosen, bytes, manifest)
        }
    };
    let Proved { bytes: config_bytes, warnings: passed } =
        engine.attempt(&manifest.config.digest.to_string(), || repository.document(&manifest.config)).await?;
    warnings.extend(passed);
    document_bytes += manifest.config.size();
    let config = Config::parse(manifest.config.digest, &config_bytes)?;
    if manifest_descriptor.platform.is_none() && matcher.rank(&config.platform).is_none() {
        // An entry without a platform is what its config says (reference 5.5). containerd takes a reference to a single manifest
        // as it is; asked for a platform by name, that would be the wrong image.
        let (wanted, offered) = (matcher.wanted().to_string(), config.platform.to_string());
        if named || index.is_some() {
            return Err(oci::Error::NoPlatform { wanted, digest: target.digest, offered: vec![offered] }.into());
        }
        warnings.push(format!("the image is for {offered}, this machine is {wanted}"));
    }
    let layers = Image::layers(manifest_descriptor.digest, &manifest, &config.diff_ids)?;
    let image =
        Image { target, index, manifest: manifest_descriptor, manifest_bytes, config: manifest.config, config_bytes, layers };
    Ok(Found { image, warnings, document_bytes })
}

/// Parses what has to be a manifest.
pub(crate) fn manifest_of(descriptor: &oci::Descriptor, bytes: &[u8]) -> Result<Manifest, Error> {
    match Document::parse(descriptor, bytes)? {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => Err(oci::Error::Document {
            what: "manifest",
            digest: descriptor.digest,
            why: "it is an index inside an index".to_owned(),
        }
        .into()),
    }
}
