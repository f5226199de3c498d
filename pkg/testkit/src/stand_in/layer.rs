//! What a snapshot's labels and files make of it, and the `config.v1.json` that goes with it.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Labels as they travel.
pub(super) type Labels = HashMap<String, String>;

pub(super) const SNAPSHOT_REF: &str = "containerd.io/snapshot.ref";
pub(super) const REMOTE: &str = "containerd.io/snapshot/remote";
pub(super) const ACCELERATION: &str = "containerd.io/snapshot/overlaybd/acceleration-layer";
pub(super) const DOWNLOAD: &str = "containerd.io/snapshot/overlaybd/download-remote-blob";
pub(super) const LOCAL_COMMIT_PATH: &str = "containerd.io/snapshot/overlaybd.localcommitpath";
pub(super) const TYPE: &str = "containerd.io/snapshot/type";
const IMAGE_REF: &str = "containerd.io/snapshot/image-ref";
const CRI_IMAGE_REF: &str = "containerd.io/snapshot/cri.image-ref";
const BLOB_DIGEST: &str = "containerd.io/snapshot/overlaybd/blob-digest";
const BLOB_SIZE: &str = "containerd.io/snapshot/overlaybd/blob-size";
const TURBO: [&str; 2] = ["containerd.io/snapshot/overlaybd/turbo-oci/", "containerd.io/snapshot/overlaybd/fastoci/"];

const ZFILE_MAGIC: &[u8] = b"ZFile\0\x01\0tuji.yyf@Alibaba";
const LSMT_MAGIC: &[u8] = &[
    0x4c, 0x53, 0x4d, 0x54, 0, 1, 2, 0, 0x65, 0x7e, 0x63, 0xd2, 0x94, 0x44, 0x08, 0x4c, 0xa2, 0xd2, 0xc8, 0xec, 0x4f, 0xcf, 0xae,
    0x8a,
];

/// How the data of a snapshot is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Storage {
    /// Files in `fs`.
    Normal,
    /// An overlaybd blob without its tar wrapper in `fs`.
    LocalBlock,
    /// An overlaybd blob named by labels, wherever its bytes are.
    RemoteBlock,
}

/// The directory of one snapshot.
#[derive(Clone, Debug)]
pub(super) struct Directory(pub(super) PathBuf);

impl Directory {
    pub(super) fn fs(&self) -> PathBuf {
        self.0.join("fs")
    }

    pub(super) fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    pub(super) fn block(&self) -> PathBuf {
        self.0.join("block")
    }

    pub(super) fn mountpoint(&self) -> PathBuf {
        self.block().join("mountpoint")
    }

    fn config(&self) -> PathBuf {
        self.block().join("config.v1.json")
    }
}

/// `config.v1.json`, as far as a snapshotter without writable devices writes it.
#[derive(Serialize, Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    repo_blob_url: String,
    lowers: Vec<Lower>,
    upper: serde_json::Map<String, serde_json::Value>,
    result_file: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    acceleration_layer: bool,
}

#[derive(Serialize, Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
struct Lower {
    #[serde(skip_serializing_if = "String::is_empty")]
    file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    digest: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    target_digest: String,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    dir: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    gzip_index: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(size: &u64) -> bool {
    *size == 0
}

/// The reference an image's blobs are fetched by; the CRI one is the second choice here.
fn image_ref(labels: &Labels) -> Option<&String> {
    labels.get(IMAGE_REF).or_else(|| labels.get(CRI_IMAGE_REF))
}

/// The reference written beside a snapshot; the CRI one is the first choice here.
pub(super) fn recorded_ref(labels: &Labels) -> Option<&String> {
    labels.get(CRI_IMAGE_REF).or_else(|| labels.get(IMAGE_REF))
}

/// The digest of the layer that a Turbo layer is an index to.
pub(super) fn turbo_target(labels: &Labels) -> Option<&String> {
    TURBO.iter().find_map(|prefix| labels.get(&format!("{prefix}target-digest")))
}

fn turbo_media_type(labels: &Labels) -> &str {
    TURBO.iter().find_map(|prefix| labels.get(&format!("{prefix}target-media-type"))).map_or("", String::as_str)
}

/// Labels speak first, then the first file there is; a tar-wrapped blob is `Normal` to the second rule.
pub(super) fn identify(directory: &Directory, labels: &Labels) -> Storage {
    let named = [SNAPSHOT_REF, BLOB_SIZE, BLOB_DIGEST].iter().all(|key| labels.contains_key(*key));
    if named && image_ref(labels).is_some() {
        return Storage::RemoteBlock;
    }
    let files = [
        directory.fs().join("overlaybd.commit"),
        directory.fs().join("overlaybd.sealed"),
        directory.block().join("writable_data"),
    ];
    for file in files {
        if let Ok(head) = head(&file) {
            let known = head.starts_with(ZFILE_MAGIC) || head.starts_with(LSMT_MAGIC);
            return if known { Storage::LocalBlock } else { Storage::Normal };
        }
    }
    if directory.config().exists() { Storage::RemoteBlock } else { Storage::Normal }
}

fn head(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(32).read_to_end(&mut bytes)?;
    if bytes.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}

/// Writes the config of a snapshot that is an acceleration layer: its parent's, and its own directory on top.
pub(super) fn write_acceleration_config(directory: &Directory, parent: Option<&Directory>) -> io::Result<()> {
    let mut config = inherited(directory, parent)?;
    config.lowers.push(Lower { dir: text(&directory.fs()), ..Lower::default() });
    write(directory, &config)
}

/// Writes the config of an overlaybd snapshot: its parent's, which must exist, and itself on top.
pub(super) fn write_config(
    directory: &Directory,
    parent: Option<&Directory>,
    storage: Storage,
    labels: &Labels,
) -> io::Result<()> {
    let mut config = inherited(directory, parent)?;
    let dir = text(&directory.fs());
    let lower = match storage {
        Storage::Normal => return Err(io::Error::other("unexpected storage of an overlaybd snapshot")),
        Storage::LocalBlock => Lower { dir, ..Lower::default() },
        Storage::RemoteBlock => {
            let size = labels.get(BLOB_SIZE).map(String::as_str).unwrap_or_default();
            let size = size.parse().map_err(|_| io::Error::other(format!("blob size {size:?} is no number")))?;
            config.repo_blob_url = blob_url(image_ref(labels).map(String::as_str).unwrap_or_default())?;
            match turbo_target(labels) {
                None => Lower { digest: labels.get(BLOB_DIGEST).cloned().unwrap_or_default(), size, dir, ..Lower::default() },
                Some(target) => Lower {
                    file: text(&turbo_file(directory, parent.and(config.lowers.first()))),
                    target_digest: target.clone(),
                    gzip_index: if turbo_media_type(labels).ends_with("gzip") {
                        text(&directory.fs().join("gzip.meta"))
                    } else {
                        String::new()
                    },
                    dir,
                    ..Lower::default()
                },
            }
        }
    };
    config.lowers.push(lower);
    write(directory, &config)
}

/// The file system metadata of a Turbo layer: named as the bottom layer's, else whichever is there.
fn turbo_file(directory: &Directory, bottom: Option<&Lower>) -> PathBuf {
    if let Some(bottom) = bottom {
        return directory.fs().join(Path::new(&bottom.file).file_name().unwrap_or_default());
    }
    let found = ["erofs", "ext4"].iter().map(|kind| directory.fs().join(format!("{kind}.fs.meta"))).find(|file| file.exists());
    found.unwrap_or_else(|| directory.fs().join("ext4.fs.meta"))
}

fn inherited(directory: &Directory, parent: Option<&Directory>) -> io::Result<Config> {
    let mut config = match parent {
        None => Config::default(),
        Some(parent) => serde_json::from_slice(&fs::read(parent.config())?)?,
    };
    config.upper.clear();
    config.acceleration_layer = false;
    config.result_file = text(&directory.block().join("init-debug.log"));
    Ok(config)
}

fn write(directory: &Directory, config: &Config) -> io::Result<()> {
    let temporary = directory.block().join("config.v1.json.new");
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    serde_json::to_writer(file, config)?;
    fs::rename(&temporary, directory.config())
}

/// `https://host/v2/repository/blobs` of a reference with a host.
fn blob_url(reference: &str) -> io::Result<String> {
    let malformed = || io::Error::other(format!("{reference:?} is no image reference"));
    let (host, rest) = reference.split_once('/').ok_or_else(malformed)?;
    let rest = rest.split('@').next().unwrap_or_default();
    let repository = rest.rsplit_once(':').map_or(rest, |(repository, _)| repository);
    if host.is_empty() || repository.is_empty() {
        return Err(malformed());
    }
    let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
    Ok(format!("https://{host}/v2/{repository}/blobs"))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
