//! One process at a time has an entry (safety 3). The lock is a file of its own, so that the data file can be replaced under it.

use std::{
    fs::File,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{FlockOperation, OFlags, Timespec, Timestamps, UTIME_NOW},
    io::Errno,
};

use crate::{
    Error,
    directory::{Directory, is_ours},
    key::Key,
};

/// The right to an entry's names, until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    pub(crate) directory: Arc<Directory>,
    pub(crate) key: Key,
    file: File,
    discarded: AtomicBool,
}

/// What became of an open lock file.
enum Claim {
    Ours(Lock),
    Theirs,
    /// It is locked, and nobody will ever find it.
    Nameless,
}

impl Lock {
    /// Takes the lock without waiting. `None`: someone else has it.
    pub(crate) fn try_take(directory: &Arc<Directory>, key: &Key) -> Result<Option<Self>, Error> {
        let name = key.lock();
        let failed = |error| Error::io("lock", directory.path_of(&name), error);
        loop {
            let file = match directory.open_file(&name, OFlags::RDWR | OFlags::CREATE) {
                Ok(file) => file,
                // A symbolic link, a directory or a FIFO: none of ours, and nobody's lock.
                Err(error)
                    if matches!(Errno::from_io_error(&error), Some(Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::ACCESS)) =>
                {
                    directory.unlink(&name)?;
                    continue;
                }
                Err(error) => return Err(failed(error)),
            };
            if !is_ours(&file.metadata().map_err(failed)?) {
                directory.unlink(&name)?;
                continue;
            }
            match Self::claim(directory, key, file).map_err(failed)? {
                Claim::Ours(lock) => return Ok(Some(lock)),
                Claim::Theirs => return Ok(None),
                Claim::Nameless => {}
            }
        }
    }

    /// Locks an open lock file, without waiting.
    fn claim(directory: &Arc<Directory>, key: &Key, file: File) -> io::Result<Claim> {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Claim::Theirs),
            Err(error) => return Err(error.into()),
        }
        // The former owner may have removed the name after we opened it: then this lock guards nothing.
        if !directory.leads_to(&key.lock(), &file)? {
            return Ok(Claim::Nameless);
        }
        Ok(Claim::Ours(Self { directory: directory.clone(), key: key.clone(), file, discarded: AtomicBool::new(false) }))
    }

    /// Notes that the entry is in use, for the sweeper of a later run.
    pub(crate) fn touch(&self) -> Result<(), Error> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        rustix::fs::futimens(&self.file, &Timestamps { last_access: now, last_modification: now })
            .map_err(|error| Error::io("touch", self.directory.path_of(&self.key.lock()), error))
    }

    /// Takes the entry's data and journal away, and what a killed run left of a replacement; the next one has a new inode (safety 1).
    pub(crate) fn unlink_data(&self) -> Result<(), Error> {
        self.directory.unlink(self.key.data())?;
        self.directory.unlink(&self.key.replacement())?;
        self.directory.unlink(&self.key.journal())
    }

    /// Takes all names of the entry away, once: afterwards they may be another process's.
    pub(crate) fn discard(&self) -> Result<(), Error> {
        if self.discarded.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.unlink_data()?;
        self.directory.unlink(&self.key.lock())
    }
}

impl Drop for Lock {
    /// Said, not left to the closing of the descriptor: a child just forked elsewhere may have a copy of it until its exec.
    fn drop(&mut self) {
        rustix::fs::flock(&self.file, FlockOperation::Unlock).ok();
    }
}

#[cfg(test)]
mod tests {
    use oci::Digest;

    use super::*;

    /// Safety 3: the waiter has the file open when its owner takes the name away.
    #[test]
    fn a_lock_is_taken_only_under_its_name() {
        let home = tempfile::tempdir().unwrap();
        let directory = Arc::new(Directory::open(&home.path().join("spool")).unwrap());
        let key = Key::new(None, Digest::of(b"x"));
        let opened = || directory.open_file(&key.lock(), OFlags::RDWR | OFlags::CREATE).unwrap();
        let owner = Lock::try_take(&directory, &key).unwrap().unwrap();
        let (early, late) = (opened(), opened());
        assert!(matches!(Lock::claim(&directory, &key, early).unwrap(), Claim::Theirs));
        owner.discard().unwrap();
        drop(owner);
        assert!(matches!(Lock::claim(&directory, &key, late).unwrap(), Claim::Nameless));
        // Also when the next one has made a new file of that name.
        let stale = opened();
        std::fs::remove_file(directory.path_of(&key.lock())).unwrap();
        let next = Lock::try_take(&directory, &key).unwrap().unwrap();
        assert!(matches!(Lock::claim(&directory, &key, stale).unwrap(), Claim::Nameless));
        drop(next);
        assert!(matches!(Lock::claim(&directory, &key, opened()).unwrap(), Claim::Ours(_)));
    }
}
