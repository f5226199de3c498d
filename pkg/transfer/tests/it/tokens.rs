//! Tokens that end before the blob does: a real docker-registry, and a token server that counts.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use oci::Hasher;
use registry::{Credentials, Options, Registry, Repository};
use testkit::{DistributionRegistry, Rules, TokenServer, fault::Content};
use tokio::time::Instant;
use transfer::{Class, Limits};

use crate::stage::{MIB, Stage, assert_same, descriptor, limits, retry};

/// For how long the registry takes a token; a token's end is in whole seconds, so half of that is sure.
const GOOD_FOR: Duration = Duration::from_secs(2);

/// A registry that holds `content`, the user's repository there, and its token server.
fn guarded(content: &Content, rules: Rules) -> (DistributionRegistry, Arc<TokenServer>, Repository) {
    let tokens = Arc::new(TokenServer::start(rules));
    let registry = DistributionRegistry::start_with_tokens(&tokens);
    let mut bytes = vec![0; usize::try_from(content.size()).unwrap()];
    content.fill(0, &mut bytes);
    registry.push_blob("t/blobs", &bytes);
    let user = Credentials::Basic { user: TokenServer::USER.to_owned(), password: TokenServer::PASSWORD.to_owned().into() };
    let client = Registry::new(Options { plain_http: true, ..Options::default() }, user).unwrap();
    let repository = client.repository(&registry.reference("t/blobs", "1").parse().unwrap()).unwrap();
    (registry, tokens, repository)
}

/// So slow that several tokens are needed.
fn slow() -> Stage {
    Stage::with(Limits { rate: NonZeroU64::new(3 * MIB), ..limits() }, retry())
}

/// Fetches; how many tokens that took, and how many it may have taken if each was asked for once for all connections.
async fn fetch(rules: Rules) -> (u64, u64) {
    let content = Content::random(21, 18 * MIB);
    let (_registry, tokens, repository) = guarded(&content, rules);
    let stage = slow();
    let before = Instant::now();
    let verified = stage.fetch(&repository, &content).await.unwrap();
    assert_same(&verified, &content);
    (tokens.issued().count(), 2 + before.elapsed().as_secs())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_ends_in_the_middle_is_renewed_once_for_all_connections() {
    // The first says nothing of its end, so all connections meet the 401; with the second it is known beforehand.
    for announced in [None, Some(GOOD_FOR)] {
        let (issued, allowed) = fetch(Rules { announced, good_for: GOOD_FOR, ..Rules::default() }).await;
        assert!(issued >= 2, "no token ended");
        assert!(issued <= allowed, "{issued} tokens where {allowed} are enough");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_goes_on_when_its_token_has_ended() {
    // More than the sockets hold, so the registry is still sending when the token ends.
    let content = Content::random(23, 64 * MIB);
    let rules = Rules { announced: None, good_for: GOOD_FOR, ..Rules::default() };
    let (_registry, tokens, repository) = guarded(&content, rules);
    let blob = descriptor(&content);
    let mut body = repository.blob(0, &blob, None).await.unwrap();
    let mut hasher = Hasher::default();
    hasher.update(&body.frame().await.unwrap().unwrap());
    tokio::time::sleep(2 * GOOD_FOR).await;
    while let Some(frame) = body.frame().await.unwrap() {
        hasher.update(&frame);
    }
    assert_eq!((hasher.finish(), tokens.issued().count()), (content.digest(), 1));
    // The next one is refused at first: it really had ended.
    repository.blob(0, &blob, None).await.unwrap();
    assert_eq!(tokens.issued().count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_not_renewed_ends_the_transfer_and_is_told() {
    let content = Content::random(22, 64 * MIB);
    let rules = Rules { announced: None, good_for: GOOD_FOR, most: Some(1), ..Rules::default() };
    let (registry, tokens, repository) = guarded(&content, rules);
    let error = slow().fetch(&repository, &content).await.unwrap_err();
    assert_eq!(error.class(), Class::Denied);
    let (host, realm) = (registry.host(), tokens.host());
    let expected = format!(
        "{host}: token for blob {}: 401 Unauthorized from {realm} (incorrect username or password) as user user; \
         the token so far has expired",
        content.digest()
    );
    assert_eq!(error.to_string(), expected);
    assert!(error.hint().unwrap().contains("check the password of user"), "{error:?}");
    assert_eq!(tokens.issued().count(), 1);
}
