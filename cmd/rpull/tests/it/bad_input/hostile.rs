//! Manifests made to do harm (safety 12, 20).

use std::fs;

use oci::{Digest, MediaType};
use serde_json::{Value, json};
use testkit::{
    fault::{Content, Server},
    image::{Image, Layer},
};

use super::{Tag, layer};
use crate::stage::on_each_daemon;

#[test]
fn annotations_that_would_rule_the_snapshotter_are_dropped_and_named() {
    on_each_daemon("hostile", |stage| {
        let hostile = [
            ("containerd.io/snapshot/image-ref", "evil.example/x:1"),
            ("containerd.io/snapshot/cri.image-ref", "evil.example/x:1"),
            ("containerd.io/snapshot.ref", "sha256:evil"),
            ("containerd.io/snapshot/remote", "remote snapshot"),
            ("containerd.io/snapshot/overlaybd/record-trace-path", "/tmp/evil"),
            ("containerd.io/snapshot/overlaybd/record-trace", "yes"),
            ("containerd.io/snapshot/overlaybd.writable", "dev"),
            ("containerd.io/snapshot/overlaybd.localcommitpath", "/etc/passwd"),
            ("containerd.io/snapshot/overlaybd/blob-fs-type", "ext4,errors=panic"),
            ("containerd.io/snapshot/overlaybd/download-remote-blob", "no"),
        ];
        let annotate = |layer: Layer| hostile.iter().fold(layer, |layer, (key, value)| layer.annotate(key, value));
        let layer = annotate(layer(&stage, "a"));
        let reference = Image::new(vec![layer.clone()]).push(stage.registry(), "hostile", "1");
        let receipt = stage.pull([&reference]);

        let mut dropped: Vec<_> = hostile.iter().map(|(key, _)| *key).collect();
        dropped.sort_unstable();
        assert_eq!(receipt["dropped_annotations"], json!({ layer.digest.to_string(): dropped }), "{receipt:#}");
        let labels = stage.snapshot(&layer.diff_id.to_string()).unwrap().labels;
        assert_eq!(labels["containerd.io/snapshot/image-ref"], reference);
        assert_eq!(labels["containerd.io/snapshot.ref"], layer.diff_id.to_string());
        assert!(!labels.values().any(|value| value.contains("evil") || value == "/etc/passwd"), "{labels:?}");
        assert!(!labels.contains_key("containerd.io/snapshot/overlaybd/blob-fs-type"), "{labels:?}");
        let fs = stage.directory_of(&layer.digest.to_string()).unwrap();
        let config: Value =
            serde_json::from_slice(&fs::read(fs.with_file_name("block").join("config.v1.json")).unwrap()).unwrap();
        let host = stage.registry().host();
        let url = config["repoBlobUrl"].as_str().unwrap();
        assert!(url.ends_with(&format!("://{host}/v2/hostile/blobs")), "{config:#}");
        assert_ne!(config["recordTracePath"], "/tmp/evil");
    });
}

/// What it is, a change to the manifest, and what is said of it. `HOST`, `FIRST`, `MANIFEST` and `CONFIG` stand for themselves.
type Row = (&'static str, fn(&mut Value), &'static str, &'static str);

const BROKEN: &str = "the image is broken in the registry; build and push it again";

const TOO_LONG: &str = "an image's manifest and config have a few kilobytes; check what was pushed there";

const ROWS: &[Row] = &[
    (
        "sha512",
        |manifest| manifest["layers"][0]["digest"] = json!(format!("sha512:{}", "a".repeat(128))),
        "digest algorithm sha512 is not supported: sha512:aaaaaaaa…",
        "rpull proves blobs by sha256 only; push the image with sha256 digests",
    ),
    (
        "upper case digest",
        |manifest| manifest["layers"][0]["digest"] = json!(format!("sha256:{}", "A".repeat(64))),
        "manifest MANIFEST is not valid: layer 0: \"sha256:AAAA…\" is not a digest",
        BROKEN,
    ),
    (
        "path in a digest",
        |manifest| manifest["layers"][0]["digest"] = json!("sha256:../../../../etc/passwd"),
        "manifest MANIFEST is not valid: layer 0: \"sha256:../../../../etc/passwd\" is not a digest",
        BROKEN,
    ),
    ("size 0", |manifest| manifest["layers"][0]["size"] = json!(0), "size 0 of FIRST is out of bounds", BROKEN),
    ("negative", |manifest| manifest["layers"][0]["size"] = json!(-1), "size -1 of FIRST is out of bounds", BROKEN),
    (
        "above 1 TiB",
        |manifest| manifest["layers"][0]["size"] = json!((1_u64 << 40) + 1),
        "size 1099511627777 of FIRST is out of bounds",
        BROKEN,
    ),
    ("beyond 64 bits", |manifest| manifest["layers"][0]["size"] = json!(1e30), "size 1e+30 of FIRST is out of bounds", BROKEN),
    (
        "one digest with two sizes",
        |manifest| manifest["layers"][1]["digest"] = manifest["layers"][0]["digest"].clone(),
        "FIRST is listed with two sizes, …",
        BROKEN,
    ),
    (
        "a config above 8 MiB",
        |manifest| manifest["config"]["size"] = json!(9 << 20),
        "HOST: config CONFIG of t/hostile: 9437184 bytes, 8388608 are allowed",
        TOO_LONG,
    ),
    ("no layers", |manifest| manifest["layers"] = json!([]), "manifest MANIFEST has 0 layers and its config 2 diff ids", BROKEN),
    ("no config", |manifest| manifest["config"] = Value::Null, "manifest MANIFEST is not valid: it has no config", BROKEN),
    ("an array", |manifest| *manifest = json!([]), "manifest MANIFEST is not valid: it is no JSON object", BROKEN),
    (
        "schema 1",
        |manifest| *manifest = json!({ "schemaVersion": 1, "mediaType": SCHEMA_1, "fsLayers": [], "history": [] }),
        "HOST: manifest 1 of t/hostile: is a schema 1 manifest (application/vnd.docker.distribution.manifest.v1+json), which is not supported",
        "push the image again with a current tool",
    ),
    (
        "above 8 MiB",
        |manifest| manifest["annotations"] = json!({ "filler": "x".repeat(9 << 20) }),
        "HOST: manifest 1 of t/hostile: answer is longer than 8388608 bytes",
        TOO_LONG,
    ),
];

const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+json";

#[test]
fn descriptors_that_cannot_be_are_refused_before_a_layer_is_fetched() {
    on_each_daemon("descriptors", |stage| {
        let layers = [layer(&stage, "a"), layer(&stage, "b")];
        let before = stage.contents();
        for (name, edit, message, hint) in ROWS {
            eprintln!("{name}");
            let image =
                Image::new(layers.to_vec()).edit_config(|config| config["longer"] = json!(true)).edit_manifest(|manifest| {
                    // Two sizes, as the digests come out.
                    manifest["layers"][1]["size"] = json!(layers[1].size + 1);
                    edit(manifest);
                });
            let media_type = if *name == "schema 1" { SCHEMA_1 } else { MediaType::OCI_MANIFEST };
            let config = Content::bytes(image.config());
            let mut server = Server::builder().manifest("1", media_type, &image.manifest()).blob(&config);
            for layer in &layers {
                server = server.blob(&Content::bytes(layer.bytes()));
            }
            let server = server.start();
            let tag = Tag { reference: format!("{}/t/hostile:1", server.address()), ..Tag::free(&stage) };
            let text = format!("rpull: {message}\nhint: {hint}\n")
                .replace("HOST", &server.address())
                .replace("FIRST", &layers[0].digest.to_string())
                .replace("MANIFEST", &image.digest().to_string())
                .replace("CONFIG", &config.digest().to_string());
            tag.refuses(&[], 6, &text);
            assert!(server.count().body_bytes <= config.size(), "{name}: {:?}", server.count());
            assert_eq!(stage.contents(), before, "{name}");
            assert_eq!(stage.leases(), Vec::<String>::new(), "{name}");
        }
    });
}

/// What a device would be attached to is what the digest in the reference names, or nothing.
#[test]
fn a_manifest_that_does_not_have_its_digest_is_refused() {
    on_each_daemon("manifest-digest", |stage| {
        let (asked, answered) = (Image::new(vec![layer(&stage, "asked")]), Image::new(vec![layer(&stage, "answered")]));
        let (asked, answer) = (asked.digest(), answered.manifest());
        let server = Server::builder().manifest(&asked.to_string(), MediaType::OCI_MANIFEST, &answer).start();
        let host = server.address();
        let got = Digest::of(&answer);
        let hint = format!("hint: the registry or something before it changed the bytes; ask who runs {host}\n");
        for reference in [format!("{host}/t/hostile@{asked}"), format!("{host}/t/hostile:1@{asked}")] {
            let tag = Tag { reference, ..Tag::free(&stage) };
            tag.refuses(
                &[],
                6,
                &format!("rpull: {host}: manifest {asked} of t/hostile: digest mismatch: wanted {asked}, got {got}\n{hint}"),
            );
        }
        // The same through an index; a manifest of the right size says nothing either.
        let index = json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [
                { "mediaType": MediaType::OCI_MANIFEST, "digest": asked, "size": answer.len(),
                  "platform": { "os": "linux", "architecture": "amd64" } },
            ],
        });
        let server = Server::builder()
            .manifest(&asked.to_string(), MediaType::OCI_MANIFEST, &answer)
            .manifest("1", MediaType::OCI_INDEX, index.to_string().as_bytes())
            .start();
        let host = server.address();
        let hint = format!("hint: the registry or something before it changed the bytes; ask who runs {host}\n");
        let tag = Tag { reference: format!("{host}/t/hostile:1"), ..Tag::free(&stage) };
        tag.refuses(
            &["--platform", "linux/amd64"],
            6,
            &format!("rpull: {host}: manifest {asked} of t/hostile: digest mismatch: wanted {asked}, got {got}\n{hint}"),
        );
        assert_eq!(stage.contents(), Vec::<String>::new());
    });
}
