//! One pull, from the arguments to the exit code: wires the parts, waits for the pull or a signal, says how it ended.

use std::{env, io, time::Duration};

use containerd::{Session, StoreChoice};
use oci::Reference;
use progress::Progress;
use pull::{Options, Puller};
use registry::{Keychain, Registry};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use transfer::Engine;

use crate::{
    args::{Args, Store, Tuned},
    exit::ExitCode,
    failure::Failure,
    hosts_dirs, login,
    receipt::ReceiptFile,
    render::Plain,
    report,
};

/// Clearing away unfinished snapshots takes a few calls; a containerd that does not answer must not hold the user's Ctrl-C.
const CLEAR_LIMIT: Duration = Duration::from_secs(10);

/// Pulls what `args` asks for.
pub(crate) fn run(args: &Args) -> ExitCode {
    let (progress, plain) = Plain::start();
    let outcome = prepare(args).and_then(|prepared| on_threads(pull(args, prepared, progress)));
    match outcome {
        Ok(()) => {
            plain.done();
            ExitCode::Done
        }
        Err(Failure { code, message, hint }) => {
            plain.end();
            report::failure(&mut io::stderr(), &message, hint.as_deref());
            code
        }
    }
}

/// Runs `work` on threads of its own.
pub(crate) fn on_threads<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
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
    reference: Reference,
    keychain: Keychain,
    receipt: Option<ReceiptFile>,
}

fn prepare(args: &Args) -> Result<Prepared, Failure> {
    let reference = args.reference().map_err(Failure::from)?;
    let receipt = args.receipt.as_deref().map(ReceiptFile::open).transpose()?;
    Ok(Prepared { reference, keychain: keychain(args)?, receipt })
}

/// Who we are for the registry; asks for a password where one is missing.
pub(crate) fn keychain(args: &Args) -> Result<Keychain, Failure> {
    login::keychain(args).map_err(|error| Failure {
        code: ExitCode::Usage,
        message: report::chain(&error),
        hint: Some(error.hint()),
    })
}

async fn pull(args: &Args, prepared: Prepared, progress: Progress) -> Result<(), Failure> {
    let Prepared { reference, keychain, receipt } = prepared;
    let puller = puller(args, keychain, progress).await?;
    let done = supervise(args, &puller, puller.pull(&reference)).await?;
    match receipt {
        Some(file) => file.write(&done),
        None => Ok(()),
    }
}

/// Wires the parts together; containerd answers by then.
pub(crate) async fn puller(args: &Args, keychain: Keychain, progress: Progress) -> Result<Puller, Failure> {
    let session = Session::connect(&args.address, args.namespace.clone(), args.connect_timeout())
        .await
        .map_err(|error| Failure::from(pull::Error::from(error)))?;
    let registry = Registry::new(registry_options(args), keychain).map_err(|error| Failure::from(pull::Error::from(error)))?;
    let Tuned { limits, retry, .. } = args.tuned();
    let engine = Engine::new(limits, retry, progress.clone());
    Ok(Puller::new(session, registry, engine, options(args), progress))
}

/// Waits for the puller's work, a signal, or the limit the user set. Whatever ends it, no unfinished snapshot of ours stays.
pub(crate) async fn supervise<T>(
    args: &Args,
    puller: &Puller,
    work: impl Future<Output = Result<T, pull::Error>>,
) -> Result<T, Failure> {
    let no_signals = |error| Failure::other("signals cannot be watched", &error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let limit = async {
        match args.timeout() {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let mut pulling = Box::pin(work);
    let stopped = tokio::select! {
        outcome = &mut pulling => return outcome.map_err(Failure::from),
        _ = interrupt.recv() => Failure::stopped(ExitCode::Interrupted, "interrupted"),
        _ = terminate.recv() => Failure::stopped(ExitCode::Terminated, "terminated"),
        () = limit => Failure::stopped(ExitCode::Other, "the time limit of --timeout is over"),
    };
    // An image that is being published is whole: a few calls more, and the answer is `done`, or the record is taken back.
    if puller.is_publishing()
        && let Ok(outcome) = tokio::time::timeout(CLEAR_LIMIT, &mut pulling).await
    {
        return outcome.map_err(Failure::from);
    }
    // What it has open is closed before it is cleared away.
    drop(pulling);
    match tokio::time::timeout(CLEAR_LIMIT, puller.abandon()).await {
        Ok(left) if left.is_empty() => Err(stopped),
        Ok(left) => Err(stopped.leaving(&left.join(", "))),
        Err(_) => Err(stopped.leaving("containerd did not answer in time")),
    }
}

fn registry_options(args: &Args) -> registry::Options {
    let Tuned { connect, answer, .. } = args.tuned();
    registry::Options {
        connect_timeout: connect,
        header_timeout: answer,
        skip_verify: args.skip_verify,
        plain_http: args.plain_http,
        hosts_dirs: hosts_dirs::choose(args.hosts_dir.as_deref(), env::args_os().next().as_deref()),
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
        labels: args.labels(),
        keep_partial: args.keep_partial,
        ..Options::default()
    }
}
