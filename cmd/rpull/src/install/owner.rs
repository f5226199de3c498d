//! Whether a package manager takes a file for its own.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The package that owns `path`, by Debian's or by Red Hat's books, whichever are here.
pub(super) fn of(path: &Path) -> Option<String> {
    // The books have it without links: a directory such as /bin leads to /usr/bin.
    let resolved = path.parent().and_then(|parent| parent.canonicalize().ok()).zip(path.file_name());
    let resolved = resolved.map(|(parent, name)| parent.join(name)).filter(|resolved| resolved != path);
    [Some(path.to_owned()), resolved].into_iter().flatten().find_map(|path: PathBuf| by_dpkg(&path).or_else(|| by_rpm(&path)))
}

/// `PACKAGE[:ARCHITECTURE]: PATH`.
fn by_dpkg(path: &Path) -> Option<String> {
    let line = ask(Command::new("dpkg").arg("--search").arg(path))?;
    line.split_once(": ").map(|(package, _)| package.to_owned())
}

fn by_rpm(path: &Path) -> Option<String> {
    ask(Command::new("rpm").args(["--query", "--queryformat", "%{NAME}\n", "--file"]).arg(path))
}

/// The first line of what it says, when it is here and knows.
fn ask(command: &mut Command) -> Option<String> {
    let output = command.env("LC_ALL", "C").stdin(Stdio::null()).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned);
    said.filter(|line| output.status.success() && !line.is_empty())
}
