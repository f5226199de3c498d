//! Certificates made by openssl: a CA, and what it signs.

use std::{path::Path, process::Command};

use crate::daemons::run;

/// From and until, as openssl writes them.
pub(crate) type Dates = (&'static str, &'static str);
pub(crate) const VALID: Dates = ("20200101000000Z", "20490101000000Z");
pub(crate) const EXPIRED: Dates = ("20200101000000Z", "20200201000000Z");
pub(crate) const FUTURE: Dates = ("20480101000000Z", "20490101000000Z");

const CONFIG: &str = "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nrand_serial=yes\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n\
     unique_subject=no\n[p]\ncommonName=supplied\n";
/// Everything a server here is called.
const SERVER_NAMES: &str = "subjectAltName=IP:127.0.0.1,DNS:right.example,DNS:far.example\n";

/// `ca.pem` and `ca.key`.
pub(crate) fn authority(root: &Path) {
    make(root, "ca", "basicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash\n", VALID, None);
}

/// `server.pem` and `server.key`, signed by the CA.
pub(crate) fn server(root: &Path, dates: Dates) {
    make(root, "server", &format!("basicConstraints=CA:FALSE\n{SERVER_NAMES}"), dates, Some("ca"));
}

/// The same files, signed by themselves and marked as a CA: what `openssl req -x509` makes.
pub(crate) fn self_signed(root: &Path, dates: Dates) {
    make(root, "server", &format!("basicConstraints=critical,CA:TRUE\n{SERVER_NAMES}"), dates, None);
}

/// `client.pem` and `client.key`, signed by the CA.
pub(crate) fn client(root: &Path) {
    make(root, "client", "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n", VALID, Some("ca"));
}

fn make(root: &Path, name: &str, extensions: &str, (from, until): Dates, issuer: Option<&str>) {
    let write = |file: &str, text: &str| std::fs::write(root.join(file), text).unwrap();
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
