//! What a host wants to see before it answers, and one fetch of it at a time (reference 8.6).

use std::{
    collections::BTreeSet,
    sync::{Mutex as Lock, PoisonError},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, StatusCode, header::WWW_AUTHENTICATE};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use crate::{
    Class, Credentials, Fault, Secret,
    challenge::{self, Challenge},
    credentials::{Offer, Shown},
    fault::About,
    hosts::Host,
    token,
};

/// The `Authorization` of one host and repository.
#[derive(Debug)]
pub(crate) struct Auth {
    offer: Offer,
    /// `repository:<name>:pull`
    scope: String,
    state: Mutex<State>,
    /// What was shown last, for the words of a refusal.
    shown: Lock<Shown>,
}

#[derive(Debug, Default)]
struct State {
    grant: Option<Grant>,
    challenge: Option<Challenge>,
    /// When the last fetch failed, and how: those who waited for it take its outcome.
    failed: Option<(Instant, Fault)>,
    count: u64,
}

/// A header that was accepted or is about to be tried.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// Marked sensitive: does not print.
    pub(crate) header: HeaderValue,
    /// Which of this host's grants it is.
    number: u64,
    expires: Option<Instant>,
}

impl Auth {
    pub(crate) fn new(repository: &str, offer: Offer) -> Self {
        let shown = Lock::new(offer.first());
        Self { offer, scope: format!("repository:{repository}:pull"), state: Mutex::default(), shown }
    }

    /// What to send unasked: the header that worked last time, renewed when its time is over.
    pub(crate) async fn current(&self, host: &Host, about: &About) -> Result<Option<Grant>, Fault> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        let Some(grant) = &state.grant else { return Ok(None) };
        if grant.expires.is_none_or(|expires| asked < expires) {
            return Ok(Some(grant.clone()));
        }
        self.renew(&mut state, asked, host, about).await.map(Some)
    }

    /// Answers a 401. `used` is what was refused.
    pub(crate) async fn answer(
        &self,
        host: &Host,
        used: Option<&Grant>,
        headers: &HeaderMap,
        about: &About,
    ) -> Result<Grant, Fault> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        if let Some(grant) = &state.grant
            && used.is_none_or(|used| used.number < grant.number)
        {
            return Ok(grant.clone());
        }
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        state.challenge = challenge::choose(texts);
        self.renew(&mut state, asked, host, about).await
    }

    /// The fault of a host that stays at 401.
    pub(crate) fn denied(&self, host: &Host, about: &About) -> Fault {
        let shown = self.shown();
        about.fault(Class::Denied, format_args!("401 Unauthorized {shown}")).with_hint(shown.hint(&host.name))
    }

    /// What to do about a refusal by this host.
    pub(crate) fn hint(&self, host: &Host) -> String {
        self.shown().hint(&host.name)
    }

    /// May there be a user or token to show to this host?
    pub(crate) fn knows_user(&self, host: &Host) -> bool {
        self.offer.may_hold_any(host)
    }

    fn shown(&self) -> Shown {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, shown: &Shown) {
        shown.clone_into(&mut self.shown.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Fetches under the lock, so that everybody else waits for this one.
    async fn renew(&self, state: &mut MutexGuard<'_, State>, asked: Instant, host: &Host, about: &About) -> Result<Grant, Fault> {
        if let Some((when, fault)) = &state.failed
            && *when > asked
        {
            return Err(fault.clone());
        }
        let outcome = match self.fetch(state.challenge.as_ref(), host, about).await {
            // The same user and password again would be refused again.
            Ok((header, _))
                if state.challenge == Some(Challenge::Basic) && state.grant.as_ref().is_some_and(|old| old.header == header) =>
            {
                Err(self.denied(host, about))
            }
            Err(mut fault) if fault.class == Class::Denied && state.grant.is_some() => {
                fault.what += "; the token so far has expired";
                Err(fault)
            }
            outcome => outcome,
        };
        match outcome {
            Ok((header, lifetime)) => {
                state.count += 1;
                // A tenth early: the token must live until the registry has seen it.
                let expires = lifetime.map(|lifetime| Instant::now() + lifetime * 9 / 10);
                let grant = Grant { header, number: state.count, expires };
                state.grant = Some(grant.clone());
                state.failed = None;
                Ok(grant)
            }
            Err(fault) => {
                state.failed = Some((Instant::now(), fault.clone()));
                Err(fault)
            }
        }
    }

    async fn fetch(
        &self,
        challenge: Option<&Challenge>,
        host: &Host,
        about: &About,
    ) -> Result<(HeaderValue, Option<Duration>), Fault> {
        let Some(challenge) = challenge else {
            let fault = about.fault(Class::Denied, "401 Unauthorized without a challenge that is known here");
            return Err(fault.with_hint("the registry must offer Basic or Bearer authentication"));
        };
        let shown = self.offer.show(host, about).await?;
        let (text, lifetime) = match challenge {
            Challenge::Bearer { realm, service, scope } => {
                let realm = token::realm(host, realm, about)?;
                let shown = self.offer.for_realm(shown, &realm);
                self.remember(&shown);
                let wanted = token::Wanted { realm, service: service.as_deref(), scopes: &scopes(&self.scope, scope.as_deref()) };
                let token = token::fetch(host, &shown, &wanted, about).await?;
                (Secret::new(format!("Bearer {}", token.value.expose())), token.lifetime)
            }
            Challenge::Basic => {
                self.remember(&shown);
                match &shown.credentials {
                    Credentials::Basic { user, password } => (basic(user, password), None),
                    Credentials::Anonymous => return Err(self.denied(host, about)),
                    Credentials::Refresh(_) => {
                        let happened = "401 Unauthorized: user and password are wanted, not a refresh token";
                        let hint = format!("log in with user and password: docker login {} or --user", host.name);
                        return Err(about.fault(Class::Denied, happened).with_hint(hint));
                    }
                }
            }
        };
        let mut header = HeaderValue::try_from(text.expose())
            .map_err(|_| about.fault(Class::Fatal, "the token cannot be sent in a header"))?;
        header.set_sensitive(true);
        Ok((header, lifetime))
    }

    /// Is a status this host's way to say that a right is missing?
    pub(crate) fn is_refusal(status: StatusCode) -> bool {
        matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
    }
}

/// `Basic` with user and password.
pub(crate) fn basic(user: &str, password: &Secret) -> Secret {
    Secret::new(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{}", password.expose()))))
}

/// Ours and those of the challenge, sorted, each once.
fn scopes(own: &str, challenged: Option<&str>) -> Vec<String> {
    let challenged = challenged.unwrap_or_default().split_ascii_whitespace();
    let all: BTreeSet<&str> = challenged.chain([own]).collect();
    all.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_merged_sorted_and_single() {
        let own = "repository:a/b:pull";
        assert_eq!(scopes(own, None), [own]);
        assert_eq!(scopes(own, Some(own)), [own]);
        assert_eq!(scopes(own, Some("z:*  aws")), ["aws", own, "z:*"]);
    }
}
