//! Certificates made by openssl: a CA, and what it signs. Everything as PEM files in one directory.

use std::{path::Path, process::Command};

/// From and until, as openssl writes them.
pub type Dates = (&'static str, &'static str);
/// Good for all tests.
pub const VALID: Dates = ("20200101000000Z", "20490101000000Z");
/// Was good once.
pub const EXPIRED: Dates = ("20200101000000Z", "20200201000000Z");
/// Will be good.
pub const FUTURE: Dates = ("20480101000000Z", "20490101000000Z");

/// Everything a server is called that does not say otherwise.
pub const NAMES: &str = "IP:127.0.0.1,DNS:right.example,DNS:far.example";

const CONFIG: &str = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nrand_serial=yes\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n\
     unique_subject=no\n[p]\ncommonName=supplied\n";

/// Makes `ca.pem` and `ca.key` in `root`.
pub fn authority(root: &Path) {
    make(root, "ca", "basicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash\n", VALID, None);
}

/// Makes `server.pem` and `server.key`, signed by the CA, for [`NAMES`].
pub fn server(root: &Path, dates: Dates) {
    server_for(root, dates, NAMES);
}

/// The same for other names, `DNS:a.example,IP:::1` for example.
pub fn server_for(root: &Path, dates: Dates, names: &str) {
    make(root, "server", &format!("basicConstraints=CA:FALSE\nsubjectAltName={names}\n"), dates, Some("ca"));
}

/// Makes the same files, signed by themselves and marked as a CA: what `openssl req -x509` makes.
pub fn self_signed(root: &Path, dates: Dates) {
    make(root, "server", &format!("basicConstraints=critical,CA:TRUE\nsubjectAltName={NAMES}\n"), dates, None);
}

/// Makes `client.pem` and `client.key`, signed by the CA.
pub fn client(root: &Path) {
    make(root, "client", "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n", VALID, Some("ca"));
}

fn make(root: &Path, name: &str, extensions: &str, (from, until): Dates, issuer: Option<&str>) {
    let write = |file: &str, text: &str| std::fs::write(root.join(file), text).expect("our own directory takes files");
    write("ca.cnf", CONFIG);
    write("index", "");
    write("extensions", extensions);
    let (pem, key, csr) = (format!("{name}.pem"), format!("{name}.key"), format!("{name}.csr"));
    let openssl = || {
        let mut command = Command::new("openssl");
        command.current_dir(root);
        command
    };
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
    let subject = format!("/CN={name}");
    run(openssl().args(["req", "-new", "-nodes", "-keyout", &key, "-out", &csr, "-subj", &subject]).args(curve));
    let mut sign = openssl();
    sign.args(["ca", "-batch", "-notext", "-config", "ca.cnf", "-extfile", "extensions"]);
    sign.args(["-startdate", from, "-enddate", until, "-in", &csr, "-out", &pem]);
    match issuer {
        Some(issuer) => sign.args(["-cert", &format!("{issuer}.pem"), "-keyfile", &format!("{issuer}.key")]),
        None => sign.args(["-selfsign", "-keyfile", &key]),
    };
    run(&mut sign);
}

fn run(command: &mut Command) {
    let output = command.output().expect("openssl is on PATH");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
