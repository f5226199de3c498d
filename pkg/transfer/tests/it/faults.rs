//! Each misbehaviour alone: the blob arrives all the same.

use std::time::Duration;

use testkit::fault::{Content, Fault, Request, Server};

use crate::stage::{MIB, Stage, repository};

/// Fetches 16 MiB under a script; answers the server for its counts.
async fn survives(script: impl FnMut(&mut Request<'_>) -> Option<Fault> + Send + 'static) -> (Stage, Server) {
    let stage = Stage::new();
    let content = Content::random(1, 16 * MIB);
    let server = Server::builder().blob(&content).faults(script).start();
    stage.fetch_right(&repository(&server), &content).await;
    (stage, server)
}

fn nth(numbers: &'static [u64], fault: Fault) -> impl FnMut(&mut Request<'_>) -> Option<Fault> + Send {
    move |request| numbers.contains(&request.number).then(|| fault.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_pull_uses_several_connections_and_no_byte_twice() {
    let (stage, server) = survives(|_| None).await;
    let (count, tally) = (server.count(), stage.progress.meter().tally());
    assert!(count.connections >= 4, "{count:?}");
    assert_eq!((tally.fetched, tally.retries, tally.refetched), (16 * MIB, 0, 0));
    assert_eq!(tally.by_host[&server.address()], 16 * MIB);
    assert_eq!(tally.connections, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_goes_on_behind_the_last_byte() {
    let (stage, server) = survives(nth(&[1, 4, 7], Fault::ResetAt(300_000))).await;
    assert_eq!(server.count().faults["reset"], 3);
    assert_eq!(stage.progress.meter().tally().retries, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_body_goes_on_behind_the_last_byte() {
    let (stage, server) = survives(nth(&[0, 5], Fault::ShortBody(100_000))).await;
    assert_eq!(server.count().faults["short body"], 2);
    assert_eq!(stage.progress.meter().tally().fetched, 16 * MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_content_range_is_asked_again() {
    let (_, server) = survives(nth(&[0, 3], Fault::WrongContentRange)).await;
    assert_eq!(server.count().faults["wrong Content-Range"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_ranges_sends_one_stream() {
    let (stage, server) = survives(|_| Some(Fault::WholeForRange)).await;
    assert_eq!(server.count().requests, 1);
    assert_eq!(stage.progress.meter().tally().fetched, 16 * MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_body_in_the_middle_is_not_spliced() {
    let (_, server) = survives(nth(&[6], Fault::WholeForRange)).await;
    assert_eq!(server.count().faults["200 for a range"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_ranges_is_asked_for_the_whole() {
    let (_, server) = survives(|request| request.range.map(|_| Fault::RangeNotSatisfiable)).await;
    assert!(server.count().faults["416"] >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_without_a_length_work() {
    survives(|_| Some(Fault::NoContentLength)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_that_expire_work() {
    survives(|_| Some(Fault::Redirect)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_after_is_waited_for() {
    let started = tokio::time::Instant::now();
    let busy = Fault::Status { code: 503, retry_after: Some("1".to_owned()) };
    let (stage, server) = survives(nth(&[2], busy)).await;
    assert_eq!(server.count().faults["503"], 1);
    assert!(started.elapsed() >= Duration::from_secs(1));
    let events = stage.events.lock().unwrap();
    let retrying = events.iter().find_map(|event| match event {
        progress::Event::Retrying { host, cause, after, .. } => Some((host.clone(), cause.clone(), *after)),
        _ => None,
    });
    let (host, cause, after) = retrying.expect("the retry was told");
    assert_eq!(host, server.address());
    assert!(cause.contains("503"), "{cause}");
    assert!(after >= Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_that_drips_is_taken_over() {
    let drip = Fault::Drip { after: 1000, bytes: 1024, every: Duration::from_secs(1) };
    let (stage, _) = survives(nth(&[3], drip)).await;
    assert!(stage.progress.meter().tally().stalls >= 1);
}
