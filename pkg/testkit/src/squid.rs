//! squid as forward proxy with a password, on a private directory and a free port.

use std::{
    fs::{self, Permissions},
    io::Write as _,
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{
    process::{self, Process},
    secrets,
};

/// A running squid. Dropping it ends the server and removes its directory.
#[derive(Debug)]
pub struct Squid {
    process: Process,
    port: u16,
    home: tempfile::TempDir,
}

impl Squid {
    /// The name that only squid resolves, to 127.0.0.1: who reaches it was there.
    pub const NAME: &str = "far.example";
    /// The user that is let through.
    pub const USER: &str = "ann";
    /// That user's password, with characters that a URL has to encode.
    pub const PASSWORD: &str = "proxy pa/ss:w0rd@";
    /// USER and PASSWORD as they stand in a URL.
    pub const LOGIN: &str = "ann:proxy%20pa%2Fss%3Aw0rd%40";

    /// Starts squid.
    pub fn start() -> Self {
        let home = process::scratch();
        let root = home.path();
        // squid reads these as a user of its own.
        fs::set_permissions(root, Permissions::from_mode(0o777)).expect("our own directory can be opened to others");
        fs::write(root.join("passwd"), htpasswd()).expect("a file can be written to our own directory");
        fs::write(root.join("hosts"), format!("127.0.0.1 {}\n", Self::NAME)).expect("a file can be written to our own directory");
        let port = process::free_port();
        let config = format!(
            "http_port 127.0.0.1:{port}\nhosts_file ROOT/hosts\n\
             auth_param basic program /usr/lib/squid/basic_ncsa_auth ROOT/passwd\nacl known proxy_auth REQUIRED\n\
             http_access allow known\nhttp_access deny all\ncache deny all\nlogformat seen %rm %ru %un %>Hs\n\
             access_log stdio:ROOT/access.log logformat=seen\ncache_log ROOT/cache.log\npid_filename none\ncoredump_dir ROOT\n\
             visible_hostname test\nshutdown_lifetime 0 seconds\nnetdb_filename none\n"
        );
        let config = config.replace("ROOT", &root.display().to_string());
        fs::write(root.join("squid.conf"), config).expect("a file can be written to our own directory");
        let mut command = Command::new(process::on_path("squid").unwrap_or_else(|| PathBuf::from("/usr/sbin/squid")));
        command.args(["-N", "-f"]).arg(root.join("squid.conf"));
        let mut process = Process::start(command, root.join("log"));
        process.wait_until("squid", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        secrets::keep(Self::PASSWORD);
        Self { process, port, home }
    }

    /// `http://LOGIN@127.0.0.1:port`, for a proxy variable.
    pub fn url(&self) -> String {
        self.url_for(Self::LOGIN)
    }

    /// The same with another login.
    pub fn url_for(&self, login: &str) -> String {
        format!("http://{login}@127.0.0.1:{}", self.port)
    }

    /// What was asked for so far, a line each: method, URL, user, status.
    pub fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.home.path().join("access.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Ends it at once; nobody listens on its port then.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// The line of USER and PASSWORD, which goes to the program by its standard input.
fn htpasswd() -> Vec<u8> {
    let mut command = Command::new("htpasswd");
    command.args(["-nim", Squid::USER]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("htpasswd is on PATH");
    child.stdin.take().expect("its input is a pipe").write_all(Squid::PASSWORD.as_bytes()).expect("htpasswd reads");
    child.wait_with_output().expect("our child can be waited for").stdout
}
