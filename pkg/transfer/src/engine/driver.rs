//! The one task that owns the schedule.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use oci::Digest;
use progress::{Event, Progress, Written};
use registry::Repository;
use spool::Entry;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, sleep_until},
};

use super::{
    bucket::Bucket,
    lane::{Asked, Lane, Request, WRITERS},
};
use crate::{BlobId, Cause, ConnectionId, Error, Fact, Failure, HostId, Limits, Order, RetryPolicy, Schedule};

/// More hosts for one blob than anybody configures; the schedule counts them in a word.
const MOST_HOSTS: usize = 64;

/// What the driver hears of.
#[derive(Debug)]
pub(super) enum Message {
    Add(Job),
    Withdraw(BlobId),
    Fact(Fact),
    /// A write failed here; the connection is over.
    Disk {
        connection: ConnectionId,
        offset: u64,
        error: spool::Error,
    },
    /// The entry was restarted.
    Restarted {
        blob: BlobId,
        result: Result<(), spool::Error>,
    },
}

/// Hosts of the repository that sent bytes of the blob.
pub(super) type Served = BTreeSet<usize>;

/// A blob to fetch.
pub(super) struct Job {
    pub(super) blob: BlobId,
    pub(super) repository: Repository,
    pub(super) entry: Entry,
    /// Indices of the repository's hosts, in the order in which they are to be tried.
    pub(super) hosts: Vec<usize>,
    /// Whom to tell of it.
    pub(super) progress: Progress,
    pub(super) written: Written,
    pub(super) done: oneshot::Sender<Result<Served, Error>>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("blob", &self.blob).field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

pub(super) struct Driver {
    schedule: Schedule,
    bucket: Option<Arc<Bucket>>,
    writers: Arc<Semaphore>,
    started: Instant,
    /// Weak, so that the driver ends when the last engine and connection are gone.
    messages: mpsc::WeakUnboundedSender<Message>,
    blobs: BTreeMap<BlobId, Active>,
    lanes: BTreeMap<ConnectionId, Arc<Lane>>,
    /// Names of the hosts by id.
    hosts: Vec<String>,
    host_ids: HashMap<String, HostId>,
}

struct Active {
    job: Job,
    sources: Vec<HostId>,
    /// Connections that may still write.
    open: usize,
    served: Served,
    /// Hosts that were left, so that each is told of once.
    left: BTreeSet<HostId>,
    outcome: Option<Result<(), Error>>,
}

impl Active {
    fn digest(&self) -> Digest {
        self.job.entry.blob().digest
    }
}

impl Driver {
    pub(super) fn start(limits: &Limits, retry: &RetryPolicy) -> mpsc::UnboundedSender<Message> {
        // Unbounded, yet small: at most a few messages per open connection are ever under way.
        let (sender, receiver) = mpsc::unbounded_channel();
        let driver = Self {
            schedule: Schedule::new(limits.clone(), retry.clone()),
            bucket: limits.rate.map(Bucket::new).map(Arc::new),
            writers: Arc::new(Semaphore::new(WRITERS)),
            started: Instant::now(),
            messages: sender.downgrade(),
            blobs: BTreeMap::new(),
            lanes: BTreeMap::new(),
            hosts: Vec::new(),
            host_ids: HashMap::new(),
        };
        tokio::spawn(driver.run(receiver));
        sender
    }

    async fn run(mut self, mut receiver: mpsc::UnboundedReceiver<Message>) {
        loop {
            let wake = self.schedule.wake(self.started.elapsed()).map(|at| self.started + at);
            tokio::select! {
                message = receiver.recv() => match message {
                    Some(message) => self.hear(message),
                    None => return,
                },
                () = async { sleep_until(wake.unwrap_or(self.started)).await }, if wake.is_some() => self.tick(),
            }
        }
    }

    fn tick(&mut self) {
        let seen: Vec<_> = self.lanes.iter().map(|(id, lane)| (*id, lane.received(), lane.is_held())).collect();
        for (connection, offset, held) in seen {
            self.tell(Fact::Arrived { connection, offset });
            if held {
                self.tell(Fact::Held { connection });
            }
        }
        self.tell(Fact::Tick);
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Add(job) => self.add(job),
            Message::Withdraw(blob) => {
                if self.blobs.contains_key(&blob) {
                    self.stop(blob, Error::Stopped { blob: self.blobs[&blob].digest() });
                }
            }
            Message::Fact(fact) => {
                if let Fact::Ended { connection, .. } = &fact {
                    self.close(*connection);
                }
                self.tell(fact);
            }
            Message::Disk { connection, offset, error } => {
                let blob = self.lanes.get(&connection).map(|lane| lane.blob);
                self.disk_failed(blob, error);
                self.close(connection);
                self.tell(Fact::Ended { connection, offset, fault: None });
            }
            Message::Restarted { blob, result: Ok(()) } => self.tell(Fact::Restarted { blob }),
            Message::Restarted { blob, result: Err(error) } => self.disk_failed(Some(blob), error),
        }
        self.report_outcomes();
    }

    fn add(&mut self, job: Job) {
        let names = job.hosts.iter().take(MOST_HOSTS).map(|host| job.repository.host_name(*host).to_owned());
        let names: Vec<_> = names.collect();
        let sources: Vec<_> = names.into_iter().map(|name| self.host_id(name)).collect();
        let (blob, size, missing) = (job.blob, job.entry.blob().size(), job.entry.missing());
        let (served, left) = (Served::new(), BTreeSet::new());
        self.blobs.insert(blob, Active { job, sources: sources.clone(), open: 0, served, left, outcome: None });
        self.tell(Fact::Added { blob, size, missing, hosts: sources });
    }

    fn host_id(&mut self, name: String) -> HostId {
        let hosts = &mut self.hosts;
        *self.host_ids.entry(name).or_insert_with_key(|name| {
            hosts.push(name.clone());
            HostId(hosts.len() - 1)
        })
    }

    fn disk_failed(&mut self, blob: Option<BlobId>, source: spool::Error) {
        if let Some((id, active)) = blob.and_then(|id| Some((id, self.blobs.get(&id)?))) {
            let error = Error::Spool { blob: active.digest(), source };
            self.stop(id, error);
        }
    }

    /// Ends a blob from our side; what is written stays.
    fn stop(&mut self, blob: BlobId, error: Error) {
        if let Some(active) = self.blobs.get_mut(&blob) {
            active.outcome.get_or_insert(Err(error));
        }
        self.tell(Fact::Withdrawn { blob });
    }

    fn close(&mut self, connection: ConnectionId) {
        let Some(lane) = self.lanes.remove(&connection) else { return };
        if let Some(active) = self.blobs.get_mut(&lane.blob) {
            active.open -= 1;
            active.served.extend(lane.served().then_some(lane.host));
        }
    }

    /// A blob's outcome is told when no connection can write to it any more.
    fn report_outcomes(&mut self) {
        let ended: Vec<_> = self.blobs.iter().filter(|(_, active)| active.open == 0 && active.outcome.is_some()).collect();
        let ended: Vec<_> = ended.into_iter().map(|(id, _)| *id).collect();
        for id in ended {
            if let Some(Active { job, outcome: Some(outcome), served, .. }) = self.blobs.remove(&id) {
                // Whoever asked may have gone.
                let _ = job.done.send(outcome.map(|()| served));
            }
        }
    }

    fn tell(&mut self, fact: Fact) {
        let now = self.started.elapsed();
        for order in self.schedule.handle(now, fact) {
            self.carry_out(order);
        }
        self.report_outcomes();
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Ask { connection, blob, host, range, ranged, attempt } => {
                self.ask(blob, host, Asked { connection, range, ranged, attempt });
            }
            Order::TakeWhole { connection } => self.lane(connection, Lane::take_whole),
            Order::Shrink { connection, end } => self.lane(connection, |lane| lane.shrink(end)),
            Order::Drop { connection, stall } => {
                if let (Some(stall), Some(active)) = (stall, self.active_on(connection)) {
                    active.job.progress.meter().add_stall(stall);
                }
                self.lane(connection, |lane| lane.close(stall));
            }
            Order::Retry { blob, host, cause, after } => self.retrying(blob, host, &cause, after),
            Order::Leave { blob, host, cause } => self.leaving(blob, host, &cause),
            Order::Restart { blob } => self.restart(blob),
            Order::Finished { blob } => self.outcome(blob, Ok(())),
            Order::Failed { blob, failure } => {
                if let Some(digest) = self.blobs.get(&blob).map(Active::digest) {
                    let error = self.error(digest, failure);
                    self.outcome(blob, Err(error));
                }
            }
        }
    }

    fn outcome(&mut self, blob: BlobId, outcome: Result<(), Error>) {
        if let Some(active) = self.blobs.get_mut(&blob) {
            active.outcome.get_or_insert(outcome);
        }
    }

    fn lane(&self, connection: ConnectionId, act: impl FnOnce(&Lane)) {
        if let Some(lane) = self.lanes.get(&connection) {
            act(lane);
        }
    }

    fn active_on(&self, connection: ConnectionId) -> Option<&Active> {
        self.lanes.get(&connection).and_then(|lane| self.blobs.get(&lane.blob))
    }

    fn ask(&mut self, blob: BlobId, host: HostId, asked: Asked) {
        let (Some(active), Some(messages)) = (self.blobs.get_mut(&blob), self.messages.upgrade()) else { return };
        let Some(source) = active.sources.iter().position(|source| *source == host) else { return };
        let lane = Arc::new(Lane::new(blob, active.job.hosts[source], asked.range));
        active.open += 1;
        self.lanes.insert(asked.connection, lane.clone());
        let request = Request {
            asked,
            repository: active.job.repository.clone(),
            entry: active.job.entry.clone(),
            lane,
            written: active.job.written.clone(),
            messages,
            progress: active.job.progress.clone(),
            bucket: self.bucket.clone(),
            writers: self.writers.clone(),
        };
        tokio::spawn(request.run());
    }

    fn retrying(&self, blob: BlobId, host: HostId, cause: &Cause, after: std::time::Duration) {
        if let Some(active) = self.blobs.get(&blob) {
            active.job.progress.meter().add_retry();
            let host = self.hosts[host.0].clone();
            active.job.progress.emit(&Event::Retrying { blob: Some(active.digest()), host, cause: cause.to_string(), after });
        }
    }

    fn leaving(&mut self, blob: BlobId, host: HostId, cause: &Cause) {
        if let Some(active) = self.blobs.get_mut(&blob).filter(|active| !active.left.contains(&host)) {
            active.left.insert(host);
            let (blob, host) = (active.digest(), self.hosts[host.0].clone());
            active.job.progress.emit(&Event::MirrorLeft { blob, host, cause: cause.to_string() });
        }
    }

    fn restart(&self, blob: BlobId) {
        let (Some(active), Some(messages)) = (self.blobs.get(&blob), self.messages.upgrade()) else { return };
        let entry = active.job.entry.clone();
        let missing: u64 = entry.missing().iter().map(|range| range.len()).sum();
        active.job.progress.meter().add_refetched(entry.blob().size() - missing);
        active.job.written.reset();
        tokio::task::spawn_blocking(move || {
            let result = entry.restart();
            // A driver that is gone no longer cares.
            let _ = messages.send(Message::Restarted { blob, result });
        });
    }

    fn error(&self, blob: Digest, failure: Failure) -> Error {
        match failure {
            Failure::Refused { host, attempts, cause, others } => Error::Refused {
                what: format!("blob {blob}"),
                host: self.hosts[host.0].clone(),
                attempts,
                source: cause,
                others: others.into_iter().map(|(host, cause)| (self.hosts[host.0].clone(), cause)).collect(),
            },
            Failure::Silent { span, last } => {
                let (host, source) = last.map(|(host, cause)| (self.hosts[host.0].clone(), cause)).unzip();
                Error::Silent { blob, span, host, source }
            }
            Failure::NoHost => Error::NoHost { blob },
        }
    }
}
