//! The lease that keeps the garbage collector away from an unfinished pull (safety 17, reference 4).
//!
//! containerd cannot extend a lease. Renewing takes a new one, moves every resource and deletes the old one when no call is under
//! way any more that named it. A lease of ours bears the label [`LABEL`], by which the next run finds what a dead one left, and
//! [`OWNER`], by which it knows that it is dead.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use containerd_client::services::v1 as api;
use jiff::{SignedDuration, Timestamp};
use oci::Digest;
use tokio::time::timeout;
use tonic::{
    Code, Status,
    metadata::{Ascii, MetadataValue},
};

use crate::{Error, Session, owner};

/// Marks a lease as one of rpull's. Its value is the digest of the manifest it was taken for.
const LABEL: &str = "rpull/lease";

/// The process that took the lease.
const OWNER: &str = "rpull/owner";

/// containerd takes a lease for no root any more after the time in this label.
const EXPIRE: &str = "containerd.io/gc.expire";

const CONTENT: &str = "content";
const INGESTS: &str = "ingests";
const SNAPSHOTS: &str = "snapshots/";

/// While waiting for half-life the clock is looked at this often: a machine that slept must notice soon after it woke.
const CLOCK_STEP: Duration = Duration::from_secs(60);

/// Whoever still writes when all is given up has this long to end.
const QUIET: Duration = Duration::from_secs(10);

/// Pause after a renewal that did not succeed: containerd may just be restarting.
const RETRY_STEP: Duration = Duration::from_secs(5);

/// Renewal is given up this part of the lease's life before its end: there must be time to hear of it before anything is swept.
const LAST_PART: i32 = 24;

/// One lease.
#[derive(Debug)]
pub(crate) struct Lease {
    id: String,
    header: MetadataValue<Ascii>,
    half_life: Timestamp,
    /// A renewal that does not succeed is tried again until then.
    last_try: Timestamp,
}

impl Lease {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn header(&self) -> &MetadataValue<Ascii> {
        &self.header
    }
}

/// The leases of one session.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    current: Option<(Arc<Lease>, Terms)>,
    /// Renewed, and perhaps still named by a call under way.
    retired: Vec<Arc<Lease>>,
}

/// What a renewed lease has in common with the first.
#[derive(Clone, Copy, Debug)]
struct Terms {
    expiry: Duration,
    manifest: Digest,
}

impl Leases {
    pub(crate) fn current(&self) -> Option<&Arc<Lease>> {
        self.current.as_ref().map(|(lease, _)| lease)
    }
}

impl Session {
    /// Takes a lease (random id) for `expiry` to pull `manifest`, and names it on every later call of this session and its clones.
    /// What earlier runs of rpull left of the same manifest is added to it, so that it cannot expire in the middle of this run. What
    /// they left of others is not: this lease would hold it for as long as this pull takes, and longer if it fails.
    pub async fn lease(&self, expiry: Duration, manifest: Digest) -> Result<(), Error> {
        let terms = Terms { expiry, manifest };
        let former = self.former_leases(manifest).await?;
        let lease = self.create_lease(terms).await?;
        self.leases().current = Some((Arc::clone(&lease), terms));
        for former in former {
            // What cannot be taken over (a snapshotter that is down now, say) is fetched again: no reason not to begin.
            if let Err(error) = self.take_over(&former, &lease).await {
                tracing::warn!(lease = former.id, %error, "lease of an earlier run not taken over");
            }
        }
        Ok(())
    }

    /// Once half of the lease's life is over, takes a new one. Resources of an old one are added to it and confirmed, and it is deleted
    /// as soon as no call is under way any more that named it.
    async fn renew_lease(&self) -> Result<(), Error> {
        let Some((mut current, terms)) = self.leases().current.clone() else { return Ok(()) };
        if Timestamp::now() >= current.half_life {
            if self.resources(current.id()).await?.is_none() {
                return Err(Error::LeaseGone { id: current.id.clone() });
            }
            let new = self.create_lease(terms).await?;
            let mut leases = self.leases();
            leases.current = Some((Arc::clone(&new), terms));
            leases.retired.push(current);
            current = new;
        }
        let retired = self.leases().retired.clone();
        for old in retired {
            self.move_resources(old.id(), &current, Which::All).await?;
            // One count is the session's, one is ours: nobody else can add to it any more. Otherwise its turn comes again.
            if Arc::strong_count(&old) == 2 {
                self.move_resources(old.id(), &current, Which::All).await?;
                self.delete_lease(old.id()).await?;
                self.leases().retired.retain(|lease| lease.id != old.id);
            }
        }
        Ok(())
    }

    /// Renews for ever. To be raced against the work that needs the lease; it ends only with an error, when the lease is gone or about
    /// to expire.
    pub async fn keep_lease(&self) -> Result<Infallible, Error> {
        let mut pause = CLOCK_STEP;
        loop {
            let half_life = self.leases().current().map(|lease| lease.half_life);
            let left = half_life
                .and_then(|at| at.duration_since(Timestamp::now()).try_into().ok())
                .filter(|left: &Duration| !left.is_zero());
            tokio::time::sleep(left.map_or(pause, |left| left.min(pause))).await;
            pause = match self.renew_lease().await {
                Ok(()) => CLOCK_STEP,
                Err(error) if error.is_gone() || !self.may_try_again() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "lease not renewed, trying again");
                    RETRY_STEP
                }
            };
        }
    }

    /// Is there still time before something this session holds can be swept?
    fn may_try_again(&self) -> bool {
        let leases = self.leases();
        let last_try = leases.retired.iter().chain(leases.current()).map(|lease| lease.last_try).min();
        last_try.is_none_or(|last_try| Timestamp::now() < last_try)
    }

    /// Deletes the lease after success, and with it those that dead runs left when they pulled the same manifest: nothing is left for
    /// them to hold. After a failure a lease is left to its expiry, so that finished layers survive.
    ///
    /// # Errors
    /// Only about the leases of this session.
    pub async fn release_lease(&self) -> Result<(), Error> {
        let (current, retired) = {
            let mut leases = self.leases();
            (leases.current.take(), std::mem::take(&mut leases.retired))
        };
        let Some((lease, terms)) = current else { return Ok(()) };
        for lease in retired.into_iter().chain([lease]) {
            self.delete_lease(lease.id()).await?;
        }
        if let Err(error) = self.delete_dead(terms.manifest).await {
            tracing::info!(%error, "leases of earlier runs stay until they expire");
        }
        Ok(())
    }

    async fn delete_dead(&self, manifest: Digest) -> Result<(), Error> {
        for former in self.former_leases(manifest).await?.iter().filter(|former| is_dead(former)) {
            self.delete_lease(&former.id).await?;
        }
        Ok(())
    }

    /// Removes what was begun under the lease and not committed: the next run would only do the same. A lease that holds nothing else
    /// goes as well. To be called when everything that writes has been dropped; it waits until that has come through to containerd.
    pub async fn abort_ingests(&self) -> Result<(), Error> {
        let Some(lease) = self.leases().current().cloned() else { return Ok(()) };
        let quiet = timeout(QUIET, self.none_open()).await;
        let (ingests, finished): (Vec<_>, Vec<_>) =
            self.resources(lease.id()).await?.unwrap_or_default().into_iter().partition(|resource| resource.r#type == INGESTS);
        for ingest in ingests {
            self.abort(&ingest.id).await;
        }
        if quiet.is_ok() && finished.is_empty() && self.leases().retired.is_empty() {
            self.leases().current = None;
            self.delete_lease(lease.id()).await?;
        }
        Ok(())
    }

    /// Puts content this namespace holds under the lease and makes sure that it is still there afterwards.
    pub async fn hold_content(&self, digest: Digest) -> Result<(), Error> {
        self.hold(CONTENT.to_owned(), digest.to_string()).await
    }

    /// Puts a snapshot under the lease and makes sure that it is still there afterwards.
    pub async fn hold_snapshot(&self, snapshotter: &str, name: &str) -> Result<(), Error> {
        self.hold(format!("{SNAPSHOTS}{snapshotter}"), name.to_owned()).await
    }

    async fn hold(&self, r#type: String, id: String) -> Result<(), Error> {
        let resource = api::Resource { id, r#type };
        let lease = self.leases().current().cloned();
        if let Some(lease) = lease {
            self.add_resource(&lease, resource.clone()).await?;
        }
        if self.is_there(&resource, Which::All).await? {
            return Ok(());
        }
        Err(Error::Gone { what: format!("{} {}", resource.r#type, resource.id) })
    }

    async fn create_lease(&self, terms: Terms) -> Result<Arc<Lease>, Error> {
        let now = Timestamp::now();
        let expiry = SignedDuration::try_from(terms.expiry).unwrap_or(SignedDuration::MAX);
        let after = |span| now.checked_add(span).unwrap_or(Timestamp::MAX);
        let id = format!("rpull-{:016x}", fastrand::u64(..));
        let mut labels =
            HashMap::from([(EXPIRE.to_owned(), after(expiry).to_string()), (LABEL.to_owned(), terms.manifest.to_string())]);
        labels.extend(owner::this_process().map(|owner| (OWNER.to_owned(), owner)));
        let header = id.parse().expect("the id is plain ASCII");
        let mut client = self.leases_client();
        let request = api::CreateRequest { id: id.clone(), labels };
        self.call(client.create(request)).await.map_err(|status| self.refused("a lease", status))?;
        Ok(Arc::new(Lease { id, header, half_life: after(expiry / 2), last_try: after(expiry - expiry / LAST_PART) }))
    }

    /// Has containerd's garbage collector run to its end: only then is a deleted blob off the disk. It can be asked for by the
    /// deletion of a lease alone.
    pub(crate) async fn collect(&self) -> Result<(), Error> {
        let terms = Terms { expiry: QUIET, manifest: Digest::of(b"collect") };
        let lease = self.create_lease(terms).await?;
        self.drop_lease(lease.id(), true).await
    }

    async fn delete_lease(&self, id: &str) -> Result<(), Error> {
        self.drop_lease(id, false).await
    }

    async fn drop_lease(&self, id: &str, sync: bool) -> Result<(), Error> {
        let mut client = self.leases_client();
        let request = api::DeleteRequest { id: id.to_owned(), sync };
        match self.call(client.delete(request)).await {
            Err(status) if status.code() != Code::NotFound => Err(self.refused(format!("to delete lease {id}"), status)),
            _ => Ok(()),
        }
    }

    /// Leases of rpull for this manifest.
    async fn former_leases(&self, manifest: Digest) -> Result<Vec<api::Lease>, Error> {
        let mut client = self.leases_client();
        let request = api::ListRequest { filters: vec![format!("labels.\"{LABEL}\"")] };
        let reply = self.call(client.list(request)).await.map_err(|status| self.refused("to list leases", status))?;
        let manifest = manifest.to_string();
        Ok(reply.leases.into_iter().filter(|lease| lease.labels.get(LABEL) == Some(&manifest)).collect())
    }

    /// What an earlier run finished comes under `lease`. Its own has nothing left to do if that run is dead or the lease expired.
    async fn take_over(&self, former: &api::Lease, lease: &Lease) -> Result<(), Error> {
        self.move_resources(&former.id, lease, Which::Finished).await?;
        let expiry = former.labels.get(EXPIRE).and_then(|time| time.parse::<Timestamp>().ok());
        if expiry.is_some_and(|expiry| expiry < Timestamp::now()) || is_dead(former) {
            self.delete_lease(&former.id).await?;
        }
        Ok(())
    }

    /// Adds what `from` holds to `to`, each confirmed to be there after it was added.
    async fn move_resources(&self, from: &str, to: &Lease, which: Which) -> Result<(), Error> {
        for resource in self.resources(from).await?.unwrap_or_default() {
            if !which.includes(&resource.r#type) {
                continue;
            }
            if which == Which::Finished && !self.is_there(&resource, which).await? {
                continue;
            }
            self.add_resource(to, resource.clone()).await?;
            if !self.is_there(&resource, which).await? {
                // Committed or removed since: it has another name now, which the call that did it put under its lease.
                self.delete_resource(to, resource).await?;
            }
        }
        Ok(())
    }

    /// What a lease holds; `None` when there is no such lease.
    async fn resources(&self, lease: &str) -> Result<Option<Vec<api::Resource>>, Error> {
        let mut client = self.leases_client();
        match self.call(client.list_resources(api::ListResourcesRequest { id: lease.to_owned() })).await {
            Ok(reply) => Ok(Some(reply.resources)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.refused(format!("to list lease {lease}"), status)),
        }
    }

    async fn add_resource(&self, lease: &Lease, resource: api::Resource) -> Result<(), Error> {
        let what = format!("to lease {}", resource.id);
        let mut client = self.leases_client();
        let request = api::AddResourceRequest { id: lease.id.clone(), resource: Some(resource) };
        match self.call(client.add_resource(request)).await {
            Err(status) if status.code() != Code::AlreadyExists => Err(self.refused(what, status)),
            _ => Ok(()),
        }
    }

    async fn delete_resource(&self, lease: &Lease, resource: api::Resource) -> Result<(), Error> {
        let mut client = self.leases_client();
        let request = api::DeleteResourceRequest { id: lease.id.clone(), resource: Some(resource) };
        match self.call(client.delete_resource(request)).await {
            Err(status) if status.code() != Code::NotFound => Err(self.refused("to clear a lease", status)),
            _ => Ok(()),
        }
    }

    async fn is_there(&self, resource: &api::Resource, which: Which) -> Result<bool, Error> {
        let id = &resource.id;
        match resource.r#type.as_str() {
            CONTENT => match id.parse() {
                Ok(digest) => Ok(self.content(digest).await?.is_some()),
                // A digest of another algorithm is not ours to judge.
                Err(_) => Ok(true),
            },
            INGESTS => self.ingest(id).await.map(|status| status.is_some()),
            other => match other.strip_prefix(SNAPSHOTS) {
                Some(snapshotter) => {
                    let found = self.stat(snapshotter, id).await?;
                    Ok(found.is_some_and(|snapshot| which == Which::All || snapshot.committed))
                }
                None => Ok(true),
            },
        }
    }

    /// State of an ingest of this namespace; `None` when there is none under that ref.
    pub(crate) async fn ingest(&self, reference: &str) -> Result<Option<api::Status>, Error> {
        let mut client = self.content_client();
        match self.call(client.status(api::StatusRequest { r#ref: reference.to_owned() })).await {
            Ok(reply) => Ok(reply.status),
            Err(status) if is_missing(&status) => Ok(None),
            Err(status) => Err(self.refused(format!("the state of {reference}"), status)),
        }
    }
}

/// Was this lease taken by a process that is gone?
fn is_dead(lease: &api::Lease) -> bool {
    lease.labels.get(OWNER).is_some_and(|owner| owner::is_dead(owner))
}

/// Which resources to take from a lease.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    /// All: the lease is ours and work goes on.
    All,
    /// Content and committed snapshots: a dead run's ingests and active snapshots are of no use to anybody.
    Finished,
}

impl Which {
    fn includes(self, r#type: &str) -> bool {
        self == Self::All || r#type == CONTENT || r#type.starts_with(SNAPSHOTS)
    }
}

fn is_missing(status: &Status) -> bool {
    status.code() == Code::NotFound
}
