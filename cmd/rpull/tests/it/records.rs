//! Names and records: which image of an index, under which name, with which labels, and what of an earlier record stays.

use testkit::image::{Image, Index, Layer, Platform};

use crate::stage::{Stage, chain_of, native, on_each_daemon, run};

/// Two platforms, and an index over both.
fn two_platforms(seed: u64) -> (Image, Image, Index) {
    let host = if cfg!(target_arch = "aarch64") { "linux/arm64/v8" } else { "linux/amd64" };
    let ours = native(&[seed]).platform(Platform::new(host));
    let other = native(&[seed + 1]).platform(Platform::new("linux/riscv64"));
    let index = Index::new(vec![other.clone(), ours.clone()]);
    (ours, other, index)
}

/// Reference 5.3: the record points at the index, whose labels hold every manifest it lists.
#[test]
fn the_record_of_an_index_points_at_the_index() {
    on_each_daemon("index", |stage| {
        let (ours, other, index) = two_platforms(200);
        let reference = index.push(stage.registry(), "index", "1");
        let receipt = stage.pull([&reference]);
        let target = index.digest().to_string();
        assert_eq!(receipt["target"], target.as_str());
        assert_eq!(receipt["manifest"], ours.digest().to_string());
        let record = stage.image(&reference).unwrap().target.unwrap();
        assert_eq!(record.digest, target);
        assert_eq!(record.media_type, "application/vnd.oci.image.index.v1+json");
        assert_eq!(u64::try_from(record.size).unwrap(), index.bytes().len() as u64);
        let labels = stage.content(&target).unwrap().labels;
        assert_eq!(labels["containerd.io/gc.ref.content.m.0"], other.digest().to_string());
        assert_eq!(labels["containerd.io/gc.ref.content.m.1"], ours.digest().to_string());
        assert_eq!(labels["containerd.io/distribution.source.127.0.0.1"], "index");
        assert!(stage.content(&other.digest().to_string()).is_none(), "another platform was fetched");
        stage.assert_whole(&reference, &ours);

        // By the record's name another platform can be had as well.
        let receipt = stage.pull(["--platform", "linux/riscv64", &reference]);
        assert_eq!(receipt["manifest"], other.digest().to_string());
        stage.assert_whole(&reference, &other);

        stage.remove_image(&reference);
        assert_eq!((stage.contents(), stage.snapshots()), (vec![], vec![]));
    });
}

#[test]
fn a_platform_that_is_not_there_is_answered_with_those_that_are() {
    on_each_daemon("platforms", |stage| {
        let (_, _, index) = two_platforms(210);
        let reference = index.push(stage.registry(), "platforms", "1");
        let output = stage.rpull(["--platform", "linux/s390x", &reference]);
        let stderr = output.fails_with(4);
        assert!(stderr.contains("linux/s390x") && stderr.contains("linux/riscv64"), "{stderr}");
        stage.assert_nothing_visible(&reference);
        assert_eq!(stage.contents(), Vec::<String>::new());
    });
}

#[test]
fn docker_media_types_are_pulled_as_well() {
    on_each_daemon("docker", |stage| {
        let image = native(&[220, 221]).docker();
        let reference = image.push(stage.registry(), "docker", "1");
        stage.pull([&reference]);
        stage.assert_whole(&reference, &image);
        let record = stage.image(&reference).unwrap().target.unwrap();
        assert_eq!(record.media_type, "application/vnd.docker.distribution.manifest.v2+json");
    });
}

/// Reference 10.3: an update by field mask; and what `--label` gives.
#[test]
fn labels_of_others_on_the_record_survive() {
    on_each_daemon("labels", |stage| {
        let (first, second) = (native(&[230]), native(&[231]));
        let reference = first.push(stage.registry(), "labels", "1");
        stage.pull(["--label", "mine=1", "--label", "flag", "--label", "mine=2", &reference]);
        stage.ctr(["images", "label", &reference, "io.cri-containerd.image=managed", "io.cri-containerd.pinned=pinned"]);

        second.push(stage.registry(), "labels", "1");
        stage.pull(["--label", "flag=3", &reference]);
        let record = stage.image(&reference).unwrap();
        assert_eq!(record.target.unwrap().digest, second.digest().to_string());
        for (key, value) in [
            ("io.cri-containerd.image", "managed"),
            ("io.cri-containerd.pinned", "pinned"),
            ("mine", "2"),
            ("flag", "3"),
            ("rpull/complete", &second.digest().to_string()),
        ] {
            assert_eq!(record.labels.get(key).map(String::as_str), Some(value), "{key}");
        }
        stage.assert_whole(&reference, &second);
    });
}

/// Safety 18: a pull that fails changes no record.
#[test]
fn a_record_that_was_there_before_outlives_a_failed_pull() {
    on_each_daemon("untouched", |stage| {
        let image = native(&[240]);
        let reference = image.push(stage.registry(), "untouched", "1");
        stage.pull([&reference]);
        let before = stage.image(&reference).unwrap();

        let broken = native(&[241, 242]);
        broken.push(stage.registry(), "untouched", "1");
        std::fs::remove_file(stage.registry().blob_path(&broken.layers()[1].digest)).unwrap();
        let output = stage.rpull(["--label", "new=1", &reference]);
        assert!(output.fails_with(output.code).contains(&broken.layers()[1].digest.to_string()), "{output:#?}");
        assert_ne!(output.code, 0);
        assert_eq!(stage.image(&reference).unwrap(), before);
        stage.assert_nothing_unfinished();
        // The lease of the failed pull holds what is finished for the next.
        assert_eq!(stage.leases().len(), 1);

        broken.push(stage.registry(), "untouched", "1");
        stage.pull([&reference]);
        stage.assert_whole(&reference, &broken);
    });
}

#[test]
fn what_ctr_accepts_is_recorded_as_typed_and_the_rest_as_docker_reads_it() {
    on_each_daemon("names", |stage| {
        let image = native(&[250]);
        image.push(stage.registry(), "names", "latest");
        let (host, digest) = (stage.registry().host(), image.digest());
        for (typed, recorded) in [
            (format!("{host}/names:latest"), format!("{host}/names:latest")),
            (format!("{host}/names@{digest}"), format!("{host}/names@{digest}")),
            (format!("{host}/names:latest@{digest}"), format!("{host}/names:latest@{digest}")),
            (format!("{host}/names"), format!("{host}/names:latest")),
        ] {
            stage.pull([&typed]);
            assert_eq!(stage.images(), std::slice::from_ref(&recorded), "{typed}");
            stage.assert_whole(&recorded, &image);
            stage.remove_image(&recorded);
        }
        let localhost = host.replace("127.0.0.1", "localhost");
        stage.pull([format!("{localhost}/names:latest")]);
        assert_eq!(stage.images(), [format!("{localhost}/names:latest")]);
    });
}

#[test]
fn variables_say_where_to_pull_to() {
    on_each_daemon("variables", |stage| {
        let image = Image::new(vec![Layer::tar(&[("a", b"from variables")])]);
        let reference = image.push(stage.registry(), "variables", "1");
        let mut command = crate::rpull();
        command.args(["--plain-http", &reference]).env("CONTAINERD_ADDRESS", stage.containerd().address());
        command.env("CONTAINERD_NAMESPACE", "variables").env("CONTAINERD_SNAPSHOTTER", "native");
        run(&mut command).succeeds();
        assert!(stage.image(&reference).is_some());
        assert!(stage.snapshot_of("native", &chain_of(&image)[0]).is_some());
    });
}

/// ctr can list what is whole.
#[test]
fn whole_images_can_be_filtered() {
    on_each_daemon("filter", |stage| {
        let pull = |stage: &Stage, seed, tag, flags: &[&str]| {
            let image = native(&[seed]);
            let reference = image.push(stage.registry(), "filter", tag);
            stage.pull(flags.iter().copied().chain([reference.as_str()]));
            (reference, image)
        };
        let (whole, image) = pull(&stage, 260, "whole", &[]);
        pull(&stage, 261, "lazy", &["--lazy"]);
        let listed = stage.ctr(["images", "ls", "-q", &format!("labels.\"rpull/complete\"=={}", image.digest())]);
        let any = stage.ctr(["images", "ls", "-q", "labels.\"rpull/complete\""]);
        assert_eq!((listed.trim(), any.trim()), (whole.as_str(), whole.as_str()));
    });
}
