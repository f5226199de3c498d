//! Real containerd and real registry.

use std::path::Path;

use testkit::{Containerd, ContainerdOptions, Daemons, DistributionRegistry};

fn fixture() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/obd-image")
}

#[test]
fn every_daemon_starts_answers_and_leaves_nothing() {
    for daemon in Daemons::available() {
        let containerd = Containerd::start(&daemon, &ContainerdOptions::default());
        assert!(containerd.ctr_ok(["version"]).contains(&daemon.label), "{daemon:?}");
        let plugins = containerd.ctr_ok(["plugins", "ls"]);
        assert!(!plugins.lines().any(|line| line.contains(" cri ") && line.contains(" ok")), "{plugins}");
        let (pid, address) = (containerd.pid().expect("it runs"), containerd.address());
        drop(containerd);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(!address.exists());
    }
}

#[test]
fn a_killed_daemon_keeps_its_content_over_a_restart() {
    for daemon in Daemons::available() {
        let mut containerd = Containerd::start(&daemon, &ContainerdOptions { isolated: true, ..ContainerdOptions::default() });
        containerd.ctr_ok(["namespaces", "create", "kept"]);
        containerd.kill();
        assert!(!containerd.ctr(["--connect-timeout", "1s", "namespaces", "ls"]).status.success());
        containerd.restart();
        assert!(containerd.ctr_ok(["namespaces", "ls"]).contains("kept"));
    }
}

#[test]
fn the_registry_keeps_digests_and_serves_containerd() {
    let registry = DistributionRegistry::start();
    let reference = registry.push_oci_layout(&fixture(), "obd", "t/obd");
    let manifest = registry.request("GET", "/v2/t/obd/manifests/obd");
    assert_eq!(manifest.status, 200);
    for daemon in Daemons::available() {
        let containerd = Containerd::start(&daemon, &ContainerdOptions::default());
        containerd.ctr_ok(["content", "fetch", "--plain-http", &reference]);
        let listed = containerd.ctr_ok(["content", "ls", "-q"]);
        let layer = "61eb1566f942e9b017b7abd03c7ba5d61d61f83025d6deae651bed64071a6305";
        assert!(listed.contains(layer), "{listed}");
        assert!(containerd.content_root().join("blobs/sha256").join(layer).is_file(), "{daemon:?}");
    }
}

#[test]
fn a_protected_registry_asks_for_credentials() {
    let registry = DistributionRegistry::start_protected();
    let digest = registry.push_blob("t/x", b"hello");
    assert_eq!(registry.request("HEAD", &format!("/v2/t/x/blobs/{digest}")).status, 200);
    assert_eq!(std::fs::read(registry.blob_path(&digest)).unwrap(), b"hello");
    let output = std::process::Command::new("skopeo")
        .args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{}", registry.reference("t/x", "1"))])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("authentication required"), "{output:?}");
}
