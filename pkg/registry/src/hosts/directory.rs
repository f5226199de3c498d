//! Where a registry's `hosts.toml` or certificates lie (reference 8.1).

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{Entry, ExtraTls, Relation, default_entry, explicit_port, file};
use crate::{Error, Options};

/// Directory for every registry without one of its own.
const DEFAULT: &str = "_default";

/// The hosts for `registry` in the order to try. The first root with a directory for it decides.
pub(crate) fn entries(registry: &str, options: &Options) -> Result<Vec<Entry>, Error> {
    for root in &options.hosts_dirs {
        for name in names(registry) {
            let directory = root.join(&name);
            if directory.is_dir() {
                let mut entries = read(&directory, registry, options)?;
                if name == DEFAULT {
                    let mirrors = entries.iter_mut().filter(|entry| entry.relation == Relation::Named);
                    mirrors.for_each(|entry| entry.relation = Relation::Default);
                }
                return Ok(entries);
            }
        }
    }
    Ok(vec![default_entry(registry, options, &ExtraTls::default())?])
}

/// Directory names, best first.
fn names(registry: &str) -> Vec<String> {
    let with_port = explicit_port(registry).and_then(|_| registry.rsplit_once(':'));
    let escaped = with_port.map(|(host, port)| format!("{host}_{port}_"));
    escaped.into_iter().chain([registry.to_owned(), DEFAULT.to_owned()]).collect()
}

fn read(directory: &Path, registry: &str, options: &Options) -> Result<Vec<Entry>, Error> {
    let path = directory.join("hosts.toml");
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => file::parse(&path, &text, registry, options),
        Ok(_) => Ok(vec![default_entry(registry, options, &certificates(directory)?)?]),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(vec![default_entry(registry, options, &certificates(directory)?)?])
        }
        Err(source) => Err(Error::Read { what: "hosts.toml", path, source }),
    }
}

/// Docker's layout: `*.crt` are CAs, `*.cert` with the `*.key` of the same stem a client's pair.
fn certificates(directory: &Path) -> Result<ExtraTls, Error> {
    let unreadable = |source| Error::Read { what: "certificate directory", path: directory.to_owned(), source };
    let listed: io::Result<Vec<PathBuf>> =
        std::fs::read_dir(directory).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut paths = listed.map_err(unreadable)?;
    paths.sort();
    let with = |extension: &'static str| {
        paths.iter().filter(move |path| path.extension().is_some_and(|found| found == extension)).cloned()
    };
    let client = with("cert").map(|certificate| {
        let key = certificate.with_extension("key");
        (certificate, key)
    });
    Ok(ExtraTls { ca: with("crt").collect(), client: client.collect(), skip_verify: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(root: &Path, registry: &str) -> Vec<String> {
        let options = Options { hosts_dirs: vec![root.join("absent"), root.to_owned()], ..Options::default() };
        entries(registry, &options).unwrap().iter().map(Entry::name).collect()
    }

    #[test]
    fn the_directory_with_the_escaped_port_goes_first_and_default_last() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let directory = root.path().join(name);
            std::fs::create_dir(&directory).unwrap();
            std::fs::write(directory.join("hosts.toml"), format!("[host.\"https://for-{}.example\"]", name.len())).unwrap();
        };
        assert_eq!(hosts(root.path(), "r.example:5000"), ["r.example:5000"]);
        put("_default");
        assert_eq!(hosts(root.path(), "r.example:5000"), ["for-8.example", "r.example:5000"]);
        put("r.example:5000");
        assert_eq!(hosts(root.path(), "r.example:5000"), ["for-14.example", "r.example:5000"]);
        put("r.example_5000_");
        assert_eq!(hosts(root.path(), "r.example:5000"), ["for-15.example", "r.example:5000"]);
    }

    #[test]
    fn a_host_is_known_by_whose_file_names_it() {
        let root = tempfile::tempdir().unwrap();
        let options = Options { hosts_dirs: vec![root.path().to_owned()], ..Options::default() };
        for (name, mirror) in [("_default", Relation::Default), ("r.example", Relation::Named)] {
            let directory = root.path().join(name);
            std::fs::create_dir(&directory).unwrap();
            let text = "server = \"https://r.example\"\n[host.\"https://m.example\"]\n[host.\"https://r.example/v2\"]\n";
            std::fs::write(directory.join("hosts.toml"), text).unwrap();
            let relations: Vec<_> = entries("r.example", &options).unwrap().iter().map(|entry| entry.relation).collect();
            assert_eq!(relations, [mirror, Relation::Own, Relation::Own], "{name}");
        }
    }

    #[test]
    fn a_directory_of_certificates_alone_adds_them_to_the_registry() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("r.example");
        std::fs::create_dir(&directory).unwrap();
        for name in ["ca.crt", "me.cert", "me.key", "notes.txt"] {
            std::fs::write(directory.join(name), "").unwrap();
        }
        let options = Options { hosts_dirs: vec![root.path().to_owned()], ..Options::default() };
        let entries = entries("r.example", &options).unwrap();
        assert_eq!(entries[0].tls.more_roots, [directory.join("ca.crt")]);
        assert_eq!(entries[0].tls.client, [(directory.join("me.cert"), directory.join("me.key"))]);
    }
}
