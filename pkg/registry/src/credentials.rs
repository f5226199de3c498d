//! Who we are for a registry, and where that is found: flags, docker's and podman's files, credential helpers.
//!
//! [`Keychain`] is what `cmd/rpull` fills; an [`Offer`] is what one host may be shown of it, and is asked by [`crate::auth`] each
//! time the host or its token realm wants to know. Where variables and home directories are is not known here.

mod config;
mod helper;
mod lookup;
mod offer;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub(crate) use self::offer::{Offer, Shown, Whose};
pub use self::{config::DockerConfig, helper::Helpers};
use crate::{Error, Secret};

/// A file of credentials is read no further.
const MAX_FILE: u64 = 1 << 20;

/// Who asks. Offered to a host only when it challenges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody: a token is still fetched where the registry wants one.
    #[default]
    Anonymous,
    /// User and password, or what stands for a password.
    Basic {
        /// User name.
        user: String,
        /// Password or access token.
        password: Secret,
    },
    /// An identity token, good for a Bearer token only.
    Refresh(Secret),
}

/// A place where credentials may be.
#[derive(Clone, Debug)]
pub enum Source {
    /// Text in docker's form that a variable holds.
    Text {
        /// Name of the variable.
        name: &'static str,
        /// What it holds.
        text: Secret,
    },
    /// Docker's `config.json`.
    Docker(PathBuf),
    /// Podman's `auth.json`, in which keys may name a folder of repositories.
    Podman(PathBuf),
}

/// All credentials there may be. The first that is found for a host wins.
#[derive(Debug, Default)]
pub struct Keychain {
    /// From the command line: for the registry's own host before anything else. A host that its own `hosts.toml` names gets them
    /// only when no source has an entry for it, and only over TLS or on this machine; a host for all registries never.
    pub given: Credentials,
    /// In the order to look. A file that is not there holds nothing.
    pub sources: Vec<Source>,
    /// How credential helpers are run.
    pub helpers: Helpers,
}

impl Credentials {
    /// Is there nothing to show?
    pub(crate) fn is_anonymous(&self) -> bool {
        *self == Self::Anonymous
    }
}

impl From<Credentials> for Keychain {
    fn from(given: Credentials) -> Self {
        Self { given, ..Self::default() }
    }
}

/// The sources, read.
#[derive(Debug, Default)]
pub(crate) struct Files(Vec<File>);

#[derive(Debug)]
struct File {
    name: Arc<str>,
    paths: bool,
    config: DockerConfig,
}

impl Keychain {
    /// Reads the sources, unless the flags leave nothing to look for: then a broken file is nobody's trouble.
    pub(crate) fn read(&self, mirrors: bool) -> Result<Files, Error> {
        if !self.given.is_anonymous() && !mirrors {
            return Ok(Files::default());
        }
        let files: Result<Vec<Option<File>>, Error> = self.sources.iter().map(Source::read).collect();
        Ok(Files(files?.into_iter().flatten().collect()))
    }
}

impl Source {
    fn read(&self) -> Result<Option<File>, Error> {
        let (name, text) = match self {
            Self::Text { name, text } => ((*name).to_owned(), text.expose().as_bytes().to_vec()),
            Self::Docker(path) | Self::Podman(path) => match read(path) {
                Ok(text) => (path.display().to_string(), text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(source) => return Err(Error::Read { what: "credentials file", path: path.clone(), source }),
            },
        };
        let config = DockerConfig::parse(&name, &text)?;
        Ok(Some(File { name: name.into(), paths: matches!(self, Self::Podman(_)), config }))
    }
}

/// A directory in the file's place, or a pipe that nobody writes to, is an error and no wait.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let found = path.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("not a file"));
    }
    if found.len() > MAX_FILE {
        return Err(io::Error::other(format!("longer than {MAX_FILE} bytes")));
    }
    std::fs::read(path)
}
