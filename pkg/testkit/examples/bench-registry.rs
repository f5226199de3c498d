//! Serves a tree of `bench-image` with a rate for every accepted connection, for `hack/bench`:
//! `bench-registry TREE [--rate BYTES] [--slow ONE_IN:BYTES] [--latency MILLISECONDS]`.
//!
//! Prints `listening on HOST:PORT` and serves until its standard input ends.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use oci::MediaType;
use testkit::fault::{Builder, Content, Server};

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program tells its user where it listens or what is wrong")]
fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let Some(server) = configured(&args) else {
        eprintln!("usage: bench-registry TREE [--rate BYTES] [--slow ONE_IN:BYTES] [--latency MILLISECONDS]");
        return ExitCode::FAILURE;
    };
    let server = server.start();
    println!("listening on {}", server.address());
    // It ends with whoever started it, however that one ends.
    let _ = io::stdin().read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}

/// The server that the arguments ask for; `None` when they make no sense.
fn configured(args: &[String]) -> Option<Builder> {
    let (tree, flags) = args.split_first()?;
    let mut server = with_tree(Path::new(tree));
    let mut flags = flags.iter();
    while let (Some(flag), Some(value)) = (flags.next(), flags.next()) {
        server = match flag.as_str() {
            "--rate" => server.rate(value.parse().ok()?),
            "--slow" => {
                let (one_in, rate) = value.split_once(':')?;
                server.slow(one_in.parse().ok()?, rate.parse().ok()?)
            }
            "--latency" => server.latency(Duration::from_millis(value.parse().ok()?)),
            _ => return None,
        };
    }
    (args.len() % 2 == 1).then_some(server)
}

fn with_tree(tree: &Path) -> Builder {
    let mut server = Server::builder();
    for (name, path) in files(&tree.join("manifests")) {
        server = server.manifest(&name, MediaType::OCI_MANIFEST, &fs::read(path).expect("a manifest can be read"));
    }
    for (name, path) in files(&tree.join("blobs")) {
        let file = File::open(path).expect("a blob can be opened");
        server = server.blob(&Content::file(file, name.parse().expect("a blob is named by its digest")));
    }
    server
}

fn files(directory: &Path) -> Vec<(String, std::path::PathBuf)> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let name = |entry: fs::DirEntry| (entry.file_name().to_string_lossy().into_owned(), entry.path());
    entries.map(|entry| name(entry.expect("a directory can be read"))).collect()
}
