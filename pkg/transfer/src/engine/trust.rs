//! Whom to fetch a blob from, after bytes came that have another digest.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use oci::Digest;
use registry::Repository;

use super::driver::Served;
use crate::Error;

/// Hosts that are known to have sent other bytes than they should, by name: for the rest of the run they are asked last.
#[derive(Debug, Default)]
pub(super) struct Liars(Mutex<BTreeSet<String>>);

impl Liars {
    fn names(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hosts of one blob. One that served all of it and wrongly is left; where several served a part, none is known to have
/// lied, and the next try begins with another.
pub(super) struct Trust<'a> {
    repository: &'a Repository,
    liars: &'a Liars,
    hosts: Vec<usize>,
    /// Bytes of an earlier run are among those that are proved.
    resumed: bool,
    tries: usize,
    warnings: Vec<String>,
}

/// Bytes that have another digest, and what is done about it.
pub(super) struct Lie {
    /// For people.
    pub(super) text: String,
    /// The host that is left for the next one.
    pub(super) left: Option<String>,
}

impl<'a> Trust<'a> {
    pub(super) fn new(repository: &'a Repository, liars: &'a Liars, resumed: bool) -> Self {
        let mut hosts: Vec<usize> = (0..repository.hosts()).collect();
        hosts.sort_by_key(|host| liars.names().contains(repository.host_name(*host)));
        Self { repository, liars, hosts, resumed, tries: 0, warnings: Vec::new() }
    }

    /// In the order in which they are to be tried, never empty.
    pub(super) fn hosts(&self) -> &[usize] {
        &self.hosts
    }

    pub(super) fn warnings(self) -> Vec<String> {
        self.warnings
    }

    /// Bytes with digest `actual` came from `served`. Says what is done about it, or that nobody is left.
    pub(super) fn lied(&mut self, blob: Digest, actual: Digest, served: &Served) -> Result<Lie, Error> {
        self.tries += 1;
        let names: Vec<_> = served.iter().map(|host| self.repository.host_name(*host)).collect();
        let names = if names.is_empty() { "an earlier run".to_owned() } else { names.join(" and ") };
        let corrupt = || {
            // What came from the same hosts before is the same once more.
            let said = format!("{names}: ");
            let others = self.warnings.iter().filter(|warning| !warning.starts_with(&said)).cloned().collect();
            Error::Corrupt { expected: blob, actual, hosts: names.clone(), others }
        };
        let alone = served.len() == 1 && !std::mem::take(&mut self.resumed);
        let mut left = None;
        let outcome = match served.first() {
            Some(_) if alone && self.hosts.len() == 1 && self.tries > 1 => return Err(corrupt()),
            // Each host could have been begun with, and was followed by each other.
            _ if self.tries > 2 * self.repository.hosts() => return Err(corrupt()),
            Some(host) if alone && self.hosts.len() > 1 => {
                self.hosts.retain(|other| other != host);
                self.liars.names().insert(names.clone());
                left = Some(names.clone());
                "left for the next host"
            }
            _ => {
                self.hosts.rotate_left(1);
                "fetched once more"
            }
        };
        let text = format!("{names}: blob {blob} arrived with digest {actual}, {outcome}");
        self.warnings.push(text.clone());
        Ok(Lie { text, left })
    }
}
