//! Where a host keeps a blob: the signed URL its redirects end at, shared by all ranges until it stops working.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use oci::Digest;
use url::Url;

use crate::redact;

/// A signature must live until the storage has seen it.
const MARGIN: Duration = Duration::from_secs(10);

/// One entry per host and blob.
#[derive(Debug, Default)]
pub(crate) struct Targets(Mutex<HashMap<(usize, Digest), Arc<Route>>>);

impl Targets {
    pub(crate) fn route(&self, host: usize, blob: Digest) -> Arc<Route> {
        let mut routes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(routes.entry((host, blob)).or_default())
    }
}

/// The way to one blob on one host.
#[derive(Debug, Default)]
pub(crate) struct Route {
    known: Mutex<Known>,
    /// Held while the registry is asked for a new target, so that it is asked once for all.
    pub(crate) renewing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    target: Option<Url>,
    /// There was one once: the registry redirects.
    redirects: bool,
}

/// The target's signature is a secret.
impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Known").field(&self.target.as_ref().map(redact::url)).finish()
    }
}

impl Route {
    /// The target, unless its time is over.
    pub(crate) fn target(&self) -> Option<Url> {
        let target = self.known().target.clone()?;
        let over = expiry(&target).is_some_and(|expiry| SystemTime::now() + MARGIN >= expiry);
        (!over).then_some(target)
    }

    pub(crate) fn redirects(&self) -> bool {
        self.known().redirects
    }

    pub(crate) fn found(&self, target: Url) {
        *self.known() = Known { target: Some(target), redirects: true };
    }

    /// Forgets `target`, but not one that has come since.
    pub(crate) fn gone(&self, target: &Url) {
        self.known().target.take_if(|known| known == target);
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a signed URL says that it ends: S3 and its kin (`X-Amz-Date` and `X-Amz-Expires`, `X-Goog-…`), `CloudFront` and older
/// S3 (`Expires`, seconds), Azure (`se`). `None` when it does not say.
pub(crate) fn expiry(url: &Url) -> Option<SystemTime> {
    let value = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value);
    let instant = |text: &str| text.parse::<jiff::Timestamp>().ok().map(SystemTime::from);
    let signed = |vendor: &str| {
        let from = instant(&value(&format!("X-{vendor}-Date"))?)?;
        from.checked_add(Duration::from_secs(value(&format!("X-{vendor}-Expires"))?.parse().ok()?))
    };
    let seconds = || SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(value("Expires")?.parse().ok()?));
    signed("Amz").or_else(|| signed("Goog")).or_else(seconds).or_else(|| instant(&value("se")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_url_says_when_it_ends() {
        for (query, at) in [
            ("X-Amz-Date=20261124T100000Z&X-Amz-Expires=900", Some(1_795_514_400 + 900)),
            ("X-Goog-Date=20261124T100000Z&X-Goog-Expires=1", Some(1_795_514_400 + 1)),
            ("Expires=1795514400&Signature=x", Some(1_795_514_400)),
            ("se=2026-11-24T10%3A00%3A00Z&sig=x", Some(1_795_514_400)),
            ("X-Amz-Date=20261124T100000Z", None),
            ("X-Amz-Date=x&X-Amz-Expires=99999999999999999999", None),
            ("Expires=18446744073709551615", None),
            ("", None),
        ] {
            let url = Url::parse(&format!("https://s.example/x?{query}")).unwrap();
            let expected = at.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(expiry(&url), expected, "{query}");
        }
    }

    #[test]
    fn a_target_is_forgotten_when_it_is_the_one_that_failed_and_when_its_time_is_over() {
        let url = |text: &str| Url::parse(text).unwrap();
        let route = Route::default();
        assert!(!route.redirects());
        route.found(url("https://s.example/new"));
        route.gone(&url("https://s.example/old"));
        assert!(route.target().is_some());
        route.gone(&url("https://s.example/new"));
        assert!(route.target().is_none() && route.redirects());
        route.found(url("https://s.example/x?Expires=1"));
        assert!(route.target().is_none());
    }
}
