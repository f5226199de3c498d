//! Manifest, config and index around layers, and where they go: an OCI layout or straight into a registry.

use std::{fs, path::Path};

use oci::{Digest, MediaType};
use serde_json::{Value, json};

use super::layer::{Content, Layer};
use crate::DistributionRegistry;

/// What an image runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`
    pub os: String,
    /// `amd64`, `arm64`, `arm`, …
    pub architecture: String,
    /// `v7` of an arm, else empty.
    pub variant: String,
}

impl Platform {
    /// A platform from `os/architecture[/variant]`.
    pub fn new(text: &str) -> Self {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Self { os: next(), architecture: next(), variant: next() }
    }

    fn to_json(&self) -> Value {
        let mut platform = json!({ "os": self.os, "architecture": self.architecture });
        if !self.variant.is_empty() {
            platform["variant"] = Value::from(self.variant.as_str());
        }
        platform
    }
}

/// A built image: documents as bytes, layers as they were given.
#[derive(Clone, Debug)]
pub struct Image {
    layers: Vec<Layer>,
    beside: Vec<Layer>,
    platform: Platform,
    config: Value,
    /// Follows the config until it is edited, then stays as edited.
    manifest: Value,
}

impl Image {
    /// An OCI image for linux/amd64 of these layers, bottom first.
    pub fn new(layers: Vec<Layer>) -> Self {
        let platform = Platform::new("linux/amd64");
        let mut image = Self { layers, beside: Vec::new(), platform, config: Value::Null, manifest: Value::Null };
        let diff_ids: Vec<_> = image.layers.iter().map(|layer| layer.diff_id).collect();
        image.config = json!({ "rootfs": { "type": "layers", "diff_ids": diff_ids }, "config": { "Cmd": ["/bin/sh"] } });
        image.describe_platform();
        image.manifest = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::OCI_MANIFEST,
            "config": { "mediaType": MediaType::OCI_CONFIG },
            "layers": image.layers.iter().map(Layer::descriptor).collect::<Vec<_>>(),
        });
        image.describe_config();
        image
    }

    /// Another platform than linux/amd64.
    #[must_use]
    pub fn platform(mut self, platform: Platform) -> Self {
        self.platform = platform;
        self.describe_platform();
        self.describe_config();
        self
    }

    /// Docker media types instead of OCI ones.
    #[must_use]
    pub fn docker(mut self) -> Self {
        self.manifest["mediaType"] = Value::from(MediaType::DOCKER_MANIFEST);
        self.manifest["config"]["mediaType"] = Value::from(MediaType::DOCKER_CONFIG);
        for layer in self.manifest["layers"].as_array_mut().expect("a manifest has layers") {
            let docker = match layer["mediaType"].as_str() {
                Some(MediaType::OCI_LAYER) => MediaType::DOCKER_LAYER,
                Some("application/vnd.oci.image.layer.v1.tar+gzip") => "application/vnd.docker.image.rootfs.diff.tar.gzip",
                _ => continue,
            };
            layer["mediaType"] = Value::from(docker);
        }
        self
    }

    /// Pushes this layer's bytes too, though the manifest does not list it.
    #[must_use]
    pub fn beside(mut self, layer: Layer) -> Self {
        self.beside.push(layer);
        self
    }

    /// Changes the config before it gets its digest, such as a list of diff ids that does not fit.
    #[must_use]
    pub fn edit_config(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        edit(&mut self.config);
        self.describe_config();
        self
    }

    /// Changes the manifest before it gets its digest: hostile annotations, wrong sizes, wrong digests. Call it last.
    #[must_use]
    pub fn edit_manifest(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        edit(&mut self.manifest);
        self
    }

    /// The layers, bottom first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Bytes of the config.
    pub fn config(&self) -> Vec<u8> {
        self.config.to_string().into_bytes()
    }

    /// Bytes of the manifest.
    pub fn manifest(&self) -> Vec<u8> {
        self.manifest.to_string().into_bytes()
    }

    /// Digest of the manifest.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest())
    }

    /// Media type of the manifest.
    pub fn media_type(&self) -> &str {
        self.manifest["mediaType"].as_str().unwrap_or_default()
    }

    /// Pushes everything to `repository:tag`; the reference. A manifest that the registry refuses is planted on its disk.
    pub fn push(&self, registry: &DistributionRegistry, repository: &str, tag: &str) -> String {
        self.push_blobs(registry, repository);
        push_document(registry, repository, tag, self.media_type(), &self.manifest());
        registry.reference(repository, tag)
    }

    /// Writes an OCI layout with this image under `tag`; the directory may exist and may hold other images' blobs.
    pub fn write_layout(&self, directory: &Path, tag: &str) {
        self.write_blobs(directory);
        write_layout_index(directory, tag, self.descriptor());
    }

    fn describe_platform(&mut self) {
        for (key, value) in self.platform.to_json().as_object().expect("a platform is an object") {
            self.config[key] = value.clone();
        }
    }

    fn describe_config(&mut self) {
        let config = self.config();
        self.manifest["config"]["digest"] = json!(Digest::of(&config));
        self.manifest["config"]["size"] = Value::from(config.len());
    }

    fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.media_type(),
            "digest": self.digest(),
            "size": self.manifest().len(),
            "platform": self.platform.to_json(),
        })
    }

    fn push_blobs(&self, registry: &DistributionRegistry, repository: &str) {
        for layer in self.layers.iter().chain(&self.beside) {
            match layer.content() {
                Content::Bytes(bytes) => drop(registry.push_blob(repository, bytes)),
                Content::File(path) => registry.push_blob_file(repository, path, &layer.digest),
            }
        }
        registry.push_blob(repository, &self.config());
    }

    fn write_blobs(&self, directory: &Path) {
        for layer in self.layers.iter().chain(&self.beside) {
            match layer.content() {
                Content::Bytes(bytes) => write_blob(directory, bytes),
                Content::File(path) => {
                    let target = blobs(directory).join(layer.digest.hex());
                    fs::copy(path, target).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                }
            }
        }
        write_blob(directory, &self.config());
        write_blob(directory, &self.manifest());
    }
}

/// An index over images, one per platform.
#[derive(Clone, Debug)]
pub struct Index {
    images: Vec<Image>,
    document: Value,
}

impl Index {
    /// An OCI index of these images in their order.
    pub fn new(images: Vec<Image>) -> Self {
        let manifests: Vec<_> = images.iter().map(Image::descriptor).collect();
        let document = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": manifests });
        Self { images, document }
    }

    /// Changes the index before it gets its digest.
    #[must_use]
    pub fn edit(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        edit(&mut self.document);
        self
    }

    /// Bytes of the index.
    pub fn bytes(&self) -> Vec<u8> {
        self.document.to_string().into_bytes()
    }

    /// Digest of the index.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes())
    }

    /// Pushes everything to `repository:tag`; the reference.
    pub fn push(&self, registry: &DistributionRegistry, repository: &str, tag: &str) -> String {
        for image in &self.images {
            image.push_blobs(registry, repository);
            push_document(registry, repository, &image.digest().to_string(), image.media_type(), &image.manifest());
        }
        let media_type = self.document["mediaType"].as_str().unwrap_or_default();
        push_document(registry, repository, tag, media_type, &self.bytes());
        registry.reference(repository, tag)
    }
}

fn push_document(registry: &DistributionRegistry, repository: &str, name: &str, media_type: &str, bytes: &[u8]) {
    if registry.push_manifest(repository, name, media_type, bytes).status != 201 {
        registry.plant_manifest(repository, name, bytes);
    }
}

fn blobs(directory: &Path) -> std::path::PathBuf {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap_or_else(|error| panic!("{}: {error}", blobs.display()));
    blobs
}

fn write_blob(directory: &Path, bytes: &[u8]) {
    write(&blobs(directory).join(Digest::of(bytes).hex()), bytes);
}

fn write_layout_index(directory: &Path, tag: &str, mut descriptor: Value) {
    descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
    let index = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [descriptor] });
    write(&directory.join("index.json"), index.to_string().as_bytes());
    write(&directory.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#);
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
