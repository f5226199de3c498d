//! What one host may be shown, in which order, and in which words that is told.

use std::{fmt, sync::Arc};

use url::Url;

use super::{Credentials, File, Files, Keychain, lookup::Entry};
use crate::{
    Fault,
    fault::About,
    hosts::{self, Host, Relation},
    redact,
};

/// Characters of a user's name that are shown.
const MAX_USER: usize = 80;

/// Whose host an offer is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whose<'a> {
    /// The host as the request goes there.
    pub(crate) url: &'a Url,
    /// The registry as the reference names it when the host is the registry's own; the host itself when `hosts.toml` names it.
    pub(crate) registry: &'a str,
    pub(crate) repository: &'a str,
    pub(crate) relation: Relation,
}

/// What one host may be shown, best first.
#[derive(Debug)]
pub(crate) struct Offer {
    relation: Relation,
    entries: Vec<(Arc<str>, Entry)>,
    keychain: Arc<Keychain>,
}

/// What was shown to a host, and where it came from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) credentials: Credentials,
    pub(crate) origin: Origin,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum Origin {
    /// The command line, or nothing at all.
    #[default]
    Flags,
    /// There are some on the command line, and this host may not see them.
    Withheld(Why),
    /// A file of credentials.
    File(Arc<str>),
    /// A helper of this name.
    Helper(String),
}

/// Why the command line's credentials were withheld.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Why {
    /// They could be read on the way.
    Open,
    /// The host is one for all registries, they were given for one of them.
    ForAll,
}

impl Offer {
    pub(crate) fn new(keychain: &Arc<Keychain>, files: &Files, whose: Whose<'_>) -> Self {
        let of_file = |file: &File| {
            let entries = if file.paths {
                file.config.for_repository(whose.registry, whose.repository).into_iter().collect()
            } else {
                file.config.for_host(whose.url)
            };
            let name = Arc::clone(&file.name);
            entries.into_iter().map(move |entry| (Arc::clone(&name), entry)).collect::<Vec<_>>()
        };
        Self { relation: whose.relation, entries: files.0.iter().flat_map(of_file).collect(), keychain: Arc::clone(keychain) }
    }

    /// What would be shown first, as far as that is known without asking anybody.
    pub(crate) fn first(&self) -> Shown {
        let credentials = if self.relation == Relation::Own { self.keychain.given.clone() } else { Credentials::Anonymous };
        Shown { credentials, origin: Origin::Flags }
    }

    /// May there be anything to show to `host`? What a helper knows is not asked for here.
    pub(crate) fn may_hold_any(&self, host: &Host) -> bool {
        let given = !self.keychain.given.is_anonymous() && self.reason_to_withhold(host).is_none();
        given || !self.entries.is_empty()
    }

    /// Why `host` may not see what is given on the command line.
    fn reason_to_withhold(&self, host: &Host) -> Option<Why> {
        match self.relation {
            Relation::Own => None,
            Relation::Named => (!host.is_private()).then_some(Why::Open),
            Relation::Default => Some(Why::ForAll),
        }
    }

    /// What to show to `host` now. A helper is asked each time: what it gives may be short-lived.
    pub(crate) async fn show(&self, host: &Host, about: &About) -> Result<Shown, Fault> {
        let given = &self.keychain.given;
        if self.relation == Relation::Own && !given.is_anonymous() {
            return Ok(self.first());
        }
        for (file, entry) in &self.entries {
            match entry {
                Entry::Here(credentials) => {
                    return Ok(Shown { credentials: credentials.clone(), origin: Origin::File(Arc::clone(file)) });
                }
                Entry::Helper { name, identifier } => {
                    let asked = self.keychain.helpers.ask(name, identifier).await;
                    if let Some(credentials) = asked.map_err(|error| error.into_fault(about, file))? {
                        return Ok(Shown { credentials, origin: Origin::Helper(name.clone()) });
                    }
                }
            }
        }
        Ok(match (given, self.reason_to_withhold(host)) {
            (Credentials::Anonymous, _) => Shown::default(),
            (given, None) => Shown { credentials: given.clone(), origin: Origin::Flags },
            (_, Some(why)) => Shown::withheld(why),
        })
    }

    /// What of it may go to this realm too. What a file has for a host may go wherever that host says; the flags were given for
    /// another host, so no one may read them on the way.
    pub(crate) fn for_realm(&self, shown: Shown, realm: &Url) -> Shown {
        let meant_for_it = self.relation == Relation::Own || shown.origin != Origin::Flags || shown.credentials.is_anonymous();
        if meant_for_it || realm.scheme() == "https" || hosts::is_loopback(realm) { shown } else { Shown::withheld(Why::Open) }
    }
}

/// `as user ann of /root/.docker/config.json`, behind what happened.
impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.credentials {
            Credentials::Anonymous => f.write_str("without credentials")?,
            Credentials::Basic { user, .. } => write!(f, "as user {}", redact::line(user, MAX_USER))?,
            Credentials::Refresh(_) => f.write_str("with the refresh token")?,
        }
        match &self.origin {
            Origin::Flags | Origin::Withheld(_) => Ok(()),
            Origin::File(name) => write!(f, " of {name}"),
            Origin::Helper(name) => write!(f, " of docker-credential-{name}"),
        }
    }
}

impl Shown {
    fn withheld(why: Why) -> Self {
        Self { credentials: Credentials::Anonymous, origin: Origin::Withheld(why) }
    }

    /// What to do about its being refused by `host`.
    pub(crate) fn hint(&self, host: &str) -> String {
        match (&self.origin, &self.credentials) {
            (Origin::Withheld(Why::Open), _) => {
                format!("credentials of the command line go to {host} only over TLS; docker login {host} stores some for it")
            }
            (Origin::Withheld(Why::ForAll), _) => format!(
                "credentials of the command line are for the registry, {host} is a host of _default/hosts.toml; \
                 docker login {host} stores some for it"
            ),
            (Origin::Flags, Credentials::Anonymous) => {
                "log in with docker login or rpull --user NAME …; a name that does not exist is often answered so too".to_owned()
            }
            (Origin::Flags, Credentials::Basic { user, .. }) => {
                let user = redact::line(user, MAX_USER);
                format!("check the password of {user} at {host} and the right to pull; then rpull --user {user} …")
            }
            (Origin::Flags, Credentials::Refresh(_)) => format!("get a new refresh token for {host}"),
            (Origin::File(_), _) => format!("log in again with docker login {host}, or give --user"),
            (Origin::Helper(name), _) => {
                format!("see what docker-credential-{name} has for {host}; log in again with docker login {host}, or give --user")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    #[test]
    fn a_refusal_says_what_was_shown_and_what_to_do() {
        let ann = || Credentials::Basic { user: "ann".to_owned(), password: Secret::new("x") };
        let refresh = || Credentials::Refresh(Secret::new("x"));
        let (file, helper) = (Origin::File("config.json".into()), Origin::Helper("ecr".to_owned()));
        for (credentials, origin, told) in [
            (
                Credentials::Anonymous,
                Origin::Withheld(Why::Open),
                "without credentials\n\
                 hint: credentials of the command line go to r.example only over TLS; docker login r.example stores some for it",
            ),
            (
                Credentials::Anonymous,
                Origin::Withheld(Why::ForAll),
                "without credentials\n\
                 hint: credentials of the command line are for the registry, r.example is a host of _default/hosts.toml; \
                 docker login r.example stores some for it",
            ),
            (
                Credentials::Anonymous,
                Origin::Flags,
                "without credentials\n\
                 hint: log in with docker login or rpull --user NAME …; a name that does not exist is often answered so too",
            ),
            (
                ann(),
                Origin::Flags,
                "as user ann\n\
                 hint: check the password of ann at r.example and the right to pull; then rpull --user ann …",
            ),
            (refresh(), Origin::Flags, "with the refresh token\nhint: get a new refresh token for r.example"),
            (ann(), file, "as user ann of config.json\nhint: log in again with docker login r.example, or give --user"),
            (
                ann(),
                helper,
                "as user ann of docker-credential-ecr\n\
                 hint: see what docker-credential-ecr has for r.example; log in again with docker login r.example, or give --user",
            ),
        ] {
            let shown = Shown { credentials, origin };
            assert_eq!(format!("{shown}\nhint: {}", shown.hint("r.example")), told);
        }
    }
}
