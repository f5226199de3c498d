//! The file of `--receipt`: found out to be writable before the pull, complete under its name after it.

use std::{
    fs::{File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use pull::Receipt;
use tempfile::NamedTempFile;

use crate::{exit::ExitCode, failure::Failure};

/// Where the receipt goes.
pub(crate) struct ReceiptFile {
    path: PathBuf,
    target: Target,
}

enum Target {
    /// A file beside, renamed over the path when it is whole: a failed pull leaves what was there.
    Rename(NamedTempFile),
    /// A pipe or device (`/dev/stdout`), which cannot be replaced.
    Device(File),
}

impl ReceiptFile {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let refused = |error: io::Error| Failure {
            code: ExitCode::Usage,
            message: format!("cannot write the receipt {}: {}", path.display(), plain(&error)),
            hint: Some("name a file in a directory that exists and may be written to".to_owned()),
        };
        let target = match path.metadata() {
            Ok(meta) if meta.is_dir() => return Err(refused(io::ErrorKind::IsADirectory.into())),
            Ok(meta) if !meta.is_file() => Target::Device(File::options().write(true).open(path).map_err(refused)?),
            _ => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
                // As any new file; the process's umask takes its part.
                let mode = Permissions::from_mode(0o666);
                let beside = tempfile::Builder::new().prefix(".rpull-receipt-").permissions(mode).tempfile_in(parent);
                Target::Rename(beside.map_err(refused)?)
            }
        };
        Ok(Self { path: path.to_owned(), target })
    }

    /// One object, or an array of them where `several` images were asked for. Nothing where none was pulled.
    pub(crate) fn write(self, receipts: &[Receipt], several: bool) -> Result<(), Failure> {
        let Self { path, target } = self;
        let written = match target {
            _ if receipts.is_empty() => return Ok(()),
            Target::Device(mut file) => write(&mut file, receipts, several),
            Target::Rename(mut file) => write(&mut file, receipts, several)
                .and_then(|()| file.as_file().sync_all())
                .and_then(|()| file.persist(&path).map(drop).map_err(|error| error.error)),
        };
        written.map_err(|error| Failure {
            code: ExitCode::Disk,
            message: format!("what was pulled is whole, but its receipt {} could not be written: {error}", path.display()),
            hint: Some("run rpull again: it only writes the receipt then".to_owned()),
        })
    }
}

/// Without the name of the file beside, which `tempfile` adds to the text and gives no other way to leave out.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" at path \"").map_or(text.as_str(), |(why, _)| why).to_owned()
}

fn write(file: &mut impl Write, receipts: &[Receipt], several: bool) -> io::Result<()> {
    match receipts {
        [receipt] if !several => serde_json::to_writer_pretty(&mut *file, receipt)?,
        _ => serde_json::to_writer_pretty(&mut *file, receipts)?,
    }
    file.write_all(b"\n")?;
    file.flush()
}
