//! The snapshots of the stand-in and what each call does to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use containerd_client::{
    services::v1::snapshots::{Info, Kind, UsageResponse},
    tonic::Status,
    types::Mount,
};

use super::layer::{self, Directory, Labels, Storage};

/// One snapshot.
#[derive(Clone, Debug)]
struct Record {
    id: u64,
    kind: Kind,
    parent: Option<String>,
    labels: Labels,
    created: SystemTime,
    updated: SystemTime,
    usage: UsageResponse,
}

/// All snapshots under one root.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    last_id: u64,
    records: BTreeMap<String, Record>,
}

impl Store {
    /// An empty store; `root` is made where it is missing.
    pub(super) fn new(root: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().mode(0o700).recursive(true).create(root)?;
        let root = root.canonicalize()?;
        fs::DirBuilder::new().mode(0o700).create(root.join("snapshots"))?;
        Ok(Self { root, last_id: 0, records: BTreeMap::new() })
    }

    /// Prepare and View: the outcomes in their order, first match wins.
    pub(super) fn create(&mut self, kind: Kind, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>, Status> {
        let parent = (!parent.is_empty()).then(|| parent.to_owned());
        self.insert(kind, key, parent, labels)?;
        let outcome = self.outcome(key);
        // Like a transaction that is rolled back; only a lazy layer stays although the answer is an error.
        if outcome.is_err()
            && let Some(record) = self.records.remove(key)
        {
            remove_directory(&self.directory(record.id));
        }
        outcome
    }

    fn insert(&mut self, kind: Kind, key: &str, parent: Option<String>, labels: Labels) -> Result<(), Status> {
        if self.records.contains_key(key) {
            return Err(Status::already_exists(format!("snapshot {key}: already exists")));
        }
        let owner = match &parent {
            None => None,
            Some(name) => {
                let record = self.record(name)?;
                if record.kind != Kind::Committed {
                    return Err(Status::invalid_argument(format!("parent {name} is not committed")));
                }
                Some(self.directory(record.id))
            }
        };
        let id = self.last_id + 1;
        self.make_directory(id, kind, owner.as_ref(), layer::recorded_ref(&labels)).map_err(failed)?;
        self.last_id = id;
        let now = SystemTime::now();
        let record = Record { id, kind, parent, labels, created: now, updated: now, usage: UsageResponse::default() };
        self.records.insert(key.to_owned(), record);
        Ok(())
    }

    fn outcome(&mut self, key: &str) -> Result<Vec<Mount>, Status> {
        let record = self.record(key)?.clone();
        let directory = self.directory(record.id);
        let parent = self.parent_directory(&record);
        let Some(target) = record.labels.get(layer::SNAPSHOT_REF) else {
            return self.container_mounts(&record);
        };
        if record.labels.get(layer::ACCELERATION).is_some_and(|value| value == "yes") {
            layer::write_acceleration_config(&directory, parent.as_ref()).map_err(failed)?;
            return Ok(vec![bind(&directory.fs(), &["rw", "bind"])]);
        }
        let storage = layer::identify(&directory, &record.labels);
        if storage == Storage::RemoteBlock {
            if record.labels.get(layer::DOWNLOAD).is_some_and(|value| value == "download") {
                layer::write_config(&directory, parent.as_ref(), storage, &record.labels).map_err(failed)?;
                return Ok(vec![bind(&directory.fs(), &["rw", "bind"])]);
            }
            if layer::turbo_target(&record.labels).is_none() {
                layer::write_config(&directory, parent.as_ref(), storage, &record.labels).map_err(failed)?;
                let mut labels = record.labels.clone();
                labels.insert(layer::REMOTE.to_owned(), "remote snapshot".to_owned());
                self.seal(key, target, labels)?;
                return Err(Status::already_exists(format!("target snapshot {target:?}: already exists")));
            }
        }
        Ok(self.plain_mounts(&record))
    }

    /// Mounts of a snapshot that is no step of a pull. On an overlaybd parent that takes a block device, which the
    /// stand-in has not.
    fn container_mounts(&self, record: &Record) -> Result<Vec<Mount>, Status> {
        let image = record.labels.get(layer::TYPE).is_some_and(|value| value == "image");
        if !image {
            self.refuse_device(record)?;
        }
        Ok(self.plain_mounts(record))
    }

    fn refuse_device(&self, record: &Record) -> Result<(), Status> {
        let Some(parent) = &record.parent else { return Ok(()) };
        let parent = self.record(parent)?;
        if layer::identify(&self.directory(parent.id), &parent.labels) == Storage::Normal {
            return Ok(());
        }
        Err(Status::unknown("failed to attach and mount: no block device driver here"))
    }

    /// The Mounts call. Unlike Prepare it attaches a device on an overlaybd parent whatever the labels say.
    pub(super) fn mounts(&self, key: &str) -> Result<Vec<Mount>, Status> {
        let record = self.record(key)?;
        if record.kind == Kind::Committed {
            return Err(Status::failed_precondition(format!("snapshot {key} is not active")));
        }
        self.refuse_device(record)?;
        Ok(self.plain_mounts(record))
    }

    fn plain_mounts(&self, record: &Record) -> Vec<Mount> {
        let directory = self.directory(record.id);
        let view = record.kind == Kind::View;
        let lowers: Vec<_> = self.ancestors(record).iter().map(Directory::fs).collect();
        match lowers.as_slice() {
            [] => vec![bind(&directory.fs(), &[if view { "ro" } else { "rw" }, "rbind"])],
            [only] if view => vec![bind(only, &["ro", "rbind"])],
            _ => {
                let mut options = Vec::new();
                if Path::new("/sys/module/overlay/parameters/index").exists() {
                    options.push("index=off".to_owned());
                }
                if !view {
                    options.push(format!("workdir={}", directory.work().display()));
                    options.push(format!("upperdir={}", directory.fs().display()));
                }
                let lowers: Vec<_> = lowers.iter().map(|path| path.to_string_lossy()).collect();
                options.push(format!("lowerdir={}", lowers.join(":")));
                vec![Mount { r#type: "overlay".to_owned(), source: "overlay".to_owned(), target: String::new(), options }]
            }
        }
    }

    /// Directories of all ancestors, nearest first.
    fn ancestors(&self, record: &Record) -> Vec<Directory> {
        let parent = |record: &Record| record.parent.as_ref().and_then(|name| self.records.get(name));
        std::iter::successors(parent(record), |record| parent(record)).map(|record| self.directory(record.id)).collect()
    }

    /// Commit: usage by allocated blocks, labels replaced by exactly the given ones, config where the new labels ask for it.
    pub(super) fn commit(&mut self, name: &str, key: &str, labels: Labels) -> Result<(), Status> {
        let before = self.record(key)?.clone();
        self.seal(key, name, labels)?;
        let finished = self.finish_commit(name);
        if finished.is_err() {
            self.records.remove(name);
            self.records.insert(key.to_owned(), before);
        }
        finished
    }

    fn finish_commit(&mut self, name: &str) -> Result<(), Status> {
        let record = self.record(name)?.clone();
        let directory = self.directory(record.id);
        let parent = self.parent_directory(&record);
        let storage = layer::identify(&directory, &record.labels);
        if layer::turbo_target(&record.labels).is_some() {
            return layer::write_config(&directory, parent.as_ref(), storage, &record.labels).map_err(failed);
        }
        if storage == Storage::LocalBlock {
            layer::write_config(&directory, parent.as_ref(), storage, &record.labels).map_err(failed)?;
            let path = directory.fs().join("overlaybd.sealed").to_string_lossy().into_owned();
            self.record_mut(name)?.labels.insert(layer::LOCAL_COMMIT_PATH.to_owned(), path);
        }
        Ok(())
    }

    fn seal(&mut self, key: &str, name: &str, labels: Labels) -> Result<(), Status> {
        let record = self.record(key)?;
        if record.kind != Kind::Active {
            return Err(Status::failed_precondition(format!("snapshot {key} is not active")));
        }
        if self.records.contains_key(name) {
            return Err(Status::already_exists(format!("target snapshot {name}: already exists")));
        }
        let directory = self.directory(record.id);
        let usage = usage_of([directory.fs()], &directory.mountpoint()).map_err(failed)?;
        let mut record = self.records.remove(key).expect("the record was there a moment ago");
        let now = SystemTime::now();
        record = Record { kind: Kind::Committed, labels, usage, created: now, updated: now, ..record };
        self.records.insert(name.to_owned(), record);
        Ok(())
    }

    pub(super) fn info(&self, key: &str) -> Result<Info, Status> {
        Ok(info(key, self.record(key)?))
    }

    pub(super) fn all(&self) -> Vec<Info> {
        self.records.iter().map(|(key, record)| info(key, record)).collect()
    }

    /// Update: the labels as a whole for an empty mask or `labels`, single ones for `labels.<key>`.
    pub(super) fn update(&mut self, new: &Info, paths: &[String]) -> Result<Info, Status> {
        let record = self.record_mut(&new.name)?;
        if paths.is_empty() {
            record.labels.clone_from(&new.labels);
        }
        for path in paths {
            if path == "labels" {
                record.labels.clone_from(&new.labels);
            } else if let Some(key) = path.strip_prefix("labels.") {
                // An empty value in an update takes the label away.
                match new.labels.get(key).filter(|value| !value.is_empty()) {
                    Some(value) => record.labels.insert(key.to_owned(), value.clone()),
                    None => record.labels.remove(key),
                };
            } else {
                return Err(Status::invalid_argument(format!("cannot update {path} of snapshot {}", new.name)));
            }
        }
        record.updated = SystemTime::now();
        self.info(&new.name)
    }

    /// Usage as recorded at Commit, or as the disk has it now for an active snapshot and for an overlaybd layer.
    pub(super) fn usage(&self, key: &str) -> Result<UsageResponse, Status> {
        let record = self.record(key)?;
        let directory = self.directory(record.id);
        let block = layer::identify(&directory, &record.labels) != Storage::Normal;
        if record.kind == Kind::Active || block {
            let mut roots = vec![directory.fs()];
            if block {
                roots.push(directory.block());
            }
            // A mounted device is not the snapshot's own data.
            return usage_of(roots, &directory.mountpoint()).map_err(failed);
        }
        Ok(record.usage)
    }

    /// Remove: refused while there are children; the directory goes with it.
    pub(super) fn remove(&mut self, key: &str) -> Result<(), Status> {
        let id = self.record(key)?.id;
        if self.records.values().any(|record| record.parent.as_deref() == Some(key)) {
            return Err(Status::failed_precondition(format!("cannot remove snapshot {key} with child")));
        }
        self.records.remove(key);
        remove_directory(&self.directory(id));
        Ok(())
    }

    fn record(&self, key: &str) -> Result<&Record, Status> {
        self.records.get(key).ok_or_else(|| Status::not_found(format!("snapshot {key} does not exist: not found")))
    }

    fn record_mut(&mut self, key: &str) -> Result<&mut Record, Status> {
        self.records.get_mut(key).ok_or_else(|| Status::not_found(format!("snapshot {key} does not exist: not found")))
    }

    fn directory(&self, id: u64) -> Directory {
        Directory(self.root.join("snapshots").join(id.to_string()))
    }

    fn parent_directory(&self, record: &Record) -> Option<Directory> {
        self.ancestors(record).into_iter().next()
    }

    /// Builds the directory aside and renames it into place, its `fs` owned as the parent's.
    fn make_directory(&self, id: u64, kind: Kind, parent: Option<&Directory>, image: Option<&String>) -> io::Result<()> {
        let aside = Directory(self.root.join("snapshots").join(format!("new-{id}")));
        for (path, mode) in [(aside.0.clone(), 0o700), (aside.fs(), 0o755), (aside.block(), 0o711), (aside.mountpoint(), 0o711)] {
            fs::DirBuilder::new().mode(mode).create(path)?;
        }
        fs::File::create(aside.block().join("init-debug.log"))?;
        if kind == Kind::Active {
            fs::DirBuilder::new().mode(0o711).create(aside.work())?;
        }
        if let Some(image) = image {
            fs::write(aside.0.join("image_ref"), image)?;
        }
        if let Some(parent) = parent {
            let owner = fs::metadata(parent.fs())?;
            std::os::unix::fs::lchown(aside.fs(), Some(owner.uid()), Some(owner.gid()))?;
        }
        fs::rename(&aside.0, self.directory(id).0)
    }
}

fn info(name: &str, record: &Record) -> Info {
    Info {
        name: name.to_owned(),
        parent: record.parent.clone().unwrap_or_default(),
        kind: record.kind.into(),
        created_at: Some(record.created.into()),
        updated_at: Some(record.updated.into()),
        labels: record.labels.clone(),
    }
}

fn bind(source: &Path, options: &[&str]) -> Mount {
    Mount {
        r#type: "bind".to_owned(),
        source: source.to_string_lossy().into_owned(),
        target: String::new(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
    }
}

/// Allocated bytes and inodes below these directories, each inode once, without what is at `except`.
fn usage_of(roots: impl IntoIterator<Item = PathBuf>, except: &Path) -> io::Result<UsageResponse> {
    let mut seen = BTreeSet::new();
    let mut size = 0;
    let mut waiting: Vec<_> = roots.into_iter().collect();
    while let Some(path) = waiting.pop() {
        if path == except {
            continue;
        }
        let metadata = fs::symlink_metadata(&path)?;
        if seen.insert((metadata.dev(), metadata.ino())) {
            size += metadata.blocks() * 512;
        }
        if metadata.is_dir() {
            for entry in fs::read_dir(&path)? {
                waiting.push(entry?.path());
            }
        }
    }
    let fits = |number: u64| i64::try_from(number).map_err(io::Error::other);
    Ok(UsageResponse { size: fits(size)?, inodes: fits(seen.len() as u64)? })
}

/// The record is gone already; what cannot be removed is left for whoever removes the root.
fn remove_directory(directory: &Directory) {
    let _ = fs::remove_dir_all(&directory.0);
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
fn failed(error: io::Error) -> Status {
    Status::unknown(error.to_string())
}
