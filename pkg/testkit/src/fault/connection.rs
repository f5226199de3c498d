//! One accepted connection: reads requests one after another, keeps its pace across them.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep_until},
};

use super::{answer, server::Shared};

/// No request head is longer.
const MAX_HEAD: usize = 16 << 10;
/// What an idle connection may save up; little, so that the first second is no faster than the next.
const BURST: Duration = Duration::from_millis(5);

/// The token bucket of one connection.
pub(super) struct Pace {
    rate: Option<f64>,
    paid_until: Instant,
}

/// The parts of a request head that matter here.
pub(super) struct Head {
    pub(super) method: String,
    pub(super) target: String,
    /// The `Range` header's value.
    pub(super) range: Option<String>,
}

/// What becomes of the connection.
#[derive(PartialEq, Eq)]
pub(super) enum After {
    Keep,
    Close,
    Reset,
}

impl Pace {
    pub(super) fn new(rate: Option<f64>) -> Self {
        Self { rate, paid_until: Instant::now() }
    }

    /// Waits until `bytes` more are due.
    #[expect(clippy::cast_precision_loss, reason = "a chunk is far below 2^52 bytes")]
    pub(super) async fn pay(&mut self, bytes: usize) {
        if let Some(rate) = self.rate {
            let earliest = Instant::now().checked_sub(BURST).unwrap_or(self.paid_until);
            self.paid_until = self.paid_until.max(earliest) + Duration::from_secs_f64(bytes as f64 / rate);
            sleep_until(self.paid_until).await;
        }
    }
}

pub(super) async fn serve(mut stream: TcpStream, shared: Arc<Shared>, number: u64, mut pace: Pace) {
    // A client that goes away in the middle is its own business.
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    while let Some(head) = read_head(&mut stream, &mut buffer).await {
        shared.requested();
        match answer::answer(&mut stream, &shared, number, &mut pace, &head).await {
            Ok(After::Keep) => {}
            Ok(After::Reset) => {
                let _ = stream.set_zero_linger();
                return;
            }
            Ok(After::Close) => {
                let _ = stream.shutdown().await;
                return;
            }
            Err(_) => return,
        }
    }
}

async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Head> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if buffer.len() > MAX_HEAD || stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let text: Vec<u8> = buffer.drain(..end).collect();
    let text = String::from_utf8(text).ok()?;
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let header = |line: &str| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let range = lines.filter_map(header).find(|(name, _)| name == "range").map(|(_, value)| value);
    Some(Head { method, target, range })
}
