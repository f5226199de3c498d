//! One ranged GET of a blob: the head is checked before the caller sees a byte, the length while it reads.

use std::{fmt, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper_util::client::legacy::connect::HttpInfo;
use oci::{ByteRange, Descriptor};
use reqwest::Response;

use crate::{
    Class, Fault,
    auth::Auth,
    content_range::{self, ContentRange},
    exchange::{self, Answer},
    fault::About,
    hosts::{self, Host},
    target::Route,
};

/// What the server decided to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// 206 with exactly the range asked for.
    Range(ByteRange),
    /// 200: the whole blob from byte 0.
    Whole,
}

/// An open answer. Dropping it before the end closes the connection; one read to its end is used again.
pub struct Body {
    response: Response,
    about: About,
    server: String,
    span: Span,
    expected: u64,
    received: u64,
}

/// Without the response, which would show its URL and its cookies.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("object", &self.about.object)
            .field("server", &self.server)
            .field("span", &self.span)
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

impl Body {
    /// What the frames cover.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Host and port of who answered: the host, or the storage it redirects to.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Our end and the other end of the connection it comes on; the other end may be a proxy's.
    pub fn connection(&self) -> Option<(SocketAddr, SocketAddr)> {
        let ends = self.response.extensions().get::<HttpInfo>()?;
        Some((ends.local_addr(), ends.remote_addr()))
    }

    /// Number of bytes all frames together have.
    pub fn length(&self) -> u64 {
        self.expected
    }

    /// Next frame, never empty; `None` at a clean end. Safe to cancel: no byte is lost.
    ///
    /// # Errors
    /// [`Class::Transient`] when the body ends early, [`Class::Corrupt`] when it is too long.
    pub async fn frame(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            match self.response.chunk().await {
                Ok(Some(frame)) if frame.is_empty() => {}
                Ok(Some(frame)) => {
                    self.received += frame.len() as u64;
                    if self.received > self.expected {
                        let happened = format!("body longer than {} bytes", self.expected);
                        return Err(self.about.fault(Class::Corrupt, happened));
                    }
                    return Ok(Some(frame));
                }
                Ok(None) if self.received < self.expected => {
                    let happened = format!("body ended after {} of {} bytes", self.received, self.expected);
                    return Err(self.about.fault(Class::Transient { after: None }, happened));
                }
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.about.unanswered(&self.server, error.into())),
            }
        }
    }
}

/// Asks the host, or at once the storage it is known to redirect to.
pub(crate) async fn open(
    host: &Host,
    (repository, route): (&str, &Route),
    blob: &Descriptor,
    range: Option<ByteRange>,
) -> Result<Body, Fault> {
    let about = About { host: host.name.clone(), object: format!("blob {}", blob.digest) };
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(range) = range {
        let value = HeaderValue::try_from(format!("bytes={range}")).expect("digits fit into a header");
        headers.insert(header::RANGE, value);
    }
    let request = Request { host, repository, blob, headers, about: &about };
    let answer = request.answer(route).await?;
    let (status, head) = (answer.response.status(), answer.response.headers());
    match check(status, head, blob.size(), range) {
        Ok(span) => {
            let expected = if let Span::Range(range) = span { range.len() } else { blob.size() };
            let Answer { response, server, .. } = answer;
            Ok(Body { response, about, server, span, expected, received: 0 })
        }
        Err(Refusal::Unfit(class, happened)) => Err(about.fault(class, happened)),
        Err(Refusal::Status) => {
            let head = head.clone();
            let body = host.client.error_body(answer.response).await;
            let mut fault = about.status(&answer.server, status, &head, &body);
            if Auth::is_refusal(status) && answer.server == host.name {
                fault.hint = Some(host.auth.hint(host));
            }
            if status == StatusCode::NOT_FOUND {
                fault.hint =
                    Some("the manifest lists this blob and the registry has not got it; push the image again".to_owned());
            }
            Err(fault)
        }
    }
}

struct Request<'a> {
    host: &'a Host,
    repository: &'a str,
    blob: &'a Descriptor,
    headers: HeaderMap,
    about: &'a About,
}

impl Request<'_> {
    async fn answer(&self, route: &Route) -> Result<Answer, Fault> {
        if let Some(answer) = self.at_target(route).await? {
            return Ok(answer);
        }
        // The first asks of a blob go side by side; a target to renew is asked for once, the others wait and take it.
        let _renewing = if route.redirects() {
            let renewing = route.renewing.lock().await;
            if let Some(answer) = self.at_target(route).await? {
                return Ok(answer);
            }
            Some(renewing)
        } else {
            None
        };
        let url = self.host.url(self.repository, "blobs", &self.blob.digest.to_string());
        let answer = exchange::ask(self.host, &url, &self.headers, self.about).await?;
        if let (Some(target), true) = (&answer.target, answer.response.status().is_success()) {
            route.found(target.clone());
        }
        Ok(answer)
    }

    /// `None` when no target is known or the one that is known has stopped working.
    async fn at_target(&self, route: &Route) -> Result<Option<Answer>, Fault> {
        let Some(target) = route.target() else { return Ok(None) };
        let response = exchange::stored(self.host, &target, &self.headers, self.about).await.inspect_err(|_| {
            // Another address may be given next time.
            route.gone(&target);
        })?;
        // 3xx: the storage itself moved; the registry's redirects are followed anew.
        if matches!(response.status().as_u16(), 300..=399 | 400 | 401 | 403 | 404 | 410) {
            route.gone(&target);
            self.host.client.error_body(response).await;
            return Ok(None);
        }
        Ok(Some(Answer { response, server: hosts::authority(&target), target: Some(target) }))
    }
}

/// Why an answer is not taken.
#[derive(PartialEq, Eq, Debug)]
enum Refusal {
    /// Its status says it.
    Status,
    /// Its head does not fit the request.
    Unfit(Class, String),
}

/// 206 with exactly the range asked for, or 200 with exactly the blob's length.
fn check(status: StatusCode, headers: &HeaderMap, size: u64, range: Option<ByteRange>) -> Result<Span, Refusal> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let unfit = |class, happened: String| Err(Refusal::Unfit(class, happened));
    let content_range = text(header::CONTENT_RANGE);
    let span = match (status, range) {
        (StatusCode::OK, _) => Span::Whole,
        (StatusCode::PARTIAL_CONTENT, None) => return unfit(Class::Corrupt, "206 for the whole blob".to_owned()),
        (StatusCode::PARTIAL_CONTENT, Some(range)) => match content_range.and_then(content_range::parse) {
            Some(ContentRange::Bytes { range: sent, total }) if sent == range && total.is_none_or(|total| total == size) => {
                Span::Range(range)
            }
            Some(ContentRange::Bytes { total: Some(total), .. }) if total != size => {
                return unfit(Class::Corrupt, resized(total, size));
            }
            _ => {
                let sent = content_range.unwrap_or("no Content-Range");
                let sent = crate::redact::line(sent, 80);
                return unfit(Class::Corrupt, format!("asked for bytes {range}/{size}, got {sent}"));
            }
        },
        (StatusCode::RANGE_NOT_SATISFIABLE, _) => match content_range.and_then(content_range::parse) {
            Some(ContentRange::Unsatisfied { total }) if total != size => {
                return unfit(Class::Corrupt, resized(total, size));
            }
            _ => return Err(Refusal::Status),
        },
        (status, _) if status.is_success() => {
            return unfit(Class::Corrupt, format!("unexpected status {}", status.as_u16()));
        }
        _ => return Err(Refusal::Status),
    };
    let encoding = text(header::CONTENT_ENCODING).unwrap_or("identity").trim();
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
        let encoding = crate::redact::line(encoding, 20);
        return unfit(Class::Corrupt, format!("body is encoded ({encoding}) though that was not asked for"));
    }
    let expected = if let Span::Range(range) = span { range.len() } else { size };
    let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    match length {
        Some(length) if span == Span::Whole && length != size => unfit(Class::Corrupt, resized(length, size)),
        Some(length) if length != expected => unfit(Class::Corrupt, format!("body of {length} bytes, expected {expected}")),
        _ => Ok(span),
    }
}

fn resized(there: u64, size: u64) -> String {
    format!("it has {there} bytes there, its descriptor says {size}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(status: u16, headers: &[(&str, &str)], range: Option<(u64, u64)>) -> Result<Span, Option<Class>> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(header::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let range = range.and_then(|(start, end)| ByteRange::new(start, end));
        check(StatusCode::from_u16(status).unwrap(), &map, 1000, range).map_err(|refusal| match refusal {
            Refusal::Status => None,
            Refusal::Unfit(class, _) => Some(class),
        })
    }

    #[test]
    fn only_the_exact_range_or_the_whole_is_taken() {
        let range = Some((100, 200));
        let exact = Ok(Span::Range(ByteRange::new(100, 200).unwrap()));
        let corrupt = Err(Some(Class::Corrupt));
        for (status, headers, range, expected) in [
            (206, &[("content-range", "bytes 100-199/1000")][..], range, exact),
            (206, &[("content-range", "bytes 100-199/*"), ("content-length", "100")], range, exact),
            (206, &[("content-range", "bytes 100-198/1000")], range, corrupt),
            (206, &[("content-range", "bytes 0-99/1000")], range, corrupt),
            (206, &[("content-range", "bytes 100-199/999")], range, corrupt),
            (206, &[("content-range", "bytes 100-199/1000"), ("content-length", "99")], range, corrupt),
            (206, &[("content-type", "multipart/byteranges; boundary=x")], range, corrupt),
            (206, &[("content-range", "bytes 100-199/1000"), ("content-encoding", "gzip")], range, corrupt),
            (206, &[("content-range", "bytes 0-999/1000")], None, corrupt),
            (200, &[], range, Ok(Span::Whole)),
            (200, &[("content-length", "1000"), ("content-encoding", "identity")], None, Ok(Span::Whole)),
            (200, &[("content-length", "999")], range, corrupt),
            (200, &[("content-length", "1001")], range, corrupt),
            (204, &[], range, corrupt),
            (416, &[("content-range", "bytes */1000")], range, Err(None)),
            (416, &[("content-range", "bytes */50")], range, corrupt),
            (404, &[], range, Err(None)),
            (500, &[], None, Err(None)),
        ] {
            assert_eq!(checked(status, headers, range), expected, "{status} {headers:?}");
        }
    }
}
