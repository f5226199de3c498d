//! The mixed profile, many seeds.

use std::collections::BTreeSet;

use testkit::fault::{Content, Server, mixed};

use crate::stage::{MIB, Stage, repository};

/// Bytes a second of a connection. Without a limit the kernel holds megabytes that the server counts and nobody reads.
const PACE: f64 = 16.0 * 1024.0 * 1024.0;

/// All 200 with `RPULL_LONG=1`.
fn runs() -> u64 {
    if std::env::var_os("RPULL_LONG").is_some() { 200 } else { 20 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_seed_ends_with_the_right_digest_and_hardly_a_byte_twice() {
    let content = Content::random(8, 32 * MIB);
    let (mut fired, mut sent, mut needed) = (BTreeSet::new(), 0, 0);
    for run in 0..runs() {
        let stage = Stage::new();
        let server = Server::builder().seed(run).blob(&content).rate(PACE).faults(mixed).start();
        stage.fetch(&repository(&server), &content).await.unwrap_or_else(|error| panic!("seed {run}: {error}"));
        sent += server.count().body_bytes;
        fired.extend(server.count().faults.into_keys());
        needed += content.size();
    }
    let all = ["503", "drip", "reset", "short body", "wrong Content-Range"];
    assert_eq!(fired.into_iter().collect::<Vec<_>>(), all, "every kind of fault fired");
    // As the server counts: what it sent and a reset or a given-away end made useless is among it.
    let twice = sent - needed;
    assert!(twice <= needed / 100, "{twice} of {sent} bytes sent twice");
}
