//! A file that a pull leaves (receipt, trace, picture, metrics): found out to be writable before the pull, complete under its name
//! after it.

use std::{
    fs::{File, Metadata, Permissions},
    io::{self, BufWriter, Write},
    os::{
        fd::AsFd as _,
        unix::fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::{exit::ExitCode, failure::Failure};

/// Where something goes.
pub(crate) struct OutputFile {
    /// What it is to a person: `receipt`.
    what: &'static str,
    path: PathBuf,
    target: Target,
}

enum Target {
    /// A file beside, renamed over this path when it is whole: until then what was there stays.
    Rename(NamedTempFile, PathBuf),
    /// What cannot be replaced: a pipe, a device, or what our own streams go to (`/dev/stdout`), a file as well.
    Open(File),
}

impl OutputFile {
    /// Opens the file, under another name where it can be.
    pub(crate) fn open(what: &'static str, path: &Path) -> Result<Self, Failure> {
        let refused = |error: io::Error| Failure {
            code: ExitCode::Usage,
            message: format!("cannot write the {what} {}: {}", path.display(), plain(&error)),
            hint: Some("name a file in a directory that exists and may be written to".to_owned()),
        };
        let target = match path.metadata() {
            Ok(meta) if meta.is_dir() => return Err(refused(io::ErrorKind::IsADirectory.into())),
            Ok(meta) => match stream(&meta) {
                Some(stream) => Target::Open(stream),
                None if meta.is_file() => Target::beside(path.canonicalize().map_err(refused)?).map_err(refused)?,
                None => Target::Open(File::options().write(true).open(path).map_err(refused)?),
            },
            Err(_) => Target::beside(path.to_owned()).map_err(refused)?,
        };
        Ok(Self { what, path: path.to_owned(), target })
    }

    /// Where it goes.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it. The error names what was to be left, and where.
    pub(crate) fn write(self, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), String> {
        let Self { what, path, target } = self;
        let all = |file: &File| {
            let mut buffered = BufWriter::new(file);
            content(&mut buffered)?;
            buffered.flush()
        };
        let written = match target {
            Target::Open(file) => all(&file),
            Target::Rename(file, over) => all(file.as_file())
                .and_then(|()| file.as_file().sync_all())
                .and_then(|()| file.persist(over).map(drop).map_err(|error| error.error)),
        };
        written.map_err(|error| format!("its {what} {} could not be written: {error}", path.display()))
    }
}

impl Target {
    /// `path` must not be a link: it would be replaced, and what it leads to would stay.
    fn beside(path: PathBuf) -> io::Result<Self> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // As any new file; the process's umask takes its part.
        let mode = Permissions::from_mode(0o666);
        let file = tempfile::Builder::new().prefix(".rpull-").permissions(mode).tempfile_in(parent)?;
        Ok(Self::Rename(file, path))
    }
}

/// Stdout or stderr, where `found` is what they go to. A file opened once more would be written from its start.
fn stream(found: &Metadata) -> Option<File> {
    let (out, err) = (io::stdout(), io::stderr());
    [out.as_fd(), err.as_fd()].into_iter().find_map(|stream| {
        let stream = File::from(stream.try_clone_to_owned().ok()?);
        let meta = stream.metadata().ok()?;
        ((meta.dev(), meta.ino()) == (found.dev(), found.ino())).then_some(stream)
    })
}

/// Where a path leads: what two spellings of one file have in common.
pub(crate) fn place(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            parent.canonicalize().map_or_else(|_| path.to_owned(), |parent| parent.join(name))
        }
        _ => path.to_owned(),
    })
}

/// The pull went well, but what it was to leave is not there.
pub(crate) fn unwritten(what: &str) -> Failure {
    Failure {
        code: ExitCode::Disk,
        message: format!("what was pulled is whole, but {what}"),
        hint: Some("run rpull again: it fetches nothing then, and writes the file".to_owned()),
    }
}

/// Without the name of the file beside, which `tempfile` adds to the text and gives no other way to leave out.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" at path \"").map_or(text.as_str(), |(why, _)| why).to_owned()
}
