//! Makes an image of overlaybd layers in a folder that any web server can serve as a registry, for `hack/bench`:
//! `bench-image TREE TAG COUNT SIZE [--sparse]`.
//!
//! `TREE/blobs/DIGEST` and `TREE/manifests/TAG` are what `/v2/NAME/…` answers. `SIZE` is that of each blob in bytes, up to a
//! few pages; `--sparse` makes blobs of zeros that take little disk.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use oci::Digest;
use testkit::image::{Blob, Image, Layer, SparseBlob};

/// What 4 KiB of disk take in a blob of random bytes: a block as LZ4 stores it, its CRC, its entry in the index.
const PAGE_IN_BLOB: u64 = 4096 + 17 + 4 + 4;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let (tree, tag, count, size, sparse) = match args.as_slice() {
        [tree, tag, count, size] => (tree, tag, count, size, false),
        [tree, tag, count, size, "--sparse"] => (tree, tag, count, size, true),
        _ => return usage(),
    };
    let (Ok(count), Ok(size)) = (count.parse(), size.parse()) else { return usage() };
    make(Path::new(tree), tag, count, size, sparse);
    ExitCode::SUCCESS
}

fn make(tree: &Path, tag: &str, count: u64, size: u64, sparse: bool) {
    let (blobs, manifests) = (tree.join("blobs"), tree.join("manifests"));
    for directory in [&blobs, &manifests] {
        fs::create_dir_all(directory).expect("the tree can be made");
    }
    let layers = (0..count).map(|number| layer(&blobs, tag, number, size, sparse)).collect();
    let image = Image::new(layers);
    write(&blobs.join(Digest::of(&image.config()).to_string()), &image.config());
    for name in [tag.to_owned(), image.digest().to_string()] {
        write(&manifests.join(name), &image.manifest());
    }
}

fn layer(blobs: &Path, tag: &str, number: u64, size: u64, sparse: bool) -> Layer {
    let path: PathBuf = blobs.join(format!("{tag}-{number}.part"));
    // A tag of its own makes blobs of its own, so that nothing pulled for one image is there for another.
    let seed = tag.bytes().fold(number, |seed, byte| seed.wrapping_mul(0x100_0193) ^ u64::from(byte));
    let (digest, written) = if sparse {
        SparseBlob { data: size }.write(&path)
    } else {
        Blob { seed, data: size / PAGE_IN_BLOB * 4096 }.write(&path)
    };
    let name = blobs.join(digest.to_string());
    fs::rename(&path, &name).expect("a file can get its name");
    Layer::overlaybd_at(&name, digest, written)
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

#[expect(clippy::print_stderr, reason = "a program tells its user what is wrong")]
fn usage() -> ExitCode {
    eprintln!("usage: bench-image TREE TAG COUNT SIZE [--sparse]");
    ExitCode::FAILURE
}
