//! One answer, with the fault the script wants in it.

use std::{io, time::Duration};

use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};

use super::{
    connection::{After, Head, Pace},
    content::Content,
    script::Fault,
    server::Shared,
};

/// Written at once: little enough for an even pace, much enough for loopback at full speed.
const CHUNK: usize = 64 << 10;
/// Longer than any client waits.
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Answers one request.
pub(super) async fn answer(
    stream: &mut TcpStream,
    shared: &Shared,
    connection: u64,
    pace: &mut Pace,
    head: &Head,
) -> io::Result<After> {
    sleep(shared.latency).await;
    let path = head.target.split('?').next().unwrap_or_default();
    let body = head.method != "HEAD";
    if let Some((_, reference)) = path.rsplit_once("/manifests/") {
        return match shared.manifests.get(reference) {
            Some(_) if shared.answers_empty() => status(stream, 200, "").await,
            Some((media_type, content)) => manifest(stream, reference, media_type, content, body).await,
            None => status(stream, 404, "").await,
        };
    }
    let stored = path.strip_prefix("/storage/").and_then(|rest| rest.split_once('/'));
    if let Some((ticket, digest)) = stored {
        let valid = ticket.parse().is_ok_and(|ticket| shared.redeem(ticket));
        return match shared.blobs.get(digest).filter(|_| valid) {
            Some(content) => blob(stream, shared, pace, &Plan::new(head, content, None)).await,
            None => status(stream, 403, "").await,
        };
    }
    let Some((digest, content)) = path.rsplit_once("/blobs/").and_then(|(_, digest)| shared.blobs.get_key_value(digest)) else {
        // The version check, and whatever else a client looks for.
        return status(stream, if path == "/v2/" { 200 } else { 404 }, "").await;
    };
    let plan = Plan::new(head, content, None);
    let fault = shared.fault(connection, content.size(), plan.range);
    if let Some(fault) = fault.as_ref().filter(|fault| fault.is_instead()) {
        shared.fired(fault.name());
        return instead(stream, shared, fault, digest).await;
    }
    blob(stream, shared, pace, &Plan { fault, ..plan }).await
}

impl Fault {
    /// Answered without the blob?
    fn is_instead(&self) -> bool {
        matches!(self, Self::RangeNotSatisfiable | Self::Status { .. } | Self::Redirect)
    }
}

async fn instead(stream: &mut TcpStream, shared: &Shared, fault: &Fault, digest: &str) -> io::Result<After> {
    match fault {
        Fault::Status { code, retry_after } => {
            let header = retry_after.as_ref().map_or_else(String::new, |value| format!("Retry-After: {value}\r\n"));
            status(stream, *code, &header).await
        }
        Fault::Redirect => {
            let location = format!("Location: http://{}/storage/{}/{digest}\r\n", shared.address, shared.ticket());
            status(stream, 307, &location).await
        }
        _ => status(stream, 416, "").await,
    }
}

async fn status(stream: &mut TcpStream, code: u16, headers: &str) -> io::Result<After> {
    stream.write_all(format!("HTTP/1.1 {code} Status\r\nContent-Length: 0\r\n{headers}\r\n").as_bytes()).await?;
    Ok(After::Keep)
}

async fn manifest(stream: &mut TcpStream, name: &str, media_type: &str, content: &Content, body: bool) -> io::Result<After> {
    let mut bytes = vec![0; usize::try_from(content.size()).expect("a manifest is small")];
    content.fill(0, &mut bytes);
    let digest = if name.starts_with("sha256:") { name.to_owned() } else { content.digest().to_string() };
    let length = bytes.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\nDocker-Content-Digest: {digest}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    if body {
        stream.write_all(&bytes).await?;
    }
    Ok(After::Keep)
}

/// What is to be sent of a blob.
struct Plan<'a> {
    content: &'a Content,
    range: Option<(u64, u64)>,
    body: bool,
    fault: Option<Fault>,
}

impl<'a> Plan<'a> {
    fn new(head: &Head, content: &'a Content, fault: Option<Fault>) -> Self {
        let range = head.range.as_deref().and_then(|value| closed_range(value, content.size()));
        Self { content, range, body: head.method != "HEAD", fault }
    }

    fn is_whole(&self) -> bool {
        self.range.is_none() || matches!(self.fault, Some(Fault::WholeForRange))
    }

    fn head(&self, (start, end): (u64, u64)) -> String {
        let mut head = String::from(if self.is_whole() { "HTTP/1.1 200 OK\r\n" } else { "HTTP/1.1 206 Partial Content\r\n" });
        if !self.is_whole() {
            let off = u64::from(matches!(self.fault, Some(Fault::WrongContentRange)));
            let (first, last) = (start + off, end - 1 + off);
            head += &["Content-Range: bytes ", &format!("{first}-{last}/{}", self.content.size()), "\r\n"].concat();
        }
        if matches!(self.fault, Some(Fault::NoContentLength)) {
            head += "Connection: close\r\n";
        } else {
            head += &["Content-Length: ", &(end - start).to_string(), "\r\n"].concat();
        }
        head + "Content-Type: application/octet-stream\r\n\r\n"
    }
}

/// `bytes=a-b`, open at the end too; `None` for anything else, which is then answered with the whole.
fn closed_range(value: &str, size: u64) -> Option<(u64, u64)> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let first: u64 = first.parse().ok()?;
    let end = if last.is_empty() { size } else { last.parse::<u64>().ok()?.checked_add(1)?.min(size) };
    (first < end).then_some((first, end))
}

async fn blob(stream: &mut TcpStream, shared: &Shared, pace: &mut Pace, plan: &Plan<'_>) -> io::Result<After> {
    let whole = (0, plan.content.size());
    let (start, end) = if plan.is_whole() { whole } else { plan.range.unwrap_or(whole) };
    if let Some(fault @ (Fault::WholeForRange | Fault::WrongContentRange | Fault::NoContentLength)) = &plan.fault {
        shared.fired(fault.name());
    }
    stream.write_all(plan.head((start, end)).as_bytes()).await?;
    if !plan.body {
        return Ok(After::Keep);
    }
    let length = end - start;
    // Up to here at full speed.
    let turn = match &plan.fault {
        Some(Fault::ResetAt(at) | Fault::ShortBody(at) | Fault::Drip { after: at, .. } | Fault::Stall { after: at }) => {
            (*at).min(length)
        }
        _ => length,
    };
    send(stream, shared, pace, plan, (start, start + turn), CHUNK).await?;
    if turn == length {
        return Ok(if matches!(plan.fault, Some(Fault::NoContentLength)) { After::Close } else { After::Keep });
    }
    if let Some(fault) = &plan.fault {
        shared.fired(fault.name());
    }
    match &plan.fault {
        Some(Fault::ResetAt(_)) => Ok(After::Reset),
        Some(Fault::Drip { bytes, every, .. }) => {
            let mut at = start + turn;
            while at < end {
                sleep(*every).await;
                let next = (at + *bytes as u64).min(end);
                send(stream, shared, pace, plan, (at, next), *bytes).await?;
                at = next;
            }
            Ok(After::Keep)
        }
        Some(Fault::Stall { .. }) => {
            sleep(FOREVER).await;
            Ok(After::Close)
        }
        _ => Ok(After::Close),
    }
}

async fn send(
    stream: &mut TcpStream,
    shared: &Shared,
    pace: &mut Pace,
    plan: &Plan<'_>,
    (start, end): (u64, u64),
    chunk: usize,
) -> io::Result<()> {
    let address = stream.local_addr()?.ip();
    let mut buffer = vec![0; chunk];
    let mut at = start;
    while at < end {
        let length = usize::try_from(end - at).map_or(chunk, |rest| rest.min(chunk));
        let bytes = &mut buffer[..length];
        plan.content.fill(at, bytes);
        if let Some(Fault::FlipByte(offset)) = plan.fault {
            let inside = offset.checked_sub(at).and_then(|inside| usize::try_from(inside).ok());
            if let Some(byte) = inside.and_then(|inside| bytes.get_mut(inside)) {
                *byte ^= 1;
                shared.fired("flipped byte");
            }
        }
        pace.pay(length).await;
        stream.write_all(bytes).await?;
        shared.sent(address, length);
        at += length as u64;
    }
    Ok(())
}
