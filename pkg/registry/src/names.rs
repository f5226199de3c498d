//! Names to addresses: every address of a name gets its share of the connections.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Addresses for names no resolver knows.
#[derive(Clone, Default)]
pub struct Names(Arc<HashMap<String, Vec<IpAddr>>>);

impl Names {
    /// A fixed table. A name with no addresses is one that does not exist.
    pub fn new(table: impl IntoIterator<Item = (String, Vec<IpAddr>)>) -> Self {
        Self(Arc::new(table.into_iter().collect()))
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A name without an address. It may be the proxy's: so it says which.
#[derive(thiserror::Error, Debug)]
#[error("{name}: {why}")]
pub(crate) struct Unresolved {
    name: String,
    why: String,
}

/// The system's resolver, starting at another address each time.
#[derive(Debug, Default)]
pub(crate) struct Rotating {
    table: Names,
    turn: Arc<AtomicUsize>,
}

impl Rotating {
    pub(crate) fn new(table: Names) -> Self {
        Self { table, turn: Arc::default() }
    }
}

impl Resolve for Rotating {
    fn resolve(&self, name: Name) -> Resolving {
        let known = self.table.0.get(name.as_str()).cloned();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            // Port 0 is filled in by the connector.
            let addresses: Vec<SocketAddr> = match known {
                Some(addresses) => addresses.into_iter().map(|address| SocketAddr::new(address, 0)).collect(),
                None => match tokio::net::lookup_host((name.as_str(), 0)).await {
                    Ok(addresses) => addresses.collect(),
                    Err(error) => return Err(unresolved(&name, error.to_string())),
                },
            };
            if addresses.is_empty() {
                return Err(unresolved(&name, "no address".to_owned()));
            }
            Ok(Box::new(rotate(addresses, turn).into_iter()) as Addrs)
        })
    }
}

fn unresolved(name: &Name, why: String) -> Box<dyn std::error::Error + Send + Sync> {
    Box::new(Unresolved { name: name.as_str().to_owned(), why })
}

/// Rotates each address family in itself, so that the resolver's preference of a family stays.
fn rotate(addresses: Vec<SocketAddr>, turn: usize) -> Vec<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (mut preferred, mut other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first_is_v4);
    for family in [&mut preferred, &mut other] {
        let len = family.len().max(1);
        family.rotate_left(turn % len);
    }
    preferred.append(&mut other);
    preferred
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_first_in_turn_and_the_family_order_stays() {
        let addresses: Vec<SocketAddr> =
            ["[::1]:0", "[::2]:0", "1.1.1.1:0"].map(|text| text.parse().expect("an address")).to_vec();
        let order = |turn| rotate(addresses.clone(), turn).iter().map(|a| a.ip().to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(order(0), "::1 ::2 1.1.1.1");
        assert_eq!(order(1), "::2 ::1 1.1.1.1");
        assert_eq!(order(2), order(0));
        assert!(rotate(Vec::new(), 3).is_empty());
    }
}
