//! Each misbehaviour alone: the blob arrives all the same.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use progress::Event;
use testkit::fault::{Content, Fault, Request, Server};
use transfer::Limits;

use crate::stage::{MIB, Stage, limits, repository, retry};

/// Bytes a second of a connection. Without a limit the kernel holds megabytes that the server counts and nobody reads.
const PACE: f64 = 16.0 * 1024.0 * 1024.0;
/// What may be on its way when connections are told to end earlier.
const UNDER_WAY: u64 = MIB / 2;

/// Fetches 16 MiB under a script; answers the server for its counts.
async fn survives(script: impl FnMut(&mut Request<'_>) -> Option<Fault> + Send + 'static) -> (Stage, Server) {
    let stage = Stage::new();
    let content = Content::random(1, 16 * MIB);
    let server = Server::builder().blob(&content).rate(PACE).faults(script).start();
    stage.fetch_right(&repository(&server), &content).await;
    let written = stage.events.lock().unwrap().iter().find_map(|event| match event {
        Event::FetchStarted { written, .. } => Some(written.bytes()),
        _ => None,
    });
    assert_eq!(written, Some(16 * MIB), "each byte is counted once, when it is written");
    (stage, server)
}

fn nth(numbers: &'static [u64], fault: Fault) -> impl FnMut(&mut Request<'_>) -> Option<Fault> + Send {
    move |request| numbers.contains(&request.number).then(|| fault.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_pull_uses_several_connections_and_no_byte_twice() {
    let (stage, server) = survives(|_| None).await;
    let (count, tally) = (server.count(), stage.progress.meter().tally());
    // Kept alive from range to range.
    assert!((4..=12).contains(&count.connections) && count.requests >= 16, "{count:?}");
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
    let count = server.count();
    assert_eq!((count.requests, count.connections, count.body_bytes), (1, 1, 16 * MIB));
    assert_eq!(stage.progress.meter().tally().fetched, 16 * MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_was_cold_is_asked_for_ranges_again_at_the_next_blob() {
    let stage = Stage::new();
    let (first, second) = (Content::random(30, 8 * MIB), Content::random(31, 8 * MIB));
    let cold = nth(&[0], Fault::WholeForRange);
    let server = Server::builder().blob(&first).blob(&second).faults(cold).start();
    let repository = repository(&server);
    stage.fetch_right(&repository, &first).await;
    // One stream, though several connections were to be had.
    assert_eq!((server.count().requests, server.count().body_bytes), (1, 8 * MIB));
    stage.fetch_right(&repository, &second).await;
    let count = server.count();
    assert_eq!(count.faults["200 for a range"], 1);
    assert!(count.requests >= 9 && count.connections >= 4, "{count:?}");
    assert_eq!(stage.progress.meter().tally().fetched, 16 * MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_body_in_the_middle_is_not_spliced() {
    let (stage, server) = survives(nth(&[6], Fault::WholeForRange)).await;
    assert_eq!(server.count().faults["200 for a range"], 1);
    // Its body was not read.
    assert_eq!(stage.progress.meter().tally().fetched, 16 * MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_ranges_is_asked_for_the_whole() {
    let (_, server) = survives(|request| request.range.map(|_| Fault::RangeNotSatisfiable)).await;
    let count = server.count();
    assert_eq!((count.faults["416"], count.requests, count.body_bytes), (1, 2, 16 * MIB));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_without_a_length_work() {
    let (_, server) = survives(|_| Some(Fault::NoContentLength)).await;
    let count = server.count();
    // Each ends with its connection; the first ones of a blob say so before others join.
    assert_eq!(count.connections, count.requests);
    assert!(count.body_bytes <= 16 * MIB + UNDER_WAY, "{count:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_is_a_plain_sequential_pull() {
    let stage = Stage::with(Limits { max_connections: NonZeroUsize::MIN, ..limits() }, retry());
    let content = Content::random(32, 16 * MIB);
    let starts = Arc::<Mutex<Vec<u64>>>::default();
    let seen = starts.clone();
    let watch = move |request: &mut Request<'_>| {
        seen.lock().unwrap().push(request.range.unwrap().0);
        None
    };
    let server = Server::builder().blob(&content).faults(watch).start();
    stage.fetch_right(&repository(&server), &content).await;
    assert!(starts.lock().unwrap().is_sorted());
    let count = server.count();
    // The one connection is kept alive; a request may overtake its return to the pool and open one more.
    assert!(count.connections <= 2 && count.requests >= 16, "{count:?}");
    assert_eq!(count.body_bytes, 16 * MIB);
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
        Event::Retrying { host, cause, after, .. } => Some((host.clone(), cause.clone(), *after)),
        _ => None,
    });
    let (host, cause, after) = retrying.expect("the retry was told");
    assert_eq!(host, server.address());
    assert!(cause.contains("503"), "{cause}");
    assert!(after >= Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_after_may_be_a_date() {
    let date = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(5));
    let (stage, _) = survives(nth(&[2], Fault::Status { code: 429, retry_after: Some(date) })).await;
    let events = stage.events.lock().unwrap();
    let waits = events.iter().filter_map(|event| match event {
        Event::Retrying { after, .. } => Some(*after),
        _ => None,
    });
    assert!(waits.max().unwrap() >= Duration::from_secs(1), "{events:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_that_drips_is_taken_over_and_no_byte_sent_twice() {
    let drip = Fault::Drip { after: 1000, bytes: 1024, every: Duration::from_secs(1) };
    let (stage, server) = survives(nth(&[12], drip)).await;
    assert!(stage.progress.meter().tally().stalls.waited >= 1);
    assert_eq!(stage.progress.meter().tally().refetched, 0);
    let count = server.count();
    assert!(count.body_bytes <= 16 * MIB + UNDER_WAY, "{count:?}");
}
