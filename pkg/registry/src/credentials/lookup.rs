//! Whose entry of a config file is meant: docker's identifiers of a host and podman's paths (reference 8.8). Pure.

use url::Url;

use super::DockerConfig;
use crate::Credentials;

/// Docker Hub's entry in docker's files, since its first version.
const HUB_ENTRY: &str = "https://index.docker.io/v1/";
/// Its names among podman's.
const HUB_NAMES: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// What a file says about a host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// The credentials themselves.
    Here(Credentials),
    /// Who has to be asked for them.
    Helper {
        /// Without `docker-credential-`.
        name: String,
        /// What it is asked for.
        identifier: String,
    },
}

impl DockerConfig {
    /// Docker's rules: its identifiers in order, for each the helper, or where none is named the file's own entry. A helper that
    /// knows nothing leaves it to the next, so there may be several. One that is named for this host goes before the one for all,
    /// whichever form of the name it is named by.
    pub(super) fn for_host(&self, host: &Url) -> Vec<Entry> {
        let (mut entries, mut of_store) = (Vec::new(), Vec::new());
        for identifier in identifiers(host) {
            if let Some(name) = self.helpers.get(&identifier) {
                entries.push(Entry::Helper { name: name.clone(), identifier });
            } else if let Some(name) = &self.store {
                of_store.push(Entry::Helper { name: name.clone(), identifier });
            } else if let Some(credentials) = self.entry(&identifier) {
                entries.push(Entry::Here(credentials.clone()));
                break;
            }
        }
        entries.extend(of_store);
        entries
    }

    /// Exactly this key, else one that is the same without scheme and path.
    fn entry(&self, identifier: &str) -> Option<&Credentials> {
        let bare = || self.auths.iter().find(|(key, _)| host_of(key) == identifier).map(|(_, credentials)| credentials);
        self.auths.get(identifier).or_else(bare)
    }

    /// Podman's rules: the registry's helper, else the longest key that is the repository's name or a folder above it, else a key
    /// that docker wrote with scheme and path.
    pub(super) fn for_repository(&self, registry: &str, repository: &str) -> Option<Entry> {
        if let Some(name) = self.helpers.get(registry) {
            return Some(Entry::Helper { name: name.clone(), identifier: registry.to_owned() });
        }
        let full = format!("{registry}/{repository}");
        let ends = full.match_indices('/').map(|(at, _)| at).filter(|at| *at >= registry.len());
        let mut ends: Vec<usize> = ends.chain([full.len()]).collect();
        ends.reverse();
        let above = ends.into_iter().find_map(|end| self.auths.get(&full[..end]));
        let same = |key: &str| key == registry || (HUB_NAMES.contains(&key) && HUB_NAMES.contains(&registry));
        let written_by_docker =
            || self.auths.iter().find(|(key, _)| key.starts_with("http") && same(host_of(key))).map(|(_, found)| found);
        above.or_else(written_by_docker).cloned().map(Entry::Here)
    }
}

/// The names under which docker may have stored a host, in the order to try.
fn identifiers(host: &Url) -> Vec<String> {
    let name = host.host_str().unwrap_or_default();
    let port = host.port_or_known_default().unwrap_or(443);
    let forms = |authority: &str| {
        let authority = authority.to_owned();
        [authority.clone(), format!("https://{authority}"), format!("http://{authority}")]
    };
    let mut all = Vec::from(forms(&format!("{name}:{port}")));
    if HUB_NAMES[1..].contains(&name) {
        all.insert(1, HUB_ENTRY.to_owned());
    }
    // The scheme's own port: also as people write it.
    if host.port().is_none() {
        all.extend(forms(name));
    }
    all
}

/// A key without scheme and path.
fn host_of(key: &str) -> &str {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    rest.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    fn of_host(url: &str) -> Vec<String> {
        identifiers(&Url::parse(url).unwrap())
    }

    fn config(keys: &[&str], rest: &str) -> DockerConfig {
        // The password tells which key was taken.
        let auths: Vec<String> = keys.iter().map(|key| format!(r#""{key}":{{"username":"u","password":"{key}"}}"#)).collect();
        DockerConfig::parse("f", format!(r#"{{"auths":{{{}}}{rest}}}"#, auths.join(",")).as_bytes()).unwrap()
    }

    fn here(key: &str) -> Entry {
        Entry::Here(Credentials::Basic { user: "u".to_owned(), password: Secret::new(key) })
    }

    fn helper(name: &str, identifier: &str) -> Entry {
        Entry::Helper { name: name.to_owned(), identifier: identifier.to_owned() }
    }

    #[test]
    fn a_host_is_looked_up_as_docker_and_nerdctl_do() {
        assert_eq!(of_host("https://r.example:5000/v2"), ["r.example:5000", "https://r.example:5000", "http://r.example:5000"]);
        assert_eq!(
            of_host("https://r.example/v2"),
            [
                "r.example:443",
                "https://r.example:443",
                "http://r.example:443",
                "r.example",
                "https://r.example",
                "http://r.example"
            ]
        );
        assert_eq!(of_host("https://registry-1.docker.io/v2")[..2], ["registry-1.docker.io:443", HUB_ENTRY]);
        assert_eq!(of_host("http://[::1]:5000")[0], "[::1]:5000");
        // What was given to TLS is not looked up for a host without it.
        assert!(!of_host("http://r.example").contains(&"r.example:443".to_owned()));
    }

    #[test]
    fn the_first_identifier_with_an_entry_wins() {
        for (keys, url, expected) in [
            (&["r.example", "r.example:443"][..], "https://r.example", Some("r.example:443")),
            (&["https://r.example/v1/"], "https://r.example", Some("https://r.example/v1/")),
            (&["https://r.example:5000"], "http://r.example:5000", Some("https://r.example:5000")),
            (&["r.example"], "https://r.example:5000", None),
            (&["r.example:5000"], "https://r.example", None),
            (&["xr.example", "r.example.org"], "https://r.example", None),
            (&[HUB_ENTRY, "docker.io"], "https://registry-1.docker.io", Some(HUB_ENTRY)),
        ] {
            let found = config(keys, "").for_host(&Url::parse(url).unwrap());
            assert_eq!(found, expected.map(here).into_iter().collect::<Vec<_>>(), "{keys:?} {url}");
        }
    }

    #[test]
    fn helpers_go_before_the_files_own_entries() {
        let url = Url::parse("https://r.example:5000").unwrap();
        let named = config(&["r.example:5000"], r#","credHelpers":{"https://r.example:5000":"ecr"}"#);
        assert_eq!(named.for_host(&url), [here("r.example:5000")]);
        let named = config(&["r.example:5000"], r#","credHelpers":{"r.example:5000":"ecr"},"credsStore":"pass""#);
        assert_eq!(
            named.for_host(&url),
            [helper("ecr", "r.example:5000"), helper("pass", "https://r.example:5000"), helper("pass", "http://r.example:5000")]
        );
    }

    #[test]
    fn a_hosts_own_helper_goes_before_the_store() {
        let named = config(&[], r#","credHelpers":{"r.example":"ecr"},"credsStore":"pass""#);
        let entries = named.for_host(&Url::parse("https://r.example").unwrap());
        assert_eq!((entries.len(), &entries[0]), (6, &helper("ecr", "r.example")));
        assert_eq!(entries[1], helper("pass", "r.example:443"));
    }

    #[test]
    fn podmans_keys_are_paths_and_the_longest_wins() {
        let keys = ["r.example", "r.example/team", "r.example/team/app", "r.example/te", "r.example:5000/team"];
        for (repository, expected) in [
            ("team/app", "r.example/team/app"),
            ("team/app/x", "r.example/team/app"),
            ("team/other", "r.example/team"),
            ("teams/app", "r.example"),
            ("library", "r.example"),
        ] {
            assert_eq!(config(&keys, "").for_repository("r.example", repository), Some(here(expected)), "{repository}");
        }
        assert_eq!(config(&["r.example/team"], "").for_repository("r.example", "other"), None);
        assert_eq!(config(&["example"], "").for_repository("r.example", "a"), None);
        assert_eq!(config(&[HUB_ENTRY], "").for_repository("docker.io", "a/b"), Some(here(HUB_ENTRY)));
        let helped = config(&["r.example/team"], r#","credHelpers":{"r.example":"ecr"}"#);
        assert_eq!(helped.for_repository("r.example", "team"), Some(helper("ecr", "r.example")));
    }
}
