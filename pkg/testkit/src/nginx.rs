//! nginx with TLS in front of a registry, on a private directory and a free port.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use crate::process::{self, Process};

/// A running nginx. Dropping it ends the server and removes its directory.
#[derive(Debug)]
pub struct TlsFront {
    _process: Process,
    port: u16,
    home: tempfile::TempDir,
}

impl TlsFront {
    /// Starts nginx before `upstream` (`host:port`, spoken to in HTTP) with the certificate that `make` puts into its directory as
    /// `server.pem` and `server.key`. `settings` are further lines of its server block; `ROOT` in them is that directory.
    pub fn start(upstream: &str, make: impl FnOnce(&Path), settings: &str) -> Self {
        let home = process::scratch();
        let root = home.path();
        make(root);
        let port = process::free_port();
        let config = format!(
            "daemon off; pid ROOT/pid; error_log stderr; user root;\nevents {{}}\nhttp {{ access_log off;\n\
             client_body_temp_path ROOT/a; proxy_temp_path ROOT/b; fastcgi_temp_path ROOT/c; uwsgi_temp_path ROOT/d; \
             scgi_temp_path ROOT/e; client_max_body_size 0;\n\
             server {{ listen 127.0.0.1:{port} ssl; ssl_certificate ROOT/server.pem; \
             ssl_certificate_key ROOT/server.key; {settings}\nlocation / {{ proxy_pass http://{upstream}; proxy_redirect off; \
             proxy_set_header Host $http_host; }} }} }}\n"
        );
        let config = config.replace("ROOT", &root.display().to_string());
        fs::write(root.join("nginx.conf"), config).expect("a file can be written to our own directory");
        let mut command = Command::new(process::on_path("nginx").unwrap_or_else(|| PathBuf::from("/usr/sbin/nginx")));
        command.args(["-e", "stderr", "-g", "master_process off;", "-c"]).arg(root.join("nginx.conf"));
        let mut process = Process::start(command, root.join("log"));
        process.wait_until("nginx", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { _process: process, port, home }
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A file of its directory, `ca.pem` for example.
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}
