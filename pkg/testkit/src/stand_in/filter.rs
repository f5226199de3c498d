//! The part of containerd's filter language that it sends to a snapshotter: `field==value` and `field`, joined by commas.

use containerd_client::services::v1::snapshots::{Info, Kind};
use tonic::Status;

/// Snapshots that pass any of these alternatives, or all when there is none.
#[derive(Debug)]
pub(super) struct Filters(Vec<Vec<Condition>>);

#[derive(Debug)]
struct Condition {
    field: String,
    /// `None`: the field only has to be there.
    value: Option<String>,
}

/// Parses the filters of one List call; each is an alternative, its comma-separated conditions hold together.
pub(super) fn parse(filters: &[String]) -> Result<Filters, Status> {
    filters
        .iter()
        .map(|filter| conditions(filter))
        .collect::<Option<_>>()
        .map(Filters)
        .ok_or_else(|| Status::invalid_argument(format!("the stand-in does not understand the filters {filters:?}")))
}

fn conditions(filter: &str) -> Option<Vec<Condition>> {
    let mut conditions = Vec::new();
    let mut rest = filter;
    while !rest.is_empty() {
        let (field, after) = token(rest, |c| c == '=' || c == ',');
        let (value, after) = match after.strip_prefix("==") {
            Some(after) => {
                let (value, after) = token(after, |c| c == ',');
                (Some(value), after)
            }
            None => (None, after),
        };
        conditions.push(Condition { field, value });
        rest = match after.strip_prefix(',') {
            Some(next) => next,
            None if after.is_empty() => after,
            None => return None,
        };
    }
    Some(conditions)
}

/// The text up to the first unquoted end, quotes taken away, and what follows it.
fn token(text: &str, end: impl Fn(char) -> bool) -> (String, &str) {
    let mut token = String::new();
    let mut quoted = false;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => quoted = !quoted,
            '\\' if quoted => token.extend(characters.next().map(|(_, next)| next)),
            _ if !quoted && end(character) => return (token, &text[at..]),
            _ => token.push(character),
        }
    }
    (token, "")
}

impl Filters {
    pub(super) fn accept(&self, info: &Info) -> bool {
        self.0.is_empty() || self.0.iter().any(|conditions| conditions.iter().all(|condition| condition.holds(info)))
    }
}

impl Condition {
    fn holds(&self, info: &Info) -> bool {
        let field = match self.field.as_str() {
            "name" => Some(info.name.as_str()),
            "parent" => Some(info.parent.as_str()).filter(|parent| !parent.is_empty() || self.value.is_some()),
            "kind" => Some(match info.kind() {
                Kind::View => "view",
                Kind::Active => "active",
                Kind::Committed => "committed",
                Kind::Unknown => "unknown",
            }),
            other => other.strip_prefix("labels.").and_then(|key| info.labels.get(key)).map(String::as_str),
        };
        match (&self.value, field) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(value), Some(field)) => value == field,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_label_with_dots_and_an_empty_parent_select_one_snapshot() {
        let wanted = Info {
            name: "a".to_owned(),
            labels: [("containerd.io/snapshot.ref".to_owned(), "sha256:1,2".to_owned())].into(),
            ..Info::default()
        };
        let other = Info { parent: "x".to_owned(), ..wanted.clone() };
        let filters = parse(&[r#"labels."containerd.io/snapshot.ref"=="sha256:1,2",parent=="""#.to_owned()]).unwrap();
        assert!(filters.accept(&wanted));
        assert!(!filters.accept(&other));
        assert!(parse(&["name~=x".to_owned()]).is_err() || !parse(&["name~=x".to_owned()]).unwrap().accept(&wanted));
    }
}
