//! What is known of the addresses of a name: which one is next, which one is better left alone for a while.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long an address gets to connect while there is another one to try, TLS included. 250 ms, as browsers have it (RFC 8305).
const PATIENCE: Duration = Duration::from_millis(250);
/// Times the usual time that a dial may take, on links where 250 ms are little.
const SLOWER: u32 = 3;
/// An address that did not answer is the last choice for this long.
const LEFT_ALONE: Duration = Duration::from_secs(60);

/// By name. Shared by all clients of a host, so that what one dial finds out all know.
#[derive(Debug, Default)]
pub(crate) struct Book(Mutex<HashMap<String, Entry>>);

/// One address for one dial.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Choice {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    /// How long to wait for it; `None` when there is none better to go on to.
    pub(crate) patience: Option<Duration>,
}

#[derive(Debug, Default)]
struct Entry {
    dials: u64,
    /// Number of the last dial to each address.
    last: HashMap<IpAddr, u64>,
    bad: HashMap<IpAddr, Bad>,
    /// How long a dial takes that succeeds.
    usual: Duration,
    /// Dials in a row that took too long.
    too_long: u32,
}

#[derive(Clone, Copy, Debug)]
struct Bad {
    until: Instant,
    /// It did not refuse, it took too long: where the link is slow that says nothing.
    timed_out: bool,
}

impl Book {
    /// The address that was dialled longest ago. Those that failed lately come last, and the family that the resolver prefers
    /// comes first as long as all of it answers. The order in which a resolver lists addresses of one family is of no weight: many
    /// rotate it themselves.
    pub(crate) fn choose(&self, name: &str, addresses: &[IpAddr]) -> Option<Choice> {
        let mut entries = self.entries();
        let entry = entries.entry(name.to_owned()).or_default();
        let now = Instant::now();
        entry.bad.retain(|_, bad| bad.until > now);
        let is_first_family = |address: &IpAddr| address.is_ipv4() == addresses[0].is_ipv4();
        let doubtful = addresses.iter().filter(|address| is_first_family(address)).any(|address| entry.bad.contains_key(address));
        let rank = |address: &&IpAddr| {
            let bad = entry.bad.contains_key(*address);
            (bad, is_first_family(address) == doubtful, entry.last.get(*address).copied().unwrap_or_default())
        };
        let address = *addresses.iter().min_by_key(rank)?;
        let others = addresses.iter().any(|other| *other != address && !entry.bad.contains_key(other));
        let patience = PATIENCE.saturating_mul(1 << entry.too_long.min(16)).max(entry.usual * SLOWER);
        entry.dials += 1;
        entry.last.insert(address, entry.dials);
        Some(Choice { name: name.to_owned(), address, patience: others.then_some(patience) })
    }

    /// The dial succeeded.
    pub(crate) fn connected(&self, choice: &Choice, took: Duration) {
        let mut entries = self.entries();
        let entry = entries.entry(choice.name.clone()).or_default();
        entry.bad.remove(&choice.address);
        entry.too_long = 0;
        entry.usual = if entry.usual.is_zero() { took } else { (entry.usual * 7 + took) / 8 };
        if took >= PATIENCE {
            // The link is like that; the others were not given the time.
            entry.bad.retain(|_, bad| !bad.timed_out);
        }
    }

    /// The dial failed, or took longer than the choice allows. Is there an address that may do better?
    pub(crate) fn failed(&self, choice: &Choice, timed_out: bool) -> bool {
        let mut entries = self.entries();
        let entry = entries.entry(choice.name.clone()).or_default();
        entry.bad.insert(choice.address, Bad { until: Instant::now() + LEFT_ALONE, timed_out });
        entry.too_long = entry.too_long.saturating_add(u32::from(timed_out));
        choice.patience.is_some()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn next(book: &Book, addresses: &[IpAddr]) -> Choice {
        book.choose("r.example", addresses).unwrap()
    }

    #[test]
    fn every_address_has_its_turn_however_the_resolver_turns_them() {
        let book = Book::default();
        let mut list = addresses(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
        let mut dials = HashMap::<IpAddr, u32>::new();
        for _ in 0..40 {
            *dials.entry(next(&book, &list).address).or_default() += 1;
            list.rotate_left(1);
        }
        assert!(dials.values().all(|count| *count == 10) && dials.len() == 4, "{dials:?}");
        assert_eq!(book.choose("r.example", &[]), None);
        assert_eq!(book.choose("one.example", &list[..1]).unwrap().patience, None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_failed_is_left_alone_for_a_minute() {
        let book = Book::default();
        let list = addresses(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        let dead = next(&book, &list);
        assert_eq!(dead.patience, Some(PATIENCE));
        assert!(book.failed(&dead, false));
        for _ in 0..20 {
            assert_ne!(next(&book, &list).address, dead.address);
        }
        tokio::time::advance(LEFT_ALONE).await;
        assert_eq!(next(&book, &list).address, dead.address);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_failed_each_is_waited_for() {
        let book = Book::default();
        let list = addresses(&["10.0.0.1", "10.0.0.2"]);
        assert!(book.failed(&next(&book, &list), false));
        let second = next(&book, &list);
        assert_eq!(second.patience, None);
        assert!(!book.failed(&second, false));
        assert_eq!(next(&book, &list).patience, None);
    }

    #[tokio::test(start_paused = true)]
    async fn on_a_slow_link_patience_grows_and_no_address_stays_suspect() {
        let book = Book::default();
        let list = addresses(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
        assert!(book.failed(&next(&book, &list), true));
        let second = next(&book, &list);
        assert_eq!(second.patience, Some(PATIENCE * 2));
        book.connected(&second, Duration::from_millis(400));
        let after: Vec<Choice> = (0..4).map(|_| next(&book, &list)).collect();
        assert!(after.iter().all(|choice| choice.patience == Some(Duration::from_millis(1200))), "{after:?}");
        assert!(after.iter().any(|choice| choice.address == list[0]));
    }

    #[test]
    fn the_resolvers_family_comes_first_until_one_of_it_fails() {
        let book = Book::default();
        let list = addresses(&["::1", "::2", "10.0.0.1"]);
        let first: Vec<_> = (0..4).map(|_| next(&book, &list).address.to_string()).collect();
        assert_eq!(first, ["::1", "::2", "::1", "::2"]);
        let dead = next(&book, &list);
        book.failed(&dead, true);
        assert_eq!(next(&book, &list).address, list[2]);
    }
}
