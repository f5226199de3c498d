//! An HTTP server whose answers are scripted byte by byte; all requests and connections are recorded.

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use testkit::secrets;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Ends with its runtime.
pub(crate) struct Server {
    pub(crate) host: String,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<String>>,
    connections: AtomicUsize,
}

/// What is sent, and what becomes of the connection.
pub(crate) struct Reply {
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    Close,
    Keep,
    Drip,
}

impl From<Vec<u8>> for Reply {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, then: Then::Close }
    }
}

impl Reply {
    /// The connection stays open for the next request.
    pub(crate) fn kept(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut reply = Self::from(answer(status, headers, body));
        let head = String::from_utf8(reply.bytes.split_off(0)).unwrap();
        reply.bytes = head.replacen("Connection: close\r\n", "", 1).into_bytes();
        reply.then = Then::Keep;
        reply
    }

    /// Behind the bytes comes one more again and again, and never an end.
    pub(crate) fn dripping(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), then: Then::Drip }
    }
}

impl Server {
    /// `script` gets the number of the request and its text (head and body), and gives the whole answer.
    pub(crate) async fn start<R: Into<Reply>>(script: impl Fn(usize, &str) -> R + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let seen: Arc<Seen> = Arc::default();
        let (recorded, script) = (Arc::clone(&seen), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                recorded.connections.fetch_add(1, Ordering::SeqCst);
                let (seen, script) = (Arc::clone(&recorded), Arc::clone(&script));
                tokio::spawn(async move { serve(socket, &seen, |number, text| script(number, text).into()).await });
            }
        });
        Self { host, seen }
    }

    /// All requests so far, heads and bodies.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// How many connections were made so far.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }
}

async fn serve(mut socket: TcpStream, seen: &Seen, script: impl Fn(usize, &str) -> Reply) {
    loop {
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        while !is_whole(&request) {
            match socket.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => request.extend_from_slice(&buffer[..count]),
            }
            // A TLS hello.
            if request[0] == 0x16 {
                return;
            }
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        secrets::keep_in_http(&text);
        let number = {
            let mut requests = seen.requests.lock().unwrap();
            requests.push(text.clone());
            requests.len() - 1
        };
        let Reply { bytes, then } = script(number, &text);
        secrets::keep_in_http(&String::from_utf8_lossy(&bytes));
        let mut sent = socket.write_all(&bytes).await;
        match then {
            Then::Keep => {}
            Then::Close => {
                let _ = socket.shutdown().await;
                return;
            }
            Then::Drip => {
                while sent.is_ok() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    sent = socket.write_all(b" ").await;
                }
                return;
            }
        }
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.to_ascii_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// Whom the request was meant for, as it says itself.
pub(crate) fn host_of(request: &str) -> String {
    let request = request.to_ascii_lowercase();
    request.split("host: ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default().to_owned()
}

/// An answer with its length and `Connection: close`.
pub(crate) fn answer(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}
