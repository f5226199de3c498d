//! The layer around reqwest's connector: one dial is one address, and an address that does not answer is left for the next.
//!
//! The connector asks the resolver inside the dial and tells nobody which address it took, so both meet in a task-local: the
//! resolver says there what it chose. A dial that failed where another address may do better ends in [`Left`], and whoever sent
//! the request sends it again ([`crate::client::Client::send`]): a connector's request cannot be made twice from in here.

use std::{
    error::Error as StdError,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    sync::SetOnce,
    time::{Instant, sleep},
};
use tower::{Layer, Service};

use crate::addresses::{Book, Choice};

type BoxError = Box<dyn StdError + Send + Sync>;

tokio::task_local! {
    /// Of the dial that runs.
    static CHOICE: Arc<SetOnce<Choice>>;
}

/// Says to the dial that runs, if one does, what was chosen for it.
pub(crate) fn chosen(choice: Choice) {
    let _ = CHOICE.try_with(|slot| slot.set(choice));
}

/// An address was given up for another one.
#[derive(thiserror::Error, Debug)]
#[error("no connection to {address}")]
pub(crate) struct Left {
    address: IpAddr,
    source: Option<BoxError>,
}

/// Makes [`Dialer`]s with one book.
#[derive(Clone, Debug)]
pub(crate) struct Dialling(pub(crate) Arc<Book>);

impl<S> Layer<S> for Dialling {
    type Service = Dialer<S>;

    fn layer(&self, connector: S) -> Dialer<S> {
        Dialer { connector, book: Arc::clone(&self.0) }
    }
}

/// A connector that keeps the book.
#[derive(Clone, Debug)]
pub(crate) struct Dialer<S> {
    connector: S,
    book: Arc<Book>,
}

impl<S, R> Service<R> for Dialer<S>
where
    S: Service<R, Error = BoxError>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let (connecting, book) = (self.connector.call(request), Arc::clone(&self.book));
        Box::pin(dial(connecting, book))
    }
}

async fn dial<T>(connecting: impl Future<Output = Result<T, BoxError>>, book: Arc<Book>) -> Result<T, BoxError> {
    let slot = Arc::new(SetOnce::new());
    let started = Instant::now();
    tokio::select! {
        outcome = CHOICE.scope(Arc::clone(&slot), connecting) => match (outcome, slot.get()) {
            (Ok(connection), Some(choice)) => {
                book.connected(choice, started.elapsed());
                Ok(connection)
            }
            // After a TLS failure there is someone, if not the right one.
            (Err(error), Some(choice)) if !is_tls(&*error) && book.failed(choice, false) => Err(left(choice, Some(error))),
            (outcome, _) => outcome,
        },
        choice = too_long(&slot) => {
            book.failed(choice, true);
            Err(left(choice, None))
        }
    }
}

/// Time runs from the choice on: a slow resolver is not the address's fault. A host given as an address has no choice.
async fn too_long(slot: &SetOnce<Choice>) -> &Choice {
    let choice = slot.wait().await;
    match choice.patience {
        Some(patience) => sleep(patience).await,
        None => std::future::pending().await,
    }
    choice
}

fn left(choice: &Choice, source: Option<BoxError>) -> BoxError {
    Box::new(Left { address: choice.address, source })
}

fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    crate::client::causes(error).any(<dyn StdError>::is::<rustls::Error>)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io, sync::Mutex, time::Duration};

    use super::*;

    const DIALS: usize = 12;

    /// What an address does with a dial.
    #[derive(Clone, Copy)]
    enum Answer {
        Connects(u64),
        Refuses,
        Swallows,
    }

    /// Dials by the book; answers when each stood and how often each address was tried.
    async fn dials(answers: &[(&str, Answer)]) -> (Vec<Duration>, BTreeMap<String, usize>) {
        let answers: Vec<(IpAddr, Answer)> =
            answers.iter().map(|(address, answer)| (address.parse().unwrap(), *answer)).collect();
        let addresses: Vec<IpAddr> = answers.iter().map(|(address, _)| *address).collect();
        let (book, tried) = (Arc::new(Book::default()), Mutex::new(BTreeMap::new()));
        let connector = || async {
            let choice = book.choose("r.example", &addresses).unwrap();
            let address = choice.address;
            *tried.lock().unwrap().entry(address.to_string()).or_default() += 1;
            chosen(choice);
            match answers.iter().find(|(known, _)| *known == address).unwrap().1 {
                Answer::Connects(milliseconds) => sleep(Duration::from_millis(milliseconds)).await,
                Answer::Refuses => return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into()),
                Answer::Swallows => std::future::pending().await,
            }
            Ok(())
        };
        let mut stood = Vec::new();
        for _ in 0..DIALS {
            let started = Instant::now();
            while let Err(error) = dial(connector(), Arc::clone(&book)).await {
                assert!(error.is::<Left>(), "{error}");
            }
            stood.push(started.elapsed());
        }
        (stood, tried.into_inner().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn dead_addresses_cost_one_try_each_and_less_than_300_ms() {
        let alive = Answer::Connects(20);
        let four = [("10.0.0.1", Answer::Swallows), ("10.0.0.2", alive), ("10.0.0.3", Answer::Refuses), ("10.0.0.4", alive)];
        let (stood, tried) = dials(&four).await;
        assert!(stood.iter().all(|span| *span < Duration::from_millis(300)), "{stood:?}");
        assert_eq!((tried["10.0.0.1"], tried["10.0.0.3"]), (1, 1));
        assert_eq!((tried["10.0.0.2"], tried["10.0.0.4"]), (DIALS / 2, DIALS / 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_far_registry_keeps_all_its_addresses() {
        let far = Answer::Connects(420);
        let (stood, tried) = dials(&[("10.0.0.1", far), ("10.0.0.2", far), ("10.0.0.3", far), ("10.0.0.4", far)]).await;
        assert_eq!(stood[1..], [Duration::from_millis(420); DIALS - 1]);
        assert!(tried.values().all(|count| *count >= DIALS / 4), "{tried:?}");
    }
}
