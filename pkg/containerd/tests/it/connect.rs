//! What a user hears when the socket is wrong.

use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use containerd::{Error, Session};

use crate::daemon::{Daemon, binaries};

async fn connect(address: &str) -> Error {
    Session::connect(address, "default".parse().unwrap(), Duration::from_millis(300)).await.unwrap_err()
}

#[tokio::test]
async fn a_missing_socket_is_said_to_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let error = connect(&dir.path().join("none.sock").display().to_string()).await;
    assert!(matches!(error, Error::SocketMissing { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("--address"));
}

#[tokio::test]
async fn a_socket_nobody_listens_at_and_one_that_never_answers_are_silent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let never = connect(&path.display().to_string()).await;
    assert!(matches!(never, Error::Silent { source: None, .. }), "{never:?}");
    drop(listener);
    let nobody = connect(&path.display().to_string()).await;
    assert!(matches!(nobody, Error::Silent { source: Some(_), .. }), "{nobody:?}");
    assert!(nobody.hint().unwrap().contains("alive"));
}

/// The user `nobody` of every Debian.
const NOBODY: u32 = 65534;

#[test]
fn a_socket_of_another_user_is_said_to_be_denied() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("c.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    // Only this thread, and the runtime that runs on it, becomes somebody else.
    let error = std::thread::spawn(move || {
        if rustix::process::geteuid().is_root() {
            rustix::thread::set_thread_res_uid(
                rustix::process::Uid::from_raw(NOBODY),
                rustix::process::Uid::from_raw(NOBODY),
                rustix::process::Uid::from_raw(NOBODY),
            )
            .unwrap();
        } else {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(connect(&path.display().to_string()))
    });
    let error = error.join().unwrap();
    assert!(matches!(error, Error::SocketDenied { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("root"));
}

#[tokio::test]
async fn unix_addresses_work_and_a_dead_containerd_is_noticed() {
    for binary in binaries() {
        let daemon = Daemon::start(&binary).await;
        let address = format!("unix://{}", daemon.address());
        let session = Session::connect(&address, "default".parse().unwrap(), Duration::ZERO).await.unwrap();
        assert!(!session.version().await.unwrap().is_empty());
        drop(daemon);
        let error = session.version().await.unwrap_err();
        assert!(matches!(error, Error::Silent { .. }), "{error:?}");
    }
}
