//! From annotations to snapshot labels, by allow-list (safety 12).
//!
//! The snapshotter obeys its labels: a manifest that could set `image-ref` would choose the host the device reads from. So only
//! what is named here is taken over, each value parsed and written out again.

use containerd::Labels;
use oci::{Digest, Layer, MediaType};

use super::LayerKind;

pub(super) const BLOB_DIGEST: &str = "containerd.io/snapshot/overlaybd/blob-digest";
pub(super) const BLOB_SIZE: &str = "containerd.io/snapshot/overlaybd/blob-size";
pub(super) const ACCELERATION: &str = "containerd.io/snapshot/overlaybd/acceleration-layer";
const VERSION: &str = "containerd.io/snapshot/overlaybd/version";
const FS_TYPE: &str = "containerd.io/snapshot/overlaybd/blob-fs-type";
/// Where a `TurboOCI` layer's data is; the second is the name the format had first.
pub(super) const TARGET_DIGESTS: [&str; 2] =
    ["containerd.io/snapshot/overlaybd/turbo-oci/target-digest", "containerd.io/snapshot/overlaybd/fastoci/target-digest"];
const TARGET_MEDIA_TYPES: [&str; 2] = [
    "containerd.io/snapshot/overlaybd/turbo-oci/target-media-type",
    "containerd.io/snapshot/overlaybd/fastoci/target-media-type",
];
const IMAGE_REF: &str = "containerd.io/snapshot/image-ref";
/// What the kubelet's pulls set instead.
const CRI_IMAGE_REF: &str = "containerd.io/snapshot/cri.image-ref";
const SNAPSHOT_REF: &str = "containerd.io/snapshot.ref";
/// Makes Prepare answer with the snapshot's directory instead of committing the layer lazily at once (reference 7.4 b, d).
const DOWNLOAD: &str = "containerd.io/snapshot/overlaybd/download-remote-blob";
/// Set by the snapshotter on layers it committed lazily.
const REMOTE: &str = "containerd.io/snapshot/remote";
/// containerd hands every annotation below this to the snapshotter.
const PREFIX: &str = "containerd.io/snapshot";

/// The labels of one layer's snapshot. Prepare and Commit both need all of them: Commit replaces what Prepare set (reference 7.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SnapshotLabels {
    /// What to send.
    pub(crate) labels: Labels,
    /// Names of annotations that would have reached the snapshotter and were not taken over, sorted.
    pub(crate) dropped: Vec<String>,
}

/// The labels for Prepare and Commit of `layer` (reference 6.2, 7.1). `image_ref` is the reference as recorded.
pub(crate) fn snapshot_labels(layer: &Layer, kind: LayerKind, image_ref: &str, lazy: bool) -> SnapshotLabels {
    let mut labels =
        Labels::from([(IMAGE_REF.to_owned(), image_ref.to_owned()), (SNAPSHOT_REF.to_owned(), layer.chain_id.to_string())]);
    let mut dropped = Vec::new();
    for (key, value) in layer.descriptor.annotations.iter().filter(|(key, _)| key.starts_with(PREFIX)) {
        match accepted(layer, kind, key, value) {
            Some(value) => {
                labels.insert(key.clone(), value);
            }
            None => dropped.push(key.clone()),
        }
    }
    if !lazy && kind == LayerKind::Native {
        labels.insert(DOWNLOAD.to_owned(), "download".to_owned());
    }
    SnapshotLabels { labels, dropped }
}

/// The labels of a probe View, which names the directories of a chain without attaching a device (reference 7.9).
/// `unique` must not be the name of any snapshot.
pub(crate) fn probe_labels(unique: &str) -> Labels {
    Labels::from([(SNAPSHOT_REF.to_owned(), unique.to_owned())])
}

/// Was this snapshot committed without its data? It may have got it since: the label stays.
pub(crate) fn is_lazy(labels: &Labels) -> bool {
    labels.contains_key(REMOTE)
}

/// The first label without which the snapshotter would not take a committed native layer for what it is (reference 7.3), `None`
/// when all are there. Layers of other kinds need none.
pub(crate) fn missing_label(labels: &Labels, layer: &Layer, kind: LayerKind) -> Option<&'static str> {
    if kind != LayerKind::Native {
        return None;
    }
    let is = |key: &str, value: String| labels.get(key) == Some(&value);
    let named = labels.contains_key(IMAGE_REF) || labels.contains_key(CRI_IMAGE_REF);
    [
        (SNAPSHOT_REF, is(SNAPSHOT_REF, layer.chain_id.to_string())),
        (BLOB_DIGEST, is(BLOB_DIGEST, layer.descriptor.digest.to_string())),
        (BLOB_SIZE, is(BLOB_SIZE, layer.descriptor.size().to_string())),
        (IMAGE_REF, named),
    ]
    .into_iter()
    .find_map(|(key, right)| (!right).then_some(key))
}

/// The value to send for an annotation, `None` to drop it. A plain layer gets none of overlaybd's labels: with them the
/// snapshotter would take it for a blob to read from the registry.
fn accepted(layer: &Layer, kind: LayerKind, key: &str, value: &str) -> Option<String> {
    if kind == LayerKind::Plain {
        return None;
    }
    let turbo = kind == LayerKind::Turbo;
    match key {
        BLOB_DIGEST if turbo => value.parse::<Digest>().ok().map(|digest| digest.to_string()),
        BLOB_DIGEST => Some(layer.descriptor.digest.to_string()),
        BLOB_SIZE if turbo => {
            value.parse::<u64>().ok().filter(|size| (1..=oci::MAX_BLOB_SIZE).contains(size)).map(|n| n.to_string())
        }
        BLOB_SIZE => Some(layer.descriptor.size().to_string()),
        VERSION => is_plain(value, 64, b".-_").then(|| value.to_owned()),
        FS_TYPE => matches!(value, "ext4" | "xfs" | "erofs").then(|| value.to_owned()),
        ACCELERATION if kind == LayerKind::Acceleration && value == "yes" => Some("yes".to_owned()),
        key if turbo && TARGET_DIGESTS.contains(&key) => value.parse::<Digest>().ok().map(|digest| digest.to_string()),
        key if turbo && TARGET_MEDIA_TYPES.contains(&key) => {
            (is_plain(value, 128, b".-_/+") && MediaType::new(value).is_layer()).then(|| value.to_owned())
        }
        _ => None,
    }
}

fn is_plain(text: &str, longest: usize, also: &[u8]) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || also.contains(&byte))
}

#[cfg(test)]
mod tests {
    use oci::Descriptor;

    use super::*;

    const REF: &str = "127.0.0.1:5000/t/obd:1";

    fn layer(annotations: &[(&str, &str)]) -> Layer {
        let digest = Digest::of(b"blob");
        let mut descriptor = Descriptor::new(MediaType::new(MediaType::OCI_LAYER), digest, 4).unwrap();
        descriptor.annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Layer { index: 0, descriptor, diff_id: digest, chain_id: Digest::of(b"chain"), parent: None }
    }

    #[test]
    fn a_native_layer_gets_the_labels_that_make_prepare_name_its_directory() {
        let own = Digest::of(b"blob").to_string();
        let layer = layer(&[(BLOB_DIGEST, &own), (BLOB_SIZE, "4"), (VERSION, "0.1.0"), (FS_TYPE, "ext4"), ("title", "x")]);
        let full = snapshot_labels(&layer, LayerKind::Native, REF, false);
        let chain = Digest::of(b"chain").to_string();
        let expected = Labels::from(
            [
                ("containerd.io/snapshot.ref", chain.as_str()),
                ("containerd.io/snapshot/image-ref", REF),
                ("containerd.io/snapshot/overlaybd/blob-digest", &own),
                ("containerd.io/snapshot/overlaybd/blob-size", "4"),
                ("containerd.io/snapshot/overlaybd/version", "0.1.0"),
                ("containerd.io/snapshot/overlaybd/blob-fs-type", "ext4"),
                ("containerd.io/snapshot/overlaybd/download-remote-blob", "download"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        assert_eq!(full, SnapshotLabels { labels: expected.clone(), dropped: vec![] });

        let lazy = snapshot_labels(&layer, LayerKind::Native, REF, true);
        assert_eq!(expected.len(), lazy.labels.len() + 1);
        assert!(!lazy.labels.contains_key(DOWNLOAD));
    }

    #[test]
    fn a_hostile_manifest_sets_nothing() {
        let hostile = [
            ("containerd.io/snapshot.ref", "sha256:other"),
            ("containerd.io/snapshot/image-ref", "evil.example/x"),
            ("containerd.io/snapshot/cri.image-ref", "evil.example/x"),
            ("containerd.io/snapshot/remote", "remote snapshot"),
            ("containerd.io/snapshot/overlaybd/record-trace-path", "/etc/passwd"),
            ("containerd.io/snapshot/overlaybd/blob-fs-type", "ext4,init=/evil"),
            ("containerd.io/snapshot/overlaybd/version", "1\n2"),
            ("containerd.io/snapshot/overlaybd/acceleration-layer", "no"),
            ("containerd.io/snapshot/overlaybd/turbo-oci/target-digest", "sha256:../../x"),
            ("containerd.io/snapshot/overlaybd/turbo-oci/other", "x"),
            ("containerd.io/snapshot/overlaybd/download-remote-blob", "other"),
            ("containerd.io/snapshotter", "x"),
        ];
        let mut names: Vec<_> = hostile.iter().map(|(key, _)| (*key).to_owned()).collect();
        names.sort();
        for kind in [LayerKind::Native, LayerKind::Acceleration, LayerKind::Plain, LayerKind::Turbo] {
            let built = snapshot_labels(&layer(&hostile), kind, REF, false);
            assert_eq!(built.labels[IMAGE_REF], REF);
            assert_eq!(built.labels[SNAPSHOT_REF], Digest::of(b"chain").to_string());
            assert_eq!(built.labels.len(), if kind == LayerKind::Native { 3 } else { 2 }, "{kind:?}: {:?}", built.labels);
            assert_eq!(built.dropped, names, "{kind:?}");
        }
    }

    #[test]
    fn a_plain_layer_carries_no_overlaybd_label() {
        let own = Digest::of(b"blob").to_string();
        let built = snapshot_labels(&layer(&[(BLOB_DIGEST, &own), (BLOB_SIZE, "4")]), LayerKind::Plain, REF, false);
        assert_eq!(built.labels.into_keys().collect::<Vec<_>>(), [SNAPSHOT_REF, IMAGE_REF]);
        assert_eq!(built.dropped, [BLOB_DIGEST, BLOB_SIZE]);
    }

    #[test]
    fn turbo_targets_are_taken_over_for_turbo_layers_only() {
        let target = Digest::of(b"target").to_string();
        let gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
        let layer = layer(&[(TARGET_DIGESTS[0], &target), (TARGET_MEDIA_TYPES[0], gzip)]);
        let turbo = snapshot_labels(&layer, LayerKind::Turbo, REF, true);
        assert_eq!((&turbo.labels[TARGET_DIGESTS[0]], turbo.labels[TARGET_MEDIA_TYPES[0]].as_str()), (&target, gzip));
        assert_eq!(turbo.dropped, [""; 0]);
        assert_eq!(snapshot_labels(&layer, LayerKind::Native, REF, true).dropped.len(), 2);
    }

    #[test]
    fn a_lazy_snapshot_is_known_by_its_label() {
        assert!(is_lazy(&Labels::from([("containerd.io/snapshot/remote".to_owned(), "remote snapshot".to_owned())])));
        assert!(!is_lazy(&probe_labels("probe-1")));
    }

    #[test]
    fn a_native_snapshot_lacks_what_identifies_it_until_all_is_there() {
        let own = Digest::of(b"blob").to_string();
        let layer = layer(&[(BLOB_DIGEST, &own), (BLOB_SIZE, "4")]);
        let whole = snapshot_labels(&layer, LayerKind::Native, REF, false).labels;
        assert_eq!(missing_label(&whole, &layer, LayerKind::Native), None);
        for key in [SNAPSHOT_REF, BLOB_DIGEST, BLOB_SIZE, IMAGE_REF] {
            let mut labels = whole.clone();
            labels.remove(key);
            assert_eq!(missing_label(&labels, &layer, LayerKind::Native), Some(key));
            labels.insert("containerd.io/snapshot/cri.image-ref".to_owned(), REF.to_owned());
            assert_eq!(missing_label(&labels, &layer, LayerKind::Native).is_none(), key == IMAGE_REF);
            assert_eq!(missing_label(&labels, &layer, LayerKind::Plain), None);
        }
    }
}
