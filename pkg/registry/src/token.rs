//! One Bearer token from its realm (reference 8.6, points 4, 5, 11).

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Request, Response};
use url::{Url, form_urlencoded};

use crate::{
    Class, Credentials, Fault, Secret, auth,
    client::{Client, SendError},
    credentials::Shown,
    exchange::{self, MAX_REDIRECTS},
    fault::About,
    hosts::{self, Host},
};

/// Safety 20.
const MAX_TOKEN_ANSWER: u64 = 1 << 20;
/// No token is kept longer, and a lifetime beyond all clocks breaks nothing.
const MAX_LIFETIME: u64 = 365 * 24 * 60 * 60;
/// Names us to the token server.
const CLIENT_ID: &str = "rpull";

/// What the challenge asks for.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) realm: Url,
    pub(crate) service: Option<&'a str>,
    pub(crate) scopes: &'a [String],
}

#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) value: Secret,
    pub(crate) lifetime: Option<Duration>,
}

#[derive(serde::Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// With credentials POST (`OAuth2`), and GET where that is not served; without, GET.
pub(crate) async fn fetch(host: &Host, shown: &Shown, wanted: &Wanted<'_>, about: &About) -> Result<Token, Fault> {
    let about = About { host: about.host.clone(), object: format!("token for {}", about.object) };
    let server = hosts::authority(&wanted.realm);
    request(host, shown, wanted, &about).await.map_err(|fault| match fault {
        Fault { hint: None, class: Class::Denied, .. } => fault.with_hint(shown.hint(&host.name)),
        Fault { hint: None, connect: true, .. } if server != host.name => fault
            .with_hint(format!("{} sends its clients to {server} for a token; check that this machine reaches it", host.name)),
        fault => fault,
    })
}

async fn request(host: &Host, shown: &Shown, wanted: &Wanted<'_>, about: &About) -> Result<Token, Fault> {
    let credentials = &shown.credentials;
    let server = hosts::authority(&wanted.realm);
    let mut answer = None;
    if !credentials.is_anonymous() {
        let posted = post(host, credentials, wanted).await.map_err(|error| about.unanswered(&server, error))?;
        if matches!(posted.status().as_u16(), 300..=399 | 400 | 401 | 404 | 405) {
            // What it says is of no use: GET decides. Read to its end, the connection serves again.
            host.client.error_body(posted).await;
        } else {
            answer = Some(posted);
        }
    }
    let answer = match answer {
        Some(answer) => answer,
        None => get(host, credentials, wanted, about).await?,
    };
    let status = answer.status();
    if status != StatusCode::OK {
        let headers = answer.headers().clone();
        let body = host.client.error_body(answer).await;
        let mut fault = about.status(&server, status, &headers, &body);
        if fault.class == Class::Denied {
            fault.what = format!("{} {shown}", fault.what);
        }
        return Err(fault);
    }
    let body = host.client.body(answer, MAX_TOKEN_ANSWER).await.map_err(|error| {
        let fault = about.untaken(&server, error);
        // No other host has a better one.
        if fault.class == Class::Corrupt { Fault { class: Class::Fatal, ..fault } } else { fault }
    })?;
    let unusable = || about.fault(Class::Fatal, format_args!("answer of {server} holds no token"));
    // serde's error could quote the token.
    let answer: Answer = serde_json::from_slice(&body).map_err(|_| unusable())?;
    let value = [answer.access_token, answer.token].into_iter().flatten().find(|token| !token.is_empty());
    let value = Secret::new(value.ok_or_else(unusable)?);
    let lifetime = answer.expires_in.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.min(MAX_LIFETIME)));
    Ok(Token { value, lifetime })
}

/// https, unless the host that challenges has no TLS itself.
pub(crate) fn realm(host: &Host, text: &str, about: &About) -> Result<Url, Fault> {
    let realm = Url::parse(text).map_err(|error| about.fault(Class::Fatal, "token realm is no URL").with_source(error))?;
    match realm.scheme() {
        "https" => Ok(realm),
        "http" if host.is_plain() => Ok(realm),
        scheme => Err(about
            .fault(Class::Fatal, format_args!("token realm {} is {scheme}, not https", hosts::authority(&realm)))
            .with_hint("a registry spoken to over TLS must have its token server behind TLS too")),
    }
}

async fn post(host: &Host, credentials: &Credentials, wanted: &Wanted<'_>) -> Result<Response, SendError> {
    let mut request = Request::new(http::Method::POST, wanted.realm.clone());
    *request.headers_mut() = headers(host);
    let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(header::CONTENT_TYPE, form_type);
    *request.body_mut() = Some(grant(credentials, wanted).into());
    host.client.send(request).await
}

/// The form of an `OAuth2` token request (reference 8.6, 4).
fn grant(credentials: &Credentials, wanted: &Wanted<'_>) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("scope", &wanted.scopes.join(" "));
    form.append_pair("client_id", CLIENT_ID);
    if let Some(service) = wanted.service {
        form.append_pair("service", service);
    }
    match credentials {
        Credentials::Anonymous => {}
        Credentials::Basic { user, password } => {
            form.append_pair("grant_type", "password").append_pair("username", user);
            form.append_pair("password", password.expose());
        }
        Credentials::Refresh(token) => {
            form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", token.expose());
        }
    }
    form.finish()
}

/// Redirects are followed; the credentials stay with the realm's own origin.
async fn get(host: &Host, credentials: &Credentials, wanted: &Wanted<'_>, about: &About) -> Result<Response, Fault> {
    let realm = &wanted.realm;
    let mut url = realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = wanted.service {
            query.append_pair("service", service);
        }
        query.extend_pairs(wanted.scopes.iter().map(|scope| ("scope", scope)));
    }
    let basic = match credentials {
        Credentials::Anonymous => None,
        Credentials::Basic { user, password } => Some(auth::basic(user, password)),
        Credentials::Refresh(token) => Some(auth::basic("", token)),
    };
    for _ in 0..=MAX_REDIRECTS {
        let mut headers = if url.origin() == realm.origin() { headers(host) } else { HeaderMap::new() };
        if let (Some(basic), true) = (&basic, url.origin() == realm.origin()) {
            let mut value = HeaderValue::try_from(basic.expose()).expect("base64 fits into a header");
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let sent = host.client.send(Client::get(&url, &headers)).await;
        let answer = sent.map_err(|error| about.unanswered(&hosts::authority(&url), error))?;
        match exchange::location(host, &url, &answer, about)? {
            None => return Ok(answer),
            Some(next) => url = next,
        }
    }
    Err(exchange::too_many_redirects(about))
}

fn headers(host: &Host) -> HeaderMap {
    let mut headers = host.headers.clone();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers
}
