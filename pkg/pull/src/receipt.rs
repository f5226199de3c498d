//! What a pull did, for people and scripts: the JSON of `--receipt`.

use std::collections::BTreeMap;

use containerd::How;
use oci::{Digest, Layer};
use progress::{Stalls, Tally};
use serde::Serialize;

use crate::{
    blobs::Source,
    plan::{Action, Plan},
    work::Outcome,
};

/// A finished pull. Only a proved one has a receipt.
#[derive(Clone, Debug, Serialize)]
pub struct Receipt {
    /// Version of this form.
    pub v: u32,
    /// Name of the image record.
    pub reference: String,
    /// Names of all records of the image that were set, in this order; with `cri` three.
    pub names: Vec<String>,
    /// containerd namespace.
    pub namespace: String,
    /// Snapshotter.
    pub snapshotter: String,
    /// What the image record points at.
    pub target: Digest,
    /// The manifest that is whole.
    pub manifest: Digest,
    /// The image config.
    pub config: Digest,
    /// Is every layer whole on this machine? `false` only after `--lazy` or for layers whose data stays in the registry.
    pub complete: bool,
    /// The store that was used, and why.
    pub store: StoreUse,
    /// Layers, bottom first.
    pub layers: Vec<LayerReceipt>,
    /// Layer and document bytes by where they came from.
    pub bytes: Bytes,
    /// Requests made again, connections dropped as too slow, bytes received twice.
    pub transfer: Incidents,
    /// Start (RFC 3339) and spans in seconds.
    pub times: Times,
    /// Annotations that were not taken over as labels (safety 12), by layer.
    pub dropped_annotations: BTreeMap<Digest, Vec<String>>,
    /// What is no failure but worth knowing.
    pub warnings: Vec<String>,
}

/// Which way blobs became content.
#[derive(Clone, Debug, Serialize)]
pub struct StoreUse {
    /// `direct` or `api`.
    pub mode: &'static str,
    /// Why this one.
    pub why: String,
}

/// One layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerReceipt {
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Name of its snapshot.
    pub chain_id: Digest,
    /// Its kind: `native`, `acceleration`, `plain`, `turbo`.
    pub kind: &'static str,
    /// How it came.
    pub came: Came,
    /// From where, when it was not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Was the blob's SHA-256 computed in this pull, or is it trusted as containerd trusts its content?
    pub proof: Proof,
    /// How its file stands in the snapshot: `linked`, `cloned`, `copied`, `unpacked`, …
    pub file: &'static str,
    /// Disk bytes freed because a second copy was replaced by a link.
    #[serde(skip_serializing_if = "is_zero")]
    pub freed: u64,
}

/// How a layer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Came {
    /// Was whole already.
    Kept,
    /// Was on the machine, now stands in its snapshot.
    Attached,
    /// Came over the network.
    Fetched,
    /// Stays in the registry and is read from there.
    Lazy,
}

/// What is known of a blob's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// SHA-256 computed in this pull.
    Hashed,
    /// Content this namespace held already.
    Trusted,
    /// Nothing on this machine to prove.
    None,
}

/// Bytes by source.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Bytes {
    /// Layer bytes over the network, by host and port.
    pub network: BTreeMap<String, u64>,
    /// Index, manifest and config.
    pub documents: u64,
    /// Layers found in this namespace.
    pub same_namespace: u64,
    /// Layers found in another namespace.
    pub other_namespace: u64,
    /// Bytes an earlier run had left in the spool.
    pub spool: u64,
    /// Layers found only as files of snapshots.
    pub snapshot: u64,
}

/// Incidents of the transfer.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Incidents {
    /// Requests made again.
    pub retries: u64,
    /// Connections dropped as too slow.
    pub stalls: u64,
    /// The same by the rule that dropped them.
    pub stalls_by_rule: Stalls,
    /// Bytes received twice.
    pub refetched: u64,
}

/// When, and how long.
#[derive(Clone, Debug, Serialize)]
pub struct Times {
    /// Start, RFC 3339, UTC.
    pub started: String,
    /// Until the image was known, seconds.
    pub resolve: f64,
    /// Until the last layer was committed, seconds.
    pub layers: f64,
    /// Whole pull, seconds.
    pub total: f64,
}

impl Receipt {
    /// Version of the form this library writes; raised when a field changes its meaning or goes.
    pub const VERSION: u32 = 1;

    /// Layer bytes that came over the network.
    pub fn fetched(&self) -> u64 {
        self.bytes.network.values().sum()
    }
}

/// The layers' part of a receipt.
pub(crate) fn layers(layers: &[Layer], plan: &Plan, outcomes: &[Outcome]) -> Vec<LayerReceipt> {
    let row = |((layer, planned), outcome): ((&Layer, &crate::plan::LayerPlan), &Outcome)| {
        let arrived = outcome.arrived.as_ref();
        let source = arrived.map(|arrived| arrived.source);
        let came = match (planned.action, source) {
            _ if outcome.is_lazy(planned.kind) => Came::Lazy,
            (Action::Keep, _) => Came::Kept,
            (_, Some(Source::Network)) => Came::Fetched,
            _ => Came::Attached,
        };
        let proof = match outcome.committed().map(containerd::Committed::how) {
            Some(How::Hashed) => Proof::Hashed,
            Some(How::Trusted) => Proof::Trusted,
            None => Proof::None,
        };
        LayerReceipt {
            digest: layer.descriptor.digest,
            size: layer.descriptor.size(),
            chain_id: layer.chain_id,
            kind: planned.kind.name(),
            came,
            source,
            proof,
            file: outcome.standing.name(),
            freed: outcome.standing.freed(),
        }
    };
    layers.iter().zip(&plan.layers).zip(outcomes).map(row).collect()
}

/// Bytes by source, each blob counted once.
pub(crate) fn bytes(layers: &[Layer], outcomes: &[Outcome], tally: &Tally, documents: u64) -> Bytes {
    let mut bytes = Bytes { network: tally.by_host.clone(), documents, ..Bytes::default() };
    let mut seen = std::collections::BTreeSet::new();
    for (layer, outcome) in layers.iter().zip(outcomes) {
        let Some(arrived) = outcome.arrived.as_ref().filter(|_| seen.insert(layer.descriptor.digest)) else { continue };
        bytes.spool += arrived.resumed;
        match arrived.source {
            Source::Network | Source::Spool => {}
            Source::SameNamespace => bytes.same_namespace += layer.descriptor.size(),
            Source::OtherNamespace => bytes.other_namespace += layer.descriptor.size(),
            Source::Snapshot => bytes.snapshot += layer.descriptor.size(),
        }
    }
    bytes
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(freed: &u64) -> bool {
    *freed == 0
}
