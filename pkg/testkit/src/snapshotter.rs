//! The overlaybd snapshotter a test runs on: the real one where it is installed, else the stand-in.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    process::{self, Process},
    stand_in::StandIn,
};

/// A running overlaybd snapshotter on a private root and socket. It stops and its root goes when it is dropped.
#[derive(Debug)]
pub struct Snapshotter {
    kind: Implementation,
    home: tempfile::TempDir,
}

#[derive(Debug)]
enum Implementation {
    Real { binary: PathBuf, process: Option<Process> },
    StandIn(StandIn),
}

impl Snapshotter {
    /// Starts the program that `OVERLAYBD_SNAPSHOTTER` names, or `overlaybd-snapshotter` from PATH, or the stand-in.
    pub fn start() -> Self {
        let home = process::scratch();
        let root = home.path().join("root");
        let kind = match real_binary() {
            Some(binary) => Implementation::Real { binary, process: None },
            None => Implementation::StandIn(
                StandIn::new(&root, home.path().join("s.sock")).expect("the stand-in can use a fresh directory"),
            ),
        };
        let mut snapshotter = Self { kind, home };
        snapshotter.restart();
        snapshotter
    }

    /// Whether this is the real one.
    pub fn is_real(&self) -> bool {
        matches!(self.kind, Implementation::Real { .. })
    }

    /// Its root directory, `snapshots/` inside.
    pub fn root(&self) -> PathBuf {
        self.home.path().join("root").canonicalize().expect("our own root exists")
    }

    /// Its socket, for [`ContainerdOptions::overlaybd`](crate::ContainerdOptions).
    pub fn address(&self) -> PathBuf {
        self.home.path().join("s.sock")
    }

    /// Ends it at once, as a crash would; root and socket file stay.
    pub fn kill(&mut self) {
        match &mut self.kind {
            Implementation::Real { process, .. } => {
                if let Some(mut process) = process.take() {
                    process.kill();
                }
            }
            Implementation::StandIn(stand_in) => stand_in.stop(),
        }
    }

    /// Starts it again on the same root and socket; it knows its snapshots as before.
    pub fn restart(&mut self) {
        self.kill();
        let address = self.address();
        let home = self.home.path();
        match &mut self.kind {
            Implementation::Real { binary, process } => {
                // A socket file left by a crash would answer "refused" until the new one is bound.
                let _ = fs::remove_file(&address);
                let config = home.join("config.json");
                fs::write(&config, real_config(home, &address)).expect("a file can be written to our own directory");
                let mut command = Command::new(&*binary);
                command.arg(config);
                let mut started = Process::start(command, home.join("log"));
                started.wait_until("overlaybd-snapshotter", || UnixStream::connect(&address).is_ok());
                *process = Some(started);
            }
            Implementation::StandIn(stand_in) => stand_in.serve().expect("the stand-in can bind its own socket"),
        }
    }
}

fn real_binary() -> Option<PathBuf> {
    match std::env::var_os("OVERLAYBD_SNAPSHOTTER").filter(|value| !value.is_empty()) {
        Some(value) => {
            let path = PathBuf::from(value);
            assert!(process::is_program(&path), "OVERLAYBD_SNAPSHOTTER names {}, which is no program", path.display());
            Some(path)
        }
        None => process::on_path("overlaybd-snapshotter"),
    }
}

fn real_config(home: &Path, address: &Path) -> String {
    serde_json::json!({
        "root": home.join("root"),
        "address": address,
        "verbose": "info",
        "rwMode": "overlayfs",
        "writableLayerType": "append",
        "autoRemoveDev": false,
        "asyncRemove": false,
    })
    .to_string()
}
