//! The file of `--from-file`: one reference a line, `#` begins a comment.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use oci::Reference;

use crate::{exit::ExitCode, failure::Failure};

/// Ten thousand of the longest references; what is longer is no list.
const LONGEST: u64 = 4 << 20;

/// What a list names.
#[derive(Default)]
pub(super) struct List {
    pub(super) references: Vec<Reference>,
    pub(super) refused: Vec<Refused>,
}

/// A line that names no image.
pub(super) struct Refused {
    /// Its number, from 1.
    pub(super) line: usize,
    pub(super) failure: Failure,
}

/// How a line's text becomes a reference.
type Parse<'a> = &'a dyn Fn(&str) -> Result<Reference, oci::Error>;

/// Reads `file`, or standard input.
pub(super) fn read(file: &Path, stdin: bool, reference: Parse) -> Result<List, Failure> {
    let name = if stdin { "standard input".to_owned() } else { file.display().to_string() };
    let bytes = if stdin { all_of(&mut io::stdin().lock()) } else { File::open(file).and_then(|mut file| all_of(&mut file)) };
    let bytes = bytes.map_err(|error| Failure {
        code: ExitCode::Usage,
        message: format!("cannot read the list of images {name}: {error}"),
        hint: Some("--from-file names a file with one reference a line, or is - for standard input".to_owned()),
    })?;
    let list = parse(&name, &bytes, reference);
    if list.references.is_empty() && list.refused.is_empty() {
        return Err(Failure {
            code: ExitCode::Usage,
            message: format!("the list of images {name} names none"),
            hint: Some("write one reference a line; what follows a # is a comment".to_owned()),
        });
    }
    Ok(list)
}

fn all_of(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST { Err(io::Error::other("longer than 4 MiB")) } else { Ok(bytes) }
}

fn parse(name: &str, bytes: &[u8], reference: Parse) -> List {
    let mut list = List::default();
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(line);
        let text = line.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        match reference(text) {
            Ok(reference) => list.references.push(reference),
            Err(error) => {
                let line = index + 1;
                let message = format!("line {line} of {name}: {error}");
                list.refused.push(Refused { line, failure: Failure { code: ExitCode::Usage, message, hint: error.hint() } });
            }
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_name_no_image() {
        let text = "\u{feff}# to be warm\n\nr.io/a:1\r\n  r.io/b:2  # twice a day\n\t\n#r.io/c:3\nr.io/d:4";
        let list = parse("list", text.as_bytes(), &str::parse);
        let names: Vec<_> = list.references.iter().map(Reference::name).collect();
        assert_eq!(names, ["r.io/a:1", "r.io/b:2", "r.io/d:4"]);
        assert!(list.refused.is_empty());
    }

    #[test]
    fn a_line_that_names_no_image_is_told_with_its_number() {
        let list = parse("warm.txt", b"r.io/a:1\n\nr.io/B:2\nr.io/c:3 r.io/d:4\n\xff\n", &str::parse);
        assert_eq!(list.references.len(), 1);
        let told: Vec<_> = list.refused.iter().map(|refused| refused.failure.message.as_str()).collect();
        assert_eq!(told.len(), 3);
        for (told, begins) in told.iter().zip([
            "line 3 of warm.txt: invalid reference \"r.io/B:2\"",
            "line 4 of warm.txt: ",
            "line 5 of warm.txt: ",
        ]) {
            assert!(told.starts_with(begins), "{told}");
        }
        assert!(list.refused.iter().all(|refused| refused.failure.hint.is_some() && refused.failure.code == ExitCode::Usage));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("list");
        let refused = |path: &Path| read(path, false, &str::parse).err().unwrap();
        assert!(refused(&file).message.starts_with("cannot read the list of images "));
        std::fs::write(&file, "# nothing\n\n").unwrap();
        assert!(refused(&file).message.ends_with(" names none"));
        std::fs::write(&file, vec![b'\n'; 5 << 20]).unwrap();
        assert!(refused(&file).message.ends_with("longer than 4 MiB"));
        assert_eq!(refused(directory.path()).code, ExitCode::Usage);
    }
}
