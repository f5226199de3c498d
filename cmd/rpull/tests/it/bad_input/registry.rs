//! The registry has not got it, does not let us in, or is not there.

use std::net::TcpListener;

use oci::Digest;
use testkit::{
    Daemons, DistributionRegistry,
    fault::{Fault, Request, Server},
    image::{Blob, Image, Layer},
    secrets,
};

use super::{Tag, assert_failed, layer};
use crate::stage::{Stage, eventually, finish, on_each_daemon, start};

#[test]
fn what_the_registry_does_not_have_is_named() {
    on_each_daemon("not-found", |stage| {
        let registry = stage.registry();
        let host = registry.host();
        Image::new(vec![layer(&stage, "a")]).push(registry, "t/known", "1");
        let absent = Digest::of(b"absent");
        for (reference, object) in [
            (registry.reference("t/known", "2"), "2 of t/known"),
            (registry.reference("t/unknown", "1"), "1 of t/unknown"),
            (format!("{host}/t/known@{absent}"), &format!("{absent} of t/known")),
        ] {
            let output = stage.rpull([&reference]);
            assert_failed(
                &output,
                4,
                &format!(
                    "rpull: {host}: manifest {object}: 404 Not Found (…)\nhint: …; a registry may answer so where a right is missing\n"
                ),
            );
        }
        assert_eq!(stage.images(), Vec::<String>::new());
        assert_eq!(stage.leases(), Vec::<String>::new());
        stage.assert_nothing_unfinished();
    });
}

#[test]
fn a_registry_that_falls_silent_ends_a_pull_with_one_connection_too() {
    on_each_daemon("silent", |stage| {
        let silent = layer(&stage, "silent");
        let size = silent.size;
        let image = Image::new(vec![silent.clone()]);
        let mute = move |request: &mut Request<'_>| (request.size == size).then_some(Fault::Stall { after: 0 });
        let server = Server::builder().image("1", &image).faults(mute).start();
        let host = server.address();
        let tag = Tag { reference: format!("{host}/t/silent:1"), ..Tag::free(&stage) };
        tag.refuses(
            &["--max-connections", "1", "--tune", "stall=1s,silence=3s"],
            5,
            &format!(
                "rpull: {host}: blob {}: no byte on any connection for 3 s: no byte for 1 s\n\
                 hint: run rpull again when the registry answers; what was fetched is kept\n",
                silent.digest
            ),
        );
    });
}

#[test]
fn a_layer_that_the_registry_lost_is_named() {
    on_each_daemon("lost-layer", |stage| {
        let tag = Tag::taken(&stage);
        let (kept, lost) = (layer(&stage, "kept"), layer(&stage, "lost"));
        tag.push(&Image::new(vec![kept, lost.clone()]));
        std::fs::remove_file(stage.registry().blob_path(&lost.digest)).unwrap();
        let host = stage.registry().host();
        tag.refuses(
            &[],
            4,
            &format!(
                "rpull: {host}: blob {}: 404 Not Found (BLOB_UNKNOWN: blob unknown to registry)\n\
                 hint: the manifest lists this blob and the registry has not got it; push the image again\n",
                lost.digest
            ),
        );
    });
}

#[test]
fn a_protected_registry_needs_the_right_credentials() {
    let registry = DistributionRegistry::start_protected();
    let host = registry.host();
    on_each_daemon("denied", |stage| {
        let reference = Image::new(vec![layer(&stage, "a")]).push(&registry, "t/secret", "1");
        let output = stage.rpull([&reference]);
        assert_failed(
            &output,
            3,
            &format!(
                "rpull: {host}: manifest 1 of t/secret: 401 Unauthorized without credentials\n\
                 hint: log in with docker login or rpull --user NAME …; a name that does not exist is often answered so too\n"
            ),
        );
        let output = stage.rpull(["--user", &format!("user:{}", secrets::keep("wrong-password")), &reference]);
        assert_failed(&output, 3, &format!("rpull: {host}: manifest 1 of t/secret: 401 Unauthorized…\nhint: …\n"));
        assert_eq!(stage.images(), Vec::<String>::new());
        assert_eq!(stage.leases(), Vec::<String>::new());
        let user = format!("{}:{}", DistributionRegistry::USER, DistributionRegistry::PASSWORD);
        stage.rpull(["--user", &user, &reference]).succeeds();

        let output = stage.rpull(["--http-dump", "--user", &user, &reference]);
        output.succeeds();
        assert!(output.stderr.contains("/v2/t/secret/manifests/1") && output.stderr.contains("200 OK"), "{output:?}");
    });
}

#[test]
fn a_registry_that_is_not_there_is_given_up() {
    let daemon = &Daemons::available()[0];
    let stage = Stage::shared(daemon, "unreachable");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let output = stage.rpull([format!("127.0.0.1:{port}/t/obd:1")]);
    assert_failed(
        &output,
        5,
        &format!(
            "rpull: 127.0.0.1:{port}: manifest 1 of t/obd: no connection, tried … times: …Connection refused (os error 111)\n\
             hint: …\n"
        ),
    );
    assert_eq!(stage.leases(), Vec::<String>::new());
    // TLS is spoken to a registry that has none, unless it is on this machine.
    let reference = Image::new(vec![layer(&stage, "a")]).push(stage.registry(), "unreachable", "1");
    let output = stage.rpull(["--plain-http=false", &reference]);
    output.succeeds();
}

#[test]
fn a_registry_that_dies_and_comes_back_costs_only_time() {
    for daemon in Daemons::available() {
        let mut stage = Stage::on(&daemon);
        let scratch = tempfile::tempdir().unwrap();
        let large = Layer::overlaybd_file(Blob { seed: 77, data: 128 << 20 }, &scratch.path().join("blob"));
        let reference = Image::new(vec![large.clone()]).push(stage.registry(), "t/large", "1");
        let receipt = scratch.path().join("receipt");
        let child = start(&mut stage.command(["--range-size", "1M", "--receipt", receipt.to_str().unwrap(), &reference]));
        let spool = stage.spool();
        let begun = eventually(|| spool.read_dir().ok()?.next().map(drop));
        assert!(begun.is_some());
        stage.registry_mut().kill();
        stage.registry_mut().restart();
        finish(child).succeeds();
        let receipt: serde_json::Value = serde_json::from_slice(&std::fs::read(&receipt).unwrap()).unwrap();
        assert_ne!(receipt["transfer"]["retries"], 0, "{receipt:#}");
        assert_eq!(std::fs::read(stage.blob(&large.digest.to_string())).unwrap(), large.bytes());
    }
}
