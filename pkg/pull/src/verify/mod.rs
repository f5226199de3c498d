//! Is an image that is here whole? And how it is made whole again.
//!
//! Looking asks no registry and changes nothing. It trusts nothing either: every blob is hashed, every file a device would read is
//! compared with its blob. Mending is a pull of the very image that is recorded, with one step before it: what is damaged is put
//! right from what is on this machine, and only what is not from the registry (safety 22).

mod deep;
mod documents;
mod layers;
mod mend;
mod report;

use std::error::Error as _;

use containerd::{ImageRecord, Store};
use oci::Reference;
use registry::Repository;
use transfer::Engine;

pub(crate) use documents::Documents;
use documents::Reader;
pub(crate) use mend::Damages;
pub use report::{Damage, Part, Place, Report};

use crate::{Error, Options, Puller, blocking, overlaybd};
use layers::Look;

impl Puller {
    /// Looks at an image that is here, and tells of each part when it is known. `deep` also unpacks compressed layers. As with
    /// [`Puller::pull`] the future may be dropped at any time.
    ///
    /// # Errors
    /// [`Error::NoImage`], and whatever keeps the image from being looked at. Damage is no error.
    pub async fn verify(&self, reference: &Reference, deep: bool, tell: &mut (dyn FnMut(&Part) + Send)) -> Result<Report, Error> {
        self.session.stat(&self.options.snapshotter, "").await?;
        let record = self.record(reference).await?;
        let look = async {
            let store = self.session.open_store(self.options.store, self.options.spool_dir.as_deref()).await?;
            let Documents { mut parts, image, .. } = self.reader(&store, None).read(&record).await?;
            parts.iter().for_each(&mut *tell);
            let layers_known = image.is_some();
            if let Some(image) = image {
                let kinds = overlaybd::classify(&image.layers, true)?;
                parts.extend(self.look(&store, deep).at(&image.layers, &kinds, tell).await?);
            }
            let spool = store.spool().clone();
            blocking(move || Ok(spool.remove_if_empty()?)).await?;
            Ok(Report { reference: reference.name().to_owned(), parts, layers_known })
        };
        Box::pin(self.looking(&format!("verify {reference}"), look)).await
    }

    /// Makes the image that is recorded under this name whole again. `report` says what is wrong with it.
    ///
    /// # Errors
    /// As [`Puller::pull`]; [`containerd::Error::Held`] when the damaged file would come back.
    pub async fn repair(&self, reference: &Reference, report: &Report) -> Result<(), Error> {
        let record = self.record(reference).await?;
        self.pull_recorded(reference, &record, report).await
    }

    /// What reads documents, from the registry too where one is given.
    pub(crate) fn reader<'a>(&'a self, store: &'a Store, registry: Option<(&'a Engine, &'a Repository)>) -> Reader<'a> {
        let Options { platform, snapshotter, .. } = &*self.options;
        Reader { session: &self.session, store, platform: platform.as_ref(), snapshotter, registry }
    }

    /// What looks at layers.
    pub(crate) fn look(&self, store: &Store, deep: bool) -> Look {
        let (session, probe, snapshotter) = (self.session.clone(), self.probe.clone(), self.options.snapshotter.clone());
        Look { session, store: store.clone(), probe, snapshotter, deep }
    }

    async fn record(&self, reference: &Reference) -> Result<ImageRecord, Error> {
        let missing = || Error::NoImage { name: reference.name().to_owned(), namespace: self.session.namespace().to_string() };
        self.session.image(reference.name()).await?.ok_or_else(missing)
    }
}

/// An error and its causes in one line, without repeating what the report says anyway.
fn causes(error: &overlaybd::Error) -> String {
    match error.source() {
        Some(source) if matches!(error, overlaybd::Error::Blob { .. }) => source.to_string(),
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
