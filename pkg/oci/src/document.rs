//! Manifest, index and config: digest first, then parsed, then sanity (reference 5.5, safety 20).

use crate::{Descriptor, Digest, Error, Platform, PlatformMatcher};

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
    /// index, a media type that is neither), [`Error::Size`], [`Error::TwoSizes`], [`Error::Algorithm`].
    pub fn parse(descriptor: &Descriptor, bytes: &[u8]) -> Result<Self, Error> {
        let _ = (descriptor, bytes);
        todo!()
    }
}

/// An image manifest: config and layers, bottom first.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The image config.
    pub config: Descriptor,
    /// Layers, bottom (parent) first.
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
    ///
    /// # Errors
    /// [`Error::NoPlatform`] with those offered.
    pub fn choose(&self, matcher: &PlatformMatcher) -> Result<&Descriptor, Error> {
        let _ = matcher;
        todo!()
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
    pub fn parse(digest: Digest, bytes: &[u8]) -> Result<Self, Error> {
        let _ = (digest, bytes);
        todo!()
    }
}
