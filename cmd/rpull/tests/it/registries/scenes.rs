//! The setups of the table: registries, fronts and mirrors with an image, and what a user has to say to reach it.

use std::{any::Any, collections::BTreeSet, fs, net::TcpListener, path::Path, process::Command, sync::Arc, time::Duration};

use oci::Digest;
use tempfile::TempDir;
use testkit::{
    DistributionRegistry, RegistryOptions, Rules, Signature, SignedFront, SignedOptions, TlsFront, TokenServer, certificates,
    fault::{Builder, Content, Fault, Server},
    image::{Blob, Image, Layer},
};

/// A place to pull from.
pub(super) struct Scene {
    pub(super) image: Image,
    pub(super) reference: String,
    pub(super) args: Vec<String>,
    pub(super) environment: Vec<(&'static str, String)>,
    /// Hosts from which layer bytes come, all of them.
    pub(super) from: Vec<String>,
    /// What is to be found at the servers after the pull.
    pub(super) check: Box<dyn Fn() -> Result<(), String>>,
    kept: Vec<Box<dyn Any>>,
}

/// Whose word the server's certificate has, or what is wrong with it.
#[derive(Clone, Copy)]
pub(super) enum Way {
    SignedByCa,
    SelfSigned,
    Expired,
    OtherName,
}

/// How rpull is told what it needs for TLS.
#[derive(Clone, Copy)]
pub(super) enum Given {
    Flag,
    HostsToml,
    /// `*.crt`, `*.cert` and `*.key` in the registry's directory.
    Directory,
    /// Among the system's roots.
    System,
    /// The same, and another CA in hosts.toml.
    SystemAndOther,
    /// The same, and another CA with `--tlscacert`.
    OtherForSystem,
    /// Not at all, and it has to verify.
    Nothing,
    /// Not at all; a registry on loopback is not verified then.
    Loopback,
    SkipVerify,
    PlainHttp,
}

impl Scene {
    pub(super) fn new(image: Image, reference: String, from: &[String]) -> Self {
        let (args, environment, kept) = (Vec::new(), Vec::new(), Vec::new());
        Self { image, reference, args, environment, from: from.to_vec(), check: Box::new(|| Ok(())), kept }
    }

    pub(super) fn with(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    pub(super) fn keep(mut self, what: impl Any) -> Self {
        self.kept.push(Box::new(what));
        self
    }

    /// User and password for all that serve, in docker's form.
    pub(super) fn logins(&self) -> String {
        // user:secret:with-colon
        let entry = |host: &String| format!("\"{host}\":{{\"auth\":\"dXNlcjpzZWNyZXQ6d2l0aC1jb2xvbg==\"}}");
        let entries: Vec<_> = self.from.iter().map(entry).collect();
        format!("{{\"auths\":{{{}}}}}", entries.join(","))
    }

    /// A `hosts.toml` for `host`.
    pub(super) fn hosts_toml(self, host: &str, text: &str) -> Self {
        let root = hosts_dir(host, |directory| fs::write(directory.join("hosts.toml"), text).unwrap());
        self.with(&["--hosts-dir", root.path().to_str().unwrap()]).keep(root)
    }
}

fn hosts_dir(host: &str, fill: impl FnOnce(&Path)) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join(host);
    fs::create_dir(&directory).unwrap();
    fill(&directory);
    root
}

/// An image that no other scene has: nothing of it may be on the machine already.
pub(super) fn image(name: &str, data: usize) -> Image {
    let digest = Digest::of(name.as_bytes()).hex();
    let seed = u64::from_str_radix(&digest[..8], 16).unwrap();
    Image::new(vec![
        Layer::overlaybd(Blob { seed, data: data.try_into().unwrap() }),
        Layer::overlaybd(Blob { seed: seed + 1, data: 64 << 10 }),
    ])
}

pub(super) fn small(name: &str) -> Image {
    image(name, 64 << 10)
}

pub(super) fn closed_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

pub(super) fn registry(name: &str, set: impl FnOnce(&mut RegistryOptions)) -> Scene {
    let mut options = RegistryOptions::default();
    set(&mut options);
    let registry = DistributionRegistry::with(options);
    let image = small(name);
    let reference = image.push(&registry, "t/obd", "1");
    Scene::new(image, reference, &[registry.host()]).keep(registry)
}

/// A registry that wants a token of a server of its own.
pub(super) fn tokens(name: &str, version_3: bool, anonymous: bool) -> Scene {
    let server = Arc::new(TokenServer::start(Rules { anonymous, ..Rules::default() }));
    let tokens = Some(server);
    registry(name, |options| *options = RegistryOptions { tokens, version_3, ..RegistryOptions::default() })
}

fn caching(name: &str, version_3: bool) -> (Image, String, DistributionRegistry, DistributionRegistry) {
    let origin = DistributionRegistry::start();
    let image = small(name);
    let reference = image.push(&origin, "t/obd", "1");
    let upstream = Some(format!("http://{}", origin.host()));
    let cache = DistributionRegistry::with(RegistryOptions { version_3, upstream, ..RegistryOptions::default() });
    (image, reference, origin, cache)
}

pub(super) fn cache(name: &str, version_3: bool) -> Scene {
    let (image, _, origin, cache) = caching(name, version_3);
    Scene::new(image, cache.reference("t/obd", "1"), &[cache.host()]).keep(origin).keep(cache)
}

pub(super) fn cache_as_mirror(name: &str, version_3: bool) -> Scene {
    let (image, reference, origin, cache) = caching(name, version_3);
    let text = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", origin.host(), cache.host());
    Scene::new(image, reference, &[cache.host()]).hosts_toml(&origin.host(), &text).keep(origin).keep(cache)
}

/// `obd:1` is `docker.io/library/obd:1`.
pub(super) fn hub(name: &str) -> Scene {
    let registry = DistributionRegistry::start();
    let image = small(name);
    image.push(&registry, "library/obd", "1");
    let text = format!("server = \"http://{0}\"\n[host.\"http://{0}\"]\n", registry.host());
    Scene::new(image, "obd:1".to_owned(), &[registry.host()]).hosts_toml("docker.io", &text).keep(registry)
}

pub(super) fn make(way: Way) -> impl FnOnce(&Path) {
    move |root| {
        if matches!(way, Way::SelfSigned) {
            return certificates::self_signed(root, certificates::VALID);
        }
        certificates::authority(root);
        certificates::client(root);
        match way {
            Way::Expired => certificates::server(root, certificates::EXPIRED),
            Way::OtherName => certificates::server_for(root, certificates::VALID, "DNS:registry.example"),
            _ => certificates::server(root, certificates::VALID),
        }
    }
}

/// nginx with TLS before docker-registry.
pub(super) fn tls(name: &str, way: Way, settings: &str, given: Given) -> Scene {
    fronted(name, way, settings, given, DistributionRegistry::start())
}

fn fronted(name: &str, way: Way, settings: &str, given: Given, registry: DistributionRegistry) -> Scene {
    let image = small(name);
    let pushed = image.push(&registry, "t/obd", "1");
    let front = TlsFront::start(&registry.host(), make(way), settings);
    let reference = pushed.replace(&registry.host(), &front.host());
    let scene = Scene::new(image, reference, &[front.host()]);
    told(scene, &front, given, matches!(way, Way::SelfSigned)).keep(front).keep(registry)
}

fn told(mut scene: Scene, front: &TlsFront, given: Given, self_signed: bool) -> Scene {
    let (host, file) = (front.host(), |name: &str| front.file(name).display().to_string());
    let ca = file(if self_signed { "server.pem" } else { "ca.pem" });
    // Loopback is verified only where a file says so.
    let strict = format!("server = \"https://{host}\"\nskip_verify = false\n");
    if matches!(given, Given::System | Given::SystemAndOther | Given::OtherForSystem) {
        scene.environment.push(("SSL_CERT_FILE", ca.clone()));
    }
    let other = || {
        let root = tempfile::tempdir().unwrap();
        certificates::authority(root.path());
        (root.path().join("ca.pem").display().to_string(), root)
    };
    match given {
        Given::Flag => scene.with(&["--tlscacert", &ca]),
        Given::HostsToml => scene.hosts_toml(&host, &format!("server = \"https://{host}\"\nca = {ca:?}\n")),
        Given::Directory => {
            let escaped = host.replace(':', "_") + "_";
            let root = hosts_dir(&escaped, |directory| {
                fs::copy(&ca, directory.join("ca.crt")).unwrap();
            });
            scene.with(&["--hosts-dir", root.path().to_str().unwrap()]).keep(root)
        }
        Given::System | Given::Nothing => scene.hosts_toml(&host, &strict),
        Given::SystemAndOther => {
            let (ca, root) = other();
            scene.hosts_toml(&host, &format!("{strict}ca = {ca:?}\n")).keep(root)
        }
        Given::OtherForSystem => {
            let (ca, root) = other();
            scene.with(&["--tlscacert", &ca]).keep(root)
        }
        Given::Loopback => scene,
        Given::SkipVerify => scene.with(&["--skip-verify"]),
        Given::PlainHttp => scene.with(&["--plain-http"]),
    }
}

pub(super) fn tls_with_password(name: &str) -> Scene {
    fronted(name, Way::SignedByCa, "", Given::Flag, DistributionRegistry::start_protected())
}

/// nginx that lets in only those with a certificate of its CA. `Nothing`: none is shown.
pub(super) fn known_clients(name: &str, given: Given) -> Scene {
    let registry = DistributionRegistry::start();
    let image = small(name);
    let pushed = image.push(&registry, "t/obd", "1");
    let settings = "ssl_verify_client on; ssl_client_certificate ROOT/ca.pem;";
    let front = TlsFront::start(&registry.host(), make(Way::SignedByCa), settings);
    let host = front.host();
    let file = |name: &str| front.file(name).display().to_string();
    let (ca, certificate, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let scene = Scene::new(image, pushed.replace(&registry.host(), &host), std::slice::from_ref(&host));
    let scene = match given {
        Given::HostsToml => {
            let text = format!("server = \"https://{host}\"\nca = {ca:?}\nclient = [[{certificate:?}, {key:?}]]\n");
            scene.hosts_toml(&host, &text)
        }
        Given::Directory => {
            let root = hosts_dir(&host, |directory| {
                for (from, to) in [(&ca, "ca.crt"), (&certificate, "me.cert"), (&key, "me.key")] {
                    fs::copy(from, directory.join(to)).unwrap();
                }
            });
            scene.with(&["--hosts-dir", root.path().to_str().unwrap()]).keep(root)
        }
        Given::Nothing => scene.with(&["--tlscacert", &ca]),
        _ => scene.with(&["--tlscacert", &ca, "--tlscert", &certificate, "--tlskey", &key]),
    };
    scene.keep(front).keep(registry)
}

/// A file says https, the registry speaks http.
pub(super) fn http_for_https(name: &str) -> Scene {
    let scene = registry(name, |_| ());
    let host = scene.from[0].clone();
    scene.hosts_toml(&host, &format!("server = \"https://{host}\"\n"))
}

/// Blobs are redirected to storage that takes no Authorization; each is signed once.
pub(super) fn signed(name: &str, signature: Signature) -> Scene {
    let registry = DistributionRegistry::start_protected();
    let image = image(name, 1 << 20);
    let pushed = image.push(&registry, "t/obd", "1");
    let lifetime = Duration::from_secs(600);
    let front = SignedFront::start(&registry, SignedOptions { signature, lifetime, refusal: 403 });
    let host = front.host();
    let mut scene = Scene::new(image, pushed.replace(&registry.host(), &host), &[host]).keep(registry);
    scene.check = Box::new(move || {
        let count = front.count();
        let once = count.signed.values().all(|signed| *signed == 1);
        // Two layers and the config; more requests than that for the ranges.
        let right = once && count.signed.len() == 3 && count.served > 4;
        if right && (count.refused, count.with_authorization) == (0, 0) { Ok(()) } else { Err(format!("{count:?}")) }
    });
    scene
}

/// TLS before redirects to storage without it.
pub(super) fn downgrade(name: &str) -> Scene {
    let registry = DistributionRegistry::start_protected();
    let image = small(name);
    let pushed = image.push(&registry, "t/obd", "1");
    let options = SignedOptions { signature: Signature::Amazon, lifetime: Duration::from_secs(600), refusal: 403 };
    let signed = SignedFront::start(&registry, options);
    let front = TlsFront::start(&signed.host(), make(Way::SignedByCa), "");
    let scene = Scene::new(image, pushed.replace(&registry.host(), &front.host()), &[]);
    told(scene, &front, Given::Flag, false).keep(front).keep(signed).keep(registry)
}

pub(super) fn serve(image: &Image) -> Builder {
    let mut server = Server::builder().manifest("1", image.media_type(), &image.manifest());
    for bytes in image.layers().iter().map(Layer::bytes).chain([image.config()]) {
        server = server.blob(&Content::bytes(bytes));
    }
    server
}

pub(super) fn sizes(image: &Image) -> Vec<u64> {
    image.layers().iter().map(|layer| layer.size).collect()
}

pub(super) fn status(code: u16, retry_after: Option<&str>) -> Fault {
    Fault::Status { code, retry_after: retry_after.map(str::to_owned) }
}

/// A registry that is odd about its blobs; `fault` is told whether it is the first request for one.
pub(super) fn odd(name: &str, fault: impl Fn(bool) -> Option<Fault> + Send + 'static) -> Scene {
    let image = small(name);
    let mut asked = BTreeSet::new();
    let server = serve(&image).faults(move |request| fault(asked.insert(request.size))).start();
    Scene::new(image, format!("{}/t/obd:1", server.address()), &[server.address()]).keep(server)
}

pub(super) fn broken_hosts_toml(name: &str) -> Scene {
    let scene = registry(name, |_| ());
    let host = scene.from[0].clone();
    scene.hosts_toml(&host, &format!("server = \"http://{host}\"\ncapabilities = [\"pul\"]\n"))
}

/// The image as [`small`] has it, in a registry behind nginx without TLS; `settings` are lines of nginx's server block.
pub(super) fn behind(name: &str, registry: DistributionRegistry, settings: &str) -> Scene {
    let image = small(name);
    let pushed = image.push(&registry, "t/obd", "1");
    let host = closed_port();
    let front = plain_front(&host, &registry.host(), |_| (), settings);
    Scene::new(image, pushed.replace(&registry.host(), &host), &[host]).keep(front).keep(registry)
}

/// nginx at `host` without TLS. What it was asked for is in its file `seen`.
pub(super) fn plain_front(host: &str, upstream: &str, make: impl FnOnce(&Path), settings: &str) -> TlsFront {
    let fill = |root: &Path| {
        certificates::self_signed(root, certificates::VALID);
        make(root);
    };
    TlsFront::start(upstream, fill, &format!("listen {host}; access_log ROOT/seen; {settings}"))
}

/// For those it does not know there is nothing but its door.
pub(super) fn hidden(name: &str) -> Scene {
    let settings = "set $who known; if ($http_authorization = '') { set $who nobody; } \
         if ($request_uri ~ '^/v2/.') { set $who \"$who inside\"; } if ($who = 'nobody inside') { return 404; }";
    behind(name, DistributionRegistry::start_protected(), settings)
}

/// Manifests are sent as gzip, though nobody asked for that.
pub(super) fn gzipped(name: &str) -> Scene {
    let registry = DistributionRegistry::start();
    let image = small(name);
    let pushed = image.push(&registry, "t/obd", "1");
    let host = closed_port();
    let manifests = |root: &Path| {
        let folder = root.join("files/v2/t/obd/manifests");
        fs::create_dir_all(&folder).unwrap();
        let manifest = image.manifest();
        for name in ["1".to_owned(), Digest::of(&manifest).to_string()] {
            let file = folder.join(name);
            fs::write(&file, &manifest).unwrap();
            assert!(Command::new("gzip").arg(&file).status().unwrap().success());
        }
    };
    let settings =
        format!("location /v2/t/obd/manifests/ {{ root ROOT/files; gzip_static always; default_type {}; }}", image.media_type());
    let front = plain_front(&host, &registry.host(), manifests, &settings);
    Scene::new(image, pushed.replace(&registry.host(), &host), &[host]).keep(front).keep(registry)
}

/// The first answer for a manifest is 200 and nothing, as a cache's that has not got it yet.
pub(super) fn empty_manifest_once(name: &str) -> Scene {
    let image = small(name);
    let server = serve(&image).empty_manifest_once().start();
    Scene::new(image, format!("{}/t/obd:1", server.address()), &[server.address()]).keep(server)
}
