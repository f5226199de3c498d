//! Image records. Never updated without a mask: that would wipe the labels of other clients (reference 10.3).

use containerd_client::{services::v1 as api, types};
use oci::{Descriptor, Digest, MediaType};
use tonic::Code;

use crate::{
    Error, Labels, Session,
    content::{label_mask, to_wire},
    snapshots::to_wire_descriptor,
};

/// Create and Update contradict each other only while another client makes and deletes the same name.
const PUT_TRIES: usize = 5;

/// A named image.
#[derive(Clone, Debug)]
pub struct ImageRecord {
    /// Its name, a reference.
    pub name: String,
    /// What it points at: an index or a manifest.
    pub target: Target,
    /// Its labels.
    pub labels: Labels,
}

/// What a record points at, as containerd has it. It may be something this program could not pull, by a digest that is no sha256
/// say: it can be put back all the same.
#[derive(Clone, PartialEq, Debug)]
pub struct Target(types::Descriptor);

impl Target {
    /// Its digest, if it is of the kind that can be pulled.
    pub fn digest(&self) -> Option<Digest> {
        self.0.digest.parse().ok()
    }

    /// Its descriptor, if it is of the kind that can be pulled.
    ///
    /// # Errors
    /// What is wrong with its digest or its size.
    pub fn descriptor(&self) -> Result<Descriptor, oci::Error> {
        let types::Descriptor { media_type, digest, size, annotations } = &self.0;
        // A negative size is as wrong as none.
        let size = u64::try_from(*size).unwrap_or_default();
        let mut descriptor = Descriptor::new(MediaType::new(media_type), digest.parse()?, size)?;
        descriptor.annotations.extend(annotations.clone());
        Ok(descriptor)
    }
}

impl From<&Descriptor> for Target {
    fn from(descriptor: &Descriptor) -> Self {
        Self(to_wire_descriptor(descriptor))
    }
}

impl From<&Target> for Target {
    fn from(target: &Target) -> Self {
        target.clone()
    }
}

impl Session {
    /// The record of that name, if there is one.
    pub async fn image(&self, name: &str) -> Result<Option<ImageRecord>, Error> {
        let mut client = self.images_client();
        let reply = match self.call(client.get(api::GetImageRequest { name: name.to_owned() })).await {
            Ok(reply) => reply,
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            Err(status) => return Err(self.refused(format!("to tell about image {name}"), status)),
        };
        let unusable = |why: String| Error::Answer { what: format!("image {name}"), why };
        let image = reply.image.ok_or_else(|| unusable("it is empty".to_owned()))?;
        let target = image.target.ok_or_else(|| unusable("it has no target".to_owned()))?;
        Ok(Some(ImageRecord { name: image.name, target: Target(target), labels: image.labels.into_iter().collect() }))
    }

    /// Makes the record, or points an existing one at `target` and sets these labels; labels of others stay. An empty value takes a
    /// label off.
    pub async fn put_image(&self, name: &str, target: impl Into<Target>, labels: &Labels) -> Result<(), Error> {
        let Target(target) = target.into();
        let refused = |status| self.refused(format!("to record image {name}"), status);
        let record = |labels| api::Image {
            name: name.to_owned(),
            labels: to_wire(labels),
            target: Some(target.clone()),
            ..api::Image::default()
        };
        let fresh: Labels = labels.iter().filter(|(_, value)| !value.is_empty()).map(|(k, v)| (k.clone(), v.clone())).collect();
        let mut mask = label_mask(labels);
        mask.paths.push("target".to_owned());
        let mut client = self.images_client();
        for _ in 0..PUT_TRIES {
            let create = api::CreateImageRequest { image: Some(record(&fresh)), ..api::CreateImageRequest::default() };
            match self.call(client.create(create)).await {
                Err(status) if status.code() == Code::AlreadyExists => {}
                other => return other.map(drop).map_err(refused),
            }
            let update = api::UpdateImageRequest {
                image: Some(record(labels)),
                update_mask: Some(mask.clone()),
                ..api::UpdateImageRequest::default()
            };
            match self.call(client.update(update)).await {
                Err(status) if status.code() == Code::NotFound => {}
                other => return other.map(drop).map_err(refused),
            }
        }
        Err(Error::Gone { what: format!("image {name}") })
    }

    /// Deletes the record; one that is not there is no error.
    pub async fn delete_image(&self, name: &str) -> Result<(), Error> {
        let mut client = self.images_client();
        let request = api::DeleteImageRequest { name: name.to_owned(), ..api::DeleteImageRequest::default() };
        match self.call(client.delete(request)).await {
            Err(status) if status.code() != Code::NotFound => Err(self.refused(format!("to delete image {name}"), status)),
            _ => Ok(()),
        }
    }
}
