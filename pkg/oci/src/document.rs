//! Manifest, index and config: digest first, then parsed, then sanity (reference 5.5, safety 20).

use crate::{Descriptor, Digest, Error, Platform, PlatformMatcher};

mod json;

/// What a reference points at.
#[derive(Clone, Debug)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several, by platform.
    Index(Index),
}

impl Document {
    /// Parses `bytes`, whose digest the caller has compared with `descriptor.digest`.
    ///
    /// # Errors
    /// [`Error::Document`] for anything containerd would refuse (schema 1, `manifests` in a manifest, config or layers in an
    /// index, a media type that is neither), for a manifest that is no container image and for annotations beyond measure;
    /// [`Error::Size`], [`Error::TwoSizes`], [`Error::Algorithm`].
    pub fn parse(descriptor: &Descriptor, bytes: &[u8]) -> Result<Self, Error> {
        let digest = descriptor.digest;
        if descriptor.media_type.is_manifest() {
            json::manifest(digest, bytes).map(Self::Manifest)
        } else if descriptor.media_type.is_index() {
            json::index(digest, bytes).map(Self::Index)
        } else {
            let why = format!("media type {} is neither an image manifest nor an index", descriptor.media_type);
            Err(Error::Document { what: "document", digest, why })
        }
    }
}

/// An image manifest: config and layers, bottom first.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The image config.
    pub config: Descriptor,
    /// Layers, bottom (parent) first. The same blob may come more than once.
    pub layers: Vec<Descriptor>,
}

/// An index of manifests.
#[derive(Clone, Debug)]
pub struct Index {
    /// Digest of the index, for errors.
    pub digest: Digest,
    /// Entries in document order.
    pub manifests: Vec<Descriptor>,
}

impl Index {
    /// The manifest containerd would take: stable sort by matcher order, entries without a platform last, the first wins.
    /// Of an entry without a platform only its config tells whether it fits.
    ///
    /// # Errors
    /// [`Error::NoPlatform`] with those offered.
    pub fn choose(&self, matcher: &PlatformMatcher) -> Result<&Descriptor, Error> {
        let rank = |entry: &Descriptor| match &entry.platform {
            Some(platform) => matcher.rank(platform),
            None => Some(usize::MAX),
        };
        let ranked = self.manifests.iter().filter_map(|entry| Some((rank(entry)?, entry)));
        // Of equals `min_by_key` takes the first, as a stable sort does.
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry).ok_or_else(|| Error::NoPlatform {
            wanted: matcher.wanted().to_string(),
            digest: self.digest,
            offered: self.platforms(),
        })
    }

    /// The platforms offered, each once. Attestations say `unknown/unknown` and are not for running.
    fn platforms(&self) -> Vec<String> {
        let mut offered: Vec<String> = Vec::new();
        for platform in self.manifests.iter().filter_map(|entry| entry.platform.as_ref()) {
            let name = platform.to_string();
            if platform.os != "unknown" && !offered.contains(&name) {
                offered.push(name);
            }
        }
        offered
    }
}

/// The parts of an image config a pull needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Platform of the image.
    pub platform: Platform,
    /// `rootfs.diff_ids`, bottom first.
    pub diff_ids: Vec<Digest>,
}

impl Config {
    /// Parses a config whose digest has been compared. `rootfs.type` must be empty or `layers`.
    ///
    /// # Errors
    /// [`Error::Document`], [`Error::Algorithm`].
    pub fn parse(digest: Digest, bytes: &[u8]) -> Result<Self, Error> {
        json::config(digest, bytes)
    }
}

#[cfg(test)]
mod tests;
