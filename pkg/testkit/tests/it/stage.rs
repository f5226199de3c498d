//! A containerd with the snapshotter that is active plugged in, and calls on it that read like the story they tell.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use containerd_client::{
    services::v1::snapshots::{
        CommitSnapshotRequest, Info, MountsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
        UpdateSnapshotRequest, UsageRequest, UsageResponse, ViewSnapshotRequest, snapshots_client::SnapshotsClient,
    },
    types::Mount,
};
use testkit::{Containerd, ContainerdOptions, Daemon, Daemons, Snapshotter};
use tonic::{Code, Request, Status, transport::Channel};

pub(crate) type Labels = HashMap<String, String>;

pub(crate) const IMAGE: &str = "127.0.0.1:5000/t/obd:1";

pub(crate) struct Stage {
    pub(crate) containerd: Containerd,
    pub(crate) snapshotter: Snapshotter,
    client: SnapshotsClient<Channel>,
    namespace: String,
}

/// Runs the story on every daemon there is, each time with a fresh snapshotter.
pub(crate) async fn on_every_daemon(story: impl AsyncFn(Stage)) {
    for daemon in Daemons::available() {
        story(Stage::on(&daemon).await).await;
    }
}

/// Asks again until it is so, or says no after ten seconds.
pub(crate) async fn comes_true(so: impl AsyncFn() -> bool) -> bool {
    for _ in 0..500 {
        if so().await {
            return true;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    false
}

impl Stage {
    async fn on(daemon: &Daemon) -> Self {
        let snapshotter = Snapshotter::start();
        let options = ContainerdOptions { overlaybd: Some(snapshotter.address()), ..ContainerdOptions::default() };
        let containerd = Containerd::start(daemon, &options);
        let client = SnapshotsClient::new(containerd_client::connect(containerd.address()).await.unwrap());
        Self { containerd, snapshotter, client, namespace: String::new() }.in_namespace("n")
    }

    /// Moves to a namespace, under a lease of its own: without one a garbage collection takes what has just been made.
    pub(crate) fn in_namespace(mut self, namespace: &str) -> Self {
        self.containerd.ctr_ok(["--namespace", namespace, "leases", "create", "--id", "test"]);
        namespace.clone_into(&mut self.namespace);
        self
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.namespace.parse().unwrap());
        request.metadata_mut().insert("containerd-lease", "test".parse().unwrap());
        request
    }

    pub(crate) async fn prepare(&self, key: &str, parent: &str, labels: &Labels) -> Result<Vec<Mount>, Status> {
        let ask = PrepareSnapshotRequest {
            snapshotter: "overlaybd".to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: labels.clone(),
        };
        Ok(self.client.clone().prepare(self.request(ask)).await?.into_inner().mounts)
    }

    pub(crate) async fn view(&self, key: &str, parent: &str, labels: &Labels) -> Result<Vec<Mount>, Status> {
        let ask = ViewSnapshotRequest {
            snapshotter: "overlaybd".to_owned(),
            key: key.to_owned(),
            parent: parent.to_owned(),
            labels: labels.clone(),
        };
        Ok(self.client.clone().view(self.request(ask)).await?.into_inner().mounts)
    }

    pub(crate) async fn mounts(&self, key: &str) -> Result<Vec<Mount>, Status> {
        let ask = MountsRequest { snapshotter: "overlaybd".to_owned(), key: key.to_owned() };
        Ok(self.client.clone().mounts(self.request(ask)).await?.into_inner().mounts)
    }

    pub(crate) async fn commit(&self, name: &str, key: &str, labels: &Labels) -> Result<(), Status> {
        let ask = CommitSnapshotRequest {
            snapshotter: "overlaybd".to_owned(),
            name: name.to_owned(),
            key: key.to_owned(),
            labels: labels.clone(),
        };
        self.client.clone().commit(self.request(ask)).await.map(drop)
    }

    pub(crate) async fn stat(&self, key: &str) -> Result<Info, Status> {
        let ask = StatSnapshotRequest { snapshotter: "overlaybd".to_owned(), key: key.to_owned() };
        Ok(self.client.clone().stat(self.request(ask)).await?.into_inner().info.unwrap())
    }

    pub(crate) async fn update_labels(&self, name: &str, labels: &Labels) -> Result<(), Status> {
        let info = Info { name: name.to_owned(), labels: labels.clone(), ..Info::default() };
        let mask = prost_types::FieldMask { paths: vec!["labels".to_owned()] };
        let ask = UpdateSnapshotRequest { snapshotter: "overlaybd".to_owned(), info: Some(info), update_mask: Some(mask) };
        self.client.clone().update(self.request(ask)).await.map(drop)
    }

    pub(crate) async fn usage(&self, key: &str) -> UsageResponse {
        let ask = UsageRequest { snapshotter: "overlaybd".to_owned(), key: key.to_owned() };
        self.client.clone().usage(self.request(ask)).await.unwrap().into_inner()
    }

    pub(crate) async fn remove(&self, key: &str) -> Result<(), Status> {
        let ask = RemoveSnapshotRequest { snapshotter: "overlaybd".to_owned(), key: key.to_owned() };
        self.client.clone().remove(self.request(ask)).await.map(drop)
    }

    /// A layer of two pages prepared for download, linked and committed; its `fs`.
    pub(crate) async fn full_layer(&self, name: &str, parent: &str) -> PathBuf {
        let labels = download(name);
        let mounts = self.prepare(&format!("prepare-{name}"), parent, &labels).await.unwrap();
        let fs = PathBuf::from(&mounts[0].source);
        fs::write(fs.join("overlaybd.commit"), wrapped()).unwrap();
        self.commit(name, &format!("prepare-{name}"), &labels).await.unwrap();
        fs
    }

    /// A layer committed by Prepare itself.
    pub(crate) async fn lazy_layer(&self, name: &str, parent: &str) {
        let answer = self.prepare(&format!("prepare-{name}"), parent, &overlaybd(name)).await;
        assert_eq!(answer.unwrap_err().code(), Code::AlreadyExists);
    }

    /// An ordinary layer, committed; its `fs`.
    pub(crate) async fn plain_layer(&self, name: &str, parent: &str) -> PathBuf {
        let labels = plain(name);
        let mounts = self.prepare(&format!("prepare-{name}"), parent, &labels).await.unwrap();
        let fs = directories(&mounts)[0].clone();
        fs::write(fs.join("file"), [7; 5000]).unwrap();
        self.commit(name, &format!("prepare-{name}"), &labels).await.unwrap();
        fs
    }

    /// Waits for one whole garbage collection.
    pub(crate) fn collect_garbage(&self) {
        self.containerd.ctr_ok(["leases", "create", "--id", "gone"]);
        self.containerd.ctr_ok(["leases", "delete", "--sync", "gone"]);
    }

    pub(crate) fn snapshot_directories(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.snapshotter.root().join("snapshots"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Labels of an ordinary layer.
pub(crate) fn plain(name: &str) -> Labels {
    labels(&[("containerd.io/snapshot.ref", name), ("containerd.io/snapshot/image-ref", IMAGE)])
}

/// Labels of an overlaybd layer as a lazy pull gives them.
pub(crate) fn overlaybd(name: &str) -> Labels {
    let mut all = plain(name);
    all.insert("containerd.io/snapshot/overlaybd/blob-digest".to_owned(), oci::Digest::of(name.as_bytes()).to_string());
    all.insert("containerd.io/snapshot/overlaybd/blob-size".to_owned(), "4096".to_owned());
    all
}

/// Labels of an overlaybd layer as a full pull gives them.
pub(crate) fn download(name: &str) -> Labels {
    with(overlaybd(name), "containerd.io/snapshot/overlaybd/download-remote-blob", "download")
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub(crate) fn with(mut labels: Labels, key: &str, value: &str) -> Labels {
    labels.insert(key.to_owned(), value.to_owned());
    labels
}

/// Two pages that start like a tar header, as a blob of a registry does.
pub(crate) fn wrapped() -> Vec<u8> {
    let mut bytes = vec![1; 8192];
    bytes[..16].copy_from_slice(b"overlaybd.commit");
    bytes
}

/// `config.v1.json` beside an `fs`.
pub(crate) fn config(fs: &Path) -> serde_json::Value {
    let path = fs.with_file_name("block").join("config.v1.json");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The directories that mounts name: a bind source, or upperdir and lowerdirs in their order.
pub(crate) fn directories(mounts: &[Mount]) -> Vec<PathBuf> {
    assert_eq!(mounts.len(), 1, "{mounts:?}");
    if mounts[0].r#type == "bind" {
        return vec![PathBuf::from(&mounts[0].source)];
    }
    let option = |name: &str| mounts[0].options.iter().find_map(|option| option.strip_prefix(name).map(str::to_owned));
    let upper = option("upperdir=").into_iter().map(PathBuf::from);
    upper.chain(option("lowerdir=").unwrap().split(':').map(PathBuf::from)).collect()
}
