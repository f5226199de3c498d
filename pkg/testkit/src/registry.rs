//! A real distribution registry (`docker-registry`) on a private directory, and a plain way to put anything into it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use oci::{Digest, MediaType};

use crate::{
    http::{self, Body, Response},
    process::{self, Process},
    secrets,
    token_server::{self, TokenServer},
};

/// A running private registry. Dropping it ends the server and removes what it stored.
#[derive(Debug)]
pub struct DistributionRegistry {
    process: Option<Process>,
    port: u16,
    options: RegistryOptions,
    home: tempfile::TempDir,
}

/// How a registry differs from one that is open to everyone.
#[derive(Debug, Default)]
pub struct RegistryOptions {
    /// Asks for [`USER`](DistributionRegistry::USER) and [`PASSWORD`](DistributionRegistry::PASSWORD), reads included.
    pub protected: bool,
    /// Asks for a token of this server, for pushing as well.
    pub tokens: Option<Arc<TokenServer>>,
    /// `REGISTRY_3`, built by `hack/lib.sh`, in place of Debian's.
    pub version_3: bool,
    /// Listens on `::1` in place of 127.0.0.1.
    pub ipv6: bool,
    /// A pull-through cache of this registry (`http://host:port`).
    pub upstream: Option<String>,
}

impl DistributionRegistry {
    /// The user that a protected registry lets in.
    pub const USER: &str = TokenServer::USER;
    /// That user's password.
    pub const PASSWORD: &str = TokenServer::PASSWORD;
    /// USER and PASSWORD as an `Authorization` header has them.
    pub(crate) const BASIC: &str = "Basic dXNlcjpzZWNyZXQ6d2l0aC1jb2xvbg==";
    /// The htpasswd line of USER and PASSWORD (bcrypt, the only form this server takes; the lowest cost).
    const HTPASSWD: &str = "user:$2y$04$P/MJLr7V0YUnbnFaA7FAPOETv6Egf3PmlBo62dVy/ui95Y3dxM3nu\n";

    /// Starts a registry open to everyone.
    pub fn start() -> Self {
        Self::with(RegistryOptions::default())
    }

    /// Starts a registry that asks for [`USER`](Self::USER) and [`PASSWORD`](Self::PASSWORD), reads included.
    pub fn start_protected() -> Self {
        Self::with(RegistryOptions { protected: true, ..RegistryOptions::default() })
    }

    /// Starts a registry that asks for a token of `server`.
    pub fn start_with_tokens(server: &Arc<TokenServer>) -> Self {
        Self::with(RegistryOptions { tokens: Some(Arc::clone(server)), ..RegistryOptions::default() })
    }

    /// Starts a registry of another kind.
    pub fn with(options: RegistryOptions) -> Self {
        if options.protected {
            secrets::keep(Self::PASSWORD);
        }
        let mut registry = Self { process: None, port: process::free_port(), options, home: process::scratch() };
        registry.restart();
        registry
    }

    /// Starts the server again after [`kill`](Self::kill), on the same port and directory.
    pub fn restart(&mut self) {
        self.process = None;
        let home = self.home.path();
        let config = home.join("config.yml");
        fs::write(home.join("htpasswd"), Self::HTPASSWD).expect("a file can be written to our own directory");
        fs::write(&config, self.config()).expect("a file can be written to our own directory");
        let mut command = Command::new(self.program());
        // Version 3 would send traces to a collector otherwise.
        command.arg("serve").arg(config).env("OTEL_TRACES_EXPORTER", "none");
        let mut process = Process::start(command, home.join("log"));
        process.wait_until("docker-registry", || self.send("GET", "/v2/", &[], Body::Bytes(b"")).is_ok_and(|r| r.status == 200));
        self.process = Some(process);
    }

    fn program(&self) -> PathBuf {
        if self.options.version_3 {
            return std::env::var_os("REGISTRY_3").expect("REGISTRY_3 names a registry of version 3; hack/test sets it").into();
        }
        ["docker-registry", "registry"].into_iter().find_map(process::on_path).expect("docker-registry is on PATH")
    }

    /// Ends the server at once, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    fn config(&self) -> String {
        let home = self.home.path().display();
        let address = self.host();
        let auth = match &self.options.tokens {
            Some(server) => format!(
                "auth:\n  token:\n    realm: {}\n    service: {name}\n    issuer: {name}\n    rootcertbundle: {}\n",
                server.realm(),
                server.certificate().display(),
                name = token_server::NAME
            ),
            None if self.options.protected => format!("auth:\n  htpasswd:\n    realm: testkit\n    path: {home}/htpasswd\n"),
            None => String::new(),
        };
        let proxy = self.options.upstream.as_ref().map_or_else(String::new, |url| format!("proxy:\n  remoteurl: {url}\n"));
        format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {home}/data\n  \
             delete:\n    enabled: true\nhttp:\n  addr: '{address}'\n  secret: testkit\n{auth}{proxy}"
        )
    }

    /// `127.0.0.1:port` or `[::1]:port`, the host part of a reference.
    pub fn host(&self) -> String {
        let address = if self.options.ipv6 { "[::1]" } else { "127.0.0.1" };
        format!("{address}:{}", self.port)
    }

    /// `127.0.0.1:port/repository:tag`
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.host())
    }

    /// File in which the server keeps a blob it has; overwriting it makes the server send something else.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.home.path().join(format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }

    /// Copies the image that an OCI layout holds under `layout_tag` to `repository:layout_tag` here, byte for byte
    /// (`skopeo copy --preserve-digests`), and returns its reference.
    pub fn push_oci_layout(&self, layout: &Path, layout_tag: &str, repository: &str) -> String {
        let reference = self.reference(repository, layout_tag);
        let mut command = Command::new("skopeo");
        command.args(["copy", "--all", "--preserve-digests", "--dest-tls-verify=false", "--quiet"]);
        if self.options.protected || self.options.tokens.is_some() {
            command.arg(format!("--dest-creds={}:{}", Self::USER, Self::PASSWORD));
        }
        command.arg(format!("oci:{}:{layout_tag}", layout.display())).arg(format!("docker://{reference}"));
        let output = command.output().expect("skopeo is on PATH");
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        reference
    }

    /// Uploads a blob and returns its digest.
    pub fn push_blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.upload(repository, &digest, Body::Bytes(bytes));
        digest
    }

    /// Uploads a file as a blob without reading it into memory.
    pub fn push_blob_file(&self, repository: &str, path: &Path, digest: &Digest) {
        let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.upload(repository, digest, Body::File(file));
    }

    fn upload(&self, repository: &str, digest: &Digest, body: Body<'_>) {
        let opened =
            self.send("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], Body::Bytes(b"")).expect("our registry answers");
        let location = opened.header("location").unwrap_or_else(|| panic!("no upload was opened: {opened:?}"));
        let target = location.strip_prefix(&format!("http://{}", self.host())).unwrap_or(location);
        let separator = if target.contains('?') { '&' } else { '?' };
        let target = format!("{target}{separator}digest={digest}");
        let answer =
            self.send("PUT", &target, &[("Content-Type", "application/octet-stream")], body).expect("our registry answers");
        assert_eq!(answer.status, 201, "blob {digest} was not taken: {}", String::from_utf8_lossy(&answer.body));
    }

    /// Uploads a manifest or index as it is, under a tag or its own digest; the server's answer is returned, since
    /// a server may refuse a hostile one.
    pub fn push_manifest(&self, repository: &str, tag_or_digest: &str, media_type: &str, bytes: &[u8]) -> Response {
        let target = format!("/v2/{repository}/manifests/{tag_or_digest}");
        self.send("PUT", &target, &[("Content-Type", media_type)], Body::Bytes(bytes)).expect("our registry answers")
    }

    /// Puts a manifest or index on the server's disk as if it had been pushed, under a tag or its own digest: for those
    /// that the API refuses, such as one that lists a layer the server does not have.
    pub fn plant_manifest(&self, repository: &str, tag_or_digest: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let hex = digest.hex();
        let manifests = self.home.path().join("data/docker/registry/v2/repositories").join(repository).join("_manifests");
        let mut links = vec![manifests.join("revisions/sha256").join(&hex)];
        if tag_or_digest != digest.to_string() {
            let tag = manifests.join("tags").join(tag_or_digest);
            links.extend([tag.join("current"), tag.join("index/sha256").join(&hex)]);
        }
        let mut files = vec![(self.blob_path(&digest), bytes.to_vec())];
        files.extend(links.into_iter().map(|link| (link.join("link"), digest.to_string().into_bytes())));
        for (path, content) in files {
            fs::create_dir_all(path.parent().expect("the path of a file has a parent")).expect("our own directory takes more");
            fs::write(path, content).expect("a file can be written to our own directory");
        }
        digest
    }

    /// Any other request with an empty body, such as a `DELETE`; any media type is accepted, and credentials are added
    /// where the registry asks for them.
    pub fn request(&self, method: &str, target: &str) -> Response {
        let accept = [MediaType::OCI_INDEX, MediaType::OCI_MANIFEST, MediaType::DOCKER_INDEX, MediaType::DOCKER_MANIFEST];
        self.send(method, target, &[("Accept", &format!("{}, */*", accept.join(", ")))], Body::Bytes(b""))
            .expect("our registry answers")
    }

    fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: Body<'_>) -> std::io::Result<Response> {
        let mut headers = headers.to_vec();
        let authorization = self.authorization(target);
        headers.extend(authorization.as_deref().map(|value| ("Authorization", value)));
        http::request(&self.host(), method, target, &headers, body)
    }

    fn authorization(&self, target: &str) -> Option<String> {
        let Some(server) = &self.options.tokens else {
            return self.options.protected.then(|| Self::BASIC.to_owned());
        };
        let path = target.strip_prefix("/v2/").unwrap_or_default();
        let end = ["/blobs/", "/manifests/"].iter().find_map(|kind| path.rfind(kind));
        let scope = end.map_or_else(String::new, |end| format!("repository:{}:pull,push,delete", &path[..end]));
        Some(format!("Bearer {}", server.own_token(&scope)))
    }
}
