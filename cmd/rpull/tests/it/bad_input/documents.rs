//! Manifests, indexes and configs that are not what they should be.

use std::fs;

use oci::{Digest, MediaType};
use serde_json::json;
use testkit::image::{Image, Index, Platform};

use super::{Tag, layer};
use crate::stage::on_each_daemon;

const BROKEN: &str = "hint: the image is broken in the registry; build and push it again\n";

#[test]
fn platforms_that_are_offered_are_named_when_none_fits() {
    on_each_daemon("no-platform", |stage| {
        let tag = Tag::taken(&stage);
        let image = |name: &str, platform: &str| Image::new(vec![layer(&stage, name)]).platform(Platform::new(platform));
        let index = Index::new(vec![image("one", "linux/s390x"), image("two", "linux/arm/v7")]);
        index.push(stage.registry(), tag.repository, "1");
        let digest = index.digest();
        for wanted in ["linux/riscv64", "linux/arm/v6", "windows/amd64"] {
            tag.refuses(
                &["--platform", wanted],
                4,
                &format!(
                    "rpull: no manifest for platform {wanted} in {digest}\n\
                     hint: choose one with --platform: linux/s390x, linux/arm/v7\n"
                ),
            );
        }
        let empty = Index::new(Vec::new());
        empty.push(stage.registry(), tag.repository, "1");
        tag.refuses(
            &["--platform", "linux/amd64"],
            4,
            &format!("rpull: no manifest for platform linux/amd64 in {}\nhint: the index offers none at all; build and push it again\n", empty.digest()),
        );
    });
}

#[test]
fn a_config_that_does_not_have_its_digest_is_refused() {
    on_each_daemon("config-digest", |stage| {
        let tag = Tag::taken(&stage);
        let host = stage.registry().host();
        let image = Image::new(vec![layer(&stage, "a")]);
        tag.push(&image);
        let digest = Digest::of(&image.config());
        let file = stage.registry().blob_path(&digest);
        let mut changed = image.config();
        let at = changed.iter().position(|byte| *byte == b'/').unwrap();
        changed[at] = b'.';
        fs::write(&file, &changed).unwrap();
        let got = Digest::of(&changed);
        tag.refuses(
            &[],
            6,
            &format!(
                "rpull: {host}: config {digest} of config-digest: digest mismatch: wanted {digest}, got {got}\n\
                 hint: the registry or something before it changed the bytes; ask who runs {host}\n"
            ),
        );
        fs::write(&file, image.config()).unwrap();
        stage.rpull([&tag.reference]).succeeds();
    });
}

#[test]
fn documents_that_do_not_fit_together_are_refused_before_anything_is_fetched() {
    on_each_daemon("documents", |stage| {
        let tag = Tag::taken(&stage);
        let here = stage.contents();
        let layers = || vec![layer(&stage, "a"), layer(&stage, "b")];
        let first = layers()[0].digest;
        let image = Image::new(layers()).edit_config(|config| {
            config["rootfs"]["diff_ids"].as_array_mut().unwrap().pop();
        });
        tag.push(&image);
        tag.refuses(&[], 6, &format!("rpull: manifest {} has 2 layers and its config 1 diff ids\n{BROKEN}", image.digest()));

        for (key, value, why) in
            [("blob-digest", format!("sha256:{}", "1".repeat(64)), "…blob-digest…"), ("blob-size", "1".to_owned(), "…blob-size…")]
        {
            let image = Image::new(layers()).edit_manifest(|manifest| {
                manifest["layers"][0]["annotations"][format!("{}{key}", super::ANNOTATION)] = json!(value);
            });
            tag.push(&image);
            tag.refuses(
                &[],
                6,
                &format!(
                    "rpull: layer {first} contradicts itself: {why}\n\
                     hint: a tool changed the layers without their annotations; copy the image with skopeo copy --preserve-digests\n"
                ),
            );
        }

        let inner = Index::new(vec![Image::new(layers())]);
        let repository = tag.repository;
        inner.push(stage.registry(), repository, "inner");
        let outer = Index::new(Vec::new()).edit(|index| {
            index["manifests"] = json!([{
                "mediaType": MediaType::OCI_INDEX, "digest": inner.digest(), "size": inner.bytes().len(),
                "platform": { "os": "linux", "architecture": "amd64" },
            }]);
        });
        outer.push(stage.registry(), repository, "1");
        tag.refuses(&["--platform", "linux/amd64"], 6, &format!("rpull: …{}…index inside an index…\n{BROKEN}", inner.digest()));
        assert_eq!(stage.contents(), here, "something was fetched");
    });
}
