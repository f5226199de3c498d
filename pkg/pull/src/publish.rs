//! The image records: set last, looked at once more, taken back when something beneath them is gone (safety 18).

use std::sync::atomic::Ordering;

use containerd::{ImageRecord, Labels, Session, Store};
use oci::Image;
use progress::{Event, Step};

use crate::{
    Error,
    cri::Cri,
    documents, proof,
    proof::Prover,
    records,
    run::{Pull, Puller},
};

impl Pull<'_> {
    /// The names the image gets, in the order in which they are set.
    pub(crate) fn names(&self) -> Vec<String> {
        match self.puller.options.cri {
            Some(_) => Cri::names(self.reference, &self.found.image),
            None => vec![self.reference.name().to_owned()],
        }
    }

    /// Proof, records, second look; records over something that went meanwhile are taken back, all of them (safety 18).
    pub(crate) async fn publish(&self, store: &Store) -> Result<(), Error> {
        let Puller { session, options, probe, .. } = self.puller;
        let (image, snapshotter) = (&self.found.image, options.snapshotter.as_str());
        let prover = Prover { session, store, probe, snapshotter, layers: &image.layers, kinds: &self.kinds };
        let proving = async {
            let attached = if options.lazy { prover.prove_chain().await? } else { prover.prove().await? };
            documents::prove(session, image, snapshotter).await?;
            Ok(attached)
        };
        let attached = self.step(Step::Prove, proving).await?;
        self.puller.publishing.store(true, Ordering::Relaxed);
        let mut labels = options.labels.clone();
        labels.extend(options.cri.map(Cri::labels).unwrap_or_default());
        let publishing = async {
            let mut published = Published::default();
            let outcome = async {
                for name in self.names() {
                    published.set(session, name, image, &labels, !options.lazy).await?;
                }
                proof::still_there(session, snapshotter, image, &attached).await
            }
            .await;
            if outcome.is_err() {
                for (name, error) in published.take_back(session, image).await {
                    let text = format!("the image record {name} could not be taken back: {error}");
                    self.puller.progress.emit(&Event::Warning { text });
                }
            }
            outcome
        };
        self.step(Step::Publish, publishing).await
    }
}

/// Records that can still be taken back, oldest first.
#[derive(Default)]
struct Published {
    records: Vec<Record>,
}

struct Record {
    name: String,
    labels: Labels,
    former: Option<ImageRecord>,
}

impl Published {
    /// Creates or updates one record. Foreign labels of an existing one survive (reference 10.3).
    async fn set(
        &mut self,
        session: &Session,
        name: String,
        image: &Image,
        labels: &Labels,
        complete: bool,
    ) -> Result<(), Error> {
        let former = session.image(&name).await?;
        let mut labels = labels.clone();
        // An empty value deletes a label in an update, and `--lazy` must not leave an older proof standing.
        let proof = if complete { image.manifest.digest.to_string() } else { String::new() };
        if complete || former.as_ref().is_some_and(|record| record.labels.contains_key(records::COMPLETE)) {
            labels.insert(records::COMPLETE.to_owned(), proof);
        }
        let outcome = session.put_image(&name, &image.target, &labels).await;
        // Also one whose answer was lost may be there.
        self.records.push(Record { name, labels, former });
        Ok(outcome?)
    }

    /// Takes back every record, the last one first. Those that may still stand, with the reason.
    async fn take_back(self, session: &Session, image: &Image) -> Vec<(String, Error)> {
        let mut left = Vec::new();
        for record in self.records.into_iter().rev() {
            let name = record.name.clone();
            if let Err(error) = record.take_back(session, image).await {
                left.push((name, error));
            }
        }
        left
    }
}

impl Record {
    /// Removes the record, or sets it back to what it was. One that another client has pointed elsewhere since is theirs.
    async fn take_back(self, session: &Session, image: &Image) -> Result<(), Error> {
        let ours = |record: &ImageRecord| record.target.digest() == Some(image.target.digest);
        if !session.image(&self.name).await?.as_ref().is_some_and(ours) {
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
