//! How a fetch ends: proved, corrupt, refused, cancelled and resumed.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    time::Duration,
};

use registry::Options;

use testkit::fault::{Builder, Content, Fault, Server};
use transfer::{Class, Error, Limits, RetryPolicy};

use crate::stage::{MIB, Stage, descriptor, limits, mirrored, repository, repository_with, retry};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_is_fetched_once_more() {
    let stage = Stage::new();
    let content = Content::random(2, 4 * MIB);
    let mut left = 1;
    let flip_once = move |request: &mut testkit::fault::Request<'_>| {
        let hit = request.range.is_some_and(|(start, end)| (start..end).contains(&2_000_000)) && left > 0;
        left -= i32::from(hit);
        hit.then_some(Fault::FlipByte(2_000_000))
    };
    let server = Server::builder().blob(&content).faults(flip_once).start();
    stage.fetch_right(&repository(&server), &content).await;
    assert_eq!(stage.progress.meter().tally().refetched, 4 * MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_stay_wrong_are_corrupt_and_both_digests_are_named() {
    let stage = Stage::new();
    let content = Content::random(3, 4 * MIB);
    let server = Server::builder().blob(&content).faults(|_| Some(Fault::FlipByte(5))).start();
    let error = stage.fetch(&repository(&server), &content).await.unwrap_err();
    assert_eq!(error.class(), Class::Corrupt);
    let Error::Corrupt { expected, actual, hosts, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*expected, hosts.as_str()), (content.digest(), server.address().as_str()));
    let text = error.to_string();
    assert!(text.contains(&expected.to_string()) && text.contains(&actual.to_string()), "{text}");
    // Once and once more.
    assert_eq!(server.count().faults["flipped byte"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registry_serves_what_its_mirror_does_not() {
    let stage = Stage::new();
    let content = Content::random(4, 8 * MIB);
    let good = Server::builder().blob(&content).start();
    // The mirror has it, but breaks off in the middle of its second answer, and then has lost it.
    let fading = |request: &mut testkit::fault::Request<'_>| match request.number {
        0 => None,
        1 => Some(Fault::ResetAt(200_000)),
        _ => Some(Fault::Status { code: 404, retry_after: None }),
    };
    let mirror = Server::builder().blob(&content).faults(fading).start();
    let repository = mirrored(&stage, &[&mirror.address()], &good.address());
    assert_eq!(repository.hosts(), 2);
    stage.fetch_right(&repository, &content).await;
    let by_host = stage.progress.meter().tally().by_host;
    assert!(by_host[&mirror.address()] > 0 && by_host[&good.address()] > 0, "{by_host:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_is_nowhere_is_missing_at_once() {
    let stage = Stage::new();
    let server = Server::builder().start();
    let content = Content::random(6, MIB);
    let error = stage.fetch(&repository(&server), &content).await.unwrap_err();
    assert_eq!(error.class(), Class::Missing);
    assert!(error.to_string().contains(&server.address()), "{error}");
    assert_eq!(server.count().requests, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_fetch_lets_go_and_the_next_one_goes_on() {
    let stage = Stage::new();
    let content = Content::random(7, 32 * MIB);
    let server = Server::builder().blob(&content).rate(2.0 * 1024.0 * 1024.0).start();
    let repository = repository(&server);
    // More than eight connections can have begun: some pieces are whole.
    let some = async {
        while stage.progress.meter().tally().fetched < 12 * MIB {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        done = stage.fetch(&repository, &content) => panic!("{done:?}"),
        () = some => {}
    }
    let before = stage.progress.meter().tally().fetched;
    // The lock is free as soon as the connections have ended, and what was written counts.
    let entry = stage.spool.entry(&descriptor(&content)).await.unwrap();
    let resumed = entry.resumed();
    assert!(resumed > 0 && resumed <= before, "{resumed} of {before}");
    drop(entry);
    let fast = Server::builder().blob(&content).start();
    stage.fetch_right(&crate::stage::repository(&fast), &content).await;
    // What is on its way when a range's end is given to another is lost; what was resumed is not asked for.
    assert!(fast.count().body_bytes <= content.size() - resumed + MIB, "{resumed}: {:?}", fast.count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_eight_failures_the_error_names_host_blob_attempts_and_cause() {
    let stage = Stage::new();
    let content = Content::random(8, MIB);
    let server = Server::builder().blob(&content).faults(|_| Some(Fault::Status { code: 500, retry_after: None })).start();
    let error = stage.fetch(&repository(&server), &content).await.unwrap_err();
    assert_eq!(error.class(), Class::Unavailable);
    let text = error.to_string();
    for part in [&server.address(), &content.digest().to_string(), "500", "tried 8 times"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // The other ranges of the blob wait with the one that fails.
    assert!((8..=16).contains(&server.count().requests), "{:?}", server.count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_without_address_and_a_port_nobody_listens_on_are_given_up_soon() {
    let content = Content::random(9, MIB);
    let names = registry::Names::new([("nowhere.example".to_owned(), Vec::new())]);
    // Ten seconds by default; the rule itself is tested in simulated time.
    let retry = RetryPolicy { unreached: Duration::from_millis(400), ..retry() };
    // Bound and not listening: nobody else can take the port meanwhile.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = socket.local_addr().unwrap().to_string();
    for (host, cause) in [("nowhere.example", "no such host"), (closed.as_str(), "no connection")] {
        let stage = Stage::with(limits(), retry.clone());
        let repository = repository_with(host, Options { names: Some(names.clone()), ..Options::default() });
        let error = stage.fetch(&repository, &content).await.unwrap_err();
        assert_eq!(error.class(), Class::Unavailable);
        let text = error.to_string();
        assert!(text.contains(host) && text.contains(cause), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_ends_a_pull_with_one_connection_too_and_what_came_is_kept() {
    let content = Content::random(10, 8 * MIB);
    // Two megabytes come, and never a byte more.
    let mute =
        |request: &mut testkit::fault::Request<'_>| Some(Fault::Stall { after: if request.number == 0 { 2 * MIB } else { 0 } });
    let server = Server::builder().blob(&content).faults(mute).start();
    let limits = Limits {
        max_connections: NonZeroUsize::MIN,
        range_size: NonZeroU64::new(4 * MIB).unwrap(),
        stall: Duration::from_millis(300),
        silence: Duration::from_secs(1),
        ..limits()
    };
    let stage = Stage::with(limits, retry());
    let error = stage.fetch(&repository(&server), &content).await.unwrap_err();
    assert_eq!(error.class(), Class::Unavailable);
    let Error::Silent { source: Some(cause), .. } = &error else { panic!("{error:?}") };
    assert!(cause.to_string().starts_with("no byte for"), "{cause}");
    let text = error.to_string();
    assert!(text.starts_with(&server.address()) && text.contains("no byte on any connection for 1 s"), "{text}");
    assert!(stage.progress.meter().tally().stalls.silent >= 2, "{:?}", stage.progress.meter().tally());
    assert_eq!(stage.spool.entry(&descriptor(&content)).await.unwrap().resumed(), 2 * MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_blobs_share_one_budget() {
    let stage = Stage::new();
    let contents: Vec<_> = (0..6).map(|seed| Content::random(100 + seed, 3 * MIB)).collect();
    let server = contents.iter().fold(Server::builder(), Builder::blob).start();
    let repository = repository(&server);
    tokio::join!(
        stage.fetch_right(&repository, &contents[0]),
        stage.fetch_right(&repository, &contents[1]),
        stage.fetch_right(&repository, &contents[2]),
        stage.fetch_right(&repository, &contents[3]),
        stage.fetch_right(&repository, &contents[4]),
        stage.fetch_right(&repository, &contents[5]),
    );
    // Eight, and a new one in the place of each that gave its tail away; each blob for itself would begin with four.
    assert!(server.count().connections < 6 * 4, "{:?}", server.count());
}
