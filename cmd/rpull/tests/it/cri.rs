//! `--cri` on containerd's real CRI plugin, asked by its gRPC as the kubelet asks it.

use std::time::Duration;

use k8s_cri::v1::{
    Image as Listed, ImageSpec, ImageStatusRequest, ListImagesRequest, RemoveImageRequest,
    image_service_client::ImageServiceClient,
};
use testkit::{
    ContainerdOptions, Daemon, Daemons,
    image::{Image, Index},
};
use tonic::Status;

use crate::{
    held::Held,
    stage::{Stage, each, finish, native, network, on_each_daemon, run, say, start},
};

const MANAGED: (&str, &str) = ("io.cri-containerd.image", "managed");
const PINNED: (&str, &str) = ("io.cri-containerd.pinned", "pinned");

/// The plugin hears of an image by an event.
const HEARSAY: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// Every containerd there is, with its CRI plugin on.
fn on_each_cri(story: impl Fn(Stage, &Daemon)) {
    for daemon in Daemons::available() {
        say(&format!("on the CRI plugin of containerd {}", daemon.label));
        let options = ContainerdOptions { cri: true, ..ContainerdOptions::default() };
        story(Stage::with(&daemon, options).moved_to("k8s.io"), &daemon);
    }
}

/// Since 1.6.22 and 1.7.3 (reference 10).
fn shows_pins(daemon: &Daemon) -> bool {
    let numbers: Vec<u32> = daemon.label.split('.').map(|number| number.parse().expect("a version is numbers")).collect();
    match numbers[..] {
        [1, 6, patch] => patch >= 22,
        [1, 7, patch] => patch >= 3,
        _ => true,
    }
}

/// What the kubelet does with images.
impl Stage {
    fn cri_images(&self) -> Result<Vec<Listed>, Status> {
        let list = |channel, request| async move { ImageServiceClient::new(channel).list_images(request).await };
        self.ask(list, ListImagesRequest { filter: None }).map(|reply| reply.images)
    }

    fn cri_image(&self, name: &str) -> Result<Option<Listed>, Status> {
        let status = |channel, request| async move { ImageServiceClient::new(channel).image_status(request).await };
        self.ask(status, ImageStatusRequest { image: Some(spec(name)), verbose: false }).map(|reply| reply.image)
    }

    fn cri_remove(&self, name: &str) {
        let remove = |channel, request| async move { ImageServiceClient::new(channel).remove_image(request).await };
        self.ask(remove, RemoveImageRequest { image: Some(spec(name)) }).expect("the CRI plugin removes an image");
    }

    /// Asserts that the kubelet finds this image, once, by each of these names, and under exactly these tags.
    #[track_caller]
    fn assert_kubelet_finds(&self, image: &Image, tags: &[&str], by_digest: &str, pinned: Option<bool>) {
        let id = oci::Digest::of(&image.config()).to_string();
        let wanted = (id.clone(), tags.iter().map(ToString::to_string).collect::<Vec<_>>(), vec![by_digest.to_owned()]);
        let seen = |listed: &Listed| (listed.id.clone(), listed.repo_tags.clone(), listed.repo_digests.clone());
        let list = || self.cri_images().map(|images| images.iter().map(seen).collect::<Vec<_>>());
        soon(list, |listed| *listed == [wanted.clone()]);
        for name in tags.iter().copied().chain([by_digest, &id]) {
            let status = soon(|| self.cri_image(name), |status| status.as_ref().map(seen).as_ref() == Some(&wanted));
            let status = status.expect("it was just compared");
            assert!(status.size > 0, "{status:?}");
            if let Some(pinned) = pinned {
                assert_eq!(status.pinned, pinned, "{name}");
            }
        }
    }

    /// Names of the records, in the order in which they were made.
    fn names_by_age(&self) -> Vec<String> {
        let mut records: Vec<_> = self.images().iter().map(|name| self.image(name).expect("it was just listed")).collect();
        records.sort_by_key(|record| record.created_at.map(|at| (at.seconds, at.nanos)));
        records.into_iter().map(|record| record.name).collect()
    }
}

fn spec(name: &str) -> ImageSpec {
    ImageSpec { image: name.to_owned(), ..ImageSpec::default() }
}

/// Asks until the answer is right, for as long as the plugin may take to hear of a change. One that has just started says that
/// it is not ready.
#[track_caller]
fn soon<T: std::fmt::Debug>(ask: impl Fn() -> Result<T, Status>, right: impl Fn(&T) -> bool) -> T {
    let mut waited = Duration::ZERO;
    loop {
        let answer = ask();
        match answer {
            Ok(answer) if right(&answer) => return answer,
            answer => assert!(waited < HEARSAY, "after {HEARSAY:?}: {answer:?}"),
        }
        std::thread::sleep(POLL);
        waited += POLL;
    }
}

#[test]
fn the_kubelet_finds_a_pulled_image_by_tag_by_digest_and_by_id() {
    on_each_cri(|mut stage, daemon| {
        let image = native(&[1000, 1001]);
        let index = Index::new(vec![image.clone()]);
        let tag = index.push(stage.registry(), "kubelet/app", "1");
        let by_digest = format!("{}/kubelet/app@{}", stage.registry().host(), index.digest());
        let id = oci::Digest::of(&image.config()).to_string();

        // The namespace goes without saying; one in the environment is not this pull's.
        let mut command = crate::rpull();
        command.arg("--address").arg(stage.containerd().address()).env("CONTAINERD_NAMESPACE", "elsewhere");
        run(command.args(["--plain-http", "--cri", &tag])).succeeds();

        assert_eq!(stage.names_by_age(), [&id, &by_digest, &tag].map(String::as_str));
        for name in [&id, &by_digest, &tag] {
            let record = stage.image(name).unwrap();
            assert_eq!(record.labels.get(MANAGED.0).map(String::as_str), Some(MANAGED.1), "{name}");
            assert_eq!(record.labels.get(PINNED.0), None, "{name}");
            assert_eq!(record.labels["rpull/complete"], image.digest().to_string(), "{name}");
            assert_eq!(record.target.unwrap().digest, index.digest().to_string(), "{name}");
        }
        let pinned = shows_pins(daemon).then_some(false);
        stage.assert_kubelet_finds(&image, &[&tag], &by_digest, pinned);
        stage.assert_whole(&tag, &image);

        stage.containerd_mut().kill();
        stage.containerd_mut().restart();
        stage.assert_kubelet_finds(&image, &[&tag], &by_digest, pinned);

        // Another tag of the same image is one more name of it; here from a list, as at boot.
        let second = index.push(stage.registry(), "kubelet/app", "2");
        let list = stage.containerd().scratch().join("images");
        std::fs::write(&list, format!("# warm\n{tag}\n{second}\n")).unwrap();
        let receipt = stage.pull(["--wait-for-containerd", "60s", "--cri", "--from-file", list.to_str().unwrap()]);
        assert_eq!(receipt[1]["names"], serde_json::json!([id, by_digest, second]), "{receipt:#}");
        stage.assert_kubelet_finds(&image, &[&tag, &second], &by_digest, pinned);

        stage.cri_remove(&id);
        soon(|| stage.cri_images(), Vec::is_empty);
        assert_eq!(stage.images(), Vec::<String>::new());
        stage.collect();
        assert_eq!((stage.contents(), stage.snapshots()), (vec![], vec![]));
    });
}

/// And `--pin` comes with it.
#[test]
fn a_second_pull_gives_an_image_that_is_whole_the_names_that_are_missing() {
    on_each_cri(|mut stage, daemon| {
        let image = native(&[1010, 1011]);
        let tag = image.push(stage.registry(), "later", "1");
        let by_digest = format!("{}/later@{}", stage.registry().host(), image.digest());
        stage.pull([&tag]);
        assert!(stage.image(&by_digest).is_none());

        let receipt = stage.pull(["--cri", "--pin", "--label", "mine=1", &tag]);
        assert_eq!((network(&receipt), each(&receipt, "came")), (0, vec!["kept", "kept"]), "{receipt:#}");
        let pinned = shows_pins(daemon).then_some(true);
        stage.assert_kubelet_finds(&image, &[&tag], &by_digest, pinned);
        let names: Vec<String> = serde_json::from_value(receipt["names"].clone()).unwrap();
        assert_eq!(names.len(), 3);
        for name in &names {
            let labels = stage.image(name).unwrap().labels;
            for (key, value) in [MANAGED, PINNED, ("mine", "1")] {
                assert_eq!(labels.get(key).map(String::as_str), Some(value), "{name}: {key}");
            }
        }

        // A pull that does not pin takes no pin off, here and after the plugin has read everything anew.
        stage.pull(["--cri", &tag]);
        stage.containerd_mut().kill();
        stage.containerd_mut().restart();
        stage.assert_kubelet_finds(&image, &[&tag], &by_digest, pinned);
    });
}

/// Reference 2.2: names as the kubelet reads them, whatever `ctr` would make of them.
#[test]
fn a_tag_beside_a_digest_is_dropped_and_a_lazy_image_is_found_too() {
    on_each_cri(|stage, _| {
        let image = native(&[1020]);
        let tag = image.push(stage.registry(), "both", "1");
        let by_digest = format!("{}/both@{}", stage.registry().host(), image.digest());
        let id = oci::Digest::of(&image.config()).to_string();
        let receipt = stage.pull(["--cri", "--lazy", &format!("{tag}@{}", image.digest())]);
        assert_eq!(receipt["names"], serde_json::json!([id, by_digest]));
        assert_eq!((receipt["reference"].as_str(), &receipt["complete"]), (Some(by_digest.as_str()), &false.into()));
        stage.assert_kubelet_finds(&image, &[], &by_digest, None);
        assert_eq!(stage.image(&id).unwrap().labels.get("rpull/complete"), None);

        // What was lazy becomes whole, under all its names.
        stage.pull(["--cri", &tag]);
        stage.assert_kubelet_finds(&image, &[&tag], &by_digest, None);
        for name in [&id, &by_digest, &tag] {
            stage.assert_whole(name, &image);
        }
    });
}

/// Safety 18, for all names: what goes between the first record and the last look takes every record with it.
#[test]
fn records_over_something_that_went_are_taken_back_all_of_them() {
    on_each_daemon("taken-back", |stage| {
        let (former, image) = (native(&[1030]), native(&[1031, 1032]));
        let tag = former.push(stage.registry(), "taken-back", "1");
        stage.in_namespace("k8s.io").pull(["--label", "mine=1", &tag]);
        let stage = stage.in_namespace("k8s.io");
        let before = stage.image(&tag).unwrap();

        image.push(stage.registry(), "taken-back", "1");
        let id = oci::Digest::of(&image.config()).to_string();
        let by_digest = format!("{}/taken-back@{}", stage.registry().host(), image.digest());
        let layer = image.layers()[0].digest.to_string();
        let held = Held::at(&stage, &by_digest);
        let mut command = stage.command(["--cri", "--pin", "--label", "mine=2", "--address"]);
        command.arg(held.address()).arg(&tag);
        let running = start(&mut command);
        held.meanwhile(|| {
            // No CRI plugin runs here that would add its label by itself.
            let labels = stage.image(&id).expect("the id is the first").labels;
            for (key, value) in [MANAGED, PINNED] {
                assert_eq!(labels.get(key).map(String::as_str), Some(value), "{key}");
            }
            assert_eq!((stage.image(&by_digest), stage.image(&tag).as_ref()), (None, Some(&before)));
            stage.ctr(["content", "rm", &layer]);
        });
        let output = finish(running);
        let stderr = output.fails_with(7);
        assert!(stderr.contains(&layer) && stderr.contains("disappeared"), "{stderr}");
        assert_eq!((stage.image(&id), stage.image(&by_digest)), (None, None));
        let mut after = stage.image(&tag).unwrap();
        after.updated_at = before.updated_at;
        assert_eq!(after, before);
    });
}
