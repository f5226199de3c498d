//! Through a real squid that wants a password, to a registry whose name only squid knows.

use std::net::TcpListener;

use testkit::{Daemons, Squid, TlsFront, certificates, image::Image, secrets};

use crate::{
    bad_input::assert_failed,
    stage::{Output, Stage, native, on_each_daemon, run},
};

/// The port of `127.0.0.1:port`.
fn port(host: &str) -> &str {
    host.rsplit(':').next().expect("a host has a port")
}

/// rpull with these variables; `--plain-http=false` behind the stage's flags where it is to speak TLS.
fn pull(stage: &Stage, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = stage.command(["--debug", "--http-dump"]);
    run(command.args(arguments).envs(variables.iter().copied()))
}

/// The registry of a stage by the name that only squid knows, with an image of one layer of its own.
fn far(stage: &Stage, seed: u64) -> (String, Image) {
    let image = native(&[seed]);
    image.push(stage.registry(), stage.namespace(), "1");
    (format!("{}:{}/{}:1", Squid::NAME, port(&stage.registry().host()), stage.namespace()), image)
}

#[test]
fn plain_http_goes_through_the_proxy_with_its_password() {
    let squid = Squid::start();
    on_each_daemon("proxy-http", |stage| {
        for (seed, variable) in [(501, "HTTP_PROXY"), (502, "http_proxy"), (503, "ALL_PROXY"), (504, "all_proxy")] {
            let (reference, image) = far(&stage, seed);
            let before = squid.requests().len();
            pull(&stage, &[(variable, &squid.url())], &[&reference]).succeeds();
            let layer = image.layers()[0].digest;
            let requests = squid.requests().split_off(before);
            let of_layer = format!("GET http://{}/v2/proxy-http/blobs/{layer} ann 20", reference.split('/').next().unwrap());
            assert!(requests.iter().any(|request| request.starts_with(&of_layer)), "{variable}: {requests:#?}");
            assert!(stage.content(&layer.to_string()).is_some());
            stage.remove_image(&reference);
        }
    });
}

#[test]
fn https_goes_through_a_tunnel_of_the_proxy() {
    let squid = Squid::start();
    on_each_daemon("proxy-https", |stage| {
        let make = |root: &std::path::Path| {
            certificates::authority(root);
            certificates::server(root, certificates::VALID);
        };
        let front = TlsFront::start(&stage.registry().host(), make, "");
        let ca = front.file("ca.pem");
        for (seed, variable) in [(511, "HTTPS_PROXY"), (512, "https_proxy"), (513, "ALL_PROXY")] {
            native(&[seed]).push(stage.registry(), "proxy-https", "1");
            let reference = format!("{}:{}/proxy-https:1", Squid::NAME, front.port());
            let flags = ["--plain-http=false", "--tlscacert", ca.to_str().unwrap(), &reference];
            let before = squid.requests().len();
            pull(&stage, &[(variable, &squid.url())], &flags).succeeds();
            let requests = squid.requests().split_off(before);
            let tunnel = format!("CONNECT {}:{} ann 200", Squid::NAME, front.port());
            assert!(!requests.is_empty() && requests.iter().all(|request| *request == tunnel), "{variable}: {requests:#?}");
            stage.remove_image(&reference);
        }
    });
}

#[test]
fn a_proxy_that_does_not_help_is_named_and_its_password_is_not() {
    let mut squid = Squid::start();
    let wrong = format!("ann:{}", secrets::keep("wrong-proxy-password"));
    let (right, wrong) = (squid.url(), squid.url_for(&wrong));
    let socks = format!("socks5://{}@127.0.0.1:1080", Squid::LOGIN);
    let broken = format!("http://{}/@127.0.0.1:3128", "ann:proxy pa");
    on_each_daemon("proxy-trouble", |stage| {
        let (plain, _) = far(&stage, 521);
        let host = plain.split('/').next().unwrap();
        let tls = format!("{}:443/t/a:1", Squid::NAME);
        let object = "manifest 1 of";
        let login = "hint: give the proxy's user and password in HTTPS_PROXY or HTTP_PROXY: http://USER:PASSWORD@HOST:PORT\n";
        let proxy = "hint: a proxy is http://[USER:PASSWORD@]HOST:PORT; in a password write %40 for @, %2F for /, %3A for :\n";
        let (plain, tls, wrong) = (plain.as_str(), tls.as_str(), wrong.as_str());
        for (variable, value, reference, code, stderr) in [
            (
                "HTTP_PROXY",
                wrong,
                plain,
                5,
                format!("rpull: {host}: {object} proxy-trouble: 407 Proxy Authentication Required\n{login}"),
            ),
            (
                "HTTPS_PROXY",
                wrong,
                tls,
                5,
                format!("rpull: {}: {object} t/a: the proxy wants a password: …\n{login}", Squid::NAME),
            ),
            (
                "HTTPS_PROXY",
                socks.as_str(),
                tls,
                2,
                format!("rpull: HTTPS_PROXY names no proxy that can be used: …socks5…\n{proxy}"),
            ),
            (
                "ALL_PROXY",
                broken.as_str(),
                plain,
                2,
                format!("rpull: ALL_PROXY names no proxy that can be used: invalid port number\n{proxy}"),
            ),
        ] {
            let plain_http = if reference == plain { "--plain-http" } else { "--plain-http=false" };
            let mut command = stage.command([plain_http, reference]);
            assert_failed(&run(command.env(variable, value)), code, &stderr);
        }
        // What was wrong is not kept.
        pull(&stage, &[("HTTP_PROXY", &right)], &[plain]).succeeds();
    });
    squid.kill();
    on_each_daemon("proxy-down", |stage| {
        let (plain, _) = far(&stage, 522);
        let output = run(stage.command(["--timeout", "60s", &plain]).env("HTTP_PROXY", &right));
        output.fails_with(5);
        assert!(output.stderr.contains("no connection"), "{output:#?}");
    });
}

#[test]
fn who_is_excepted_is_asked_directly() {
    let dead = format!("http://{}@127.0.0.1:{}", secrets::keep(Squid::LOGIN), free_port());
    on_each_daemon("no-proxy", |stage| {
        let loopback = native(&[531]).push(stage.registry(), "no-proxy", "1");
        // Loopback needs no exception.
        pull(&stage, &[("HTTP_PROXY", &dead), ("ALL_PROXY", &dead)], &[&loopback]).succeeds();
        // An address that leads to this machine as well, and is none of loopback's.
        let host = format!("0.0.0.0:{}", port(&stage.registry().host()));
        let reference = format!("{host}/no-proxy:1");
        for list in ["0.0.0.0", "0.0.0.0/8", &host, "r.example, 0.0.0.0/31", "*"] {
            pull(&stage, &[("HTTP_PROXY", &dead), ("NO_PROXY", list)], &[&reference]).succeeds();
            pull(&stage, &[("http_proxy", &dead), ("no_proxy", list)], &[&reference]).succeeds();
        }
    });
}

#[test]
fn who_is_not_excepted_is_not_asked_directly() {
    let dead = format!("http://127.0.0.1:{}", free_port());
    // One is enough: each case waits for every retry.
    let stage = Stage::shared(&Daemons::available()[0], "no-exception");
    let (far, _) = far(&stage, 532);
    let near = format!("0.0.0.0:{}/no-exception:1", port(&stage.registry().host()));
    for (list, reference, words) in [
        ("1.0.0.0/8,0.0.0.0:1", &near, "no connection"),
        (".far.example", &far, "no connection"),
        // Directly there is no such name.
        (".example", &far, "no such host"),
    ] {
        let output = pull(&stage, &[("HTTP_PROXY", &dead), ("NO_PROXY", list)], &["--timeout", "60s", reference]);
        let first = output.fails_with(5).lines().find(|line| line.starts_with("rpull: ")).unwrap();
        assert!(first.contains(words), "{list}: {output:#?}");
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
