use serde_json::{Value, json};

use super::*;
use crate::MediaType;

fn hex(digit: char) -> String {
    format!("sha256:{}", String::from(digit).repeat(64))
}

fn parse_as(media_type: &str, document: &Value) -> Result<Document, Error> {
    let bytes = document.to_string().into_bytes();
    let descriptor = Descriptor::new(MediaType::new(media_type), Digest::of(&bytes), bytes.len() as u64).unwrap();
    Document::parse(&descriptor, &bytes)
}

fn parse_manifest(document: &Value) -> Result<Manifest, Error> {
    parse_as(MediaType::OCI_MANIFEST, document).map(|document| match document {
        Document::Manifest(manifest) => manifest,
        Document::Index(_) => panic!("an index"),
    })
}

fn parse_index(document: &Value) -> Result<Index, Error> {
    parse_as(MediaType::OCI_INDEX, document).map(|document| match document {
        Document::Index(index) => index,
        Document::Manifest(_) => panic!("a manifest"),
    })
}

fn blob(media_type: &str, digit: char, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": hex(digit), "size": size})
}

fn manifest() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_MANIFEST,
        "config": blob(MediaType::OCI_CONFIG, 'c', 743),
        "layers": [blob(MediaType::OCI_LAYER, 'a', 10), blob(MediaType::OCI_LAYER, 'b', 20)],
    })
}

fn index(platforms: &[Option<&str>]) -> Value {
    let entry = |(number, platform): (usize, Option<&str>)| {
        let mut entry = blob(MediaType::OCI_MANIFEST, char::from_digit(u32::try_from(number).unwrap(), 16).unwrap(), 5);
        if let Some(text) = platform {
            let mut words = text.split('/');
            entry["platform"] = json!({"os": words.next(), "architecture": words.next(), "variant": words.next()});
        }
        entry
    };
    json!({"schemaVersion": 2, "manifests": platforms.iter().copied().enumerate().map(entry).collect::<Vec<_>>()})
}

/// The document with the value at a JSON pointer replaced.
fn with(mut document: Value, pointer: &str, value: Value) -> Value {
    *document.pointer_mut(pointer).unwrap() = value;
    document
}

#[test]
fn a_manifest_gives_config_and_layers_in_order() {
    let mut document = manifest();
    document["layers"][0]["annotations"] = json!({"k": "v"});
    document["layers"][0]["urls"] = json!(["http://elsewhere.example/blob"]);
    let manifest = parse_manifest(&document).unwrap();
    assert_eq!((manifest.config.digest.to_string(), manifest.config.size()), (hex('c'), 743));
    let layers: Vec<_> = manifest.layers.iter().map(|layer| (layer.digest.to_string(), layer.size())).collect();
    assert_eq!(layers, [(hex('a'), 10), (hex('b'), 20)]);
    assert_eq!(manifest.layers[0].annotations["k"], "v");
}

#[test]
fn docker_documents_are_understood() {
    let document = with(manifest(), "/mediaType", json!(MediaType::DOCKER_MANIFEST));
    let document = with(document, "/config/mediaType", json!(MediaType::DOCKER_CONFIG));
    assert!(parse_as(MediaType::DOCKER_MANIFEST, &document).is_ok());
    assert!(matches!(parse_as(MediaType::DOCKER_INDEX, &index(&[Some("linux/amd64")])), Ok(Document::Index(_))));
}

#[test]
fn empty_lists_may_be_null_as_go_writes_them() {
    let mut document = manifest();
    document["manifests"] = Value::Null;
    document["layers"][0]["annotations"] = Value::Null;
    assert!(parse_manifest(&document).is_ok());
    assert_eq!(parse_index(&json!({"manifests": null})).unwrap().manifests.len(), 0);
}

#[test]
fn documents_that_containerd_refuses_are_refused_with_the_reason() {
    let mut two_faced = manifest();
    two_faced["manifests"] = json!([blob(MediaType::OCI_MANIFEST, 'd', 5)]);
    let mut no_config = manifest();
    no_config.as_object_mut().unwrap().remove("config");
    let helm = "application/vnd.cncf.helm.config.v1+json";
    for (media_type, document, why) in [
        (MediaType::OCI_MANIFEST, two_faced, "but is an index"),
        (MediaType::OCI_MANIFEST, with(manifest(), "/mediaType", json!(MediaType::DOCKER_INDEX)), "but is an index"),
        (MediaType::OCI_MANIFEST, json!({"schemaVersion": 1, "fsLayers": [{"blobSum": hex('a')}]}), "schema 1"),
        (MediaType::OCI_MANIFEST, no_config, "no config"),
        (MediaType::OCI_MANIFEST, json!([]), "it is no JSON object"),
        (MediaType::OCI_MANIFEST, with(manifest(), "/config/mediaType", json!(helm)), "no container image"),
        (MediaType::OCI_MANIFEST, with(manifest(), "/layers/1/digest", json!("sha256:../../etc")), "layer 1: "),
        (MediaType::OCI_MANIFEST, with(manifest(), "/layers/1/digest", Value::Null), "layer 1 has no digest"),
        (MediaType::OCI_MANIFEST, with(manifest(), "/layers/0/size", Value::Null), "layer 0 has no size"),
        (MediaType::OCI_MANIFEST, with(manifest(), "/layers/0/size", json!("10")), "invalid type: string"),
        (MediaType::OCI_MANIFEST, with(manifest(), "/layers/0/mediaType", Value::Null), "layer 0 has no mediaType"),
        (MediaType::OCI_INDEX, manifest(), "but is a manifest"),
        (MediaType::OCI_INDEX, json!({"mediaType": MediaType::OCI_MANIFEST}), "but is a manifest"),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", manifest(), "neither"),
        ("text/html", manifest(), "neither"),
    ] {
        let error = parse_as(media_type, &document).unwrap_err();
        assert!(matches!(error, Error::Document { .. }), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
    }
    let descriptor = Descriptor::new(MediaType::new(MediaType::OCI_MANIFEST), Digest::of(b"<"), 1).unwrap();
    assert!(Document::parse(&descriptor, b"<").unwrap_err().to_string().starts_with("manifest sha256:"));
}

#[test]
fn impossible_sizes_are_refused_and_the_digest_named() {
    for size in [json!(0), json!(-1), json!(1.5), json!((1_u64 << 40) + 1), json!(1e300)] {
        let error = parse_manifest(&with(manifest(), "/layers/0/size", size.clone())).unwrap_err();
        assert!(matches!(error, Error::Size { .. }), "{size}: {error:?}");
        assert!(error.to_string().contains(&hex('a')), "{error}");
    }
    assert!(parse_manifest(&with(manifest(), "/layers/0/size", json!(1_u64 << 40))).is_ok());
}

#[test]
fn one_blob_has_one_size() {
    let twice = with(manifest(), "/layers/1", blob(MediaType::OCI_LAYER, 'a', 10));
    assert_eq!(parse_manifest(&twice).unwrap().layers.len(), 2);
    for (pointer, size) in [("/layers/1", 11), ("/config", 12)] {
        let media_type = if pointer == "/config" { MediaType::OCI_CONFIG } else { MediaType::OCI_LAYER };
        let error = parse_manifest(&with(manifest(), pointer, blob(media_type, 'a', size))).unwrap_err();
        assert_eq!(error, Error::TwoSizes { digest: hex('a').parse().unwrap(), first: 10, second: size });
    }
}

#[test]
fn digests_other_than_sha256_are_refused_by_name() {
    let sha512 = format!("sha512:{}", "0".repeat(128));
    let error = parse_manifest(&with(manifest(), "/layers/0/digest", json!(sha512))).unwrap_err();
    assert_eq!(error, Error::Algorithm { text: sha512, algorithm: "sha512".to_owned() });
}

#[test]
fn annotations_are_bounded() {
    let many: serde_json::Map<_, _> = (0..257).map(|number| (number.to_string(), json!("x"))).collect();
    let long = json!({"k": "x".repeat(64 << 10)});
    for (annotations, why) in [(Value::Object(many), "more than 256"), (long, "more than 65536 bytes")] {
        let mut document = manifest();
        document["layers"][1]["annotations"] = annotations;
        let error = parse_manifest(&document).unwrap_err().to_string();
        assert!(error.contains("layer 1") && error.contains(why), "{error}");
    }
}

/// Number of the entry chosen for a machine.
fn chosen(platforms: &[Option<&str>], machine: &str) -> Result<usize, Error> {
    let index = parse_index(&index(platforms)).unwrap();
    let chosen = index.choose(&PlatformMatcher::only(&machine.parse().unwrap()))?;
    Ok(index.manifests.iter().position(|entry| entry.digest == chosen.digest).unwrap())
}

#[test]
fn the_index_gives_the_manifest_that_containerd_would_take() {
    for (platforms, machine, expected) in [
        (&[Some("linux/arm64"), Some("linux/amd64")][..], "linux/amd64", 1),
        (&[Some("linux/386"), Some("linux/amd64")], "linux/amd64", 1),
        (&[Some("linux/386"), Some("linux/arm")], "linux/amd64", 0),
        (&[Some("linux/amd64"), Some("linux/amd64")], "linux/amd64", 0),
        (&[Some("linux/amd64/v1"), Some("linux/amd64/v3"), Some("linux/amd64/v4")], "linux/amd64/v3", 1),
        (&[Some("linux/arm/v6"), Some("linux/arm/v7")], "linux/arm64", 1),
        (&[Some("linux/aarch64/v8")], "linux/arm64", 0),
        (&[None, Some("linux/386")], "linux/amd64", 1),
        (&[None, Some("linux/s390x")], "linux/amd64", 0),
        (&[Some("unknown/unknown"), Some("linux/amd64")], "linux/amd64", 1),
    ] {
        assert_eq!(chosen(platforms, machine), Ok(expected), "{platforms:?} on {machine}");
    }
}

#[test]
fn an_index_without_the_platform_says_what_it_offers() {
    let platforms = [Some("linux/arm64/v8"), Some("linux/s390x"), Some("linux/s390x"), Some("unknown/unknown")];
    let error = chosen(&platforms, "linux/amd64").unwrap_err();
    assert!(error.is_missing());
    assert!(error.to_string().starts_with("no manifest for platform linux/amd64 in sha256:"), "{error}");
    assert_eq!(error.hint().unwrap(), "choose one with --platform: linux/arm64, linux/s390x");
}

fn parse_config(document: &Value) -> Result<Config, Error> {
    Config::parse(Digest::of(b"config"), document.to_string().as_bytes())
}

#[test]
fn a_config_gives_platform_and_diff_ids() {
    let rootfs = json!({"type": "layers", "diff_ids": [hex('a'), hex('b')]});
    let config = parse_config(&json!({"os": "linux", "architecture": "aarch64", "variant": "v8", "rootfs": rootfs})).unwrap();
    assert_eq!(config.platform.to_string(), "linux/arm64");
    assert_eq!(config.diff_ids, [hex('a').parse().unwrap(), hex('b').parse().unwrap()]);
    assert!(parse_config(&json!({"rootfs": {"type": "", "diff_ids": null}})).unwrap().diff_ids.is_empty());
}

#[test]
fn configs_that_are_no_image_are_refused() {
    for (document, why) in [
        (json!({"rootfs": {"type": "layers+base"}}), "rootfs type \"layers+base\""),
        (json!({"rootfs": {"diff_ids": [hex('a'), "x"]}}), "diff id 1: \"x\" is not a digest"),
        (json!({"rootfs": {"diff_ids": 1}}), "invalid type"),
        (json!("x"), "it is no JSON object"),
    ] {
        let error = parse_config(&document).unwrap_err().to_string();
        assert!(error.starts_with("config sha256:") && error.contains(why), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..200)) {
        for media_type in [MediaType::OCI_MANIFEST, MediaType::OCI_INDEX] {
            let descriptor = Descriptor::new(MediaType::new(media_type), Digest::of(&bytes), 1).unwrap();
            let _ = Document::parse(&descriptor, &bytes);
        }
        let _ = Config::parse(Digest::of(&bytes), &bytes);
    }

    /// Values of every kind in every place of a good manifest.
    #[test]
    fn any_value_anywhere_is_parsed_or_refused(
        pointer in proptest::sample::select(vec!["/config", "/config/digest", "/layers", "/layers/0", "/layers/0/size", "/mediaType"]),
        number in proptest::num::i64::ANY,
        text in "\\PC{0,80}",
    ) {
        for value in [json!(number), json!(text), json!([text]), json!({"digest": text, "size": number}), json!(null)] {
            if let Ok(manifest) = parse_manifest(&with(manifest(), pointer, value)) {
                proptest::prop_assert!(manifest.layers.iter().all(|layer| layer.size() > 0));
            }
        }
    }
}
