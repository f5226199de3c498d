//! File names of the spool: made from parsed digests and namespaces only (safety 5, 6).

use oci::{Digest, Namespace};

/// Cannot occur in a namespace or in hex.
const SEPARATOR: char = '+';

/// Name of an entry: `<hex>`, or `<namespace>+<hex>` where namespaces may not share blobs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key(String);

impl Key {
    pub(crate) fn new(namespace: Option<&Namespace>, digest: Digest) -> Self {
        Self(match namespace {
            Some(namespace) => format!("{namespace}{SEPARATOR}{}", digest.hex()),
            None => digest.hex(),
        })
    }

    /// Whose file is it? `None` for a name that this crate never makes.
    pub(crate) fn of_file(name: &str) -> Option<Self> {
        let key = [".journal", ".lock", ".replace"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        let (namespace, hex) = match key.split_once(SEPARATOR) {
            Some((namespace, hex)) => (Some(namespace), hex),
            None => (None, key),
        };
        let digest = format!("sha256:{hex}").parse::<Digest>();
        let named = namespace.is_none_or(|namespace| namespace.parse::<Namespace>().is_ok());
        (digest.is_ok() && named).then(|| Self(key.to_owned()))
    }

    pub(crate) fn data(&self) -> &str {
        &self.0
    }

    pub(crate) fn journal(&self) -> String {
        format!("{}.journal", self.0)
    }

    pub(crate) fn lock(&self) -> String {
        format!("{}.lock", self.0)
    }

    /// A second link of the data on its way to where it is renamed to.
    pub(crate) fn replacement(&self) -> String {
        format!("{}.replace", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_an_entry_leads_back_to_its_key() {
        let namespace = "k8s.io".parse().unwrap();
        for key in [Key::new(None, Digest::of(b"a")), Key::new(Some(&namespace), Digest::of(b"a"))] {
            for name in [key.data(), &key.journal(), &key.lock(), &key.replacement()] {
                assert_eq!(Key::of_file(name).as_ref(), Some(&key), "{name}");
            }
        }
    }

    #[test]
    fn names_of_others_have_no_key() {
        let hex = Digest::of(b"a").hex();
        for name in ["", "lost+found", ".journal", &hex[1..], &format!("+{hex}"), &format!("a b+{hex}"), &format!("{hex}.tmp")] {
            assert_eq!(Key::of_file(name), None, "{name}");
        }
    }
}
