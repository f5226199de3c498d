//! All addresses of a name are used, those that do not answer are left.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroUsize};

use registry::{Names, Options, Repository};
use testkit::fault::{Content, Server};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use transfer::Limits;

use crate::stage::{MIB, Stage, limits, repository_with, retry};

const NAME: &str = "four.example";
/// Of each connection: slow enough that the server could do more.
const RATE: f64 = 8.0 * 1024.0 * 1024.0;

/// The last byte of some addresses of 127.0.0.0/8.
fn loopback(last: &[u8]) -> Vec<IpAddr> {
    last.iter().map(|last| IpAddr::from([127, 0, 0, *last])).collect()
}

/// Always as many connections: how many there are is not the question here.
fn sixteen() -> Stage {
    let sixteen = NonZeroUsize::new(16).unwrap();
    Stage::with(Limits { first_connections: sixteen, max_connections: sixteen, ..limits() }, retry())
}

fn named(server: &Server, addresses: Vec<IpAddr>) -> Repository {
    let names = Names::new([(NAME.to_owned(), addresses)]);
    repository_with(&format!("{NAME}:{}", server.port()), Options { names: Some(names), ..Options::default() })
}

fn assert_shared(bytes: &BTreeMap<IpAddr, u64>, least: u64) {
    assert!(bytes.values().all(|bytes| *bytes >= least), "{bytes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_addresses_carry_a_sixth_of_the_bytes_each_at_least() {
    let stage = sixteen();
    let content = Content::random(20, 32 * MIB);
    let all = loopback(&[1, 2, 3, 4]);
    let server = Server::builder().blob(&content).addresses(all.clone()).rate(RATE).start();
    stage.fetch_right(&named(&server, all), &content).await;
    assert_shared(&server.count().bytes_by_address, content.size() * 15 / 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_addresses_cost_nothing_but_their_share() {
    let stage = sixteen();
    let content = Content::random(21, 32 * MIB);
    let server = Server::builder().blob(&content).addresses(loopback(&[1, 2])).rate(RATE).start();
    // .3 refuses, .4 takes a connection and lets the next ones wait for ever: their SYNs get no answer.
    let _hole = Hole::dig("127.0.0.4", server.port()).await;
    stage.fetch_right(&named(&server, loopback(&[4, 3, 2, 1])), &content).await;
    assert_shared(&server.count().bytes_by_address, content.size() * 40 / 100);
    // Neither was an attempt of the range.
    assert_eq!(stage.progress.meter().tally().retries, 0);
}

/// A listener that accepts nothing, its backlog full.
struct Hole {
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Hole {
    async fn dig(address: &str, port: u16) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{address}:{port}").parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let mut waiting = Vec::new();
        let patience = std::time::Duration::from_millis(200);
        while let Ok(stream) = tokio::time::timeout(patience, TcpStream::connect((address, port))).await {
            waiting.push(stream.unwrap());
            assert!(waiting.len() < 16, "the backlog never fills");
        }
        Self { _listener: listener, _waiting: waiting }
    }
}
