//! Names to addresses: one address a dial, so that every address of a name gets its share of the connections.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::{addresses::Book, dial};

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

/// The system's resolver; which of a name's addresses is next is the book's to say.
#[derive(Debug)]
pub(crate) struct Resolver {
    table: Names,
    book: Arc<Book>,
}

impl Resolver {
    pub(crate) fn new(table: Names, book: Arc<Book>) -> Self {
        Self { table, book }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let known = self.table.0.get(name.as_str()).cloned();
        let book = Arc::clone(&self.book);
        Box::pin(async move {
            let addresses: Vec<IpAddr> = match known {
                Some(addresses) => addresses,
                None => match tokio::net::lookup_host((name.as_str(), 0)).await {
                    Ok(addresses) => addresses.map(|address| address.ip()).collect(),
                    Err(error) => return Err(unresolved(&name, error.to_string())),
                },
            };
            let Some(choice) = book.choose(name.as_str(), &addresses) else {
                return Err(unresolved(&name, "no address".to_owned()));
            };
            // Port 0 is filled in by the connector.
            let address = SocketAddr::new(choice.address, 0);
            dial::chosen(choice);
            Ok(Box::new(std::iter::once(address)) as Addrs)
        })
    }
}

fn unresolved(name: &Name, why: String) -> Box<dyn std::error::Error + Send + Sync> {
    Box::new(Unresolved { name: name.as_str().to_owned(), why })
}
