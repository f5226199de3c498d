//! Flags for whoever prepares a Kubernetes node.

use std::time::Duration;

use clap::{ArgMatches, parser::ValueSource};
use oci::{Namespace, Reference};
use pull::Cri;

use super::{Refusal, value};

/// The CRI plugin knows no other namespace (reference 10).
const KUBELETS: &str = "k8s.io";

#[derive(clap::Args)]
pub(crate) struct Node {
    /// Record the image as the kubelet looks for it: by its id, by digest and by the normalised name, with the labels of
    /// containerd's CRI plugin, in the namespace k8s.io
    #[arg(help_heading = "Kubernetes", long)]
    cri: bool,

    /// With --cri: keep the kubelet from removing the image to free space
    #[arg(help_heading = "Kubernetes", long)]
    pin: bool,

    /// How long to wait for containerd and the snapshotter to answer, as at boot; 0 for not at all
    #[arg(
        global = true,
        help_heading = "containerd",
        long,
        value_name = "DURATION",
        default_value = "0",
        value_parser = value::duration
    )]
    pub(crate) wait_for_containerd: Duration,
}

impl Node {
    /// How the kubelet is to see the image, if it is one for the kubelet.
    pub(crate) fn cri(&self) -> Option<Cri> {
        self.cri.then_some(Cri { pinned: self.pin })
    }

    /// The reference as whoever asks for the image by it will read it.
    pub(super) fn read(&self, reference: Reference) -> Result<Reference, oci::Error> {
        if self.cri { reference.for_kubelet() } else { Ok(reference) }
    }

    /// The namespace that is meant. One of the environment was not written for this pull, so the flag has the last word over it.
    pub(super) fn namespace(&self, given: &Namespace, matches: &ArgMatches) -> Result<Namespace, Refusal> {
        if !self.cri {
            return Ok(given.clone());
        }
        if given.as_str() != KUBELETS && matches.value_source("namespace") == Some(ValueSource::CommandLine) {
            return Err(Refusal::usage(
                format!("--cri and --namespace {given} contradict each other"),
                format!("the kubelet's images are in {KUBELETS}: leave out --namespace"),
            ));
        }
        Ok(KUBELETS.parse().expect("it is a namespace"))
    }

    /// What the flags cannot know of each other.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.pin && !self.cri {
            return Err(Refusal::usage("--pin without --cri", "only the kubelet knows pinned images: add --cri"));
        }
        Ok(())
    }
}
