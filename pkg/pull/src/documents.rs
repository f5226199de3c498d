//! Index, manifest and config as content, with the labels that hold the image together.

use containerd::{Labels, Session};
use oci::{Descriptor, Image, Reference};

use crate::{Error, records};

/// Writes the documents and their labels. Parents first would leave a gap for nobody: the lease holds all of them.
pub(crate) async fn write(session: &Session, reference: &Reference, image: &Image) -> Result<(), Error> {
    write_one(session, reference, &image.config, &image.config_bytes, Labels::new()).await?;
    write_one(session, reference, &image.manifest, &image.manifest_bytes, records::manifest_labels(image)).await?;
    if let Some((index, bytes)) = &image.index {
        write_one(session, reference, &image.target, bytes, records::index_labels(&index.manifests)).await?;
    }
    Ok(())
}

async fn write_one(
    session: &Session,
    reference: &Reference,
    descriptor: &Descriptor,
    bytes: &[u8],
    labels: Labels,
) -> Result<(), Error> {
    session.write_document(descriptor, bytes, &labels).await?;
    label(session, reference, descriptor, labels).await
}

/// Adds `labels` and the distribution source to content this namespace holds.
pub(crate) async fn label(
    session: &Session,
    reference: &Reference,
    descriptor: &Descriptor,
    mut labels: Labels,
) -> Result<(), Error> {
    let Some(info) = session.content(descriptor.digest).await? else {
        return Err(Error::Gone { what: format!("content {}", descriptor.digest) });
    };
    labels.extend(records::distribution_source(reference, &info.labels));
    labels.retain(|key, value| info.labels.get(key) != Some(value));
    if !labels.is_empty() {
        session.label_content(descriptor.digest, &labels).await?;
    }
    Ok(())
}
