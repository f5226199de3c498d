//! containerd or its snapshotter is not there, does not answer, or is not ours to use.

use std::{
    fs::{self, Permissions},
    os::unix::{fs::PermissionsExt, net::UnixListener},
    process::Command,
};

use testkit::{ContainerdOptions, Daemons, image::Image};

use super::{Tag, assert_failed, layer};
use crate::stage::{Stage, eventually, on_each_daemon, run};

const REFERENCE: &str = "127.0.0.1:1/t/obd:1";

#[test]
fn a_containerd_that_is_not_there_is_named_by_its_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("c.sock");
    let address = socket.display();
    let pull = || run(crate::rpull().arg("--address").arg(&socket).arg(REFERENCE));
    assert_failed(
        &pull(),
        7,
        &format!(
            "rpull: containerd socket {address} is not there\n\
             hint: is containerd running? name its socket with --address or CONTAINERD_ADDRESS\n"
        ),
    );
    // A crash leaves the socket file.
    drop(UnixListener::bind(&socket).unwrap());
    assert_failed(
        &pull(),
        7,
        &format!(
            "rpull: containerd at {address} does not answer: Connection refused (os error 111)\n\
             hint: see whether containerd is alive (`systemctl status containerd`) and listens at {address}\n"
        ),
    );
    // The same through the variable and with the scheme.
    let output = run(crate::rpull().env("CONTAINERD_ADDRESS", format!("unix://{address}")).arg(REFERENCE));
    assert!(output.fails_with(7).contains(&format!("containerd at {address} does not answer")), "{output:?}");
}

#[test]
fn a_containerd_that_never_answers_is_given_up_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("c.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let address = socket.display();
    let output = run(crate::rpull().arg("--address").arg(&socket).args(["--connect-timeout", "500ms", REFERENCE]));
    assert_failed(
        &output,
        7,
        &format!(
            "rpull: containerd at {address} does not answer\n\
             hint: see whether containerd is alive (`systemctl status containerd`) and listens at {address}\n"
        ),
    );
}

/// Needs root, as containerd does.
#[test]
fn a_socket_of_somebody_else_is_refused_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let socket = directory.path().join("c.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o660)).unwrap();
    // Cargo's directory need not be open to everyone.
    let program = directory.path().join("rpull");
    fs::copy(env!("CARGO_BIN_EXE_rpull"), &program).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
    let output = run(command.arg("--address").arg(&socket).arg(REFERENCE));
    assert_failed(
        &output,
        7,
        &format!(
            "rpull: containerd socket {} may not be used by this user: Permission denied (os error 13)\n\
             hint: run rpull as root, or as a member of the group that owns the socket\n",
            socket.display()
        ),
    );
}

#[test]
fn a_snapshotter_that_is_not_configured_is_found_out_first() {
    on_each_daemon("not-configured", |stage| {
        let tag = Tag::free(&stage);
        // The reference is not there either, but nobody was asked for it.
        tag.refuses(
            &["--snapshotter", "overlaydb"],
            7,
            "rpull: containerd has no snapshotter overlaydb…\n\
             hint: add [proxy_plugins.overlaydb] to containerd's config.toml and restart it, or choose one of `ctr plugins ls` with --snapshotter\n",
        );
        assert_eq!(stage.leases(), Vec::<String>::new());
        assert_eq!(stage.contents(), Vec::<String>::new());
    });
}

#[test]
fn a_snapshotter_that_is_down_is_found_out_before_a_layer_is_fetched() {
    for daemon in Daemons::available() {
        let down = "rpull: snapshotter overlaybd does not answer containerd…\n\
             hint: start the snapshotter's own service (`systemctl status overlaybd-snapshotter`)\n";
        // It never ran.
        let nowhere = tempfile::tempdir().unwrap().path().join("s.sock");
        let stage = Stage::with(&daemon, ContainerdOptions { overlaybd: Some(nowhere), ..ContainerdOptions::default() });
        let tag = Tag::free(&stage);
        let layer = layer(&stage, "a");
        tag.push(&Image::new(vec![layer.clone()]));
        tag.refuses(&[], 7, down);
        assert!(!stage.contents().contains(&layer.digest.to_string()));

        // It was there when containerd started, went, and came back.
        let mut stage = Stage::on(&daemon);
        stage.snapshotter_mut().kill();
        let tag = Tag::free(&stage);
        tag.push(&Image::new(vec![layer.clone()]));
        tag.refuses(&[], 7, down);
        assert!(!stage.contents().contains(&layer.digest.to_string()));
        let reference = tag.reference;
        stage.snapshotter_mut().restart();
        // containerd connects again after a pause of its own.
        let pulled = eventually(|| (stage.rpull([&reference]).code == 0).then_some(()));
        assert!(pulled.is_some());
        assert_eq!(stage.leases(), Vec::<String>::new());
    }
}
