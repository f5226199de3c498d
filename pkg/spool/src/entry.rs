//! One blob being written, its lock held: what `transfer` fills and `containerd` may stream from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci::{ByteRange, Descriptor};

use crate::{Error, Grant, Verified, core::Core, lock::Lock, resume};

/// One blob being written, its lock held. Cheap to clone: connections hold [`Grant`]s, a thread of its own hashes.
///
/// Dropped with bytes written, the entry stays for the next run. Dropped without, it leaves nothing.
#[derive(Clone, Debug)]
pub struct Entry(Arc<Handle>);

/// What all clones and grants share.
#[derive(Debug)]
pub(crate) struct Handle {
    blob: Descriptor,
    core: Mutex<Arc<Core>>,
    proof: Mutex<Option<Verified>>,
    /// Is it written to the disk before it is proved? See [`Spool::unsynced`](crate::Spool::unsynced).
    synced: bool,
    lock: Arc<Lock>,
}

impl Entry {
    /// Takes over what an earlier run left, or begins. Reads everything that was left (blocking).
    pub(crate) fn open(lock: Lock, blob: &Descriptor, synced: bool) -> Result<Self, Error> {
        let core = match resume::open(&lock, blob) {
            Ok(core) => core,
            Err(error) => {
                if error.is_no_space() {
                    // Nothing was begun, so no empty lock file stays behind.
                    lock.discard()?;
                }
                return Err(error);
            }
        };
        Ok(Self(Arc::new(Handle {
            blob: blob.clone(),
            core: Mutex::new(Arc::new(core)),
            proof: Mutex::new(None),
            synced,
            lock: Arc::new(lock),
        })))
    }

    /// The blob.
    pub fn blob(&self) -> &Descriptor {
        &self.0.blob
    }

    /// What is still to be granted, in order; the rest is written, was found by the journal and re-checked by CRC, or is
    /// granted to someone.
    pub fn missing(&self) -> Vec<ByteRange> {
        self.0.core().missing()
    }

    /// Bytes present from an earlier run.
    pub fn resumed(&self) -> u64 {
        self.0.core().resumed
    }

    /// The only way to write: exclusive right on a range that is missing and not granted to anyone else.
    ///
    /// # Errors
    /// [`Error::Taken`] when a byte of it is written, granted, or outside the blob.
    pub fn grant(&self, range: ByteRange) -> Result<Grant, Error> {
        // Held while granting: a restart in between would leave a grant on the old inode.
        let core = self.0.core();
        core.start(self.0.synced)?;
        Grant::new(self.0.clone(), core.clone(), range)
    }

    /// Forgets everything written: takes the name away and begins a new inode (safety 1).
    ///
    /// # Errors
    /// [`Error::Busy`] while a grant is out, and after the proof.
    pub fn restart(&self) -> Result<(), Error> {
        let proof = self.0.proof();
        let mut core = self.0.core();
        if proof.is_some() || core.is_granted() {
            return Err(Error::Busy { digest: self.0.blob.digest });
        }
        core.close();
        *core = Arc::new(resume::fresh(&self.0.lock, &self.0.blob)?);
        Ok(())
    }

    /// Takes the entry away: the blob turned out not to be needed. Clones of it can no longer be written.
    ///
    /// # Errors
    /// [`Error::Busy`] while a grant is out, and after the proof (then it is [`Verified::discard`]'s to do).
    pub fn discard(self) -> Result<(), Error> {
        let proof = self.0.proof();
        let core = self.0.core();
        if proof.is_some() || core.is_granted() {
            return Err(Error::Busy { digest: self.0.blob.digest });
        }
        core.close();
        self.0.lock.discard()
    }

    /// Waits until the finished and hashed prefix is longer than `beyond`, or everything is there; returns its length. It
    /// grows in steps of 1 MiB.
    ///
    /// # Errors
    /// [`Error::Restarted`] when the entry started over: what was read before is void.
    pub async fn prefix(&self, beyond: u64) -> Result<u64, Error> {
        let restarted = Error::Restarted { digest: self.0.blob.digest };
        let core = self.0.core().clone();
        core.start(self.0.synced)?;
        let mut progress = core.subscribe();
        let progress = progress
            .wait_for(|now| now.hashed != beyond || now.hashed == core.size || now.closed || matches!(now.end, Some(Err(_))))
            .await
            .map_err(|_| restarted.clone())?;
        match &progress.end {
            Some(Err(error)) => Err(error.clone()),
            _ if progress.closed || progress.hashed < beyond => Err(restarted),
            _ => Ok(progress.hashed),
        }
    }

    /// Reads finished bytes (blocking); `Ok(0)` where none are finished.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let core = self.0.core().clone();
        core.read_at(offset, buffer)
    }

    /// Resolves when all bytes are there and the prefix hash is done. Digest equal: the file is synced (unless the spool is
    /// [`unsynced`](crate::Spool::unsynced)), made read-only for good, and can no longer be written through any descriptor of ours.
    ///
    /// # Errors
    /// [`Error::Mismatch`]; the entry is left as it is for [`Entry::restart`].
    pub async fn prove(&self) -> Result<Verified, Error> {
        let restarted = Error::Restarted { digest: self.0.blob.digest };
        let core = self.0.core().clone();
        core.start(self.0.synced)?;
        let end = core
            .subscribe()
            .wait_for(|now| now.end.is_some() || now.closed)
            .await
            .ok()
            .and_then(|now| now.end.clone())
            .ok_or(restarted)?;
        let (expected, actual) = (core.digest, end?);
        if actual != expected {
            return Err(Error::Mismatch { expected, actual });
        }
        let handle = self.0.clone();
        tokio::task::spawn_blocking(move || handle.seal(&core))
            .await
            .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }
}

impl Handle {
    fn core(&self) -> MutexGuard<'_, Arc<Core>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn proof(&self) -> MutexGuard<'_, Option<Verified>> {
        self.proof.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the `Verified` of a core whose hash is right, once.
    fn seal(&self, core: &Arc<Core>) -> Result<Verified, Error> {
        let mut proof = self.proof();
        if let Some(verified) = &*proof {
            return Ok(verified.clone());
        }
        if !Arc::ptr_eq(&self.core(), core) {
            return Err(Error::Restarted { digest: core.digest });
        }
        let verified = Verified::seal(core, &self.lock, self.synced)?;
        Ok(proof.insert(verified).clone())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let core = self.core().clone();
        core.close();
        if core.is_empty()
            && let Err(error) = self.lock.discard()
        {
            tracing::debug!(path = %core.path.display(), %error, "an empty entry stays");
        }
    }
}
