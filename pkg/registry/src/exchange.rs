//! One attempt: the request, the token it turned out to need, and the redirects behind it (reference 8.6).

use http::{HeaderMap, StatusCode, header::LOCATION};
use reqwest::Response;
use url::Url;

use crate::{
    Class, Fault,
    client::Client,
    fault::About,
    hosts::{self, Host},
};

/// As Go and containerd have it.
pub(crate) const MAX_REDIRECTS: usize = 10;

const ASK: &str = "the registry or a proxy before it sends its clients in circles or nowhere: ask who runs it";

/// The head of an answer. It cannot be printed: the response would show its URL and its cookies.
pub(crate) struct Answer {
    pub(crate) response: Response,
    /// Who gave it: the host, or the storage it sent us to.
    pub(crate) server: String,
    /// Where the redirects ended, when that is not the host itself.
    pub(crate) target: Option<Url>,
}

/// GET at the registry, whatever it takes.
pub(crate) async fn ask(host: &Host, url: &Url, headers: &HeaderMap, about: &About) -> Result<Answer, Fault> {
    let mut at = url.clone();
    let mut target = None;
    for _ in 0..=MAX_REDIRECTS {
        let (response, server) = if host.is_origin_of(&at) || target.is_none() {
            (authorized(host, &at, headers, about).await?, host.name.clone())
        } else {
            (stored(host, &at, headers, about).await?, hosts::authority(&at))
        };
        let Some(next) = location(host, &host.actual(&at), &response, about)? else {
            return Ok(Answer { response, server, target: target.filter(|url| !host.is_origin_of(url)) });
        };
        // Read to its end, the connection serves again.
        host.client.error_body(response).await;
        target = Some(next.clone());
        at = next;
    }
    Err(too_many_redirects(about))
}

/// GET at a redirect's target: no Authorization, none of the host's own headers.
pub(crate) async fn stored(host: &Host, url: &Url, headers: &HeaderMap, about: &About) -> Result<Response, Fault> {
    let sent = host.client.send(Client::get(url, headers)).await;
    sent.map_err(|error| about.unanswered(&hosts::authority(url), error))
}

/// Where the answer sends us, if it does. https never leads to http.
pub(crate) fn location(host: &Host, at: &Url, answer: &Response, about: &About) -> Result<Option<Url>, Fault> {
    if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let text = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let next = text.and_then(|text| at.join(text).ok());
    let next = next.ok_or_else(|| about.fault(Class::Fatal, "redirect without a usable Location").with_hint(ASK))?;
    match next.scheme() {
        "https" => Ok(Some(next)),
        "http" if host.is_plain() => Ok(Some(next)),
        scheme => {
            let to = hosts::authority(&next);
            let fault = about.fault(Class::Fatal, format_args!("redirect from https to {scheme} at {to} is not followed"));
            Err(fault.with_hint("the registry must send its clients to https; see its settings for redirects and storage"))
        }
    }
}

pub(crate) fn too_many_redirects(about: &About) -> Fault {
    about.fault(Class::Fatal, format_args!("more than {MAX_REDIRECTS} redirects")).with_hint(ASK)
}

/// The host's own answer; a 401 is answered once.
async fn authorized(host: &Host, url: &Url, headers: &HeaderMap, about: &About) -> Result<Response, Fault> {
    let unanswered = |error| about.unanswered(&host.name, error);
    let grant = host.auth.current(host, about).await?;
    let used = grant.as_ref().map(|grant| &grant.header);
    let response = host.get(url, headers, used).await.map_err(unanswered)?;
    let challenge = match response.status() {
        StatusCode::UNAUTHORIZED => {
            let challenge = response.headers().clone();
            host.client.error_body(response).await;
            challenge
        }
        StatusCode::NOT_FOUND if grant.is_none() && host.auth.knows_user(host) => match knock(host, about).await? {
            Some(challenge) => challenge,
            None => return Ok(response),
        },
        _ => return Ok(response),
    };
    let grant = host.auth.answer(host, grant.as_ref(), &challenge, about).await?;
    let response = host.get(url, headers, Some(&grant.header)).await.map_err(unanswered)?;
    if response.status() == StatusCode::UNAUTHORIZED {
        return Err(host.auth.denied(host, about));
    }
    Ok(response)
}

/// What the host asks its visitors for at its door, `/v2/`, if anything: one that lets everybody see its public images answers
/// 404 for the others, to those it does not know.
async fn knock(host: &Host, about: &About) -> Result<Option<HeaderMap>, Fault> {
    let door = host.get(&host.door(), &HeaderMap::new(), None).await;
    let door = door.map_err(|error| about.unanswered(&host.name, error))?;
    let challenge = (door.status() == StatusCode::UNAUTHORIZED).then(|| door.headers().clone());
    host.client.error_body(door).await;
    Ok(challenge)
}
