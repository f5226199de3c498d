//! Is the content root this containerd's, seen from here? And where does the spool go?
//!
//! Paths and pids lie: a pod sees the host's root under a mount, a kind node another store under the same path. So the root is proved
//! by effect (safety 7): an ingest we open over the socket must show up in the directory we see.

use std::{
    env,
    path::{Path, PathBuf},
};

use oci::Namespace;
use spool::Spool;

use crate::{Error, Session, ingest::Ingest, layout::Layout, store::blocking};

/// Name of our directory beside or inside the content root.
const BESIDE: &str = "rpull-spool";

impl Session {
    /// The content root, or why it is out of reach.
    pub(crate) async fn reachable_root(&self, layout: &Layout) -> Result<Result<PathBuf, String>, Error> {
        let Some(root) = layout.content_root.clone() else {
            return Ok(Err("containerd does not use its own content store alone".to_owned()));
        };
        let reference = format!("rpull-probe-{:016x}", fastrand::u64(..));
        let probe = Ingest::open(self, &reference, 1, None).await.map_err(|status| self.refused("to open an ingest", status))?;
        // Looked at only now: since 1.7 containerd makes root and directory for its first ingest.
        let namespace = self.namespace().clone();
        let look = move || match std::fs::read_dir(root.join("ingest")).map(|ingests| shows(ingests, &namespace, &reference)) {
            Ok(true) => Ok(root),
            Ok(false) => Err(format!("{} belongs to another containerd", root.display())),
            Err(error) => Err(format!("{} cannot be read from here: {error}", root.display())),
        };
        let seen = blocking(look).await;
        probe.abort().await;
        Ok(seen)
    }
}

/// Does one of the ingests have exactly this ref? On disk it is `<namespace>/<sequence>/<ref>` (reference 3.6).
fn shows(ingests: std::fs::ReadDir, namespace: &Namespace, reference: &str) -> bool {
    ingests.flatten().filter_map(|entry| std::fs::read_to_string(entry.path().join("ref")).ok()).any(|text| {
        let sequence = text.strip_prefix(&format!("{namespace}/")).and_then(|rest| rest.strip_suffix(&format!("/{reference}")));
        sequence.is_some_and(|sequence| !sequence.is_empty() && sequence.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// Opens the first place for the spool that can be had.
pub(crate) fn open_spool(root: Option<&Path>, isolated: Option<&Namespace>) -> Result<Spool, Error> {
    let beside = root.map(beside);
    let mine = private_dir(rustix::process::geteuid().is_root(), |name| env::var_os(name).map(PathBuf::from));
    if let Some(spool) = beside.and_then(|dir| Spool::open(&dir, isolated).ok()) {
        return Ok(spool);
    }
    Ok(Spool::open(&mine, isolated)?)
}

/// A sibling of the content root, or inside it where the root is a filesystem of its own; never in `ingest`, which containerd reads.
fn beside(root: &Path) -> PathBuf {
    use std::os::unix::fs::MetadataExt as _;
    let device = |dir: &Path| dir.metadata().ok().map(|found| found.dev());
    match root.parent() {
        Some(parent) if device(parent).is_some() && device(parent) == device(root) => parent.join(BESIDE),
        _ => root.join(BESIDE),
    }
}

/// Where no content root is in reach.
fn private_dir(root: bool, variable: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    if root {
        return "/var/lib/rpull".into();
    }
    let cache = variable("XDG_CACHE_HOME").filter(|dir| dir.is_absolute());
    cache.unwrap_or_else(|| variable("HOME").unwrap_or_else(env::temp_dir).join(".cache")).join("rpull")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ingest_is_recognised_by_its_whole_ref() {
        let dir = tempfile::tempdir().unwrap();
        let namespace: Namespace = "default".parse().unwrap();
        let write = |text: &str| {
            let ingest = dir.path().join(text.replace('/', "_"));
            std::fs::create_dir(&ingest).unwrap();
            std::fs::write(ingest.join("ref"), text).unwrap();
        };
        for near in ["default/1/rpull-probe-12", "default/x/rpull-probe-1", "other/1/rpull-probe-1", "default//rpull-probe-1"] {
            write(near);
            assert!(!shows(dir.path().read_dir().unwrap(), &namespace, "rpull-probe-1"), "{near}");
        }
        write("default/1/rpull-probe-1");
        assert!(shows(dir.path().read_dir().unwrap(), &namespace, "rpull-probe-1"));
    }

    #[test]
    fn the_spool_of_a_user_is_in_the_cache_directory() {
        let from = |pairs: &'static [(&str, &str)]| {
            private_dir(false, move |name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.into()))
        };
        assert_eq!(private_dir(true, |_| None), Path::new("/var/lib/rpull"));
        assert_eq!(from(&[("XDG_CACHE_HOME", "/c"), ("HOME", "/h")]), Path::new("/c/rpull"));
        assert_eq!(from(&[("XDG_CACHE_HOME", "c"), ("HOME", "/h")]), Path::new("/h/.cache/rpull"));
    }

    #[test]
    fn the_spool_is_a_sibling_on_the_same_filesystem() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("content");
        std::fs::create_dir(&root).unwrap();
        assert_eq!(beside(&root), dir.path().join(BESIDE));
        // A filesystem of its own has another device than its parent.
        assert_eq!(beside(Path::new("/proc")), Path::new("/proc").join(BESIDE));
    }
}
