//! Input that is bad: each case ends with the right exit code, a line that names the object and a hint that helps, and leaves
//! nothing half-visible and nothing lost.

mod credentials;
mod daemon;
mod documents;
mod hostile;
mod layers;
mod local;
mod registry;

use containerd_client::services::v1::Image as Record;
use oci::Digest;
use testkit::image::{Blob, Image, Layer};

use crate::stage::{Output, Stage};

const ANNOTATION: &str = "containerd.io/snapshot/overlaybd/";

/// The tag under which a test pushes its bad images, and what containerd has recorded under it.
struct Tag<'a> {
    stage: &'a Stage,
    repository: &'a str,
    reference: String,
    record: Option<Record>,
}

impl<'a> Tag<'a> {
    /// Nothing was pulled under it yet.
    fn free(stage: &'a Stage) -> Self {
        let repository = stage.namespace();
        Self { stage, repository, reference: stage.registry().reference(repository, "1"), record: None }
    }

    /// A good image was pulled under it before the bad one is pushed.
    fn taken(stage: &'a Stage) -> Self {
        let mut tag = Self::free(stage);
        Image::new(vec![layer(stage, "former")]).push(stage.registry(), tag.repository, "1");
        stage.pull([&tag.reference]);
        tag.record = stage.image(&tag.reference);
        assert!(tag.record.is_some());
        tag
    }

    fn push(&self, image: &Image) {
        image.push(self.stage.registry(), self.repository, "1");
    }

    /// Pulls and expects to fail; standard output.
    #[track_caller]
    fn refuses(&self, args: &[&str], code: i32, stderr: &str) -> String {
        let output = self.stage.rpull(args.iter().copied().chain([self.reference.as_str()]));
        assert_failed(&output, code, stderr);
        self.assert_unchanged();
        output.stdout
    }

    /// The record is the one from before, and nothing unfinished is to be seen.
    #[track_caller]
    fn assert_unchanged(&self) {
        assert_eq!(self.stage.image(&self.reference), self.record, "the image record");
        self.stage.assert_nothing_unfinished();
        // One for each manifest that failed, to keep what was finished of it.
        let leases = self.stage.leases();
        assert!(leases.iter().all(|lease| lease.starts_with("rpull-")), "{leases:?}");
    }
}

/// A native overlaybd layer whose blob no other test has.
fn layer(stage: &Stage, name: &str) -> Layer {
    Layer::overlaybd(blob(stage, name))
}

fn blob(stage: &Stage, name: &str) -> Blob {
    let digest = Digest::of(format!("{} {name}", stage.namespace()).as_bytes()).hex();
    Blob { seed: u64::from_str_radix(&digest[..8], 16).expect("hex"), data: 128 << 10 }
}

/// Exit code, and all of standard error; `…` in `stderr` stands for any text within a line.
#[track_caller]
pub(crate) fn assert_failed(output: &Output, code: i32, stderr: &str) {
    assert_eq!(output.code, code, "{output:#?}");
    assert!(!output.stdout.lines().any(|line| line == "done"), "{output:#?}");
    let same = output.stderr.lines().count() == stderr.lines().count()
        && output.stderr.lines().zip(stderr.lines()).all(|(line, pattern)| fits(line, pattern));
    assert!(same, "stderr is\n{}instead of\n{stderr}", output.stderr);
}

fn fits(line: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().expect("a split has a first part")) else { return false };
    let mut open = false;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        open = part.is_empty();
    }
    open || rest.is_empty()
}
