//! The image record: set last, looked at once more, taken back when something beneath it is gone (safety 18).

use containerd::{ImageRecord, Labels, Session};
use oci::{Image, Reference};

use crate::{Error, records};

/// A published record that can still be taken back.
pub(crate) struct Published {
    name: String,
    former: Option<ImageRecord>,
}

/// Creates or updates the record. Foreign labels of an existing one survive (reference 10.3).
pub(crate) async fn publish(
    session: &Session,
    reference: &Reference,
    image: &Image,
    labels: &Labels,
    complete: bool,
) -> Result<Published, Error> {
    let former = session.image(reference.name()).await?;
    let mut labels = labels.clone();
    // An empty value deletes a label in an update, and `--lazy` must not leave an older proof standing.
    let proof = if complete { image.manifest.digest.to_string() } else { String::new() };
    if complete || former.as_ref().is_some_and(|record| record.labels.contains_key(records::COMPLETE)) {
        labels.insert(records::COMPLETE.to_owned(), proof);
    }
    session.put_image(reference.name(), &image.target, &labels).await?;
    Ok(Published { name: reference.name().to_owned(), former })
}

impl Published {
    /// Removes the record, or sets it back to what it was.
    pub(crate) async fn take_back(self, session: &Session) -> Result<(), Error> {
        match self.former {
            None => session.delete_image(&self.name).await?,
            Some(former) => {
                let mut labels = former.labels;
                labels.entry(records::COMPLETE.to_owned()).or_default();
                session.put_image(&self.name, &former.target, &labels).await?;
            }
        }
        Ok(())
    }
}
