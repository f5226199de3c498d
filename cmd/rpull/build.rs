//! The version that `rpull --version` says: the package's, and the commit it was built from where that is known.
//!
//! `RPULL_COMMIT` names the commit for a build outside git (a source archive, a container); empty, none is said.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo::rerun-if-env-changed=RPULL_COMMIT");
    let version = env::var("CARGO_PKG_VERSION").expect("cargo sets it");
    let commit = env::var("RPULL_COMMIT").ok().or_else(from_git).filter(|commit| !commit.is_empty());
    let said = commit.map_or_else(|| version.clone(), |commit| format!("{version} ({commit})"));
    println!("cargo::rustc-env=RPULL_VERSION={said}");
}

/// The commit that is checked out here, if this is a checkout of ours and not an archive unpacked inside another one.
fn from_git() -> Option<String> {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    let git = |arguments: &[&str]| -> Option<String> {
        let output = Command::new("git").arg("-C").arg(&package).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let top = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
    let workspace = package.join("../..").canonicalize().ok()?;
    if top.canonicalize().ok()? != workspace {
        return None;
    }
    // Looked at again only when something else is checked out: HEAD moves with the branch, its log with every commit.
    for name in ["HEAD", "logs/HEAD"] {
        let file = package.join(git(&["rev-parse", "--git-path", name])?);
        if Path::exists(&file) {
            println!("cargo::rerun-if-changed={}", file.display());
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}
