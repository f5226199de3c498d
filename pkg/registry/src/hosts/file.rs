//! `hosts.toml`, parsed (reference 8.1).

use std::{collections::BTreeMap, ops::Range, path::Path};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use toml::Spanned;
use url::Url;

use super::{Entry, ExtraTls, Relation, default_entry, duration, entry, explicit_port};
use crate::{Error, Options};

/// The file's root without the keys of the server's own entry, which are a [`Table`] (flattened, it would lose its spans).
#[derive(Deserialize)]
struct Root {
    server: Option<Spanned<String>>,
    /// Keyed by URL; the spans keep the file's order, which is the order to try.
    #[serde(default)]
    host: BTreeMap<Spanned<String>, Table>,
}

#[derive(Deserialize, Default)]
struct Table {
    #[serde(default)]
    capabilities: Vec<Spanned<String>>,
    ca: Option<OneOrMany>,
    client: Option<Client>,
    skip_verify: Option<bool>,
    #[serde(default)]
    header: BTreeMap<Spanned<String>, OneOrMany>,
    #[serde(default)]
    override_path: bool,
    dial_timeout: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a file, a list of files or a list of [certificate, key] pairs")]
enum Client {
    /// Certificate and key in one file.
    One(String),
    Many(Vec<String>),
    Pairs(Vec<(String, String)>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// The hosts for `registry` in the order to try: `[host]` tables as written, the server last.
pub(crate) fn parse(path: &Path, text: &str, registry: &str, options: &Options) -> Result<Vec<Entry>, Error> {
    let parser = Parser { path, text, registry, options };
    let broken = |error: toml::de::Error| parser.error(error.span().unwrap_or_default(), error.message());
    let root: Root = toml::from_str(text).map_err(broken)?;
    let own: Table = toml::from_str(text).map_err(broken)?;
    let mut hosts: Vec<(Spanned<String>, Table)> = root.host.into_iter().collect();
    hosts.sort_by_key(|(url, _)| url.span().start);
    let mut entries = Vec::with_capacity(hosts.len() + 1);
    for (url, table) in hosts {
        entries.push(parser.entry(Some(&url), table)?);
    }
    let server = root.server.filter(|server| !server.get_ref().is_empty());
    entries.push(parser.entry(server.as_ref(), own)?);
    Ok(entries)
}

struct Parser<'a> {
    path: &'a Path,
    text: &'a str,
    registry: &'a str,
    options: &'a Options,
}

impl Parser<'_> {
    fn error(&self, span: Range<usize>, message: &str) -> Error {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Error::HostsToml {
            path: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: without_value(message.trim()).replace('\n', ", "),
        }
    }

    /// `url` is `None` for a server that is not named: the default rules say where it is.
    fn entry(&self, url: Option<&Spanned<String>>, table: Table) -> Result<Entry, Error> {
        let (pull, resolve) = self.capabilities(&table.capabilities)?;
        let extra = self.tls(&table);
        let mut made = match url {
            None => default_entry(self.registry, self.options, &extra)?,
            Some(url) => {
                let (base, port) = self.base(url, table.override_path)?;
                let mut made = entry(base, port, self.options, &extra);
                if default_entry(self.registry, self.options, &extra)?.name() == made.name() {
                    made.relation = Relation::Own;
                }
                made
            }
        };
        (made.pull, made.resolve) = (pull, resolve);
        made.headers = self.headers(table.header)?;
        made.dial_timeout = match table.dial_timeout {
            None => None,
            Some(text) => {
                let parsed = duration::parse(text.get_ref());
                Some(parsed.ok_or_else(|| self.error(text.span(), "dial_timeout is no duration such as \"10s\""))?)
            }
        };
        Ok(made)
    }

    /// Absent or empty: everything. (pull, resolve)
    fn capabilities(&self, words: &[Spanned<String>]) -> Result<(bool, bool), Error> {
        let (mut pull, mut resolve) = (words.is_empty(), words.is_empty());
        for word in words {
            match word.get_ref().to_ascii_lowercase().as_str() {
                "pull" => pull = true,
                "resolve" => resolve = true,
                "push" | "referrers" => {}
                _ => return Err(self.error(word.span(), &format!("unknown capability {:?}", word.get_ref()))),
            }
        }
        Ok((pull, resolve))
    }

    fn base(&self, url: &Spanned<String>, override_path: bool) -> Result<(Url, Option<u16>), Error> {
        let text = url.get_ref();
        let text = if text.starts_with("http") { text.clone() } else { format!("https://{text}") };
        let mut base = Url::parse(&text)
            .map_err(|error| self.error(url.span(), &format!("{:?} is no URL: {error}", without_user(&text))))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() || !base.username().is_empty() {
            return Err(self.error(url.span(), &format!("{:?} is not http(s)://HOST[:PORT][/PATH]", without_user(&text))));
        }
        base.set_query(None);
        base.set_fragment(None);
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(&if override_path || path.ends_with("/v2") { path } else { format!("{path}/v2") });
        let authority = text.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
        Ok((base, explicit_port(authority)))
    }

    /// Relative paths are relative to the file's directory.
    fn tls(&self, table: &Table) -> ExtraTls {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let file = |name: &String| directory.join(name);
        let both = |name: &String| (file(name), file(name));
        ExtraTls {
            ca: match &table.ca {
                None => Vec::new(),
                Some(OneOrMany::One(name)) => vec![file(name)],
                Some(OneOrMany::Many(names)) => names.iter().map(file).collect(),
            },
            client: match &table.client {
                None => Vec::new(),
                Some(Client::One(name)) => vec![both(name)],
                Some(Client::Many(names)) => names.iter().map(both).collect(),
                Some(Client::Pairs(pairs)) => {
                    let key = |certificate, key: &String| file(if key.is_empty() { certificate } else { key });
                    pairs.iter().map(|(certificate, name)| (file(certificate), key(certificate, name))).collect()
                }
            },
            skip_verify: table.skip_verify,
        }
    }

    fn headers(&self, table: BTreeMap<Spanned<String>, OneOrMany>) -> Result<HeaderMap, Error> {
        let mut headers = HeaderMap::new();
        for (name, values) in table {
            let parsed = HeaderName::try_from(name.get_ref())
                .map_err(|_| self.error(name.span(), &format!("{:?} is no header name", name.get_ref())))?;
            for value in values.into_vec() {
                // The value may be a secret: it is not shown.
                let mut value = HeaderValue::try_from(value)
                    .map_err(|_| self.error(name.span(), &format!("the value of header {parsed} cannot be sent")))?;
                value.set_sensitive(true);
                headers.append(parsed.clone(), value);
            }
        }
        Ok(headers)
    }
}

/// serde quotes a value of the wrong type, which may be a header's secret.
fn without_value(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(from), Some(to)) if message.starts_with("invalid ") && from < to => {
            format!("{}…{}", &message[..=from], &message[to..])
        }
        _ => message.to_owned(),
    }
}

/// A URL as it may be shown: from behind a user and password on.
fn without_user(text: &str) -> &str {
    text.rsplit_once('@').map_or(text, |(_, rest)| rest)
}

#[cfg(test)]
mod tests;
