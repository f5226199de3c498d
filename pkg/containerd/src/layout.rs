//! What containerd says of its own parts (reference 9). Paths are those of its mount namespace.

use std::path::PathBuf;

use containerd_client::services::v1 as api;

use crate::{Error, Session};

const CONTENT: &str = "io.containerd.content.v1";
const METADATA: &str = "io.containerd.metadata.v1";

/// How this containerd is put together.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Root of the content store, if it is containerd's own and the only one.
    pub(crate) content_root: Option<PathBuf>,
    /// Must every namespace bring its own bytes? So it is taken to be, unless containerd says that content is shared.
    pub(crate) isolated: bool,
}

impl Session {
    /// Asks containerd how it is put together.
    pub(crate) async fn layout(&self) -> Result<Layout, Error> {
        let mut client = self.introspection_client();
        let filters = [CONTENT, METADATA].map(|kind| format!("type=={kind}")).to_vec();
        let plugins = self.call(client.plugins(api::PluginsRequest { filters })).await;
        Ok(read(plugins.map_err(|status| self.refused("to list its plugins", status))?.plugins))
    }
}

fn read(plugins: Vec<api::Plugin>) -> Layout {
    let (mut content_root, mut stores) = (None, 0);
    let mut policies = Vec::new();
    for plugin in plugins {
        match plugin.r#type.as_str() {
            CONTENT if plugin.init_err.is_none() => {
                stores += 1;
                if plugin.id == "content" {
                    content_root = plugin.exports.get("root").map(PathBuf::from);
                }
            }
            METADATA => policies.push(plugin.exports.get("policy").cloned()),
            _ => {}
        }
    }
    // With a second store beside it nobody says which one is asked.
    let content_root = content_root.filter(|_| stores == 1);
    let shared = !policies.is_empty() && policies.iter().all(|policy| policy.as_deref() == Some("shared"));
    Layout { content_root, isolated: !shared }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(kind: &str, id: &str, exports: &[(&str, &str)]) -> api::Plugin {
        api::Plugin {
            r#type: kind.to_owned(),
            id: id.to_owned(),
            exports: exports.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            ..api::Plugin::default()
        }
    }

    #[test]
    fn the_builtin_store_is_known_by_its_root_and_by_being_alone() {
        let builtin = plugin(CONTENT, "content", &[("root", "/c")]);
        let proxy = plugin(CONTENT, "elsewhere", &[]);
        let broken = api::Plugin { init_err: Some(containerd_client::google::rpc::Status::default()), ..proxy.clone() };
        assert_eq!(read(vec![builtin.clone()]).content_root, Some("/c".into()));
        assert_eq!(read(vec![builtin.clone(), broken]).content_root, Some("/c".into()));
        assert_eq!(read(vec![builtin, proxy.clone()]).content_root, None);
        assert_eq!(read(vec![proxy]).content_root, None);
    }

    #[test]
    fn content_is_shared_only_where_containerd_says_so() {
        let isolated = |exports: &[(&str, &str)]| read(vec![plugin(METADATA, "bolt", exports)]).isolated;
        assert!(!isolated(&[("policy", "shared")]));
        assert!(isolated(&[("policy", "isolated")]));
        assert!(isolated(&[]), "it does not say");
        assert!(read(Vec::new()).isolated, "nor does anybody else");
    }
}
