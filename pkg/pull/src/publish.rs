//! The image record: set last, looked at once more, taken back when something beneath it is gone (safety 18).

use containerd::{ImageRecord, Labels, Session};
use oci::{Digest, Image, Reference};

use crate::{Error, records};

/// A published record that can still be taken back.
pub(crate) struct Published {
    name: String,
    target: Digest,
    labels: Labels,
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
    Ok(Published { name: reference.name().to_owned(), target: image.target.digest, labels, former })
}

impl Published {
    /// Removes the record, or sets it back to what it was. One that another client has pointed elsewhere since is theirs.
    pub(crate) async fn take_back(self, session: &Session) -> Result<(), Error> {
        if session.image(&self.name).await?.is_none_or(|record| record.target.digest() != Some(self.target)) {
            return Ok(());
        }
        let Some(former) = self.former else {
            return Ok(session.delete_image(&self.name).await?);
        };
        // An empty value takes a label off that the former record did not have.
        let mut labels: Labels = self.labels.into_keys().map(|key| (key, String::new())).collect();
        labels.extend(former.labels);
        Ok(session.put_image(&self.name, &former.target, &labels).await?)
    }
}
