//! Built images against the real registry, containerd and skopeo.

use std::{fs, process::Command};

use oci::Digest;
use testkit::{
    Containerd, ContainerdOptions, Daemons, DistributionRegistry,
    image::{Blob, Image, Index, Layer, Platform, hollow},
};

fn overlaybd(seed: u64) -> Layer {
    Layer::overlaybd(Blob { seed, data: 200_000 })
}

#[test]
fn plain_layers_of_every_compression_unpack_in_containerd() {
    let registry = DistributionRegistry::start();
    let large = vec![7; 200_000];
    let files: [(&str, &[u8]); 2] = [("etc/a", b"a"), ("etc/b", &large)];
    let layers = vec![Layer::tar(&files), Layer::tar_gzip(&files), Layer::tar_zstd(&files)];
    let reference = Image::new(layers.clone()).push(&registry, "t/plain", "1");
    let docker = Image::new(layers[..2].to_vec()).docker().push(&registry, "t/plain", "docker");
    for daemon in Daemons::available() {
        let containerd = Containerd::start(&daemon, &ContainerdOptions::default());
        for reference in [&reference, &docker] {
            let mut pull = vec!["images", "pull", "--plain-http", "--snapshotter", "native", reference];
            if daemon.major() >= 2 {
                // Its transfer service unpacks for overlayfs alone.
                pull.insert(2, "--local");
            }
            containerd.ctr_ok(pull);
        }
    }
}

#[test]
fn an_overlaybd_image_goes_through_layout_and_skopeo_unchanged() {
    let registry = DistributionRegistry::start();
    let directory = tempfile::tempdir().unwrap();
    let trace = Layer::acceleration(b"trace");
    let image = Image::new(vec![
        overlaybd(1),
        Layer::overlaybd_file(Blob { seed: 2, data: 1 << 20 }, &directory.path().join("b")),
        trace,
    ]);
    let layout = directory.path().join("layout");
    image.write_layout(&layout, "x");
    let reference = registry.push_oci_layout(&layout, "x", "t/obd");
    assert_eq!(registry.request("GET", "/v2/t/obd/manifests/x").body, image.manifest());
    let digests: Vec<_> = image.layers().iter().map(|layer| layer.digest).collect();
    for (layer, digest) in image.layers().iter().zip(&digests) {
        let served = registry.request("GET", &format!("/v2/t/obd/blobs/{digest}")).body;
        assert_eq!((Digest::of(&served), served.len() as u64), (*digest, layer.size));
        assert_eq!(layer.annotations["containerd.io/snapshot/overlaybd/blob-digest"], digest.to_string());
    }
    let inspect =
        Command::new("skopeo").args(["inspect", "--tls-verify=false", &format!("docker://{reference}")]).output().unwrap();
    assert!(inspect.status.success(), "{inspect:?}");
}

#[test]
fn an_index_offers_each_platform() {
    let registry = DistributionRegistry::start();
    let amd = Image::new(vec![overlaybd(1)]);
    let arm = Image::new(vec![overlaybd(2)]).platform(Platform::new("linux/arm/v7"));
    let reference = Index::new(vec![amd.clone(), arm.clone()]).push(&registry, "t/multi", "1");
    for daemon in Daemons::available() {
        let containerd = Containerd::start(&daemon, &ContainerdOptions::default());
        containerd.ctr_ok(["content", "fetch", "--plain-http", "--platform", "linux/arm/v7", &reference]);
        let listed = containerd.ctr_ok(["content", "ls", "-q"]);
        assert!(listed.contains(&arm.layers()[0].digest.to_string()), "{listed}");
        assert!(!listed.contains(&amd.layers()[0].digest.to_string()), "{listed}");
    }
}

#[test]
fn a_hostile_manifest_is_served_as_it_was_written() {
    let registry = DistributionRegistry::start();
    let absent = Digest::of(b"nobody has this");
    let image =
        Image::new(vec![Layer::overlaybd_of(hollow(Blob { seed: 3, data: 100_000 }.to_vec())), Layer::turbo(&overlaybd(4))])
            .beside(overlaybd(4))
            .edit_config(|config| config["rootfs"]["diff_ids"] = serde_json::json!([]))
            .edit_manifest(|manifest| {
                manifest["layers"][0]["digest"] = serde_json::json!(absent);
                manifest["layers"][0]["size"] = serde_json::json!(-1);
                manifest["layers"][1]["annotations"]["containerd.io/snapshot/image-ref"] = serde_json::json!("evil.example/x");
            });
    image.push(&registry, "t/hostile", "1");
    for name in ["1", &image.digest().to_string()] {
        let served = registry.request("GET", &format!("/v2/t/hostile/manifests/{name}"));
        assert_eq!((served.status, served.body), (200, image.manifest()));
    }
    let config = registry.request("GET", &format!("/v2/t/hostile/blobs/{}", Digest::of(&image.config())));
    assert_eq!(config.body, image.config());
    let rotten = image.layers()[1].digest;
    fs::write(registry.blob_path(&rotten), "rotten").unwrap();
    assert_ne!(Digest::of(&registry.request("GET", &format!("/v2/t/hostile/blobs/{rotten}")).body), rotten);
}
