//! What verification says of an image, part by part.

use std::{fmt, path::PathBuf};

use oci::Digest;

/// One image that was looked at.
#[derive(Clone, Debug)]
pub struct Report {
    /// Name of the image record.
    pub reference: String,
    /// Documents, then layers, bottom first.
    pub parts: Vec<Part>,
    /// Could the documents be read that say which layers there are?
    pub layers_known: bool,
}

/// One document or layer.
#[derive(Clone, Debug)]
pub struct Part {
    /// Which.
    pub place: Place,
    /// Its blob.
    pub digest: Digest,
    /// What is wrong with it; nothing, if it is whole.
    pub damage: Vec<Damage>,
}

/// Where a part stands in its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The index that the image points at.
    Index,
    /// The manifest of this platform.
    Manifest,
    /// The config.
    Config,
    /// A layer.
    Layer {
        /// Position, 0 is the bottom.
        index: usize,
        /// Layers of the image.
        of: usize,
    },
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// The namespace does not hold its blob.
    NoContent,
    /// What is kept under its digest is not right.
    Content {
        /// The file, where it is in reach.
        file: Option<PathBuf>,
        /// What shows it.
        why: String,
    },
    /// A label by which it holds other parts is missing: the garbage collector would take them.
    Label {
        /// The part that nothing holds.
        of: String,
    },
    /// No snapshot has its chain id.
    NoSnapshot,
    /// Its snapshot has to be made anew.
    Snapshot {
        /// What shows it.
        why: String,
    },
    /// Its data is in the registry, and is read from there.
    Lazy,
    /// Its data is not where the device looks for it.
    NoFile {
        /// Where it should be.
        file: PathBuf,
    },
    /// Something else is where the device looks for its data.
    File {
        /// Where.
        file: PathBuf,
        /// What shows it.
        why: String,
    },
    /// Its bytes are those the image names, and no device could ever be made of them.
    Broken {
        /// What shows it.
        why: String,
    },
    /// It unpacks to something else than the config says.
    DiffId {
        /// As the config has it.
        expected: Digest,
        /// What came out.
        actual: Digest,
    },
    /// Where it stands could not be looked at, because of what is wrong below it.
    Unseen,
}

impl Report {
    /// Is nothing wrong, and everything known?
    pub fn is_whole(&self) -> bool {
        self.layers_known && self.damaged().next().is_none()
    }

    /// Parts with something wrong.
    pub fn damaged(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| !part.damage.is_empty())
    }

    /// Is all that is wrong that layers are lazy?
    pub fn is_merely_lazy(&self) -> bool {
        self.layers_known && self.damaged().all(|part| part.damage == [Damage::Lazy])
    }

    /// Is the image as its registry has it, and that wrong?
    pub fn is_broken_at_its_source(&self) -> bool {
        self.parts.iter().flat_map(|part| &part.damage).any(Damage::is_beyond_repair)
    }
}

impl Damage {
    /// Whatever is fetched, it stays wrong.
    pub fn is_beyond_repair(&self) -> bool {
        matches!(self, Self::Broken { .. } | Self::DiffId { .. })
    }

    /// Is it the blob in the content store that is missing or wrong?
    pub(crate) fn is_of_content(&self) -> bool {
        matches!(self, Self::NoContent | Self::Content { .. })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index => f.write_str("index"),
            Self::Manifest => f.write_str("manifest"),
            Self::Config => f.write_str("config"),
            Self::Layer { index, of } => write!(f, "layer {}/{of}", index + 1),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoContent => f.write_str("its blob is not in the content store"),
            Self::Content { file: Some(file), why } => write!(f, "its blob {} is wrong: {why}", file.display()),
            Self::Content { file: None, why } => write!(f, "its blob in the content store is wrong: {why}"),
            Self::Label { of } => write!(f, "it has no label that keeps {of} from the garbage collector"),
            Self::NoSnapshot => f.write_str("it has no snapshot"),
            Self::Snapshot { why } => write!(f, "its snapshot is wrong: {why}"),
            Self::Lazy => f.write_str("lazy: its data is in the registry"),
            Self::NoFile { file } => write!(f, "{} is missing", file.display()),
            Self::File { file, why } => write!(f, "{} is wrong: {why}", file.display()),
            Self::Broken { why } => f.write_str(why),
            Self::DiffId { expected, actual } => write!(f, "it unpacks to {actual}, the config says {expected}"),
            Self::Unseen => f.write_str("its file was not looked at, for a snapshot below it is missing or wrong"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(damage: &[&[Damage]]) -> Report {
        let part = |(index, damage): (usize, &&[Damage])| Part {
            place: Place::Layer { index, of: damage.len() },
            digest: Digest::of(b"layer"),
            damage: damage.to_vec(),
        };
        Report { reference: "r/a:1".to_owned(), parts: damage.iter().enumerate().map(part).collect(), layers_known: true }
    }

    #[test]
    fn an_image_is_whole_when_all_is_known_and_nothing_is_wrong() {
        assert!(report(&[&[], &[]]).is_whole());
        assert!(report(&[]).is_whole(), "it has no layers");
        assert!(!Report { layers_known: false, ..report(&[]) }.is_whole());
        assert!(!report(&[&[], &[Damage::Lazy]]).is_whole());
    }

    #[test]
    fn what_can_be_done_depends_on_all_that_is_wrong() {
        let broken = Damage::Broken { why: "x".to_owned() };
        for (damage, lazy, beyond) in [
            (&[&[Damage::Lazy][..], &[]][..], true, false),
            (&[&[Damage::Lazy], &[Damage::NoContent]], false, false),
            (&[&[Damage::Lazy], &[broken]], false, true),
        ] {
            let report = report(damage);
            assert_eq!((report.is_merely_lazy(), report.is_broken_at_its_source()), (lazy, beyond), "{damage:?}");
        }
    }
}
