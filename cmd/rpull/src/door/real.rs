//! Where the real program is: what the variable names, else what `install` kept beside us, else the next one on PATH.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::marker;

/// A program whose name we carry.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    /// Says where the real one is.
    variable: &'static str,
    /// What to install when there is none.
    package: &'static str,
}

pub(super) const CTR: Program = Program { name: "ctr", variable: "RPULL_CTR", package: "containerd's ctr" };
pub(super) const NERDCTL: Program = Program { name: "nerdctl", variable: "RPULL_NERDCTL_BIN", package: "nerdctl" };

/// Why there is nothing to run.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Missing {
    program: &'static Program,
    why: Why,
}

#[derive(PartialEq, Eq, Debug)]
enum Why {
    /// The variable names this, which is no program.
    NoProgram(PathBuf),
    /// The variable names this, which is rpull.
    Ourselves(PathBuf),
    /// Nothing was found.
    Nowhere,
}

impl Program {
    /// What to do when the real one is not to be had.
    pub(super) fn hint(&self) -> String {
        format!("install {}, or say where it is: {}=/path/to/{}", self.package, self.variable, self.name)
    }

    /// The name under which `install` keeps the real one.
    fn kept(&self) -> String {
        format!("{}.real", self.name)
    }
}

impl Missing {
    pub(super) fn hint(&self) -> String {
        self.program.hint()
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Program { name, variable, .. } = self.program;
        match &self.why {
            Why::NoProgram(path) => write!(f, "{variable} names {}, which is no program", path.display()),
            Why::Ourselves(path) => write!(f, "{variable} names {}, which is rpull itself: it would call itself", path.display()),
            Why::Nowhere => write!(f, "called as {name}, but there is no other {name} to run: none kept beside it, none on PATH"),
        }
    }
}

/// The real program, as an absolute path. `called` is the path or name we are called by.
pub(super) fn find(
    program: &'static Program,
    called: &OsStr,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, Missing> {
    let missing = |why| Missing { program, why };
    if let Some(named) = variable(program.variable).filter(|path| !path.is_empty()) {
        let path = absolute(Path::new(&named));
        return match path {
            path if !is_program(&path) => Err(missing(Why::NoProgram(path))),
            path if marker::is_ours(&path) => Err(missing(Why::Ourselves(path))),
            path => Ok(path),
        };
    }
    let on_path: Vec<PathBuf> =
        variable("PATH").iter().flat_map(env::split_paths).map(|directory| absolute(&directory.join(program.name))).collect();
    let kept = beside(called, &on_path).into_iter().map(|directory| directory.join(program.kept()));
    let mut found = kept.chain(on_path.iter().cloned()).filter(|path| is_program(path) && !marker::is_ours(path));
    found.next().ok_or_else(|| missing(Why::Nowhere))
}

/// The directories where we are: of the path we are called by, which may be a link's, and of the file that runs.
fn beside(called: &OsStr, on_path: &[PathBuf]) -> Vec<PathBuf> {
    let link = match Path::new(called) {
        path if path.parent().is_some_and(|parent| parent != Path::new("")) => Some(absolute(path)),
        // What a shell found on PATH.
        _ => on_path.iter().find(|path| is_program(path)).filter(|path| marker::is_ours(path)).cloned(),
    };
    let file = env::current_exe().ok();
    link.into_iter().chain(file).filter_map(|path| path.parent().map(Path::to_owned)).collect()
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// From here, not through PATH: a name alone would be looked up there and found to be us.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
