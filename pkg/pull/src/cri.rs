//! What containerd's CRI plugin, and through it the kubelet, takes for an image it may run: three records of one target, and its
//! labels on each (reference 10).

use containerd::Labels;
use oci::{Image, Reference};

/// "The CRI plugin looks after this record": without it the plugin adds the id and the label itself, and never the name by digest.
const MANAGED: (&str, &str) = ("io.cri-containerd.image", "managed");
/// "Not to be removed to free space": shown to the kubelet by containerd 1.6.22, 1.7.3 and newer.
const PINNED: (&str, &str) = ("io.cri-containerd.pinned", "pinned");

/// An image is made for the kubelet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cri {
    /// Is the kubelet's image garbage collection to leave it alone?
    pub pinned: bool,
}

impl Cri {
    /// The names of the records, in the order in which they are set. The plugin takes a labelled record on trust, so the id, which it
    /// lists an image under, comes first, and the name that pods ask for last, when the rest is there.
    pub(crate) fn names(reference: &Reference, image: &Image) -> Vec<String> {
        let by_digest = format!("{}/{}@{}", reference.host(), reference.repository(), image.target.digest);
        let mut names = vec![image.config.digest.to_string(), by_digest, reference.name().to_owned()];
        // A reference by digest is both.
        names.dedup();
        names
    }

    /// The labels of all of them.
    pub(crate) fn labels(self) -> Labels {
        let labels = std::iter::once(MANAGED).chain(self.pinned.then_some(PINNED));
        labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}
