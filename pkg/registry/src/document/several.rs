//! The one fault to report when every host has failed.

use crate::{Class, Fault};

/// Faults in the order of the hosts.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn push(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// What those who get it from another host should know: who was passed over and why. Not to have it is no mirror's fault.
    pub(super) fn warnings(&self) -> Vec<String> {
        let worth = self.0.iter().filter(|fault| fault.class != Class::Missing);
        worth.map(|fault| format!("{}; the next host was asked", with_source(fault))).collect()
    }

    /// The one that says most (reference 8.4); the others are named behind it, each with its cause.
    pub(super) fn into_fault(mut self) -> Fault {
        let last = self.0.len().saturating_sub(1);
        let rank = |(at, fault): (usize, &Fault)| match fault.class {
            Class::Corrupt => 0,
            // Of a mirror it says nothing while the registry itself could not be asked.
            Class::Missing if at != last => 4,
            Class::Missing => 2,
            Class::Transient { .. } if fault.source.is_some() || fault.connect => 3,
            _ => 1,
        };
        let ranks: Vec<u8> = self.0.iter().enumerate().map(rank).collect();
        let best = (0..self.0.len()).min_by_key(|at| ranks[*at]).expect("a repository has hosts");
        let mut chosen = self.0.remove(best);
        for other in self.0 {
            chosen.what += "; ";
            chosen.what += &with_source(&other);
        }
        chosen
    }
}

fn with_source(fault: &Fault) -> String {
    fault.source.as_ref().map_or_else(|| fault.to_string(), |source| format!("{fault}: {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::About;

    #[test]
    fn the_fault_that_says_most_is_reported_and_all_are_named() {
        let transient = Class::Transient { after: None };
        for (mirror, server, chosen) in [
            ((Class::Missing, false), (transient, true), "server"),
            ((transient, true), (Class::Missing, false), "server"),
            ((Class::Missing, false), (Class::Missing, false), "server"),
            ((Class::Denied, false), (Class::Missing, false), "mirror"),
            ((transient, false), (transient, true), "mirror"),
            ((Class::Denied, false), (Class::Corrupt, false), "server"),
        ] {
            let fault = |host: &str, (class, connect): (Class, bool)| {
                let about = About { host: host.to_owned(), object: "manifest 1".to_owned() };
                Fault { connect, ..about.fault(class, "it went wrong") }
            };
            let mut faults = Faults::default();
            faults.push(fault("mirror", mirror));
            faults.push(fault("server", server));
            let fault = faults.into_fault();
            assert_eq!(fault.host, chosen, "{mirror:?} {server:?}");
            assert_eq!(fault.to_string().matches("it went wrong").count(), 2);
        }
    }
}
