//! The front door: one binary under three names. Called `ctr` or `nerdctl`, a command line with `rpull` for its command is ours;
//! every other one belongs to the real program, which takes this process's place.

mod globals;
pub(crate) mod marker;
mod real;

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    path::Path,
    process::Command,
};

use crate::{exit::ExitCode, failure::Failure};

/// The command that is ours under another program's name.
const COMMAND: &str = "rpull";

/// The name we are called by.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Name {
    /// Our own, or any but the other two.
    #[default]
    Rpull,
    /// containerd's `ctr`.
    Ctr,
    /// nerdctl.
    Nerdctl,
}

/// A command line that is ours.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Call {
    /// Called by this name.
    pub(crate) name: Name,
    /// Flags and words, those in front of `rpull` among them.
    pub(crate) arguments: Vec<OsString>,
}

impl Name {
    /// By the last part of the path a program is called by.
    fn of(program: &OsStr) -> Self {
        match Path::new(program).file_name().and_then(OsStr::to_str) {
            Some("ctr") => Self::Ctr,
            Some("nerdctl") => Self::Nerdctl,
            _ => Self::Rpull,
        }
    }
}

/// Takes the program's name and its arguments. Returns for what is ours only; what is not is gone with the real program, or there
/// is none.
pub(crate) fn enter(mut argv: impl Iterator<Item = OsString>) -> Result<Call, Failure> {
    let program = argv.next().unwrap_or_default();
    let arguments: Vec<OsString> = argv.collect();
    let name = Name::of(&program);
    let theirs = match name {
        Name::Rpull => return Ok(Call { name, arguments }),
        Name::Ctr => &real::CTR,
        Name::Nerdctl => &real::NERDCTL,
    };
    match globals::split(name, &arguments) {
        Some(arguments) => Ok(Call { name, arguments }),
        None => Err(hand_over(theirs, &program, &arguments)),
    }
}

/// The real program in our place: same process, arguments, environment. Comes back only when that cannot be.
fn hand_over(theirs: &'static real::Program, program: &OsStr, arguments: &[OsString]) -> Failure {
    let path = match real::find(theirs, program, |variable| env::var_os(variable)) {
        Ok(path) => path,
        Err(missing) => {
            return Failure { code: ExitCode::NoProgram, message: missing.to_string(), hint: Some(missing.hint()) };
        }
    };
    let error = Command::new(&path).arg0(program).args(arguments).exec();
    let message = format!("called as {}, but {} does not run: {error}", theirs.name, path.display());
    Failure { code: ExitCode::NoProgram, message, hint: Some(theirs.hint()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_last_part_of_the_path() {
        for (program, name) in [
            ("ctr", Name::Ctr),
            ("/opt/overlaybd/snapshotter/ctr", Name::Ctr),
            ("./nerdctl", Name::Nerdctl),
            ("rpull", Name::Rpull),
            ("/usr/bin/rpull-0.1", Name::Rpull),
            ("ctr.real", Name::Rpull),
            ("ctr/", Name::Ctr),
            ("", Name::Rpull),
        ] {
            assert_eq!(Name::of(OsStr::new(program)), name, "{program}");
        }
    }

    #[test]
    fn by_its_own_name_everything_is_ours() {
        let call =
            enter(["/usr/bin/rpull", "images", "ls"].map(OsString::from).into_iter()).unwrap_or_else(|_| panic!("refused"));
        assert_eq!(call, Call { name: Name::Rpull, arguments: vec!["images".into(), "ls".into()] });
    }
}
