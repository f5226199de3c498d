//! Another client meddles at a moment of the test's choice: nothing becomes half-visible, and the error says what went.

use std::io::{BufRead as _, BufReader, Read as _};

use crate::{
    gated::Gated,
    stage::{each, eventually, finish, native, network, on_each_daemon},
};

/// Safety 18: a record must not point at, or lead to, what is not there.
#[test]
fn a_document_that_another_client_deletes_in_the_middle_is_missed() {
    on_each_daemon("deleted-document", |stage| {
        for seed in [800, 803, 806] {
            let gated = Gated::new(seed);
            let digest = match seed {
                800 => gated.index.digest(),
                803 => gated.image.digest(),
                _ => oci::Digest::of(&gated.image.config()),
            };
            let output = gated.pull(&stage, || {
                stage.ctr(["content", "rm", &digest.to_string()]);
            });
            let stderr = output.fails_with(7);
            assert!(stderr.contains(&digest.to_string()) && stderr.contains("\nhint: "), "{stderr}");
            stage.assert_nothing_visible(&gated.reference);
            gated.pull_again(&stage, &[]);
        }
    });
}

/// Safety 18: who comes later points the name where he likes; a pull that fails leaves it there, his labels too.
#[test]
fn a_record_that_another_client_points_elsewhere_in_the_middle_is_his_unless_the_pull_succeeds() {
    on_each_daemon("pointed-elsewhere", |stage| {
        let other = native(&[810]);
        let other_reference = other.push(stage.registry(), "pointed-elsewhere", "1");
        stage.pull([&other_reference]);
        for (fails, seed) in [(false, 811), (true, 814)] {
            let gated = Gated::new(seed);
            let mut theirs = None;
            let output = gated.pull(&stage, || {
                stage.ctr(["images", "tag", &other_reference, &gated.reference]);
                stage.ctr(["images", "label", &gated.reference, "owner=other"]);
                theirs = stage.image(&gated.reference);
                if fails {
                    stage.ctr(["content", "rm", &gated.image.layers()[0].digest.to_string()]);
                }
            });
            let record = stage.image(&gated.reference);
            if fails {
                output.fails_with(7);
                assert!(record.is_some());
                assert_eq!(record, theirs);
                stage.assert_nothing_unfinished();
            } else {
                output.succeeds();
                let record = record.expect("the image has a record");
                assert_eq!(record.labels["owner"], "other");
                assert_eq!(record.target.expect("a record has a target").digest, gated.index.digest().to_string());
                stage.assert_whole(&gated.reference, &gated.image);
            }
        }
    });
}

#[test]
fn an_active_snapshot_that_another_client_removes_in_the_middle_is_missed() {
    on_each_daemon("deleted-active", |stage| {
        for (store, seed) in [("direct", 820), ("api", 823)] {
            let gated = Gated::new(seed);
            let child = gated.begin(&stage, &["--store", store]);
            let key = gated.active(&stage).expect("the last snapshot is not committed");
            stage.ctr(["snapshots", "--snapshotter", "overlaybd", "rm", &key]);
            // Its directory goes with this.
            stage.collect();
            gated.open();
            let output = finish(child);
            let stderr = output.fails_with(7);
            assert!(stderr.contains("disappeared") && stderr.contains("\nhint: "), "{stderr}");
            stage.assert_nothing_visible(&gated.reference);
            let receipt = gated.pull_again(&stage, &[]);
            assert_eq!(network(&receipt), 0, "{receipt:#}");
        }
    });
}

/// Safety 17: without its lease a pull has nothing that holds anything.
#[test]
fn a_lease_that_is_gone_is_named_and_nothing_becomes_visible() {
    on_each_daemon("gone-lease", |stage| {
        for (store, seed) in [("direct", 830), ("api", 833)] {
            let gated = Gated::new(seed);
            let child = gated.begin(&stage, &["--store", store]);
            let [lease] = &stage.leases()[..] else { panic!("a pull has one lease") };
            stage.ctr(["leases", "rm", "--sync", lease]);
            gated.open();
            let output = finish(child);
            let stderr = output.fails_with(7);
            assert!(stderr.contains("\nhint: "), "{stderr}");
            stage.assert_nothing_visible(&gated.reference);
            gated.pull_again(&stage, &["--store", store]);
        }
    });
}

/// Safety 3: a lock dies with its holder. Whoever waited for it plans the blob anew.
#[test]
fn the_second_of_two_pulls_goes_on_when_the_first_is_killed() {
    on_each_daemon("orphaned", |stage| {
        for (store, seed) in [("direct", 850), ("api", 853)] {
            let gated = Gated::new(seed);
            let mut first = gated.begin(&stage, &["--store", store]);
            let second = gated.spawn(&stage, &["--store", store]);
            eventually(|| (stage.leases().len() == 2).then_some(())).expect("the second pull has a lease");
            first.kill().unwrap();
            assert_eq!(finish(first).code, 137);
            gated.open();
            finish(second).succeeds();
            // What the first left goes with its lease, at the next collection.
            stage.collect();
            stage.assert_whole(&gated.reference, &gated.image);
        }
    });
}

/// Safety 3: two pulls of one image share the work, and the one that waits says for whom.
#[test]
fn the_second_of_two_pulls_says_that_it_waits() {
    on_each_daemon("waiting", |stage| {
        for (namespace, seed) in [("waiting", 840), ("waiting-2", 843)] {
            let gated = Gated::new(seed);
            let second = stage.in_namespace(namespace);
            let first = gated.begin(&stage, &[]);
            let receipt = tempfile::NamedTempFile::new().unwrap();
            let mut child = gated.spawn(&second, &["--receipt", receipt.path().to_str().unwrap()]);
            let mut lines = BufReader::new(child.stdout.take().unwrap());
            let (mut line, mut said) = (String::new(), String::new());
            while !line.contains("waiting for another rpull") {
                line.clear();
                assert_ne!(lines.read_line(&mut line).unwrap(), 0, "it never said that it waits: {said}");
                said.push_str(&line);
            }
            gated.open();
            finish(first).succeeds();
            lines.read_to_string(&mut said).unwrap();
            assert!(child.wait().unwrap().success() && said.ends_with("\ndone\n"), "{said}");
            let receipt: serde_json::Value = serde_json::from_slice(&std::fs::read(receipt.path()).unwrap()).unwrap();
            assert_eq!(network(&receipt), 0, "{receipt:#}");
            let near = if namespace == stage.namespace() { "same-namespace" } else { "other-namespace" };
            assert_eq!(each(&receipt, "source").pop(), Some(near), "{receipt:#}");
            for stage in [&stage, &second] {
                stage.assert_whole(&gated.reference, &gated.image);
            }
        }
    });
}
