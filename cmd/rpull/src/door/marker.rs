//! How a file is told to be this program, whatever its name and version, as a link or as a copy: every one of ours carries the same
//! bytes. Who would run the real `ctr` must not run us again, and who removes our `ctr` must not remove another.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use memchr::memmem::Finder;

/// Never changed: binaries of other versions must be recognised too. `used`, so that no optimisation leaves it out or splits it.
#[used]
static MARKER: [u8; 48] = *b"\0rpull front door 5b1c27f0-8a4e-4d39-b6c2-e07d\0\0";

/// What is read at once; `ctr` has some 30 MB.
const BLOCK: usize = 256 << 10;

/// Is the file at `path`, symbolic links followed, this program? Nobody can tell of a file that may be run but not read: it is not,
/// then.
pub(crate) fn is_ours(path: &Path) -> bool {
    let Ok(found) = path.metadata() else { return false };
    if !found.is_file() {
        return false;
    }
    let runs_here = Path::new("/proc/self/exe").metadata();
    if runs_here.is_ok_and(|here| (here.dev(), here.ino()) == (found.dev(), found.ino())) {
        return true;
    }
    File::open(path).and_then(carries_marker).unwrap_or(false)
}

fn carries_marker(mut file: impl Read) -> io::Result<bool> {
    let finder = Finder::new(&MARKER);
    let mut buffer = vec![0; BLOCK + MARKER.len() - 1];
    // The end of the last block is kept in front of the next one: the marker may lie across.
    let mut kept = 0;
    loop {
        let read = match file.read(&mut buffer[kept..]) {
            Ok(0) => return Ok(false),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let filled = kept + read;
        if finder.find(&buffer[..filled]).is_some() {
            return Ok(true);
        }
        kept = filled.min(MARKER.len() - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives at most `step` bytes at once.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(buffer.len()).min(self.0.len());
            let (now, later) = self.0.split_at(length);
            buffer[..length].copy_from_slice(now);
            self.0 = later;
            Ok(length)
        }
    }

    #[test]
    fn the_marker_is_found_wherever_it_lies() {
        for before in [0, 1, 47, 48, BLOCK - 1, BLOCK - 24, BLOCK, BLOCK + 1, 3 * BLOCK - 30] {
            let file = [vec![b'x'; before], MARKER.to_vec(), vec![b'x'; 100]].concat();
            for step in [usize::MAX, 4096, 7] {
                assert!(carries_marker(Slow(&file, step)).unwrap(), "{before} {step}");
            }
            assert!(!carries_marker(Slow(&file[..before + 47], 4096)).unwrap(), "{before}");
        }
        assert!(!carries_marker(&b""[..]).unwrap());
    }

    #[test]
    fn only_a_file_can_be_ours() {
        assert!(is_ours(Path::new("/proc/self/exe")));
        for path in ["/", "/dev/null", "/etc/passwd", "/nonexistent"] {
            assert!(!is_ours(Path::new(path)), "{path}");
        }
    }
}
