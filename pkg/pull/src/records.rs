//! The labels containerd's own pull leaves behind (reference 5.3, 5.4): without them the garbage collector takes the image apart.

use containerd::Labels;
use oci::{Descriptor, Image, Layer, Reference};

/// Label on the image record, set after proof: the digest of the manifest that is whole here.
pub(crate) const COMPLETE: &str = "rpull/complete";

/// containerd refuses a label whose key and value are longer together (reference 3.1).
const MAX_LABEL: usize = 4096;

/// Index → every manifest it lists, also those never fetched.
pub(crate) fn index_labels(manifests: &[Descriptor]) -> Labels {
    manifests.iter().enumerate().map(|(i, manifest)| child_label(&format!("m.{i}"), manifest)).collect()
}

/// Manifest → config and layers.
pub(crate) fn manifest_labels(image: &Image) -> Labels {
    let layers = image.layers.iter().map(|layer| child_label(&format!("l.{}", layer.index), &layer.descriptor));
    std::iter::once(child_label("config", &image.config)).chain(layers).collect()
}

/// Config → the top snapshot, which holds the whole chain.
pub(crate) fn config_labels(snapshotter: &str, layers: &[Layer]) -> Labels {
    let top = layers.last().map(|layer| layer.chain_id.to_string()).unwrap_or_default();
    Labels::from([(format!("containerd.io/gc.ref.snapshot.{snapshotter}"), top)])
}

/// A layer blob's own label.
pub(crate) fn layer_labels(layer: &Layer) -> Labels {
    Labels::from([("containerd.io/uncompressed".to_owned(), layer.diff_id.to_string())])
}

/// `containerd.io/distribution.source.<host without port>`: where the blob came from, merged with what `existing` says.
/// `None` when the label would be too long, which containerd takes for a reason to leave it as it is.
pub(crate) fn distribution_source(reference: &Reference, existing: &Labels) -> Option<(String, String)> {
    let key = format!("containerd.io/distribution.source.{}", without_port(reference.host()));
    let mut repositories: Vec<&str> = existing.get(&key).map(|value| value.split(',').collect()).unwrap_or_default();
    repositories.push(reference.repository());
    repositories.retain(|repository| !repository.is_empty());
    repositories.sort_unstable();
    repositories.dedup();
    let value = repositories.join(",");
    (key.len() + value.len() <= MAX_LABEL).then_some((key, value))
}

fn child_label(suffix: &str, child: &Descriptor) -> (String, String) {
    (format!("containerd.io/gc.ref.content.{suffix}"), child.digest.to_string())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> Reference {
        "127.0.0.1:5000/b/c:1".parse().unwrap()
    }

    #[test]
    fn distribution_source_is_sorted_unique_and_bounded() {
        let key = "containerd.io/distribution.source.127.0.0.1".to_owned();
        assert_eq!(distribution_source(&reference(), &Labels::new()), Some((key.clone(), "b/c".to_owned())));
        let existing = Labels::from([(key.clone(), "z,b/c,a".to_owned())]);
        assert_eq!(distribution_source(&reference(), &existing), Some((key.clone(), "a,b/c,z".to_owned())));
        let full = Labels::from([(key, "x".repeat(4090))]);
        assert_eq!(distribution_source(&reference(), &full), None);
    }

    #[test]
    fn ipv6_hosts_lose_only_their_port() {
        assert_eq!(without_port("[::1]:5000"), "[::1]");
        assert_eq!(without_port("[::1]"), "[::1]");
        assert_eq!(without_port("docker.io"), "docker.io");
    }
}
