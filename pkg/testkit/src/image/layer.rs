//! One layer: its bytes, and what a manifest says of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use oci::{Digest, MediaType};
use serde_json::{Map, Value, json};

use super::{Blob, archive};

const PREFIX: &str = "containerd.io/snapshot/overlaybd/";

/// A layer of an image to be built. `digest` and `size` are true; lies are told by
/// [`Image::edit_manifest`](super::Image::edit_manifest).
#[derive(Clone, Debug)]
pub struct Layer {
    /// Digest of the bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// What the image config says the layer is uncompressed.
    pub diff_id: Digest,
    /// Media type in the manifest.
    pub media_type: String,
    /// Annotations in the manifest.
    pub annotations: Map<String, Value>,
    content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Layer {
    /// A native overlaybd layer of a blob made in memory.
    pub fn overlaybd(blob: Blob) -> Self {
        Self::overlaybd_of(blob.to_vec())
    }

    /// A native overlaybd layer of a blob written to a new file, for large ones. The file must stay until the push.
    pub fn overlaybd_file(blob: Blob, path: &Path) -> Self {
        let (digest, size) = blob.write(path);
        Self::overlaybd_at(path, digest, size)
    }

    /// A native overlaybd layer that stands in a file already, which must stay until the push.
    pub fn overlaybd_at(path: &Path, digest: Digest, size: u64) -> Self {
        Self::new(Content::File(path.to_owned()), digest, size, digest, MediaType::OCI_LAYER).with_overlaybd_annotations()
    }

    /// Any bytes under the media type and annotations of a native overlaybd layer.
    pub fn overlaybd_of(bytes: Vec<u8>) -> Self {
        let digest = Digest::of(&bytes);
        Self::of(bytes, digest, MediaType::OCI_LAYER).with_overlaybd_annotations()
    }

    /// A plain layer of these files.
    pub fn tar(files: &[(&str, &[u8])]) -> Self {
        let tar = archive::tar(files);
        let digest = Digest::of(&tar);
        Self::of(tar, digest, MediaType::OCI_LAYER)
    }

    /// A plain layer of these files, gzip around the tar.
    pub fn tar_gzip(files: &[(&str, &[u8])]) -> Self {
        let tar = archive::tar(files);
        Self::of(archive::gzip(&tar), Digest::of(&tar), "application/vnd.oci.image.layer.v1.tar+gzip")
    }

    /// A plain layer of these files, zstd around the tar.
    pub fn tar_zstd(files: &[(&str, &[u8])]) -> Self {
        let tar = archive::tar(files);
        Self::of(archive::zstd(&tar), Digest::of(&tar), "application/vnd.oci.image.layer.v1.tar+zstd")
    }

    /// An acceleration layer: a tar with the file `trace`.
    pub fn acceleration(trace: &[u8]) -> Self {
        Self::tar(&[("trace", trace)]).with_overlaybd_annotations().annotate(&format!("{PREFIX}acceleration-layer"), "yes")
    }

    /// A TurboOCI layer: metadata in a gzipped tar, the data in `target`, which is pushed beside it
    /// ([`Image::beside`](super::Image::beside)).
    pub fn turbo(target: &Layer) -> Self {
        let files: [(&str, &[u8]); 3] = [("ext4.fs.meta", b"meta"), ("gzip.meta", b"index"), (".turbo.ociv1", b"")];
        Self::tar_gzip(&files)
            .with_overlaybd_annotations()
            .annotate(&format!("{PREFIX}version"), "0.1.0-turbo.ociv1")
            .annotate(&format!("{PREFIX}turbo-oci/target-digest"), &target.digest.to_string())
            .annotate(&format!("{PREFIX}turbo-oci/target-media-type"), &target.media_type)
    }

    /// Adds or replaces an annotation.
    #[must_use]
    pub fn annotate(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), Value::from(value));
        self
    }

    /// The bytes.
    pub fn bytes(&self) -> Vec<u8> {
        match &self.content {
            Content::Bytes(bytes) => bytes.clone(),
            Content::File(path) => fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        }
    }

    fn new(content: Content, digest: Digest, size: u64, diff_id: Digest, media_type: &str) -> Self {
        Self { digest, size, diff_id, media_type: media_type.to_owned(), annotations: Map::new(), content }
    }

    fn of(bytes: Vec<u8>, diff_id: Digest, media_type: &str) -> Self {
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        Self::new(Content::Bytes(bytes), digest, size, diff_id, media_type)
    }

    fn with_overlaybd_annotations(self) -> Self {
        let (digest, size) = (self.digest.to_string(), self.size.to_string());
        self.annotate(&format!("{PREFIX}blob-digest"), &digest)
            .annotate(&format!("{PREFIX}blob-size"), &size)
            .annotate(&format!("{PREFIX}version"), "0.1.0")
    }

    pub(super) fn content(&self) -> &Content {
        &self.content
    }

    pub(super) fn descriptor(&self) -> Value {
        let mut descriptor = json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.size });
        if !self.annotations.is_empty() {
            descriptor["annotations"] = Value::from(self.annotations.clone());
        }
        descriptor
    }
}
