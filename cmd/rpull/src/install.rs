//! `rpull install` and `rpull uninstall`: our link in the place of a directory's `ctr`, the real one beside it as `ctr.real`.
//!
//! There is a whole `ctr` at every moment, ours or the real one: both come by rename, and the real one has its second name on the disk
//! before it loses its first. Whatever step a run ends at, the next one goes on from there.

mod owner;
mod place;

use std::{
    env, io,
    path::{Path, PathBuf},
};

use self::place::{Place, What};
use crate::{
    args::{Install, Uninstall},
    exit::ExitCode,
    failure::Failure,
    render, report,
};

/// The name that is taken.
const NAME: &str = "ctr";
/// The name the real one has meanwhile.
const KEPT: &str = "ctr.real";

/// Puts us in the place of the directory's `ctr`.
pub(crate) fn install(flags: &Install) -> ExitCode {
    answer(put_in(flags))
}

/// Puts the real one back.
pub(crate) fn uninstall(flags: &Uninstall) -> ExitCode {
    answer(take_out(flags))
}

fn answer(outcome: Result<Vec<String>, Failure>) -> ExitCode {
    match outcome {
        Ok(lines) => {
            for line in lines.iter().map(String::as_str).chain(["done"]) {
                render::print(&mut io::stdout(), &format!("{line}\n"));
            }
            ExitCode::Done
        }
        Err(Failure { code, message, hint }) => {
            report::failure(&mut io::stderr(), report::Ink::of_stderr(), &message, hint.as_deref());
            code
        }
    }
}

/// What was done, line by line.
fn put_in(flags: &Install) -> Result<Vec<String>, Failure> {
    let ours = own_path()?;
    let place = Place::lock(&flags.prefix)?;
    let ctr = place.path(NAME);
    let mut lines = Vec::new();
    match place.what(NAME)? {
        What::Ours if place.is_itself(&ours, NAME) || (!flags.copy && place.leads_to(NAME, &ours)) => {
            place.sync()?;
            return Ok(vec![format!("{} is rpull already", ctr.display())]);
        }
        What::Other => {
            if let Some(package) = owner::of(&ctr).filter(|_| !flags.force) {
                return Err(Failure {
                    code: ExitCode::Usage,
                    message: format!("{} belongs to the package {package}", ctr.display()),
                    hint: Some("--force takes its place; an upgrade of the package puts it back, install again then".to_owned()),
                });
            }
            place.keep(NAME, KEPT)?;
            lines.push(format!("{} is the ctr that was there", place.path(KEPT).display()));
        }
        What::Ours | What::Dangling | What::Nothing => {}
    }
    if flags.copy {
        place.put_copy(&ours, NAME)?;
        lines.push(format!("{} is a copy of {}", ctr.display(), ours.display()));
    } else {
        place.put_link(&ours, NAME)?;
        lines.push(format!("{} is a link to {}", ctr.display(), ours.display()));
    }
    Ok(lines)
}

fn take_out(flags: &Uninstall) -> Result<Vec<String>, Failure> {
    let place = Place::lock(&flags.prefix)?;
    let ctr = place.path(NAME).display().to_string();
    let line = match (place.what(NAME)?, place.what(KEPT)?) {
        (What::Other, What::Other) if place.is_same(NAME, KEPT) => {
            place.remove(KEPT)?;
            format!("{ctr} is the real one, which has only one name now")
        }
        (What::Other, What::Other | What::Dangling) => {
            format!("{ctr} is not rpull's, and stays; {} stays beside it", place.path(KEPT).display())
        }
        (What::Other, _) => format!("{ctr} is not rpull's, and stays"),
        (_, What::Other | What::Dangling) => {
            place.rename(KEPT, NAME)?;
            format!("{ctr} is the real one again")
        }
        (What::Nothing, What::Nothing) => format!("{ctr} is not there"),
        (_, _) => {
            place.remove(NAME)?;
            place.remove(KEPT)?;
            format!("{ctr} is gone; there was none before")
        }
    };
    Ok(vec![line])
}

/// Where this program is, by a path that stays when rpull is upgraded: as it was called, where that leads here, since `/proc` has every
/// link of a versioned directory resolved.
fn own_path() -> Result<PathBuf, Failure> {
    let file = env::current_exe().map_err(|error| Failure::other("rpull does not find its own file", &error))?;
    if !file.is_file() {
        return Err(gone(&file));
    }
    let called = env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let is_rpull = called.file_name().is_some_and(|name| name != NAME && name != "nerdctl");
    let candidates = if called.components().count() > 1 {
        vec![called]
    } else {
        env::var_os("PATH").iter().flat_map(env::split_paths).map(|directory| directory.join(&called)).collect()
    };
    let found = candidates.into_iter().find(|path| path.is_file()).filter(|path| is_rpull && place::is_one_file(path, &file));
    Ok(found.and_then(|path| std::path::absolute(path).ok()).unwrap_or(file))
}

fn gone(file: &Path) -> Failure {
    let message = format!("{} is gone: rpull was replaced while it ran", file.display());
    Failure { code: ExitCode::Other, message, hint: Some("run rpull install again".to_owned()) }
}

/// A step that the filesystem refused.
fn refused(what: &str, path: &Path, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => Some("run it as root"),
        io::ErrorKind::ReadOnlyFilesystem => Some("the filesystem is read-only; --prefix names another directory"),
        _ => None,
    };
    let message = format!("{} {what}: {error}", path.display());
    Failure { code: ExitCode::Disk, message, hint: hint.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_is_said_with_what_to_do() {
        let step = |kind: io::ErrorKind| refused("cannot be made", Path::new("/opt/ctr"), &kind.into());
        for (failure, told) in [
            (gone(Path::new("/opt/rpull")), "/opt/rpull is gone: rpull was replaced while it ran\nhint: run rpull install again"),
            (step(io::ErrorKind::PermissionDenied), "/opt/ctr cannot be made: permission denied\nhint: run it as root"),
            (
                step(io::ErrorKind::ReadOnlyFilesystem),
                "/opt/ctr cannot be made: read-only filesystem or storage medium\n\
                 hint: the filesystem is read-only; --prefix names another directory",
            ),
        ] {
            assert_eq!(format!("{}\nhint: {}", failure.message, failure.hint.unwrap()), told);
        }
    }
}
