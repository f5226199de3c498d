//! The spool directory: entries are taken from it, and what nobody used for long is swept.

use std::{
    collections::BTreeSet,
    fs::File,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use oci::{Descriptor, Digest, Namespace};
use rustix::fs::OFlags;

use crate::{Entry, Error, directory::Directory, key::Key, lock::Lock, resume};

/// Waiting for another process's entry begins with this pause and doubles it up to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// How the name of a [`Spool::sample`] begins.
const SAMPLE: &str = "sample-";

/// The spool directory, opened once by descriptor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Spool {
    directory: Arc<Directory>,
    namespace: Option<Namespace>,
    synced: bool,
}

impl Spool {
    /// Opens the directory, or makes it (mode 0700; the one above must be there). With `isolated` entries are keyed by that
    /// namespace too (safety 6).
    ///
    /// # Errors
    /// [`Error::Insecure`] when others could change what lies in it (safety 5).
    pub fn open(dir: &Path, isolated: Option<&Namespace>) -> Result<Self, Error> {
        Ok(Self { directory: Arc::new(Directory::open(dir)?), namespace: isolated.cloned(), synced: true })
    }

    /// The same spool, its entries left in the page cache: for a store that copies the bytes, where the file is dropped as soon as
    /// they are content and has never to reach the disk. What a power cut takes of it is noticed by the next run as any damage is,
    /// and [`Verified::link`](crate::Verified::link) syncs before it gives a name.
    #[must_use]
    pub fn unsynced(self) -> Self {
        Self { synced: false, ..self }
    }

    /// Where it is, free of symbolic links.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Takes the blob's lock without waiting; what an earlier run left is read and checked (blocking). `Ok(None)`: someone
    /// else holds it.
    ///
    /// # Errors
    /// [`Error::is_no_space`] when the blob does not fit.
    pub fn try_entry(&self, blob: &Descriptor) -> Result<Option<Entry>, Error> {
        let key = Key::new(self.namespace.as_ref(), blob.digest);
        let Some(lock) = Lock::try_take(&self.directory, &key)? else { return Ok(None) };
        lock.touch()?;
        Entry::open(lock, blob, self.synced).map(Some)
    }

    /// Like [`try_entry`](Self::try_entry), but waits until the lock is free. The other's outcome says nothing: plan the
    /// blob anew afterwards.
    pub async fn entry(&self, blob: &Descriptor) -> Result<Entry, Error> {
        let mut pause = FIRST_PAUSE;
        loop {
            let (spool, wanted) = (self.clone(), blob.clone());
            let attempt = tokio::task::spawn_blocking(move || spool.try_entry(&wanted)).await;
            match attempt.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))? {
                Some(entry) => return Ok(entry),
                None => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Takes away entries, of any namespace, that nobody used for longer than `keep` and whose lock is free, except those of `spare`.
    /// Returns how many.
    pub fn sweep(&self, keep: Duration, spare: &[Digest]) -> Result<usize, Error> {
        let names = self.directory.names()?;
        let mut keys: BTreeSet<Key> = names.iter().filter_map(|name| Key::of_file(name)).collect();
        for digest in spare {
            keys.remove(&Key::new(self.namespace.as_ref(), *digest));
        }
        let mut swept = 0;
        for sample in names.iter().filter(|name| name.starts_with(SAMPLE) && self.is_old(&[name.as_str()], keep)) {
            self.directory.unlink(sample)?;
        }
        for key in keys {
            if !self.is_unused(&key, keep) {
                continue;
            }
            if let Some(lock) = Lock::try_take(&self.directory, &key)?
                && self.discard_unused(&lock, keep)?
            {
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Takes the entry away, unless someone used it, and went, before the lock was ours.
    fn discard_unused(&self, lock: &Lock, keep: Duration) -> Result<bool, Error> {
        let unused = self.is_unused(&lock.key, keep);
        if unused {
            lock.discard()?;
        }
        Ok(unused)
    }

    /// Takes away what an earlier run left of a blob that is content by now, unless somebody has it: a file with a name here
    /// outlives its content.
    pub fn forget(&self, digest: Digest) -> Result<(), Error> {
        let key = Key::new(self.namespace.as_ref(), digest);
        // Taking a lock makes its file: none where nothing is left.
        let names = [key.data(), &key.journal(), &key.lock(), &key.replacement()];
        if names.iter().all(|name| self.directory.modified(name).is_none()) {
            return Ok(());
        }
        match Lock::try_take(&self.directory, &key)? {
            Some(lock) => lock.discard(),
            None => Ok(()),
        }
    }

    /// Name in this directory for a link of a proved blob that is then renamed over a bad file. Swept with the blob's entry.
    pub fn replacement(&self, digest: Digest) -> String {
        Key::new(self.namespace.as_ref(), digest).replacement()
    }

    /// Makes an empty file as that of an entry is made, and takes its name away again.
    pub fn sample(&self) -> Result<File, Error> {
        static SAMPLES: AtomicU64 = AtomicU64::new(0);
        let failed = |error| Error::io("create a file in", self.path(), error);
        // Several images of one run may each make theirs at the same time.
        let name = format!("{SAMPLE}{}-{}", std::process::id(), SAMPLES.fetch_add(1, Ordering::Relaxed));
        // Of a process killed between the two steps, which had the same number.
        self.directory.unlink(&name)?;
        let file = self.directory.open_file(&name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL).map_err(failed)?;
        self.directory.unlink(&name)?;
        Ok(file)
    }

    fn is_unused(&self, key: &Key, keep: Duration) -> bool {
        self.is_old(&[key.data(), &key.journal(), &key.lock(), &key.replacement()], keep)
    }

    /// Was the youngest of these names written to longer ago than that?
    fn is_old(&self, names: &[&str], keep: Duration) -> bool {
        let used = names.iter().filter_map(|name| self.directory.modified(name)).max();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        used.is_some_and(|used| now.saturating_sub(u64::try_from(used).unwrap_or(0)) > keep.as_secs())
    }

    /// Bytes free for us on the spool's filesystem.
    pub fn free(&self) -> Result<u64, Error> {
        self.directory.free()
    }

    /// Bytes that must be free for this blob, to be compared with [`free`](Self::free): its size, less what an earlier run's
    /// file takes already. An entry reserves all of it when opened.
    pub fn needed(&self, blob: &Descriptor) -> Result<u64, Error> {
        let key = Key::new(self.namespace.as_ref(), blob.digest);
        Ok(blob.size().saturating_sub(self.directory.allocated(key.data())?))
    }

    /// Bytes of the blob that an earlier run left here, as far as its journal says so: for a plan, not to be relied on. Blocking.
    pub fn recorded(&self, blob: &Descriptor) -> Result<u64, Error> {
        let key = Key::new(self.namespace.as_ref(), blob.digest);
        resume::recorded(&self.directory, &key, blob)
            .map_err(|error| Error::io("read", self.directory.path_of(key.data()), error))
    }

    /// Removes the directory if nothing is in it and no other rpull has it open: after a finished pull nothing of us stays.
    pub fn remove_if_empty(&self) -> Result<(), Error> {
        self.directory.remove_if_empty()
    }
}

#[cfg(test)]
mod tests {
    use oci::MediaType;

    use super::*;

    /// Safety 3: between the sweeper's look and its lock another process has come and gone.
    #[test]
    fn an_entry_that_was_used_before_the_sweepers_lock_stays() {
        let home = tempfile::tempdir().unwrap();
        let spool = Spool::open(&home.path().join("spool"), None).unwrap();
        let blob = Descriptor::new(MediaType::new(""), Digest::of(b"x"), 1).unwrap();
        let entry = spool.try_entry(&blob).unwrap().unwrap();
        entry.grant(oci::ByteRange::new(0, 1).unwrap()).unwrap().write(b"x").unwrap();
        drop(entry);
        let lock = Lock::try_take(&spool.directory, &Key::new(None, blob.digest)).unwrap().unwrap();
        let hour = Duration::from_secs(3600);
        assert!(!spool.discard_unused(&lock, hour).unwrap());
        assert!(spool.directory.modified(lock.key.data()).is_some());
        for name in [lock.key.data().to_owned(), lock.key.journal(), lock.key.lock()] {
            File::open(spool.directory.path_of(&name)).unwrap().set_modified(SystemTime::now() - 2 * hour).unwrap();
        }
        assert!(spool.discard_unused(&lock, hour).unwrap());
    }
}
