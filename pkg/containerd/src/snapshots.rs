//! Snapshots and Diff.Apply. What the labels mean is the caller's business.

use std::{path::PathBuf, time::Duration};

use containerd_client::{
    services::v1::{ApplyRequest, snapshots as api},
    types,
};
use oci::{Descriptor, Digest};
use tokio::time::timeout;
use tonic::{Code, Response, Status};

use crate::{Error, Labels, Session, content::to_wire};

/// A call that is silent this long is told about.
const SILENCE: Duration = Duration::from_secs(30);

/// A snapshotter takes at most seconds for any call but those that copy or hash a layer, which have no limit.
const PATIENCE: Duration = Duration::from_secs(300);

/// Names the committed snapshot an extraction is for (reference 6.2).
const TARGET: &str = "containerd.io/snapshot.ref";

/// `AlreadyExists` with nothing there means that the snapshot went in between; as often as containerd's own unpacker it is tried again.
const PREPARE_TRIES: usize = 3;

/// A mount as a snapshotter answers it; never mounted by us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    /// `bind`, `overlay`, …
    pub kind: String,
    /// Source directory or device.
    pub source: PathBuf,
    /// Options such as `ro`, `lowerdir=…`.
    pub options: Vec<String>,
}

/// What Prepare led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Prepared {
    /// A new active snapshot, to be filled and committed.
    Active(Vec<Mount>),
    /// The committed snapshot named by the label `containerd.io/snapshot.ref` is there, and under the lease.
    Exists,
}

/// Whose snapshot has the name after [`Session::commit`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Named {
    /// Ours.
    Ours,
    /// Somebody else's, committed first and now under our lease.
    Theirs,
}

/// What containerd says of one snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotInfo {
    /// Chain id, or the key of one that is not committed.
    pub name: String,
    /// Name of its parent, empty for the lowest.
    pub parent: String,
    /// Committed, not active and no view.
    pub committed: bool,
    /// Its labels.
    pub labels: Labels,
}

impl Session {
    /// Begins a snapshot on `parent`.
    pub async fn prepare(
        &self,
        snapshotter: &str,
        key: &str,
        parent: Option<Digest>,
        labels: &Labels,
    ) -> Result<Prepared, Error> {
        let request = api::PrepareSnapshotRequest {
            snapshotter: snapshotter.to_owned(),
            key: key.to_owned(),
            parent: parent.map(|digest| digest.to_string()).unwrap_or_default(),
            labels: to_wire(labels),
        };
        let mut client = self.snapshots_client();
        for _ in 0..PREPARE_TRIES {
            let status = match self.ask(snapshotter, "to prepare", key, Some(PATIENCE), client.prepare(request.clone())).await? {
                Ok(reply) => return Ok(Prepared::Active(reply.mounts.into_iter().map(Mount::from).collect())),
                Err(status) => status,
            };
            match (status.code(), labels.get(TARGET)) {
                (Code::AlreadyExists, Some(target)) => {
                    // Daemons before 1.6.32 and 1.7.17 lease nothing here (reference 4.2).
                    match self.hold_snapshot(snapshotter, target).await {
                        Ok(()) => return Ok(Prepared::Exists),
                        Err(Error::Gone { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                (Code::NotFound, _) if parent.is_some() => return Err(self.gone_or_refused(snapshotter, parent, status)),
                _ => return Err(self.snapshot_refused(snapshotter, "to prepare", key, status)),
            }
        }
        Err(Error::Gone { what: format!("snapshot {}", labels.get(TARGET).map_or(key, String::as_str)) })
    }

    /// Begins a read-only snapshot on `parent`, to learn from its mounts where the layers stand.
    pub async fn view(&self, snapshotter: &str, key: &str, parent: Digest, labels: &Labels) -> Result<Vec<Mount>, Error> {
        let request = api::ViewSnapshotRequest {
            snapshotter: snapshotter.to_owned(),
            key: key.to_owned(),
            parent: parent.to_string(),
            labels: to_wire(labels),
        };
        let mut client = self.snapshots_client();
        match self.ask(snapshotter, "to view", key, Some(PATIENCE), client.view(request)).await? {
            Ok(reply) => Ok(reply.mounts.into_iter().map(Mount::from).collect()),
            Err(status) if status.code() == Code::NotFound => Err(self.gone_or_refused(snapshotter, Some(parent), status)),
            Err(status) => Err(self.snapshot_refused(snapshotter, "to view", key, status)),
        }
    }

    /// Commits the active snapshot `key` as `name`, which afterwards has exactly these labels. When somebody else committed that name
    /// first, theirs is put under the lease and `key` removed: containerd leaves it.
    pub async fn commit(&self, snapshotter: &str, name: Digest, key: &str, labels: &Labels) -> Result<Named, Error> {
        let request = api::CommitSnapshotRequest {
            snapshotter: snapshotter.to_owned(),
            name: name.to_string(),
            key: key.to_owned(),
            labels: to_wire(labels),
        };
        let mut client = self.snapshots_client();
        match self.ask(snapshotter, "to commit", key, None, client.commit(request)).await? {
            Ok(()) => Ok(Named::Ours),
            Err(status) if status.code() == Code::AlreadyExists => {
                self.hold_snapshot(snapshotter, &name.to_string()).await?;
                self.remove(snapshotter, key).await?;
                Ok(Named::Theirs)
            }
            Err(status) if status.code() == Code::NotFound => Err(Error::Gone { what: format!("snapshot {key}") }),
            Err(status) => Err(self.snapshot_refused(snapshotter, "to commit", key, status)),
        }
    }

    /// What is known of a snapshot; `None` when there is none of that name or key.
    pub async fn stat(&self, snapshotter: &str, name: &str) -> Result<Option<SnapshotInfo>, Error> {
        let mut client = self.snapshots_client();
        let request = api::StatSnapshotRequest { snapshotter: snapshotter.to_owned(), key: name.to_owned() };
        match self.ask(snapshotter, "to tell about", name, Some(PATIENCE), client.stat(request)).await? {
            Ok(reply) => Ok(reply.info.map(|info| SnapshotInfo {
                committed: info.kind() == api::Kind::Committed,
                name: info.name,
                parent: info.parent,
                labels: info.labels.into_iter().collect(),
            })),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.snapshot_refused(snapshotter, "to tell about", name, status)),
        }
    }

    /// Removes a snapshot; one that is not there is no error.
    pub async fn remove(&self, snapshotter: &str, key: &str) -> Result<(), Error> {
        let mut client = self.snapshots_client();
        let request = api::RemoveSnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() };
        match self.ask(snapshotter, "to remove", key, Some(PATIENCE), client.remove(request)).await? {
            Err(status) if status.code() != Code::NotFound => Err(self.snapshot_refused(snapshotter, "to remove", key, status)),
            _ => Ok(()),
        }
    }

    /// Disk bytes a snapshot uses by itself.
    pub async fn usage(&self, snapshotter: &str, key: &str) -> Result<u64, Error> {
        let mut client = self.snapshots_client();
        let request = api::UsageRequest { snapshotter: snapshotter.to_owned(), key: key.to_owned() };
        match self.ask(snapshotter, "to measure", key, Some(PATIENCE), client.usage(request)).await? {
            Ok(reply) => u64::try_from(reply.size)
                .map_err(|_| Error::Answer { what: format!("the usage of {key}"), why: "it is negative".to_owned() }),
            Err(status) if status.code() == Code::NotFound => Err(Error::Gone { what: format!("snapshot {key}") }),
            Err(status) => Err(self.snapshot_refused(snapshotter, "to measure", key, status)),
        }
    }

    /// Lets containerd unpack a layer into the mounts of an active snapshot; answers the digest of the unpacked tar.
    pub async fn apply(&self, descriptor: &Descriptor, mounts: &[Mount]) -> Result<Digest, Error> {
        let layer = descriptor.digest;
        let request = ApplyRequest {
            diff: Some(to_wire_descriptor(descriptor)),
            mounts: mounts.iter().map(types::Mount::from).collect(),
            ..ApplyRequest::default()
        };
        let mut client = self.diff_client();
        let what = format!("to unpack {layer}");
        let say = || tracing::warn!("containerd has not answered the call {what} for {} seconds", SILENCE.as_secs());
        let reply = with_patience(Box::pin(self.call(client.apply(request))), None, say).await;
        let reply = reply.expect("there is no limit").map_err(|status| self.refused(what.clone(), status))?;
        let applied = reply.applied.map(|applied| applied.digest).unwrap_or_default();
        applied.parse().map_err(|error: oci::Error| Error::Answer { what: format!("unpacking {layer}"), why: error.to_string() })
    }

    /// Awaits an answer of the snapshotter, and says so when that takes long. Behind a containerd that lives there may be a snapshotter
    /// that hangs.
    fn ask<T>(
        &self,
        snapshotter: &str,
        verb: &str,
        key: &str,
        limit: Option<Duration>,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> impl Future<Output = Result<Result<T, Status>, Error>> {
        // One call's future is some kilobytes, and each layer around it would have room for two.
        let call = Box::pin(self.call(call));
        let silent =
            move |waited| Error::SnapshotterSilent { name: snapshotter.to_owned(), what: format!("{verb} {key}"), waited };
        let say = move || tracing::warn!("{}, still waiting", silent(SILENCE));
        async move { with_patience(call, limit, say).await.ok_or_else(|| silent(limit.unwrap_or_default())) }
    }

    fn gone_or_refused(&self, snapshotter: &str, parent: Option<Digest>, status: Status) -> Error {
        match self.snapshot_refused(snapshotter, "a snapshot on", &parent.map(|it| it.to_string()).unwrap_or_default(), status) {
            Error::Refused { .. } => {
                Error::Gone { what: format!("snapshot {}", parent.map(|it| it.to_string()).unwrap_or_default()) }
            }
            other => other,
        }
    }

    fn snapshot_refused(&self, snapshotter: &str, verb: &str, key: &str, status: Status) -> Error {
        let name = snapshotter.to_owned();
        match self.refused(format!("{verb} {key}"), status) {
            Error::Refused { source, .. }
                if source.code() == Code::InvalidArgument && source.message().contains("not loaded") =>
            {
                Error::NoSnapshotter { name, source }
            }
            Error::Refused { source, .. } if source.code() == Code::Unavailable => Error::SnapshotterDown { name, source },
            other => other,
        }
    }
}

/// Awaits the call; says so once when there is no answer after [`SILENCE`]. `None` when the limit passed.
async fn with_patience<T>(call: impl Future<Output = T>, limit: Option<Duration>, say: impl FnOnce()) -> Option<T> {
    let mut call = std::pin::pin!(call);
    if let Ok(done) = timeout(SILENCE, &mut call).await {
        return Some(done);
    }
    say();
    match limit {
        Some(limit) => timeout(limit.saturating_sub(SILENCE), call).await.ok(),
        None => Some(call.await),
    }
}

impl From<types::Mount> for Mount {
    fn from(mount: types::Mount) -> Self {
        Self { kind: mount.r#type, source: mount.source.into(), options: mount.options }
    }
}

impl From<&Mount> for types::Mount {
    fn from(mount: &Mount) -> Self {
        Self {
            r#type: mount.kind.clone(),
            source: mount.source.to_string_lossy().into_owned(),
            target: String::new(),
            options: mount.options.clone(),
        }
    }
}

pub(crate) fn to_wire_descriptor(descriptor: &Descriptor) -> types::Descriptor {
    types::Descriptor {
        media_type: descriptor.media_type.to_string(),
        digest: descriptor.digest.to_string(),
        size: i64::try_from(descriptor.size()).expect("a blob is at most 1 TiB"),
        annotations: descriptor.annotations.clone().into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_without_answer_is_told_about_and_then_given_up() {
        let told = Cell::new(false);
        let hung = with_patience(future::pending::<()>(), Some(PATIENCE), || told.set(true));
        assert!(hung.await.is_none() && told.get());
        let slow = with_patience(tokio::time::sleep(PATIENCE * 2), None, || ());
        assert!(slow.await.is_some(), "where there is no limit it is waited for");
        let prompt = with_patience(future::ready(1), Some(PATIENCE), || panic!("nothing to tell"));
        assert_eq!(prompt.await, Some(1));
    }
}
