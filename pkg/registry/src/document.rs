//! Manifests, indexes and configs: small, taken whole, their digest compared before anyone parses them (reference 8.4, 8.5).

use http::{HeaderMap, HeaderValue, StatusCode, header};
use oci::{Descriptor, Digest, Object, Reference};

use crate::{
    Class, Fault,
    auth::Auth,
    client::BodyError,
    exchange::{self, Answer},
    fault::{self, About},
    hosts::Host,
};

mod media;
mod several;

/// A longer manifest, index or config is refused (safety 20).
pub const MAX_DOCUMENT: u64 = 8 << 20;
/// What nginx writes where a client certificate is missing ("No required …") or not accepted ("The … error").
const PAGE: &[u8] = b"SSL certificate";
const TOO_LONG: &str = "an image's manifest and config have a few kilobytes; check what was pushed there";

/// What a reference resolved to.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Digest and size of `bytes`, and the media type the registry gives them.
    pub descriptor: Descriptor,
    /// The document.
    pub bytes: Vec<u8>,
    /// Who served it.
    pub host: String,
    /// What is odd about the answer, though it decides nothing.
    pub warnings: Vec<String>,
}

/// A document that is what its descriptor says.
#[derive(Clone, Debug)]
pub struct Proved {
    /// The document.
    pub bytes: Vec<u8>,
    /// Hosts that were passed over for another reason than not having it, a line each.
    pub warnings: Vec<String>,
}

/// Documents as containerd asks for them, in one header.
const ACCEPT: &str = "application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*";

/// GET by tag or digest: the body's own digest decides, so that HEAD would only be one round trip more.
pub(crate) async fn resolve(hosts: &[Host], reference: &Reference) -> Result<Resolved, Fault> {
    let digest = reference.digest();
    let object = match reference.object() {
        Object::Tag(tag) => tag.clone(),
        Object::Digest(digest) | Object::TagAndDigest(_, digest) => digest.to_string(),
    };
    let mut faults = several::Faults::default();
    for host in hosts.iter().filter(|host| digest.is_some() || host.resolve) {
        let about = About { host: host.name.clone(), object: format!("manifest {object} of {}", reference.repository()) };
        let wanted = Wanted { repository: reference.repository(), kind: "manifests", object: &object, accept: ACCEPT };
        match wanted.get(host, &about, MAX_DOCUMENT).await.and_then(|taken| resolved(taken, digest, &about)) {
            Ok(mut resolved) => {
                resolved.warnings.extend(faults.warnings());
                return Ok(resolved);
            }
            Err(fault) => faults.push(fault),
        }
    }
    Err(faults.into_fault())
}

/// By digest: manifests and indexes from `manifests/`, everything else from `blobs/`.
pub(crate) async fn fetch(hosts: &[Host], repository: &str, descriptor: &Descriptor) -> Result<Proved, Fault> {
    let media_type = &descriptor.media_type;
    let (kind, word) = match () {
        () if media_type.is_manifest() => ("manifests", "manifest"),
        () if media_type.is_index() => ("manifests", "index"),
        () if media_type.is_config() => ("blobs", "config"),
        () => ("blobs", "blob"),
    };
    let object = descriptor.digest.to_string();
    let accept = format!("{media_type}, */*");
    let mut faults = several::Faults::default();
    for host in hosts {
        let about = About { host: host.name.clone(), object: format!("{word} {object} of {repository}") };
        if descriptor.size() > MAX_DOCUMENT {
            let happened = format!("{} bytes, {MAX_DOCUMENT} are allowed", descriptor.size());
            return Err(about.fault(Class::Corrupt, happened).with_hint(TOO_LONG));
        }
        let wanted = Wanted { repository, kind, object: &object, accept: &accept };
        let taken = wanted.get(host, &about, descriptor.size()).await;
        match taken.and_then(|taken| proved(taken.bytes, descriptor, &about)) {
            Ok(bytes) => return Ok(Proved { bytes, warnings: faults.warnings() }),
            Err(fault) => faults.push(fault),
        }
    }
    Err(faults.into_fault())
}

struct Wanted<'a> {
    repository: &'a str,
    kind: &'a str,
    object: &'a str,
    accept: &'a str,
}

struct Taken {
    bytes: Vec<u8>,
    headers: HeaderMap,
}

impl Wanted<'_> {
    /// The body of a 200, not checked yet.
    async fn get(&self, host: &Host, about: &About, limit: u64) -> Result<Taken, Fault> {
        let mut headers = HeaderMap::new();
        let accept =
            HeaderValue::try_from(self.accept).map_err(|_| about.fault(Class::Fatal, "media type cannot be sent in a header"))?;
        headers.insert(header::ACCEPT, accept);
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let url = host.url(self.repository, self.kind, self.object);
        let Answer { response, server, .. } = exchange::ask(host, &url, &headers, about).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        if status != StatusCode::OK {
            let body = host.client.error_body(response).await;
            let fault = about.status(&server, status, &headers, &body);
            return Err(self.refused(host, about, fault, (status, &body)));
        }
        let bytes = host.client.body(response, limit).await.map_err(|error| {
            let too_long = matches!(error, BodyError::TooLong(_));
            let fault = about.untaken(&server, error);
            if too_long { fault.with_hint(TOO_LONG) } else { fault }
        })?;
        // A pull-through cache that has not got it yet is known to answer so once.
        if bytes.is_empty() {
            return Err(about.fault(Class::Transient { after: None }, "empty answer"));
        }
        Ok(Taken { bytes, headers })
    }

    /// Adds what helps.
    fn refused(&self, host: &Host, about: &About, fault: Fault, (status, body): (StatusCode, &[u8])) -> Fault {
        if Auth::is_refusal(status) {
            return fault.with_hint(host.auth.hint(host));
        }
        let login = "a registry may answer so where a right is missing";
        match (status, fault::code(body).as_deref()) {
            (StatusCode::NOT_FOUND, Some("NAME_UNKNOWN")) => {
                let hint = format!("there is no repository {} at {}; check the name. {login}", self.repository, host.name);
                fault.with_hint(hint)
            }
            (StatusCode::NOT_FOUND, _) => {
                fault.with_hint(format!("check that {} exists in {}; {login}", self.object, self.repository))
            }
            (StatusCode::TOO_MANY_REQUESTS, _) => fault.with_hint("the registry limits requests; logged-in users get more"),
            (StatusCode::BAD_REQUEST, _) if host.is_plain() => {
                fault.with_hint("the registry may speak https only: leave out --plain-http")
            }
            // nginx takes the connection and says it in HTTP, as a page.
            (StatusCode::BAD_REQUEST, _) if body.windows(PAGE.len()).any(|words| words == PAGE) => {
                let (words, hint) = fault::CLIENT_CERTIFICATE;
                about.fault(Class::Fatal, words).with_hint(hint)
            }
            _ => fault,
        }
    }
}

/// The body's own digest names it; a digest asked for must be the same.
fn resolved(taken: Taken, wanted: Option<Digest>, about: &About) -> Result<Resolved, Fault> {
    let Taken { bytes, headers } = taken;
    let digest = Digest::of(&bytes);
    if let Some(wanted) = wanted
        && wanted != digest
    {
        return Err(mismatch(about, wanted, digest));
    }
    let mut warnings = Vec::new();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(said) = text("docker-content-digest")
        && said.starts_with("sha256:")
        && said.parse() != Ok(digest)
    {
        let said = crate::redact::line(said, 80);
        warnings.push(format!("{} says Docker-Content-Digest {said}, the {} has {digest}", about.host, about.object));
    }
    let media_type =
        media::of(text("content-type"), &bytes).map_err(|why| about.fault(Class::Corrupt, why.words).with_hint(why.hint))?;
    let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64)
        .map_err(|error| about.fault(Class::Corrupt, "size out of bounds").with_source(error))?;
    Ok(Resolved { descriptor, bytes, host: about.host.clone(), warnings })
}

fn proved(bytes: Vec<u8>, descriptor: &Descriptor, about: &About) -> Result<Vec<u8>, Fault> {
    if bytes.len() as u64 != descriptor.size() {
        let happened = format!("{} bytes, its descriptor says {}", bytes.len(), descriptor.size());
        return Err(about
            .fault(Class::Corrupt, happened)
            .with_hint("the image is broken in the registry; build and push it again"));
    }
    let digest = Digest::of(&bytes);
    if digest == descriptor.digest { Ok(bytes) } else { Err(mismatch(about, descriptor.digest, digest)) }
}

fn mismatch(about: &About, wanted: Digest, got: Digest) -> Fault {
    let fault = about.fault(Class::Corrupt, format!("digest mismatch: wanted {wanted}, got {got}"));
    fault.with_hint(format!("the registry or something before it changed the bytes; ask who runs {}", about.host))
}
