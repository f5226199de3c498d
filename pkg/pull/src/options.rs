//! What the caller of a pull decides.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use containerd::StoreChoice;
use oci::Platform;

use crate::Cri;

/// How one pull is to be done.
#[derive(Clone, Debug)]
pub struct Options {
    /// containerd's name of the snapshotter, `overlaybd` by default.
    pub snapshotter: String,
    /// Platform to choose from an index; the host's when `None`.
    pub platform: Option<Platform>,
    /// Which way blobs become content.
    pub store: StoreChoice,
    /// Where blobs are written before they are proved; chosen beside the content store when `None`.
    pub spool_dir: Option<PathBuf>,
    /// Prepare native layers without fetching them, as upstream's `ctr rpull` does without `--download-blobs`.
    pub lazy: bool,
    /// Make the image one for the kubelet: more names, and the CRI plugin's labels. The references pulled are then those of
    /// [`Reference::for_kubelet`](oci::Reference::for_kubelet), and the namespace is the plugin's, `k8s.io`.
    pub cri: Option<Cri>,
    /// Labels for the image records.
    pub labels: BTreeMap<String, String>,
    /// Life of the lease. It is renewed at half of this, so it bounds how long a dead run holds its content, not a pull.
    pub lease_expiry: Duration,
    /// Spool entries unused for longer than this are swept.
    pub keep_partial: Duration,
}

impl Default for Options {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(60 * 60);
        Self {
            snapshotter: "overlaybd".to_owned(),
            platform: None,
            store: StoreChoice::Auto,
            spool_dir: None,
            lazy: false,
            cri: None,
            labels: BTreeMap::new(),
            // As `client.WithLease` has it (reference 4.1).
            lease_expiry: 24 * HOUR,
            // A week: long enough for a node that was switched off over a holiday week-end, short enough not to fill a disk.
            keep_partial: 7 * 24 * HOUR,
        }
    }
}
