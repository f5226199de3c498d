//! Storage behind signed URLs that expire: asked for once, renewed once for all, shown to nobody else.

use std::{path::Path, time::Duration};

use futures_util::future::try_join_all;
use oci::{ByteRange, Descriptor, MediaType};
use registry::{Class, Credentials, Options};
use testkit::{DistributionRegistry, Signature, SignedFront, SignedOptions, TlsFront, certificates};

use crate::{
    asking::{drain, names, plain, repository_of},
    watched::Repository,
};

const MINUTES: Duration = Duration::from_secs(600);

fn blob(registry: &DistributionRegistry) -> (Descriptor, Vec<u8>) {
    let bytes: Vec<u8> = (0..=255).cycle().take(64 << 10).collect();
    let digest = registry.push_blob("a/b", &bytes);
    (Descriptor::new(MediaType::new(MediaType::OCI_LAYER), digest, bytes.len() as u64).unwrap(), bytes)
}

fn user() -> Credentials {
    Credentials::Basic { user: DistributionRegistry::USER.to_owned(), password: DistributionRegistry::PASSWORD.to_owned().into() }
}

/// Sixteen ranges at once.
async fn ranges(repository: &Repository, blob: &Descriptor, bytes: &[u8]) {
    let parts = (0..16).map(|part| async move {
        let range = ByteRange::new(part * 4096, (part + 1) * 4096).unwrap();
        drain(repository.blob(0, blob, Some(range)).await?).await
    });
    assert!(try_join_all(parts).await.unwrap().concat() == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_signature_serves_all_ranges_and_is_renewed_once_for_all() {
    let registry = DistributionRegistry::start_protected();
    let (blob, bytes) = blob(&registry);
    for signature in [Signature::Amazon, Signature::Expires, Signature::Azure, Signature::Silent] {
        for refusal in [403, 400] {
            let front = SignedFront::start(&registry, SignedOptions { signature, lifetime: MINUTES, refusal });
            let repository = repository_of(&format!("{}/a/b:1", front.host()), plain(), user());
            let signed = || front.count().signed[&blob.digest.to_string()];
            // The first ask decides whether there is a redirect at all, as the transfer does it.
            drain(repository.blob(0, &blob, ByteRange::new(0, 1)).await.unwrap()).await.unwrap();
            ranges(&repository, &blob, &bytes).await;
            assert_eq!(signed(), 1, "{signature:?}");
            front.revoke();
            ranges(&repository, &blob, &bytes).await;
            assert_eq!(signed(), 2, "{signature:?} {refusal}: {:?}", front.count());
            let count = front.count();
            assert!((1..=16).contains(&count.refused) && count.with_authorization == 0, "{count:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_that_is_about_to_end_is_not_used_again() {
    let registry = DistributionRegistry::start();
    let (blob, bytes) = blob(&registry);
    for signature in [Signature::Amazon, Signature::Expires, Signature::Azure] {
        let lifetime = Duration::from_secs(5);
        let front = SignedFront::start(&registry, SignedOptions { signature, lifetime, refusal: 403 });
        let repository = repository_of(&format!("{}/a/b:1", front.host()), plain(), Credentials::Anonymous);
        for _ in 0..3 {
            drain(repository.blob(0, &blob, ByteRange::new(0, 10)).await.unwrap()).await.unwrap();
        }
        assert_eq!(front.count().signed[&blob.digest.to_string()], 3, "{signature:?}");
        ranges(&repository, &blob, &bytes).await;
        assert_eq!(front.count().refused, 0, "{signature:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_that_stays_with_its_refusal_is_told() {
    let registry = DistributionRegistry::start();
    let (blob, _) = blob(&registry);
    let options = SignedOptions { signature: Signature::Silent, lifetime: Duration::ZERO, refusal: 403 };
    let front = SignedFront::start(&registry, options);
    let repository = repository_of(&format!("{}/a/b:1", front.host()), plain(), Credentials::Anonymous);
    let fault = repository.blob(0, &blob, None).await.unwrap_err();
    assert_eq!(fault.class, Class::Denied);
    assert!(fault.to_string().contains("403 Forbidden from 127.0.0.1:"), "{fault}");
    assert!(!format!("{fault:?}").contains("sig="), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_behind_tls_may_not_send_its_clients_to_http() {
    let registry = DistributionRegistry::start();
    let (blob, _) = blob(&registry);
    let front = SignedFront::start(&registry, SignedOptions { signature: Signature::Amazon, lifetime: MINUTES, refusal: 403 });
    let make = |root: &Path| {
        certificates::authority(root);
        certificates::server(root, certificates::VALID);
    };
    let tls = TlsFront::start(&front.host(), make, "");
    let options = Options { names: Some(names(&["right.example"])), tls_ca: Some(tls.file("ca.pem")), ..Options::default() };
    let repository = repository_of(&format!("right.example:{}/a/b:1", tls.port()), options, Credentials::Anonymous);
    let fault = repository.blob(0, &blob, None).await.unwrap_err();
    assert_eq!(fault.class, Class::Fatal);
    assert!(fault.to_string().contains("redirect from https to http") && fault.hint().is_some(), "{fault:?}");
    assert_eq!(front.count().served, 0);
}
