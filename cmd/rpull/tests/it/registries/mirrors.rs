//! Mirrors before a registry that has the image: good ones, bad ones, and what `hosts.toml` may say of one.

use std::{any::Any, fs, net::TcpListener};

use testkit::{
    DistributionRegistry, TlsFront,
    fault::{Fault, Request},
};

use super::scenes::{Scene, Way, closed_port, image, make, plain_front, serve, sizes, small, status};

/// A mirror, good or bad.
#[derive(Clone, Copy)]
pub(super) enum Peers {
    HasIt,
    Empty,
    Down,
    Protected,
    ProtectedHasIt,
    UnknownCa,
    Lies,
    BreaksOff,
    /// Answers for a layer, and sends no byte of it.
    Hangs,
    Busy,
}

/// A mirror before a registry that has the image.
pub(super) fn mirror(name: &str, peer: Peers) -> Scene {
    let origin = DistributionRegistry::start();
    let image = image(name, 2 << 20);
    let reference = image.push(&origin, "t/obd", "1");
    let same = || {
        let mirror = DistributionRegistry::start();
        image.push(&mirror, "t/obd", "1");
        mirror
    };
    let plain = |host: &str| format!("http://{host}");
    let (url, from, kept): (String, Vec<String>, Box<dyn Any>) = match peer {
        Peers::HasIt => {
            let mirror = same();
            (plain(&mirror.host()), vec![mirror.host()], Box::new(mirror))
        }
        Peers::Empty => {
            let mirror = DistributionRegistry::start();
            (plain(&mirror.host()), vec![origin.host()], Box::new(mirror))
        }
        Peers::Down => (plain(&closed_port()), vec![origin.host()], Box::new(())),
        Peers::Protected => {
            let mirror = DistributionRegistry::start_protected();
            (plain(&mirror.host()), vec![origin.host()], Box::new(mirror))
        }
        Peers::ProtectedHasIt => {
            let mirror = DistributionRegistry::start_protected();
            image.push(&mirror, "t/obd", "1");
            (plain(&mirror.host()), vec![mirror.host()], Box::new(mirror))
        }
        Peers::UnknownCa => {
            let mirror = same();
            let front = TlsFront::start(&mirror.host(), make(Way::SignedByCa), "");
            (format!("https://{}", front.host()), vec![origin.host()], Box::new((mirror, front)))
        }
        Peers::Lies => {
            let mirror = same();
            let path = mirror.blob_path(&image.layers()[0].digest);
            let mut bytes = fs::read(&path).unwrap();
            bytes[100_000] ^= 1;
            fs::write(&path, bytes).unwrap();
            (plain(&mirror.host()), vec![origin.host(), mirror.host()], Box::new(mirror))
        }
        Peers::BreaksOff => {
            let mirror = serve(&image).faults(|_| Some(Fault::ResetAt(100_000))).start();
            (plain(&mirror.address()), vec![origin.host(), mirror.address()], Box::new(mirror))
        }
        Peers::Hangs => {
            let layers = sizes(&image);
            let hangs = move |request: &mut Request<'_>| layers.contains(&request.size).then_some(Fault::Stall { after: 0 });
            let mirror = serve(&image).faults(hangs).start();
            (plain(&mirror.address()), vec![origin.host()], Box::new(mirror))
        }
        Peers::Busy => {
            let minutes = status(429, Some("200"));
            let layers = sizes(&image);
            let mirror = serve(&image).faults(move |request| layers.contains(&request.size).then(|| minutes.clone())).start();
            (plain(&mirror.address()), vec![origin.host()], Box::new(mirror))
        }
    };
    let text = format!("server = \"http://{}\"\n[host.\"{url}\"]\ncapabilities = [\"pull\", \"resolve\"]\n", origin.host());
    Scene::new(image, reference, &from).hosts_toml(&origin.host(), &text).keep(kept).keep(origin)
}

pub(super) fn all_down(name: &str) -> Scene {
    let gone = closed_port();
    let failing = TlsFront::start(&closed_port(), make(Way::SignedByCa), "");
    let text = format!(
        "server = \"http://{gone}\"\n[host.\"https://{}\"]\nca = {:?}\n",
        failing.host(),
        failing.file("ca.pem").display().to_string()
    );
    Scene::new(small(name), format!("{gone}/t/obd:1"), &[]).hosts_toml(&gone, &text).keep(failing)
}

/// A mirror at `host` of nginx, before a registry of its own that may have the image. `settings` are lines of nginx's server block,
/// `[encoded]` in them the registry that is meant, as a query has it; `toml` is what `hosts.toml` says of it behind its `url`.
fn fronted(name: &str, has_it: bool, settings: &str, path: &str, toml: impl FnOnce(&str) -> String) -> Scene {
    let origin = DistributionRegistry::start();
    let image = small(name);
    let reference = image.push(&origin, "t/obd", "1");
    let behind = DistributionRegistry::start();
    if has_it {
        image.push(&behind, "t/obd", "1");
    }
    let host = closed_port();
    let front = plain_front(&host, &behind.host(), |_| (), &settings.replace("[encoded]", &origin.host().replace(':', "%3A")));
    let url = format!("http://{host}{path}");
    let text = format!("server = \"http://{}\"\n[host.\"{url}\"]\n{}\n", origin.host(), toml(&url));
    let from = if has_it { host } else { origin.host() };
    let mut scene = Scene::new(image, reference, &[from]).hosts_toml(&origin.host(), &text).keep(origin).keep(behind);
    scene.check = Box::new(move || {
        let seen = fs::read_to_string(front.file("seen")).unwrap_or_default();
        let asked = ["/manifests/1?ns=", "/blobs/sha256:"].iter().all(|part| seen.contains(part));
        if asked { Ok(()) } else { Err(format!("the mirror was not asked:\n{seen}")) }
    });
    scene
}

/// As Spegel is: on this machine, any registry's, told by `ns` which one is meant.
pub(super) fn peer_to_peer(name: &str, has_it: bool) -> Scene {
    let settings = "if ($arg_ns != '[encoded]') { return 400; }";
    let toml = |_: &str| "capabilities = [\"pull\", \"resolve\"]\ndial_timeout = \"200ms\"".to_owned();
    fronted(name, has_it, settings, "", toml)
}

/// As Harbor's are: below a path, which is complete or is not.
pub(super) fn below_a_path(name: &str, complete: bool) -> Scene {
    let path = if complete { "/v2/hub-proxy" } else { "/cache" };
    let inside = if complete { path.to_owned() } else { format!("{path}/v2") };
    let settings = format!("if ($request_uri !~ '^{inside}/') {{ return 403; }} rewrite ^{inside}/(.*)$ /v2/$1 break;");
    fronted(name, true, &settings, path, |_| format!("override_path = {complete}"))
}

/// As Dragonfly's is: wants a header that says whom it stands in for.
pub(super) fn with_header(name: &str) -> Scene {
    let settings = "if ($http_x_dragonfly_registry != 'https://registry.example:5000') { return 403; }";
    let toml = |url: &str| format!("[host.\"{url}\".header]\nX-Dragonfly-Registry = \"https://registry.example:5000\"");
    fronted(name, true, settings, "", toml)
}

/// A mirror that takes the connection and never says a word of TLS. Without its `dial_timeout` it would be waited for as long as
/// for any other host, and the limit of the whole pull is less than that.
pub(super) fn never_stands(name: &str) -> Scene {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = DistributionRegistry::start();
    let image = small(name);
    let reference = image.push(&origin, "t/obd", "1");
    let text = format!(
        "server = \"http://{}\"\n[host.\"https://{}\"]\ndial_timeout = \"100ms\"\n",
        origin.host(),
        silent.local_addr().unwrap()
    );
    let scene = Scene::new(image, reference, &[origin.host()]).hosts_toml(&origin.host(), &text);
    scene.with(&["--timeout", "25s"]).keep(origin).keep(silent)
}
