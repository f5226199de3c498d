//! docker-registry on private directories and free ports of 127.0.0.1; ended when dropped.

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use testkit::{certificates, secrets};

/// A daemon, killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) port: u16,
    pub(crate) directory: TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// The real overlaybd image.
pub(crate) fn image() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/obd-image")
}

/// A docker-registry holding the image as `t/obd:1`; with `user` it asks for Basic authentication.
pub(crate) fn docker_registry(user: Option<(&str, &str)>) -> Daemon {
    let directory = tempfile::tempdir().unwrap();
    let auth = user.map_or_else(String::new, |(name, password)| {
        secrets::keep(password);
        let file = directory.path().join("htpasswd");
        let output = run(Command::new("htpasswd").args(["-Bbn", name, password]));
        std::fs::write(&file, output).unwrap();
        format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display())
    });
    let daemon = registry_in(directory, "", &auth);
    let mut push = Command::new("skopeo");
    push.args(["copy", "-q", "--preserve-digests", "--dest-tls-verify=false"]);
    if let Some((name, password)) = user {
        push.arg(format!("--dest-creds={name}:{password}"));
    }
    push.arg(format!("oci:{}:obd", image().display())).arg(format!("docker://{}/t/obd:1", daemon.host()));
    run(&mut push);
    daemon
}

/// An empty docker-registry that talks only to clients the CA knows. `ca.pem`, `server.pem` and `client.pem` (each with its
/// `.key`) are in its directory.
pub(crate) fn docker_registry_for_known_clients() -> Daemon {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    certificates::authority(root);
    certificates::server(root, certificates::VALID);
    certificates::client(root);
    let root = root.display();
    let tls = format!(", tls: {{certificate: {root}/server.pem, key: {root}/server.key, clientcas: [{root}/ca.pem]}}");
    registry_in(directory, &tls, "")
}

fn registry_in(directory: TempDir, tls: &str, auth: &str) -> Daemon {
    let root = directory.path();
    let port = free_port();
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: '127.0.0.1:{port}'{tls}}}\n{auth}",
        root.join("data").display()
    );
    std::fs::write(root.join("config.yml"), config).unwrap();
    start(Command::new("docker-registry").arg("serve").arg(root.join("config.yml")), port, directory)
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(command: &mut Command, port: u16, directory: TempDir) -> Daemon {
    let log = std::fs::File::create(directory.path().join("log")).unwrap();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    for _ in 0..600 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Daemon { child, port, directory };
        }
        assert!(child.try_wait().unwrap().is_none(), "{}", std::fs::read_to_string(directory.path().join("log")).unwrap());
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    panic!("{command:?} does not listen");
}

pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
