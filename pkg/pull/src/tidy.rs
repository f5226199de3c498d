//! The spool before a pull and after it: what is left there and of no use goes. None of it is worth a failed pull.

use containerd::{Committed, Store};

use crate::{blocking, run::Pull, work::Outcome};

impl Pull<'_> {
    /// What other pulls left and nobody used for long goes: the room may be needed now. This image's own is still of use, however old.
    pub(crate) async fn sweep(&self, store: &Store) {
        let (spool, keep) = (store.spool().clone(), self.puller.options.keep_partial);
        let own: Vec<_> = self.found.image.layers.iter().map(|layer| layer.descriptor.digest).collect();
        match blocking(move || Ok(spool.sweep(keep, &own)?)).await {
            Ok(swept) => tracing::debug!(swept, "old spool entries"),
            Err(error) => tracing::info!(%error, "spool not swept"),
        }
    }

    /// What a run that ended between COMMIT and the drop of the spool's name left goes, and with the last entry the directory.
    pub(crate) async fn tidy(&self, store: &Store, outcomes: &[Outcome]) {
        let spool = store.spool().clone();
        let content: Vec<_> = outcomes.iter().filter_map(Outcome::committed).map(Committed::digest).collect();
        let tidied = blocking(move || {
            for digest in content {
                spool.forget(digest)?;
            }
            Ok(spool.remove_if_empty()?)
        });
        if let Err(error) = tidied.await {
            tracing::info!(%error, "spool not tidied");
        }
    }
}
