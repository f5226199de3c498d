//! What kind of document an answer holds.

use oci::MediaType;

/// A document that no pull can use.
#[derive(Debug)]
pub(super) struct Unusable {
    pub(super) words: String,
    pub(super) hint: &'static str,
}

/// `Content-Type` when it names a manifest or an index, else what the document itself says, else what its fields tell.
pub(super) fn of(content_type: Option<&str>, bytes: &[u8]) -> Result<MediaType, Unusable> {
    let known = |media_type: &MediaType| media_type.is_manifest() || media_type.is_index();
    let header = content_type.map(MediaType::new);
    if let Some(schema1) = header.as_ref().filter(|header| is_schema1(header)) {
        return Err(refused_schema1(schema1.as_str()));
    }
    if let Some(header) = header.clone().filter(known) {
        return Ok(header);
    }
    let document: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let own = document.get("mediaType").and_then(serde_json::Value::as_str).map(MediaType::new);
    match (own, document.get("schemaVersion").and_then(serde_json::Value::as_u64)) {
        (Some(own), _) if known(&own) => Ok(own),
        (Some(own), _) if is_schema1(&own) => Err(refused_schema1(own.as_str())),
        (_, Some(1)) => Err(refused_schema1("schemaVersion 1")),
        (None, Some(2)) if document.get("manifests").is_some() => Ok(MediaType::new(MediaType::OCI_INDEX)),
        (None, Some(2)) if document.get("config").is_some() => Ok(MediaType::new(MediaType::OCI_MANIFEST)),
        (own, _) => {
            let said = own.or(header).map_or_else(|| "nothing".to_owned(), |said| crate::redact::line(said.as_str(), 80));
            Err(Unusable {
                words: format!("is no image manifest (its media type is {said})"),
                hint: "check that the reference names an image and the host is a registry",
            })
        }
    }
}

fn is_schema1(media_type: &MediaType) -> bool {
    matches!(
        media_type.as_str(),
        "application/vnd.docker.distribution.manifest.v1+json" | "application/vnd.docker.distribution.manifest.v1+prettyjws"
    )
}

fn refused_schema1(said: &str) -> Unusable {
    Unusable {
        words: format!("is a schema 1 manifest ({said}), which is not supported"),
        hint: "push the image again with a current tool",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_then_document_then_fields_decide() {
        let index = format!(r#"{{"mediaType":"{}"}}"#, MediaType::DOCKER_INDEX);
        for (header, body, expected) in [
            (Some("application/vnd.oci.image.index.v1+json; charset=utf-8"), "{}", Some(MediaType::OCI_INDEX)),
            (Some("application/json"), index.as_str(), Some(MediaType::DOCKER_INDEX)),
            (None, r#"{"schemaVersion":2,"manifests":[]}"#, Some(MediaType::OCI_INDEX)),
            (Some("text/plain"), r#"{"schemaVersion":2,"config":{}}"#, Some(MediaType::OCI_MANIFEST)),
        ] {
            let found = of(header, body.as_bytes());
            assert_eq!(found.as_ref().ok().map(MediaType::as_str), expected, "{header:?} {body}");
        }
    }

    #[test]
    fn what_is_no_manifest_is_said_with_what_to_do() {
        let old = "push the image again with a current tool";
        let other = "check that the reference names an image and the host is a registry";
        for (header, body, hint) in [
            (Some("application/vnd.docker.distribution.manifest.v1+prettyjws"), "{}", old),
            (Some("text/plain"), r#"{"schemaVersion":1}"#, old),
            (Some("text/html"), "<html>", other),
            (None, "", other),
        ] {
            assert_eq!(of(header, body.as_bytes()).map_err(|unusable| unusable.hint), Err(hint), "{header:?} {body}");
        }
    }
}
