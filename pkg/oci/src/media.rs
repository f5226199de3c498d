//! Media types and the classes containerd sorts them into (reference 5.5).

use std::fmt;

/// A media type as written, lower case, parameters after `;` dropped.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MediaType(String);

impl MediaType {
    /// `application/vnd.oci.image.manifest.v1+json`
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// `application/vnd.oci.image.index.v1+json`
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// `application/vnd.oci.image.config.v1+json`
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// `application/vnd.oci.image.layer.v1.tar`
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// `application/vnd.docker.distribution.manifest.v2+json`
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// `application/vnd.docker.distribution.manifest.list.v2+json`
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// `application/vnd.docker.container.image.v1+json`
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// `application/vnd.docker.image.rootfs.diff.tar`
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

    /// Takes a media type as a document or a `Content-Type` header has it.
    pub fn new(text: &str) -> Self {
        Self(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Docker v2 or OCI manifest.
    pub fn is_manifest(&self) -> bool {
        matches!(self.as_str(), Self::OCI_MANIFEST | Self::DOCKER_MANIFEST)
    }

    /// Docker manifest list or OCI index.
    pub fn is_index(&self) -> bool {
        matches!(self.as_str(), Self::OCI_INDEX | Self::DOCKER_INDEX)
    }

    /// Docker or OCI image config.
    pub fn is_config(&self) -> bool {
        matches!(self.as_str(), Self::OCI_CONFIG | Self::DOCKER_CONFIG)
    }

    /// OCI or Docker layer, any compression.
    pub fn is_layer(&self) -> bool {
        self.0.starts_with("application/vnd.oci.image.layer.") || self.0.starts_with("application/vnd.docker.image.rootfs.")
    }

    /// A layer media type that says the blob is a plain, uncompressed tar.
    pub fn is_uncompressed_layer(&self) -> bool {
        matches!(
            self.as_str(),
            Self::OCI_LAYER
                | Self::DOCKER_LAYER
                | "application/vnd.oci.image.layer.nondistributable.v1.tar"
                | "application/vnd.docker.image.rootfs.foreign.diff.tar"
        )
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_value_loses_its_parameters_and_case() {
        let media_type = MediaType::new("Application/vnd.OCI.image.index.v1+json; charset=utf-8");
        assert_eq!(media_type.as_str(), MediaType::OCI_INDEX);
        assert!(media_type.is_index() && !media_type.is_manifest());
    }

    #[test]
    fn layers_are_told_by_their_compression() {
        for (text, layer, uncompressed) in [
            (MediaType::OCI_LAYER, true, true),
            ("application/vnd.oci.image.layer.v1.tar+zstd", true, false),
            (MediaType::DOCKER_LAYER, true, true),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", true, false),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar", true, true),
            (MediaType::OCI_CONFIG, false, false),
            ("", false, false),
        ] {
            let media_type = MediaType::new(text);
            assert_eq!((media_type.is_layer(), media_type.is_uncompressed_layer()), (layer, uncompressed), "{text}");
        }
    }
}
