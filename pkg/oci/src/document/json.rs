//! The documents as JSON has them, and the way from there to the types of [`super`].
//!
//! Fields are optional as in Go, whose encoders write `null` for an empty list; what is needed is asked for in words that
//! say where it is missing. `urls` and everything else that a pull does not need is not read (safety 21).

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

use super::{Config, Index, Manifest};
use crate::{Descriptor, Digest, Error, MediaType, Platform};

/// Annotations of one descriptor: far more than any tool writes, far less than what would weigh on memory (safety 20).
const MAX_ANNOTATIONS: usize = 256;
/// Bytes of one annotation, key and value.
const MAX_ANNOTATION_SIZE: usize = 64 << 10;

/// Manifest and index in one, so that one can be told from the other (containerd `validateMediaType`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyDocument {
    media_type: Option<String>,
    fs_layers: Option<Vec<IgnoredAny>>,
    manifests: Option<Vec<AnyDescriptor>>,
    config: Option<AnyDescriptor>,
    layers: Option<Vec<AnyDescriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyDescriptor {
    media_type: Option<String>,
    digest: Option<String>,
    size: Option<serde_json::Number>,
    annotations: Option<BTreeMap<String, String>>,
    platform: Option<AnyPlatform>,
}

#[derive(Deserialize)]
struct AnyPlatform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

#[derive(Deserialize)]
struct AnyConfig {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    rootfs: Option<AnyRootfs>,
}

#[derive(Deserialize)]
struct AnyRootfs {
    r#type: Option<String>,
    diff_ids: Option<Vec<String>>,
}

/// Names the document in every error.
#[derive(Clone, Copy)]
struct Origin {
    what: &'static str,
    digest: Digest,
}

impl Origin {
    fn invalid(self, why: impl Into<String>) -> Error {
        Error::Document { what: self.what, digest: self.digest, why: why.into() }
    }

    fn read<'de, T: Deserialize<'de>>(self, bytes: &'de [u8]) -> Result<T, Error> {
        // serde would take an array for the fields in their order.
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(self.invalid("it is no JSON object"));
        }
        serde_json::from_slice(bytes).map_err(|error| self.invalid(error.to_string()))
    }

    /// A digest inside the document. Another algorithm keeps its own error; rubbish is the document's fault.
    fn digest(self, place: &str, text: &str) -> Result<Digest, Error> {
        text.parse().map_err(|error| match error {
            Error::Algorithm { .. } => error,
            other => self.invalid(format!("{place}: {other}")),
        })
    }

    fn descriptor(self, place: &str, raw: AnyDescriptor) -> Result<Descriptor, Error> {
        let missing = |field| self.invalid(format!("{place} has no {field}"));
        let digest = self.digest(place, &raw.digest.ok_or_else(|| missing("digest"))?)?;
        let size = raw.size.ok_or_else(|| missing("size"))?;
        // Negative and fractional numbers are no u64.
        let bytes = size.as_u64().ok_or_else(|| Error::Size { digest, size: size.to_string() })?;
        let media_type = MediaType::new(&raw.media_type.ok_or_else(|| missing("mediaType"))?);
        let annotations = raw.annotations.unwrap_or_default();
        if annotations.len() > MAX_ANNOTATIONS {
            return Err(self.invalid(format!("{place} has more than {MAX_ANNOTATIONS} annotations")));
        }
        if annotations.iter().any(|(key, value)| key.len() + value.len() > MAX_ANNOTATION_SIZE) {
            return Err(self.invalid(format!("{place} has an annotation of more than {MAX_ANNOTATION_SIZE} bytes")));
        }
        let mut descriptor = Descriptor::new(media_type, digest, bytes)?;
        descriptor.annotations = annotations;
        descriptor.platform = raw.platform.map(Platform::from);
        Ok(descriptor)
    }

    fn descriptors(self, name: &str, raw: Option<Vec<AnyDescriptor>>) -> Result<Vec<Descriptor>, Error> {
        let numbered = raw.unwrap_or_default().into_iter().enumerate();
        numbered.map(|(index, raw)| self.descriptor(&format!("{name} {index}"), raw)).collect()
    }
}

impl From<AnyPlatform> for Platform {
    fn from(raw: AnyPlatform) -> Self {
        let [os, architecture, variant] = [raw.os, raw.architecture, raw.variant].map(Option::unwrap_or_default);
        Self::new(&os, &architecture, &variant)
    }
}

/// Reads an image manifest.
pub(super) fn manifest(digest: Digest, bytes: &[u8]) -> Result<Manifest, Error> {
    let origin = Origin { what: "manifest", digest };
    let raw: AnyDocument = origin.read(bytes)?;
    refuse_schema_1(origin, &raw)?;
    if !is_empty(raw.manifests.as_ref()) || raw.media_type.as_deref().is_some_and(|text| MediaType::new(text).is_index()) {
        return Err(origin.invalid("it is served as a manifest but is an index"));
    }
    let config = origin.descriptor("config", raw.config.ok_or_else(|| origin.invalid("it has no config"))?)?;
    if !config.media_type.is_config() {
        return Err(origin.invalid(format!("its config is {}: it is no container image", config.media_type)));
    }
    let layers = origin.descriptors("layer", raw.layers)?;
    refuse_two_sizes(layers.iter().chain([&config]))?;
    Ok(Manifest { config, layers })
}

/// Reads an index.
pub(super) fn index(digest: Digest, bytes: &[u8]) -> Result<Index, Error> {
    let origin = Origin { what: "index", digest };
    let raw: AnyDocument = origin.read(bytes)?;
    refuse_schema_1(origin, &raw)?;
    let says_manifest = raw.media_type.as_deref().is_some_and(|text| MediaType::new(text).is_manifest());
    if raw.config.is_some() || !is_empty(raw.layers.as_ref()) || says_manifest {
        return Err(origin.invalid("it is served as an index but is a manifest"));
    }
    let manifests = origin.descriptors("entry", raw.manifests)?;
    refuse_two_sizes(&manifests)?;
    Ok(Index { digest, manifests })
}

/// Reads an image config.
pub(super) fn config(digest: Digest, bytes: &[u8]) -> Result<Config, Error> {
    let origin = Origin { what: "config", digest };
    let raw: AnyConfig = origin.read(bytes)?;
    let rootfs = raw.rootfs.unwrap_or(AnyRootfs { r#type: None, diff_ids: None });
    if let Some(kind) = rootfs.r#type.filter(|kind| !kind.is_empty() && kind != "layers") {
        return Err(origin.invalid(format!("rootfs type {kind:?} is not \"layers\"")));
    }
    let numbered = rootfs.diff_ids.unwrap_or_default().into_iter().enumerate();
    let diff_ids = numbered.map(|(index, text)| origin.digest(&format!("diff id {index}"), &text)).collect::<Result<_, _>>()?;
    let platform = AnyPlatform { os: raw.os, architecture: raw.architecture, variant: raw.variant };
    Ok(Config { platform: platform.into(), diff_ids })
}

fn is_empty<T>(list: Option<&Vec<T>>) -> bool {
    list.is_none_or(Vec::is_empty)
}

fn refuse_schema_1(origin: Origin, raw: &AnyDocument) -> Result<(), Error> {
    if is_empty(raw.fs_layers.as_ref()) { Ok(()) } else { Err(origin.invalid("manifest schema 1 is not supported")) }
}

/// A blob has one size; the same blob twice is legal (safety 20).
fn refuse_two_sizes<'a>(descriptors: impl IntoIterator<Item = &'a Descriptor>) -> Result<(), Error> {
    let mut sizes = BTreeMap::new();
    for descriptor in descriptors {
        let (digest, second) = (descriptor.digest, descriptor.size());
        let first = *sizes.entry(digest).or_insert(second);
        if first != second {
            return Err(Error::TwoSizes { digest, first, second });
        }
    }
    Ok(())
}
