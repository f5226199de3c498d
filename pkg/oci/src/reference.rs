//! Image references by both sets of rules: containerd's (what `ctr` accepts) and Docker's (what people type) (reference 2).

use std::{fmt, str::FromStr};

use crate::{Digest, Error};

/// What of a repository is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Object {
    /// By tag.
    Tag(String),
    /// By digest.
    Digest(Digest),
    /// Both: the digest alone decides (reference 2.1).
    TagAndDigest(String, Digest),
}

/// A reference, parsed. A text that `ctr` accepts keeps its form as record name; one that it refuses (no registry, no tag)
/// is normalised as Docker does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference {
    name: String,
    host: String,
    repository: String,
    object: Object,
}

impl Reference {
    /// Name of the image record.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Registry host with its port, as written (`docker.io`, `localhost:5000`, `[::1]:5000`).
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Repository below the host.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Tag, digest or both.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<Digest> {
        match &self.object {
            Object::Tag(_) => None,
            Object::Digest(digest) | Object::TagAndDigest(_, digest) => Some(*digest),
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(_text: &str) -> Result<Self, Error> {
        todo!()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
