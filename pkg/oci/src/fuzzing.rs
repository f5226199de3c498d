//! What must hold for the parsers here, whatever they are given. For the fuzz targets of `hack/fuzz`, and for the tests, which
//! run it over the corpus of those targets; in no other build.

use crate::{Config, Descriptor, Digest, Document, Image, MAX_BLOB_SIZE, MediaType, Platform, PlatformMatcher, Reference};

/// A reference reads back as it is shown, and no part of it leads out of a directory.
///
/// # Panics
/// When that does not hold.
pub fn reference(text: &str) {
    let Ok(reference) = text.parse::<Reference>() else { return };
    assert_eq!(reference.to_string().parse::<Reference>().as_ref(), Ok(&reference));
    let host = reference.host();
    assert!(!host.is_empty() && !host.contains(['/', '\\', '\0', '%', '@', '?', '#']) && !host.starts_with('.'), "{host:?}");
    for part in reference.repository().split('/') {
        assert!(!part.is_empty() && !part.starts_with('.') && part.bytes().all(|byte| byte.is_ascii_graphic()), "{part:?}");
    }
}

/// A document taken for a manifest, an index and a config: what is accepted is within bounds.
///
/// # Panics
/// When that does not hold.
pub fn manifest(bytes: &[u8]) {
    let digest = Digest::of(bytes);
    for media_type in [MediaType::OCI_MANIFEST, MediaType::DOCKER_INDEX, MediaType::OCI_LAYER] {
        let Ok(descriptor) = Descriptor::new(MediaType::new(media_type), digest, bytes.len() as u64) else { continue };
        match Document::parse(&descriptor, bytes) {
            Ok(Document::Manifest(manifest)) => {
                let blobs = manifest.layers.iter().chain([&manifest.config]);
                blobs.for_each(check);
                let diff_ids: Vec<Digest> = manifest.layers.iter().map(|layer| layer.digest).collect();
                assert_eq!(Image::layers(digest, &manifest, &diff_ids).map(|layers| layers.len()), Ok(diff_ids.len()));
            }
            Ok(Document::Index(index)) => {
                index.manifests.iter().for_each(check);
                let _ = index.choose(&PlatformMatcher::only(&Platform::host()));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let _ = Config::parse(digest, bytes);
}

fn check(descriptor: &Descriptor) {
    assert!((1..=MAX_BLOB_SIZE).contains(&descriptor.size()), "{descriptor:?}");
    let weight: usize = descriptor.annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(descriptor.annotations.len() <= 256 && weight <= 256 * (64 << 10), "{weight} bytes of annotations");
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proptest::prelude::*;

    use super::*;

    fn corpus(target: &str) -> impl Iterator<Item = Vec<u8>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/fuzz").join(target);
        let files = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        files.map(|file| fs::read(file.unwrap().path()).unwrap())
    }

    #[test]
    fn what_fuzzing_found_stays_found() {
        corpus("reference").for_each(|bytes| reference(&String::from_utf8_lossy(&bytes)));
        corpus("manifest").for_each(|bytes| manifest(&bytes));
    }

    proptest! {
        #[test]
        fn any_reference_holds(text in r"([a-z0-9A-Z._:@/-]|\[|\]|::1|sha256:|%2e|\.\./|\PC){0,40}") {
            reference(&text);
        }

        #[test]
        fn any_manifest_holds(text in r#"\{("layers"|"config"|"manifests"|"size"|"digest"|"mediaType"|"annotations"|"platform"|:|,|\{|\}|\[|\]|null|"x"|1e30|-1|[0-9]){0,40}\}"#) {
            manifest(text.as_bytes());
        }
    }
}
