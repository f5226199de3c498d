//! Mirrors before a registry, over real connections: what a mirror fails at the next host serves, and no byte comes twice.

use std::time::Duration;

use progress::Event;
use testkit::fault::{Content, Fault, Request, Server};
use transfer::{Class, Error, Limits};

use crate::stage::{MIB, Stage, limits, mirrored, retry};

/// Not the thirty seconds of real life; only where a server is to stall, for on a busy machine any may seem to.
const STALL: Duration = Duration::from_millis(500);

/// Fetches 16 MiB by way of a mirror under a script; the mirror and the registry for their counts.
async fn fetched(stage: &Stage, script: impl FnMut(&mut Request<'_>) -> Option<Fault> + Send + 'static) -> (Server, Server) {
    let content = Content::random(11, 16 * MIB);
    let mirror = Server::builder().blob(&content).faults(script).start();
    let registry = Server::builder().blob(&content).start();
    let repository = mirrored(stage, &[&mirror.address()], &registry.address());
    stage.fetch_right(&repository, &content).await;
    (mirror, registry)
}

/// Bytes that were written here, by host: together exactly the blob.
fn came_once(stage: &Stage, servers: [&Server; 2]) -> [u64; 2] {
    let tally = stage.progress.meter().tally();
    let came = servers.map(|server| tally.by_host.get(&server.address()).copied().unwrap_or(0));
    assert_eq!(came[0] + came[1], 16 * MIB, "{tally:?}");
    // What is left of it comes of ranges that were split while a frame was on its way, never of bytes in hand.
    assert!(tally.fetched - 16 * MIB == tally.refetched && tally.refetched <= MIB, "{tally:?}");
    came
}

/// Hosts that were left, as it was told.
fn left(stage: &Stage) -> Vec<String> {
    let events = stage.events.lock().unwrap();
    let left = events.iter().filter_map(|event| match event {
        Event::MirrorLeft { host, .. } => Some(host.clone()),
        _ => None,
    });
    left.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_fails_in_the_middle_of_ranges_is_left_without_losing_a_byte() {
    let half = |_: &mut Request<'_>| 300_000;
    for fault in [Fault::ResetAt as fn(u64) -> Fault, Fault::ShortBody, |after| Fault::Stall { after }] {
        let stalls = matches!(fault(0), Fault::Stall { .. });
        let stage = if stalls { Stage::with(Limits { stall: STALL, ..limits() }, retry()) } else { Stage::new() };
        let (mirror, registry) = fetched(&stage, move |request| Some(fault(half(request)))).await;
        // What the mirror had sent came from nowhere else.
        let [from_mirror, from_registry] = came_once(&stage, [&mirror, &registry]);
        let (asked, sent) = (mirror.count(), registry.count());
        assert!(from_mirror >= 300_000 && asked.requests <= 16, "{from_mirror} of {asked:?}");
        assert!(asked.body_bytes >= from_mirror && sent.body_bytes >= from_registry, "{asked:?} {sent:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_works_serves_everything() {
    let stage = Stage::new();
    let (mirror, registry) = fetched(&stage, |_| None).await;
    assert_eq!(came_once(&stage, [&mirror, &registry]), [16 * MIB, 0]);
    assert_eq!(registry.count().requests, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_mirror_says_the_registry_serves_it() {
    let status = |code, retry_after: Option<&str>| Fault::Status { code, retry_after: retry_after.map(str::to_owned) };
    for fault in [
        status(404, None),
        status(403, None),
        status(400, None),
        status(500, None),
        status(503, Some("300")),
        Fault::WrongContentRange,
        Fault::RangeNotSatisfiable,
    ] {
        let stage = Stage::new();
        let name = format!("{fault:?}");
        let (mirror, registry) = fetched(&stage, move |_| Some(fault.clone())).await;
        assert_eq!(came_once(&stage, [&mirror, &registry]), [0, 16 * MIB], "{name}");
        assert!(mirror.count().requests <= 8, "{name}: {:?}", mirror.count());
        assert_eq!(left(&stage), [mirror.address()], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_with_other_bytes_is_left_and_told() {
    let stage = Stage::new();
    let content = Content::random(12, 4 * MIB);
    let liar = || Server::builder().blob(&content).faults(|_| Some(Fault::FlipByte(77))).start();
    let (first, second, good) = (liar(), liar(), Server::builder().blob(&content).start());
    let repository = mirrored(&stage, &[&first.address(), &second.address()], &good.address());
    let fetched = stage.fetched(&repository, &content).await.unwrap();
    let [one, two] = fetched.warnings.as_slice() else { panic!("{:?}", fetched.warnings) };
    for (warning, server) in [(one, &first), (two, &second)] {
        assert!(warning.starts_with(&format!("{}: blob {}", server.address(), content.digest())), "{warning}");
        assert!(warning.ends_with("left for the next host"), "{warning}");
        // Once, not twice.
        assert!(server.count().body_bytes <= 4 * MIB, "{:?}", server.count());
    }
    assert_eq!(stage.progress.meter().tally().by_host[&good.address()], 4 * MIB);
    let events = stage.events.lock().unwrap();
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Warning { .. })).count(), 2);
    drop(events);
    assert_eq!(left(&stage), [first.address(), second.address()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_sent_other_bytes_once_is_asked_for_no_more_while_there_is_another() {
    let stage = Stage::new();
    let (wrong, later) = (Content::random(15, MIB), Content::random(16, MIB));
    let mut spoiled = false;
    let once = move |_: &mut Request<'_>| (!std::mem::replace(&mut spoiled, true)).then_some(Fault::FlipByte(77));
    let liar = Server::builder().blob(&wrong).blob(&later).faults(once).start();
    let good = Server::builder().blob(&wrong).blob(&later).start();
    let repository = mirrored(&stage, &[&liar.address()], &good.address());
    assert_eq!(stage.fetched(&repository, &wrong).await.unwrap().warnings.len(), 1);
    let asked = liar.count().requests;
    assert_eq!(stage.fetched(&repository, &later).await.unwrap().warnings, Vec::<String>::new());
    assert_eq!((liar.count().requests, stage.progress.meter().tally().by_host[&good.address()]), (asked, 2 * MIB));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_from_one_of_two_that_served_are_found_out() {
    // The liar is whoever comes second: the mirror fails halfway through, and the registry's half is wrong.
    let stage = Stage::new();
    let content = Content::random(13, 8 * MIB);
    let dying = |request: &mut Request<'_>| (2..12).contains(&request.number).then_some(Fault::ResetAt(1000));
    let mirror = Server::builder().blob(&content).faults(dying).start();
    let liar = Server::builder().blob(&content).faults(|_| Some(Fault::FlipByte(8 * MIB - 1))).start();
    let repository = mirrored(&stage, &[&mirror.address()], &liar.address());
    stage.fetch_right(&repository, &content).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_lie_or_fail_each_is_named() {
    let stage = Stage::new();
    let content = Content::random(14, 2 * MIB);
    let liar = || Server::builder().blob(&content).faults(|_| Some(Fault::FlipByte(9))).start();
    let (mirror, registry) = (liar(), liar());
    let repository = mirrored(&stage, &[&mirror.address()], &registry.address());
    let error = stage.fetch(&repository, &content).await.unwrap_err();
    assert_eq!(error.class(), Class::Corrupt);
    let text = error.to_string();
    assert!(text.contains(&mirror.address()) && text.contains(&registry.address()), "{text}");

    let stage = Stage::new();
    let status = |code| move |_: &mut Request<'_>| Some(Fault::Status { code, retry_after: None });
    let mirror = Server::builder().blob(&content).faults(status(403)).start();
    let registry = Server::builder().blob(&content).faults(status(404)).start();
    let repository = mirrored(&stage, &[&mirror.address()], &registry.address());
    let error = stage.fetch(&repository, &content).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&format!("{}: blob", registry.address())) && text.contains("404"), "{text}");
    assert!(text.contains(&format!("{}: blob", mirror.address())) && text.contains("403"), "{text}");
}
