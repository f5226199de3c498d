//! Image references by both sets of rules: containerd's (what `ctr` accepts) and Docker's (what people type) (reference 2).

use std::{fmt, net::Ipv6Addr, str::FromStr};

use crate::{Digest, Error};

/// Where Docker looks when no registry is named.
const DEFAULT_HOST: &str = "docker.io";
/// A longer repository is refused by every registry (distribution/reference `RepositoryNameTotalLengthMax`).
const MAX_REPOSITORY: usize = 255;
/// A longer tag is refused by every registry (distribution spec, "Pulling manifests").
const MAX_TAG: usize = 128;
/// A DNS name is no longer.
const MAX_HOST: usize = 253;

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

    /// As the kubelet and containerd's CRI plugin read it: by Docker's rules also where `ctr` takes a name as it is, and without
    /// the tag where there is a digest (reference 2.2).
    ///
    /// # Errors
    /// A registry that Docker's rules do not allow.
    pub fn for_kubelet(&self) -> Result<Self, Error> {
        let Self { name, host, repository, object } = self;
        if host.contains('_') {
            return Err(Error::Reference { text: name.clone(), why: "the kubelet takes no registry with _ in its name" });
        }
        let object = match object {
            Object::Tag(tag) => format!(":{tag}"),
            Object::Digest(digest) | Object::TagAndDigest(_, digest) => format!("@{digest}"),
        };
        normalised(&format!("{host}/{repository}{object}")).parse()
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = |why| Error::Reference { text: without_user(text), why };
        if text.is_empty() {
            return Err(refused("it is empty"));
        }
        if text.contains("://") {
            return Err(refused("it starts with a scheme; leave out everything up to ://"));
        }
        if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(refused("64 hex digits alone are an image id, not a name"));
        }
        let name = if accepted_by_ctr(text) { text.to_owned() } else { normalised(text) };
        let (host, rest) = name.split_once('/').expect("a normalised name has a host");
        check_host(host).map_err(refused)?;
        let (repository, object) = rest.split_at(rest.find([':', '@']).unwrap_or(rest.len()));
        check_repository(repository).map_err(refused)?;
        let object = parse_object(object).map_err(|fault| match fault {
            ObjectFault::Why(why) => refused(why),
            ObjectFault::Algorithm(error) => error,
        })?;
        Ok(Self { host: host.to_owned(), repository: repository.to_owned(), object, name })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The text for an error: of a URL with `user:password@` in front of the host, what is in front of the host is left out.
fn without_user(text: &str) -> String {
    let start = text.find("://").map_or(0, |scheme| scheme + 3);
    match text[start..].split_once('/') {
        Some((authority, _)) if authority.contains('@') => {
            let host = start + authority.rfind('@').map_or(0, |at| at + 1);
            format!("{}...@{}", &text[..start], &text[host..])
        }
        _ => text.to_owned(),
    }
}

/// `reference.Parse` and the resolver's "object required": a host, a slash, and a tag or digest behind it. Everything else
/// that `ctr` finds wrong is wrong for Docker too.
fn accepted_by_ctr(text: &str) -> bool {
    text.split_once('/').is_some_and(|(host, rest)| !host.is_empty() && rest.contains([':', '@']))
}

/// Docker's `ParseNormalizedNamed` and `TagNameOnly`: default registry, `library/`, `:latest`. What is no valid name before
/// is none after.
fn normalised(text: &str) -> String {
    let (host, rest) = match text.split_once('/') {
        Some(("index.docker.io", rest)) => (DEFAULT_HOST, rest),
        Some((first, rest)) if is_registry(first) => (first, rest),
        _ => (DEFAULT_HOST, text),
    };
    let library = if host == DEFAULT_HOST && !rest.contains('/') { "library/" } else { "" };
    let tag = if rest.contains([':', '@']) { "" } else { ":latest" };
    format!("{host}/{library}{rest}{tag}")
}

/// Does Docker take the first part of a name for a registry (`splitDockerDomain`)?
fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// A DNS name, an IPv4 address or an IPv6 address in brackets, and an optional port. Names of one word and names with an
/// underscore exist inside container networks and are accepted by `ctr`.
fn check_host(host: &str) -> Result<(), &'static str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or("the registry's IPv6 address has no closing bracket")?;
            address.parse::<Ipv6Addr>().map_err(|_| "the registry is not an IPv6 address")?;
            (None, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or("the registry is not a host name")?) })
        }
        None => match host.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(host), None),
        },
    };
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.is_some_and(|name| name.len() > MAX_HOST || !name.split('.').all(label)) {
        return Err("the registry is not a host name");
    }
    // `u16::from_str` alone would take a sign.
    let number = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if port.is_some_and(|port| !number(port)) {
        return Err("the registry's port is not a number from 1 to 65535");
    }
    Ok(())
}

/// Parts of lower-case letters and digits, with `.`, `_`, `__` or dashes between them (distribution spec, "Pulling
/// manifests").
fn check_repository(repository: &str) -> Result<(), &'static str> {
    if repository.is_empty() {
        return Err("it has no repository");
    }
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("the repository must be lower case");
    }
    if repository.len() > MAX_REPOSITORY {
        return Err("the repository is longer than 255 characters");
    }
    let alphanumeric = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    let separator = |run: &str| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|byte| byte == b'-');
    let part =
        |part: &str| part.starts_with(alphanumeric) && part.ends_with(alphanumeric) && part.split(alphanumeric).all(separator);
    if repository.split('/').all(part) {
        Ok(())
    } else {
        Err("the repository may have letters, digits and single . _ - between them, and / between parts")
    }
}

enum ObjectFault {
    Why(&'static str),
    Algorithm(Error),
}

/// `:TAG`, `@DIGEST` or `:TAG@DIGEST`.
fn parse_object(text: &str) -> Result<Object, ObjectFault> {
    let (tag, digest) = match text.split_once('@') {
        Some((tag, digest)) => (tag, Some(digest)),
        None => (text, None),
    };
    let tag = tag.strip_prefix(':');
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let valid =
        |tag: &str| tag.bytes().next().is_some_and(word) && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
    if tag.is_some_and(|tag| !valid(tag) || tag.len() > MAX_TAG) {
        return Err(ObjectFault::Why("the tag must be 1 to 128 letters, digits, _ . - and start with a letter, digit or _"));
    }
    let digest = digest.map(str::parse::<Digest>).transpose().map_err(|error| match error {
        Error::Algorithm { .. } => ObjectFault::Algorithm(error),
        _ => ObjectFault::Why("the digest must be sha256: followed by 64 lower-case hex digits"),
    })?;
    match (tag, digest) {
        (Some(tag), Some(digest)) => Ok(Object::TagAndDigest(tag.to_owned(), digest)),
        (None, Some(digest)) => Ok(Object::Digest(digest)),
        (Some(tag), None) => Ok(Object::Tag(tag.to_owned())),
        (None, None) => Err(ObjectFault::Why("it has neither tag nor digest")),
    }
}

#[cfg(test)]
mod tests;
