//! One run, from the arguments to the exit code: wires the parts, waits for the work or a signal, says how it ended.

use std::{
    env,
    io::{self, IsTerminal as _},
    pin::{Pin, pin},
    time::Duration,
};

use containerd::StoreChoice;
use progress::Progress;
use pull::{Options, Puller};
use registry::{Keychain, Registry};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use transfer::Engine;

use crate::{
    args::{Args, Store, Tuned},
    connect::Patience,
    exit::ExitCode,
    failure::Failure,
    images::{self, Outcome, Wanted},
    login,
    output::OutputFile,
    receipt,
    record::Recorder,
    render::{Kind, Screen, Summary},
    report,
};

/// Clearing away unfinished snapshots takes a few calls; a containerd that does not answer must not hold the user's Ctrl-C.
const CLEAR_LIMIT: Duration = Duration::from_secs(10);

/// Pulls what `args` asks for.
pub(crate) fn run(args: &Args) -> ExitCode {
    let kind = args.screen.kind(is_terminal(), args.debug || args.http_dump);
    let wanted = Wanted::of(args);
    let (progress, screen) = Screen::start(kind, wanted.as_ref().is_ok_and(|wanted| wanted.several));
    let outcome = Recorder::open(&args.record, progress).and_then(|(recorder, progress)| {
        let prepared = wanted.and_then(|wanted| prepare(args, wanted));
        recorder.write(prepared.and_then(|prepared| on_threads(pull(args, prepared, progress, &screen))))
    });
    let code = outcome.as_ref().map_or_else(|failure| failure.code, |_| ExitCode::Done);
    screen.end(outcome);
    code
}

/// Is stdout a terminal that can move its cursor?
fn is_terminal() -> bool {
    io::stdout().is_terminal() && env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Looks at images without pulling them: `look` takes what was `wanted` and says what is wrong as it goes, its answer are the codes of
/// that. The exit code is the one that says most; where nothing is wrong `right` is said.
pub(crate) fn look<W>(
    args: &Args,
    kind: Kind,
    wanted: Result<W, Failure>,
    right: Option<&str>,
    look: impl AsyncFnOnce(&Puller, W, &Screen) -> Vec<ExitCode>,
) -> ExitCode {
    let (progress, screen) = Screen::start(kind, false);
    let outcome = wanted.and_then(|wanted| {
        let keychain = keychain(args)?;
        on_threads(async {
            let mut stop = pin!(stop(args)?);
            let puller = puller(args, keychain, progress, stop.as_mut()).await?;
            let looking = async { Ok(look(&puller, wanted, &screen).await) };
            Box::pin(supervise(&puller, stop, looking)).await
        })
    });
    let code = match outcome {
        Ok(codes) => ExitCode::first(codes),
        Err(failure) => {
            let code = failure.code;
            screen.failed(None, failure);
            Some(code)
        }
    };
    if let (None, Some(right)) = (code, right) {
        screen.line(right.to_owned());
    }
    screen.close();
    code.unwrap_or(ExitCode::Done)
}

/// Runs `work` on threads of its own.
fn on_threads<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Failure::other("no threads for a pull", &error))?;
    raise_file_limit();
    let outcome = runtime.block_on(work);
    // What still runs after a signal (a hash, a write) is not waited for.
    runtime.shutdown_background();
    outcome
}

/// A blob under way has some files open, a fetched one keeps the one it was proved by: the usual soft limit of 1024 is for programs
/// that use `select`, and this one does not.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Without it an image of very many layers fails, and says why.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// What must be found out before anything is asked of anyone.
struct Prepared {
    wanted: Wanted,
    keychain: Keychain,
    receipt: Option<OutputFile>,
}

fn prepare(args: &Args, wanted: Wanted) -> Result<Prepared, Failure> {
    let receipt = args.receipt.as_deref().map(|path| OutputFile::open("receipt", path)).transpose()?;
    Ok(Prepared { wanted, keychain: keychain(args)?, receipt })
}

/// Who we are for the registry; asks for a password where one is missing.
fn keychain(args: &Args) -> Result<Keychain, Failure> {
    login::keychain(args).map_err(|error| Failure {
        code: ExitCode::Usage,
        message: report::chain(&error),
        hint: Some(error.hint()),
    })
}

async fn pull(args: &Args, prepared: Prepared, progress: Progress, screen: &Screen) -> Result<Summary, Failure> {
    let Prepared { wanted, keychain, receipt } = prepared;
    let several = wanted.several;
    let mut stop = pin!(stop(args)?);
    let puller = puller(args, keychain, progress.clone(), stop.as_mut()).await?;
    let Outcome { receipts, result } = Box::pin(images::pull(args, wanted, &puller, &progress, screen, stop)).await?;
    let written = receipt.map_or(Ok(()), |file| receipt::write(file, &receipts, several));
    result.and_then(|summary| written.map(|()| summary))
}

/// Wires the parts together; containerd answers by then, and so does the snapshotter when it was to be waited for.
async fn puller(
    args: &Args,
    keychain: Keychain,
    progress: Progress,
    mut stop: Pin<&mut impl Future<Output = Failure>>,
) -> Result<Puller, Failure> {
    let patience = Patience::new(args, progress.clone());
    let session = patience.containerd(args, stop.as_mut()).await?;
    let registry = Registry::new(registry_options(args), keychain).map_err(|error| Failure::from(pull::Error::from(error)))?;
    let Tuned { limits, retry, .. } = args.tuned();
    let engine = Engine::new(limits, retry, progress.clone());
    let puller = Puller::new(session, registry, engine, options(args), progress);
    Box::pin(supervise(&puller, stop, patience.snapshotter(&puller))).await?;
    Ok(puller)
}

/// Waits for the puller's work, a signal, or the limit the user set. Whatever ends it, no unfinished snapshot of ours stays.
async fn supervise<T>(
    puller: &Puller,
    stop: Pin<&mut impl Future<Output = Failure>>,
    work: impl Future<Output = Result<T, pull::Error>>,
) -> Result<T, Failure> {
    let mut why = None;
    match unless_stopped(puller, async { why = Some(stop.await) }, work).await {
        Ok(done) => Ok(done),
        Err(End::Failed(failure)) => Err(failure),
        Err(End::Stopped { left }) => {
            let stopped = why.expect("it was stopped");
            Err(if left.is_empty() { stopped } else { stopped.leaving(&left.join(", ")) })
        }
    }
}

/// Waits for a signal, or for the limit the user set. Made once in a run: no signal is lost between two parts of it.
fn stop(args: &Args) -> Result<impl Future<Output = Failure>, Failure> {
    let no_signals = |error| Failure::other("signals cannot be watched", &error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let (timeout, fetches) = (args.timeout(), args.fetches());
    let limit = async move {
        match timeout {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => Failure::stopped(ExitCode::Interrupted, "interrupted", fetches),
            _ = terminate.recv() => Failure::stopped(ExitCode::Terminated, "terminated", fetches),
            () = limit => Failure::stopped(ExitCode::Other, "the time limit of --timeout is over", fetches),
        }
    })
}

/// How the work of one puller ended before it was done.
pub(crate) enum End {
    Failed(Failure),
    /// From outside; snapshots that could not be removed are `left`.
    Stopped {
        left: Vec<String>,
    },
}

/// Waits for the puller's work, or for `stop`; then no unfinished snapshot of the puller stays.
pub(crate) async fn unless_stopped<T>(
    puller: &Puller,
    stop: impl Future<Output = ()>,
    work: impl Future<Output = Result<T, pull::Error>>,
) -> Result<T, End> {
    let failed = |error| End::Failed(Failure::from(error));
    let mut pulling = Box::pin(work);
    tokio::select! {
        outcome = &mut pulling => return outcome.map_err(failed),
        () = stop => {}
    }
    // An image that is being published is whole: a few calls more, and the answer is `done`, or the record is taken back.
    if puller.is_publishing()
        && let Ok(outcome) = tokio::time::timeout(CLEAR_LIMIT, &mut pulling).await
    {
        return outcome.map_err(failed);
    }
    // What it has open is closed before it is cleared away.
    drop(pulling);
    let cleared = tokio::time::timeout(CLEAR_LIMIT, puller.abandon()).await;
    Err(End::Stopped { left: cleared.unwrap_or_else(|_| vec!["containerd did not answer in time".to_owned()]) })
}

fn registry_options(args: &Args) -> registry::Options {
    let Tuned { connect, answer, .. } = args.tuned();
    registry::Options {
        connect_timeout: connect,
        header_timeout: answer,
        skip_verify: args.skip_verify || args.nerdctl.insecure_registry,
        plain_http: args.plain_http,
        http_fallback: args.nerdctl.insecure_registry,
        hosts_dirs: args.hosts_dirs.clone(),
        tls_ca: args.tlscacert.clone(),
        tls_cert: args.client_certificate(),
        http_dump: args.http_dump,
        ..registry::Options::default()
    }
}

fn options(args: &Args) -> Options {
    Options {
        snapshotter: args.snapshotter.clone(),
        platform: args.platform.clone(),
        store: match args.store {
            Store::Auto => StoreChoice::Auto,
            Store::Direct => StoreChoice::Direct,
            Store::Api => StoreChoice::Api,
        },
        spool_dir: args.spool_dir.clone(),
        lazy: args.lazy,
        cri: args.node.cri(),
        labels: args.labels(),
        keep_partial: args.keep_partial,
        ..Options::default()
    }
}
