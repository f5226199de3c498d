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

/// The documents with the labels they must have.
fn expected<'a>(image: &'a Image, snapshotter: &str) -> Vec<(&'a Descriptor, Labels)> {
    let mut expected = vec![
        (&image.config, records::config_labels(snapshotter, &image.layers)),
        (&image.manifest, records::manifest_labels(image)),
    ];
    if let Some((index, _)) = &image.index {
        expected.push((&image.target, records::index_labels(&index.manifests)));
    }
    expected
}

/// Reads every document back from containerd, bytes against digest, and looks for the labels that hold the image together.
pub(crate) async fn prove(session: &Session, image: &Image, snapshotter: &str) -> Result<(), Error> {
    for (document, labels) in expected(image, snapshotter) {
        session.read_content(document.digest, document.size()).await?;
        let Some(info) = session.content(document.digest).await? else {
            return Err(Error::Gone { what: format!("content {}", document.digest) });
        };
        if let Some((key, _)) = labels.iter().find(|(key, value)| !value.is_empty() && info.labels.get(*key) != Some(value)) {
            let why = format!("its label {key} is missing");
            return Err(Error::Unproved { what: format!("content {}", document.digest), why });
        }
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
