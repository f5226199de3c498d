//! Real containerd daemons on private directories.

use std::{
    fmt::Write as _,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::process::{self, Process};

/// A containerd program found on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Version as it prints it, such as `1.6.20` or `2.4.2`.
    pub label: String,
    /// The program.
    pub binary: PathBuf,
}

/// The containerd programs the suites run on.
#[derive(Clone, Copy, Debug)]
pub struct Daemons;

/// What differs from the plain private daemon.
#[derive(Clone, Debug, Default)]
pub struct ContainerdOptions {
    /// Content sharing policy `isolated` instead of `shared`.
    pub isolated: bool,
    /// Socket of a snapshotter to plug in as proxy plugin `overlaybd`.
    pub overlaybd: Option<PathBuf>,
    /// Leave the CRI plugins on, with the snapshotter of [`overlaybd`](Self::overlaybd) where there is one. It answers for images;
    /// there is no network for pods.
    pub cri: bool,
    /// More TOML, appended as it is.
    pub extra: String,
}

/// A running private containerd. Dropping it ends the daemon and removes everything it had.
#[derive(Debug)]
pub struct Containerd {
    daemon: Daemon,
    process: Option<Process>,
    home: tempfile::TempDir,
}

impl Daemons {
    /// Oldest first: Debian's `/usr/bin/containerd`, then what `CONTAINERD_17` and `CONTAINERD_2` name.
    /// A variable that names no program is a mistake, not a daemon less, and panics.
    pub fn available() -> Vec<Daemon> {
        let debian = Some(PathBuf::from("/usr/bin/containerd")).filter(|path| process::is_program(path));
        let named = ["CONTAINERD_17", "CONTAINERD_2"].into_iter().filter_map(|variable| {
            let path = PathBuf::from(std::env::var_os(variable).filter(|value| !value.is_empty())?);
            assert!(process::is_program(&path), "{variable} names {}, which is no program", path.display());
            Some(path)
        });
        debian.into_iter().chain(named).map(Daemon::at).collect()
    }
}

impl Daemon {
    /// The daemon at this path; asks it for its version.
    pub fn at(binary: impl Into<PathBuf>) -> Self {
        let binary = binary.into();
        let output = Command::new(&binary)
            .arg("--version")
            .output()
            .unwrap_or_else(|error| panic!("{} --version does not run: {error}", binary.display()));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let label = text
            .split_whitespace()
            .map(|word| word.trim_start_matches('v'))
            .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
            .unwrap_or_else(|| panic!("{} tells no version: {text}", binary.display()))
            .split(['~', '+', '-'])
            .next()
            .expect("a split has a first part")
            .to_owned();
        Self { label, binary }
    }

    /// Major version.
    pub fn major(&self) -> u32 {
        self.label.split('.').next().and_then(|major| major.parse().ok()).expect("a label starts with a number")
    }

    /// The `ctr` beside the program, else the one on PATH.
    pub fn ctr(&self) -> PathBuf {
        let sibling = self.binary.with_file_name("ctr");
        if process::is_program(&sibling) {
            return sibling;
        }
        process::on_path("ctr").expect("ctr is beside containerd or on PATH")
    }
}

impl Containerd {
    /// Starts `daemon` and waits until it answers.
    pub fn start(daemon: &Daemon, options: &ContainerdOptions) -> Self {
        let home = process::scratch();
        std::fs::write(home.path().join("config.toml"), config(daemon, options, home.path()))
            .expect("a file can be written to a fresh directory");
        let mut containerd = Self { daemon: daemon.clone(), process: None, home };
        containerd.restart();
        containerd
    }

    /// Starts the daemon again after [`kill`](Self::kill), on the same directories.
    pub fn restart(&mut self) {
        self.process = None;
        let mut command = Command::new(&self.daemon.binary);
        command.arg("--config").arg(self.home.path().join("config.toml"));
        let mut process = Process::start(command, self.log());
        let address = self.address();
        process.wait_until("containerd", || UnixStream::connect(&address).is_ok());
        process.wait_until("containerd", || self.ctr(["version"]).status.success());
        self.process = Some(process);
    }

    /// Ends the daemon at once, as a crash would; its socket file stays.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Which program this is.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// Process id of the running daemon.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Path of its gRPC socket.
    pub fn address(&self) -> PathBuf {
        self.home.path().join("c.sock")
    }

    /// Directory of its built-in content store, `blobs/` and `ingest/` inside.
    pub fn content_root(&self) -> PathBuf {
        self.home.path().join("root/io.containerd.content.v1.content")
    }

    /// File with everything the daemon printed.
    pub fn log(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// A directory of the test's own on the daemon's filesystem, removed with it.
    pub fn scratch(&self) -> PathBuf {
        let path = self.home.path().join("scratch");
        std::fs::create_dir_all(&path).expect("a directory can be made in our own");
        path
    }

    /// Runs the matching `ctr` against this daemon.
    pub fn ctr<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        Command::new(self.daemon.ctr())
            .arg("--address")
            .arg(self.address())
            .args(args)
            .output()
            .unwrap_or_else(|error| panic!("{} does not run: {error}", self.daemon.ctr().display()))
    }

    /// Runs the matching `ctr`; its standard output, or a panic with what it complained of.
    pub fn ctr_ok<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        let args: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let output = self.ctr(&args);
        assert!(output.status.success(), "ctr {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// The configuration of a private daemon: version 2 for 1.x, version 3 for 2.x. Every path that a default would put
/// outside `home` is named, and plugins that insist on one are off.
fn config(daemon: &Daemon, options: &ContainerdOptions, home: &Path) -> String {
    let home = home.display();
    let mut disabled = vec!["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing"];
    if !options.cri {
        disabled.push("io.containerd.grpc.v1.cri");
        disabled.push("io.containerd.cri.v1.images");
        disabled.push("io.containerd.cri.v1.runtime");
        disabled.push("io.containerd.podsandbox.controller.v1.podsandbox");
    }
    let version = if daemon.major() >= 2 { 3 } else { 2 };
    let policy = if options.isolated { "isolated" } else { "shared" };
    let mut text = format!(
        r#"version = {version}
root = "{home}/root"
state = "{home}/state"
imports = []
disabled_plugins = {disabled:?}

[grpc]
address = "{home}/c.sock"
uid = {uid}
gid = {gid}

[ttrpc]
address = "{home}/c.sock.ttrpc"

[debug]
address = ""

[metrics]
address = ""

[plugins."io.containerd.metadata.v1.bolt"]
content_sharing_policy = "{policy}"
"#,
        uid = rustix::process::geteuid().as_raw(),
        gid = rustix::process::getegid().as_raw(),
    );
    if let Some(socket) = &options.overlaybd {
        let socket = socket.display();
        write!(text, "\n[proxy_plugins.overlaybd]\ntype = \"snapshot\"\naddress = \"{socket}\"\n")
            .expect("writing to a string does not fail");
    }
    if options.cri {
        text.push_str(&cri(daemon, options, &home));
    }
    text.push_str(&options.extra);
    text
}

/// The CRI plugin's part: no port that others use, no directory of the machine's own.
fn cri(daemon: &Daemon, options: &ContainerdOptions, home: &std::path::Display<'_>) -> String {
    let snapshotter = if options.overlaybd.is_some() { "overlaybd" } else { "overlayfs" };
    let streaming = r#"
[plugins."io.containerd.grpc.v1.cri"]
stream_server_address = "127.0.0.1"
stream_server_port = "0"
"#;
    if daemon.major() >= 2 {
        return format!(
            r#"{streaming}
[plugins."io.containerd.cri.v1.images"]
snapshotter = "{snapshotter}"

[plugins."io.containerd.cri.v1.runtime".cni]
conf_dir = "{home}/cni"
"#
        );
    }
    format!(
        r#"{streaming}
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"

[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "{home}/cni"
"#
    )
}
