//! Several images at once: one queue of connections and one rate for all of them, each with a lease of its own. A failure does not
//! stop the others, unless it was asked for.

mod list;

use std::pin::Pin;

use oci::Reference;
use progress::Progress;
use pull::{Puller, Receipt};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    args::Args,
    exit::ExitCode,
    failure::Failure,
    render::{Screen, Summary},
    run::{self, End},
};

/// Images under way at once. Their layers share one queue, so more would not be faster; fewer would leave it empty while one commits
/// its chain. Each holds its documents in memory, of up to 8 MiB.
const AT_ONCE: usize = 4;

/// What is to be pulled.
pub(crate) struct Wanted {
    references: Vec<Reference>,
    /// Lines of the list that name no image.
    refused: Vec<list::Refused>,
    /// Were several asked for, or a list?
    pub(crate) several: bool,
}

/// What became of it.
pub(crate) struct Outcome {
    /// Of the images that were pulled, in the order in which they were named; empty where nobody wants them.
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) result: Result<Summary, Failure>,
}

impl Wanted {
    /// Reads the list, if there is one. An image named twice is pulled once.
    pub(crate) fn of(args: &Args) -> Result<Self, Failure> {
        let mut references = args.references()?;
        let mut refused = Vec::new();
        let several = references.len() > 1 || args.images.from_file.is_some();
        if let Some(file) = &args.images.from_file {
            let listed = list::read(file, args.images.is_on_stdin(), &|text| args.reference(text))?;
            references.extend(listed.references);
            refused = listed.refused;
        }
        let mut seen = std::collections::BTreeSet::new();
        references.retain(|reference| seen.insert(reference.name().to_owned()));
        Ok(Self { references, refused, several })
    }

    /// The images, and what is wrong with lines of the list.
    pub(crate) fn into_parts(self) -> (Vec<Reference>, Vec<Failure>) {
        (self.references, self.refused.into_iter().map(|refused| refused.failure).collect())
    }

    fn count(&self) -> usize {
        self.references.len() + self.refused.len()
    }
}

/// What happened so far.
struct Tale<'a> {
    screen: &'a Screen,
    several: bool,
    /// By the place in the order.
    receipts: Vec<(usize, Receipt)>,
    pulled: usize,
    fetched: u64,
    codes: Vec<ExitCode>,
    failed: Vec<String>,
    last: Option<Failure>,
    /// Images that were under way when all was stopped.
    stopped: usize,
    /// Snapshots that could not be removed then.
    left: Vec<String>,
}

/// Pulls all of them, each with [`Puller::another`] of `puller`.
pub(crate) async fn pull(
    args: &Args,
    wanted: Wanted,
    puller: &Puller,
    progress: &Progress,
    screen: &Screen,
    mut stop: Pin<&mut impl Future<Output = Failure>>,
) -> Result<Outcome, Failure> {
    let (all, several, fail_fast) = (wanted.count(), wanted.several, args.images.fail_fast);
    let mut tale = Tale::new(screen, several);
    let (stopper, heed) = watch::channel(false);
    for refused in wanted.refused {
        tale.failed(format!("line {}", refused.line), None, refused.failure);
    }
    if fail_fast && !tale.codes.is_empty() {
        stopper.send_replace(true);
    }
    let mut why = None;
    let mut waiting = wanted.references.into_iter().enumerate();
    let mut under_way = JoinSet::new();
    loop {
        while !*heed.borrow()
            && under_way.len() < AT_ONCE
            && let Some((place, reference)) = waiting.next()
        {
            let puller = puller.another(progress.image(reference.name()));
            under_way.spawn(one(puller, place, reference, heed.clone()));
        }
        tokio::select! {
            ended = under_way.join_next() => match ended {
                None => break,
                Some(Ok((place, name, end))) => tale.ended(place, &name, end, args.receipt.is_some()),
                Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            },
            failure = &mut stop, if why.is_none() => {
                why = Some(failure);
                stopper.send_replace(true);
            }
        }
        if fail_fast && !tale.codes.is_empty() {
            stopper.send_replace(true);
        }
    }
    // Where a signal found nothing that it could stop, all is as if it had not come.
    let why = why.filter(|_| tale.stopped + waiting.len() > 0);
    Ok(tale.outcome(all, why))
}

/// One image, until it is pulled, cannot be pulled, or all is stopped.
async fn one(
    puller: Puller,
    place: usize,
    reference: Reference,
    mut stopped: watch::Receiver<bool>,
) -> (usize, String, Result<Receipt, End>) {
    let stop = async {
        // A sender that is gone stops nothing any more.
        if stopped.wait_for(|stopped| *stopped).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let end = Box::pin(run::unless_stopped(&puller, stop, puller.pull(&reference))).await;
    (place, reference.name().to_owned(), end)
}

impl<'a> Tale<'a> {
    fn new(screen: &'a Screen, several: bool) -> Self {
        Self {
            screen,
            several,
            receipts: Vec::new(),
            pulled: 0,
            fetched: 0,
            codes: Vec::new(),
            failed: Vec::new(),
            last: None,
            stopped: 0,
            left: Vec::new(),
        }
    }

    fn ended(&mut self, place: usize, name: &str, end: Result<Receipt, End>, keep: bool) {
        match end {
            Ok(receipt) => {
                self.pulled += 1;
                self.fetched += receipt.fetched();
                self.screen.pulled(name, receipt.fetched());
                if keep {
                    self.receipts.push((place, receipt));
                }
            }
            Err(End::Failed(failure)) => {
                let failure = if self.several { failure.of(name) } else { failure };
                self.failed(name.to_owned(), Some(name), failure);
            }
            Err(End::Stopped { left }) => {
                self.stopped += 1;
                self.left.extend(left);
            }
        }
    }

    fn failed(&mut self, what: String, image: Option<&str>, failure: Failure) {
        self.codes.push(failure.code);
        self.failed.push(what);
        if self.several {
            self.screen.failed(image, failure);
        } else {
            self.last = Some(failure);
        }
    }

    /// Of `all` images; `why` says what stopped the run, if anything did.
    fn outcome(mut self, all: usize, why: Option<Failure>) -> Outcome {
        let result = match (why, ExitCode::first(self.codes.iter().copied()), self.last.take()) {
            (Some(stopped), ..) => Err(self.leaving(self.so_far(all, stopped))),
            (None, None, _) => Ok(Summary { images: self.pulled, fetched: self.fetched }),
            (None, Some(_), Some(failure)) => Err(self.leaving(failure)),
            (None, Some(code), None) => Err(self.leaving(self.some_failed(all, code))),
        };
        self.receipts.sort_by_key(|(place, _)| *place);
        Outcome { receipts: self.receipts.into_iter().map(|(_, receipt)| receipt).collect(), result }
    }

    fn some_failed(&self, all: usize, code: ExitCode) -> Failure {
        let mut message = format!("{} of {all} images could not be pulled: {}", self.failed.len(), self.failed.join(", "));
        let others = all - self.failed.len() - self.pulled;
        if others > 0 {
            message = format!("{message}; {others} left out because of --fail-fast");
        }
        Failure { code, message, hint: None }
    }

    fn so_far(&self, all: usize, stopped: Failure) -> Failure {
        if !self.several {
            return stopped;
        }
        Failure { message: format!("{}; {} of {all} images were pulled", stopped.message, self.pulled), ..stopped }
    }

    fn leaving(&self, failure: Failure) -> Failure {
        if self.left.is_empty() { failure } else { failure.leaving(&self.left.join(", ")) }
    }
}
