//! Reaching containerd and the snapshotter, with patience for what is about to start (`--wait-for-containerd`).

use std::time::Duration;

use containerd::Session;
use progress::{Event, Progress};
use pull::{Error, Puller};
use tokio::time::{Instant, sleep};

use crate::{args::Args, failure::Failure};

/// Between two tries: no delay that anyone notices at boot, and no load.
const POLL: Duration = Duration::from_millis(200);

/// How long to wait for both together.
pub(crate) struct Patience {
    span: Duration,
    deadline: Instant,
    progress: Progress,
}

impl Patience {
    /// Begins to count.
    pub(crate) fn new(args: &Args, progress: Progress) -> Self {
        let span = args.node.wait_for_containerd;
        Self { span, deadline: Instant::now() + span, progress }
    }

    /// A session with containerd. A signal ends the wait.
    pub(crate) async fn containerd(&self, args: &Args, stop: impl Future<Output = Failure>) -> Result<Session, Failure> {
        // Without patience the limit is the user's; with it, a socket that hangs is tried again as well.
        let limit = if self.span.is_zero() { args.connect_timeout() } else { args.connect_timeout().min(self.span) };
        let connect = async || Ok(Session::connect(&args.address, args.namespace.clone(), limit).await?);
        tokio::select! {
            session = self.until_up(connect) => session.map_err(Failure::from),
            stopped = stop => {
                let message = format!("{} before containerd at {} answered", stopped.message, args.address);
                Err(Failure { message, hint: None, ..stopped })
            }
        }
    }

    /// A snapshotter with a process of its own starts at its own time: whoever waits for containerd waits for it too.
    pub(crate) async fn snapshotter(&self, puller: &Puller) -> Result<(), Error> {
        if self.span.is_zero() {
            return Ok(());
        }
        self.until_up(async || puller.snapshotter_answers().await).await
    }

    async fn until_up<T>(&self, attempt: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
        let mut told = false;
        loop {
            let error = match attempt().await {
                Err(Error::Containerd(error)) if error.is_down() => error,
                other => return other,
            };
            if Instant::now() + POLL > self.deadline {
                return Err(error.into());
            }
            if !std::mem::replace(&mut told, true) {
                let text = format!("{error}; waiting for it until {} s have passed", self.span.as_secs_f64());
                self.progress.emit(&Event::Warning { text });
            }
            sleep(POLL).await;
        }
    }
}
