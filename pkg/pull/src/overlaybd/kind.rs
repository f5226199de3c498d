//! What kind a layer is, decided from the manifest and the config alone, before anything is fetched (reference 7.7).

use oci::{Digest, Layer};

use super::{
    Error,
    labels::{ACCELERATION, BLOB_DIGEST, BLOB_SIZE, TARGET_DIGESTS},
};

/// How a layer becomes part of its snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LayerKind {
    /// An overlaybd blob: linked as it is.
    Native,
    /// A trace that tells the device what to read first: unpacked on top of overlaybd layers.
    Acceleration,
    /// An ordinary tar, compressed or not: unpacked. Also an overlaybd layer that a tool re-compressed, which cost it its
    /// annotations; the snapshotter recognises what comes out of it.
    Plain,
    /// Metadata of a layer whose data stays in the registry: unpacked, lazy pulls only.
    Turbo,
}

impl LayerKind {
    /// `native`, `acceleration`, `plain` or `turbo`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Acceleration => "acceleration",
            Self::Plain => "plain",
            Self::Turbo => "turbo",
        }
    }

    /// Is its blob linked into the snapshot, not unpacked?
    pub(crate) const fn links(self) -> bool {
        matches!(self, Self::Native)
    }
}

/// Kinds of all layers, bottom first, or why this image cannot be pulled.
///
/// # Errors
/// [`Error::Contradiction`], [`Error::Parent`], and [`Error::Turbo`] unless `lazy`.
pub(crate) fn classify(layers: &[Layer], lazy: bool) -> Result<Vec<LayerKind>, Error> {
    let mut kinds = Vec::with_capacity(layers.len());
    for layer in layers {
        let kind = kind_of(layer)?;
        let digest = layer.descriptor.digest;
        if kind == LayerKind::Turbo && !lazy {
            return Err(Error::Turbo { layer: digest });
        }
        stands(digest, kind, kinds.last().copied())?;
        kinds.push(kind);
    }
    Ok(kinds)
}

/// May `kind` stand on `below`? The snapshotter builds a layer's device configuration from its parent's, which a plain parent
/// does not have (reference 7.6); above a trace the device would look for the trace in the wrong layer (7.7).
fn stands(layer: Digest, kind: LayerKind, below: Option<LayerKind>) -> Result<(), Error> {
    match (kind, below) {
        (LayerKind::Acceleration, None) => Err(Error::Parent { layer, below: "nothing".to_owned() }),
        (_, Some(LayerKind::Acceleration)) => Err(Error::Contradiction {
            layer,
            why: "it stands above an acceleration layer, which must be the topmost".to_owned(),
        }),
        (LayerKind::Native | LayerKind::Acceleration | LayerKind::Turbo, Some(LayerKind::Plain)) => {
            Err(Error::Parent { layer, below: "a layer that is not overlaybd".to_owned() })
        }
        _ => Ok(()),
    }
}

fn kind_of(layer: &Layer) -> Result<LayerKind, Error> {
    let descriptor = &layer.descriptor;
    let contradiction = |why: String| Error::Contradiction { layer: descriptor.digest, why };
    let annotation = |key: &str| descriptor.annotations.get(key).map(String::as_str);
    let turbo = TARGET_DIGESTS.iter().any(|key| annotation(key).is_some());
    let acceleration = annotation(ACCELERATION) == Some("yes");
    if turbo && acceleration {
        return Err(contradiction("it is marked both as TurboOCI and as acceleration layer".to_owned()));
    }
    if turbo {
        return Ok(LayerKind::Turbo);
    }
    if let Some(text) = annotation(BLOB_DIGEST)
        && text.parse() != Ok(descriptor.digest)
    {
        return Err(contradiction(format!("its blob-digest annotation is {text:?}")));
    }
    if let Some(text) = annotation(BLOB_SIZE)
        && text.parse() != Ok(descriptor.size())
    {
        return Err(contradiction(format!("its blob-size annotation is {text:?}, its size {}", descriptor.size())));
    }
    if acceleration {
        return Ok(LayerKind::Acceleration);
    }
    if annotation(BLOB_DIGEST).is_none() || annotation(BLOB_SIZE).is_none() || !descriptor.media_type.is_uncompressed_layer() {
        // With one of the two missing the snapshotter takes it for an ordinary layer as well (reference 7.3).
        return Ok(LayerKind::Plain);
    }
    if layer.diff_id != descriptor.digest {
        return Err(contradiction(format!("it is not compressed, but its diff id is {}", layer.diff_id)));
    }
    Ok(LayerKind::Native)
}

#[cfg(test)]
mod tests {
    use oci::{Descriptor, MediaType};

    use super::*;

    const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    const TURBO: &str = "containerd.io/snapshot/overlaybd/turbo-oci/target-digest";
    const FASTOCI: &str = "containerd.io/snapshot/overlaybd/fastoci/target-digest";

    pub(crate) fn layer(media_type: &str, annotations: &[(&str, &str)], diff: &str) -> Layer {
        let digest = Digest::of(b"blob");
        let mut descriptor = Descriptor::new(MediaType::new(media_type), digest, 4).unwrap();
        let own = digest.to_string();
        descriptor.annotations = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), if *value == "OWN" { own.clone() } else { (*value).to_owned() }))
            .collect();
        let diff_id = if diff == "same" { digest } else { Digest::of(diff.as_bytes()) };
        Layer { index: 0, descriptor, diff_id, chain_id: diff_id, parent: None }
    }

    #[test]
    fn a_layer_has_the_kind_its_descriptor_shows() {
        let both = [(BLOB_DIGEST, "OWN"), (BLOB_SIZE, "4")];
        let with = |extra: (&'static str, &'static str)| [both[0], both[1], extra];
        let rows: [(&str, Layer, Result<LayerKind, &str>); 20] = [
            ("native oci", layer(MediaType::OCI_LAYER, &both, "same"), Ok(LayerKind::Native)),
            ("native docker", layer(MediaType::DOCKER_LAYER, &both, "same"), Ok(LayerKind::Native)),
            ("plain gzip", layer(GZIP, &[], "other"), Ok(LayerKind::Plain)),
            ("plain zstd", layer(ZSTD, &[], "other"), Ok(LayerKind::Plain)),
            ("plain tar", layer(MediaType::OCI_LAYER, &[], "same"), Ok(LayerKind::Plain)),
            ("annotated and compressed", layer(GZIP, &both, "other"), Ok(LayerKind::Plain)),
            ("size annotation missing", layer(MediaType::OCI_LAYER, &both[..1], "same"), Ok(LayerKind::Plain)),
            ("digest annotation missing", layer(MediaType::OCI_LAYER, &both[1..], "same"), Ok(LayerKind::Plain)),
            ("turbo", layer(GZIP, &with((TURBO, "x")), "other"), Ok(LayerKind::Turbo)),
            ("turbo with another blob digest", layer(GZIP, &[(BLOB_DIGEST, "x"), (TURBO, "x")], "o"), Ok(LayerKind::Turbo)),
            ("fastoci", layer(GZIP, &with((FASTOCI, "x")), "other"), Ok(LayerKind::Turbo)),
            ("acceleration", layer(GZIP, &with((ACCELERATION, "yes")), "other"), Ok(LayerKind::Acceleration)),
            ("acceleration, tar", layer(MediaType::OCI_LAYER, &with((ACCELERATION, "yes")), "same"), Ok(LayerKind::Acceleration)),
            ("acceleration no", layer(MediaType::OCI_LAYER, &with((ACCELERATION, "no")), "same"), Ok(LayerKind::Native)),
            ("other digest", layer(MediaType::OCI_LAYER, &[(BLOB_DIGEST, "sha256:00"), both[1]], "same"), Err("blob-digest")),
            ("other digest, compressed", layer(GZIP, &[(BLOB_DIGEST, "sha256:00"), both[1]], "other"), Err("blob-digest")),
            ("other size", layer(MediaType::OCI_LAYER, &[both[0], (BLOB_SIZE, "5")], "same"), Err("blob-size")),
            ("size is text", layer(MediaType::OCI_LAYER, &[both[0], (BLOB_SIZE, "x")], "same"), Err("blob-size")),
            ("diff id differs", layer(MediaType::OCI_LAYER, &both, "other"), Err("diff id")),
            ("both marks", layer(GZIP, &[(TURBO, "x"), (ACCELERATION, "yes")], "o"), Err("both")),
        ];
        for (name, layer, expected) in rows {
            match (kind_of(&layer), expected) {
                (Ok(kind), Ok(expected)) => assert_eq!(kind, expected, "{name}"),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{name}: {error}"),
                (result, _) => panic!("{name}: {result:?}"),
            }
        }
    }

    #[test]
    fn a_stack_is_refused_when_a_layer_has_the_wrong_one_below() {
        let native = || layer(MediaType::OCI_LAYER, &[(BLOB_DIGEST, "OWN"), (BLOB_SIZE, "4")], "same");
        let plain = || layer(GZIP, &[], "other");
        let turbo = || layer(GZIP, &[(TURBO, "x")], "other");
        let trace = || layer(GZIP, &[(ACCELERATION, "yes")], "other");
        let rows = [
            ("native", vec![native(), native(), trace()], false, true),
            ("all re-compressed", vec![plain(), plain(), plain()], false, true),
            ("written on top", vec![native(), plain()], false, true),
            ("native over plain", vec![plain(), native()], false, false),
            ("trace over plain", vec![plain(), trace()], false, false),
            ("trace alone", vec![trace()], false, false),
            ("native over trace", vec![native(), trace(), native()], false, false),
            ("turbo", vec![turbo(), turbo()], false, false),
            ("turbo, lazy", vec![turbo(), turbo()], true, true),
            ("turbo over plain, lazy", vec![plain(), turbo()], true, false),
            ("turbo on a native base, lazy", vec![native(), turbo()], true, true),
        ];
        for (name, layers, lazy, fine) in rows {
            let result = classify(&layers, lazy);
            assert_eq!(result.is_ok(), fine, "{name}: {result:?}");
            assert!(result.err().is_none_or(|error| error.hint().is_some()), "{name}");
        }
    }
}
