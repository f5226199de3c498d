//! What is told of the ranges: all of it, once, in order.

use std::time::Duration;

use progress::{Ending, Event, RangeSpan};
use testkit::fault::{Content, Fault, Server};

use crate::stage::{MIB, Stage, limits, repository, repository_with, retry};

fn ranges(stage: &Stage) -> Vec<RangeSpan> {
    let events = stage.events.lock().unwrap();
    let ranges = events.iter().filter_map(|event| if let Event::RangeDone(range) = event { Some(range.clone()) } else { None });
    ranges.collect()
}

/// Asserts that the ranges cover `size` bytes, each once.
fn assert_covered_once(ranges: &[RangeSpan], size: u64) {
    let mut covered: Vec<(u64, u64)> = ranges.iter().map(|range| (range.offset, range.bytes)).collect();
    covered.retain(|(_, bytes)| *bytes > 0);
    covered.sort_unstable();
    let mut at = 0;
    for (offset, bytes) in covered {
        assert_eq!(offset, at, "{ranges:#?}");
        at += bytes;
    }
    assert_eq!(at, size);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_cover_each_byte_once_whatever_goes_wrong() {
    let stage = Stage::new();
    let content = Content::random(90, 24 * MIB);
    let failing = |request: &mut testkit::fault::Request<'_>| match request.number {
        3 | 9 => Some(Fault::ResetAt(100_000)),
        5 => Some(Fault::Status { code: 503, retry_after: None }),
        7 | 12 => Some(Fault::ShortBody(0)),
        _ => None,
    };
    let server = Server::builder().blob(&content).faults(failing).start();
    stage.fetch_right(&repository(&server), &content).await;
    let ranges = ranges(&stage);
    assert_covered_once(&ranges, content.size());
    for range in &ranges {
        assert_eq!((range.blob, range.host.as_str()), (content.digest(), server.address().as_str()));
        assert!(range.started <= range.ended, "{range:?}");
        assert!(range.first_byte.is_none_or(|at| (range.started..=range.ended).contains(&at)), "{range:?}");
        assert!(range.bytes == 0 || range.first_byte.is_some(), "{range:?}");
        if let Some(answered) = &range.answered {
            let (ours, theirs) = answered.connection.expect("a TCP connection has two ends");
            assert_eq!((answered.server.as_str(), theirs.to_string()), (server.address().as_str(), server.address()));
            assert!(ours.ip().is_loopback());
        }
    }
    let failed: Vec<_> =
        ranges.iter().filter_map(|range| if let Ending::Failed { cause } = &range.ending { Some(cause) } else { None }).collect();
    assert!(!failed.is_empty() && failed.iter().all(|cause| cause.contains(&server.address())), "{failed:?}");
    assert!(ranges.iter().any(|range| range.attempt > 1), "{ranges:#?}");
    // Never more at once than are allowed.
    for range in &ranges {
        let open = ranges.iter().filter(|other| other.started <= range.started && other.ended > range.started).count();
        assert!(open <= limits().max_connections.get(), "{open} at {:?}", range.started);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_range_says_by_which_rule_it_was_given_up() {
    let limits = transfer::Limits { stall: Duration::from_millis(300), ..limits() };
    let stage = Stage::with(limits, retry());
    let content = Content::random(91, MIB);
    let stall_once = |request: &mut testkit::fault::Request<'_>| (request.number == 0).then_some(Fault::Stall { after: 1000 });
    let server = Server::builder().blob(&content).faults(stall_once).start();
    stage.fetch_right(&repository(&server), &content).await;
    let ranges = ranges(&stage);
    assert_covered_once(&ranges, content.size());
    assert!(ranges.iter().any(|range| matches!(range.ending, Ending::Slow(_)) && range.bytes < MIB), "{ranges:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_nobody_answers_is_told_too() {
    let retry = transfer::RetryPolicy { unreached: Duration::from_millis(50), ..retry() };
    let stage = Stage::with(limits(), retry);
    let content = Content::random(92, MIB);
    // A port that nobody listens on any more.
    let address = Server::builder().start().address();
    stage.fetch(&repository_with(&address, registry::Options::default()), &content).await.unwrap_err();
    let ranges = ranges(&stage);
    let [first, ..] = ranges.as_slice() else { panic!("nothing was told") };
    assert_eq!((first.bytes, &first.answered, first.first_byte), (0, &None, None));
    assert!(matches!(&first.ending, Ending::Failed { cause } if cause.contains("no connection")), "{first:?}");
}
