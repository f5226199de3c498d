//! What containerd says of its own parts (reference 9). Paths are those of its mount namespace.

use std::path::PathBuf;

use containerd_client::services::v1 as api;

use crate::{Error, Session};

const CONTENT: &str = "io.containerd.content.v1";
const METADATA: &str = "io.containerd.metadata.v1";
const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1";

/// How this containerd is put together.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Root of the content store, if it is containerd's own and the only one.
    pub content_root: Option<PathBuf>,
    /// Must every namespace bring its own bytes, or is content shared?
    pub isolated: bool,
    /// The snapshotters configured.
    pub snapshotters: Vec<Snapshotter>,
    /// Process id of containerd in its own pid namespace; 0 where it does not say.
    pub pid: u64,
}

/// One snapshotter plugin.
#[derive(Clone, Debug)]
pub struct Snapshotter {
    /// Name to be used in calls.
    pub name: String,
    /// Why containerd could not use it, if so.
    pub fault: Option<String>,
}

impl Layout {
    /// The snapshotter of that name.
    pub fn snapshotter(&self, name: &str) -> Option<&Snapshotter> {
        self.snapshotters.iter().find(|snapshotter| snapshotter.name == name)
    }
}

impl Session {
    /// Asks containerd how it is put together.
    pub async fn layout(&self) -> Result<Layout, Error> {
        let mut client = self.introspection_client();
        let filters = [CONTENT, METADATA, SNAPSHOTTER].map(|kind| format!("type=={kind}")).to_vec();
        let plugins = self.call(client.plugins(api::PluginsRequest { filters })).await;
        let plugins = plugins.map_err(|status| self.refused("to list its plugins", status))?.plugins;
        let server = self.call(client.server(())).await.map_err(|status| self.refused("to tell its process id", status))?;
        Ok(read(plugins, server.pid))
    }
}

fn read(plugins: Vec<api::Plugin>, pid: u64) -> Layout {
    let mut layout = Layout { content_root: None, isolated: false, snapshotters: Vec::new(), pid };
    let mut stores = 0;
    for plugin in plugins {
        let fault = plugin.init_err.map(|status| status.message);
        match plugin.r#type.as_str() {
            CONTENT if fault.is_none() => {
                stores += 1;
                if plugin.id == "content" {
                    layout.content_root = plugin.exports.get("root").map(PathBuf::from);
                }
            }
            METADATA => layout.isolated |= plugin.exports.get("policy").is_some_and(|policy| policy != "shared"),
            SNAPSHOTTER => layout.snapshotters.push(Snapshotter { name: plugin.id, fault }),
            _ => {}
        }
    }
    // With a second store beside it nobody says which one is asked.
    if stores > 1 {
        layout.content_root = None;
    }
    layout
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(kind: &str, id: &str, exports: &[(&str, &str)], fault: Option<&str>) -> api::Plugin {
        api::Plugin {
            r#type: kind.to_owned(),
            id: id.to_owned(),
            exports: exports.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            init_err: fault.map(|text| containerd_client::google::rpc::Status { message: text.to_owned(), ..Default::default() }),
            ..api::Plugin::default()
        }
    }

    #[test]
    fn the_builtin_store_is_known_by_its_root_and_by_being_alone() {
        let builtin = plugin(CONTENT, "content", &[("root", "/c")], None);
        let proxy = plugin(CONTENT, "elsewhere", &[], None);
        assert_eq!(read(vec![builtin.clone()], 1).content_root, Some("/c".into()));
        assert_eq!(read(vec![builtin, proxy.clone()], 1).content_root, None);
        assert_eq!(read(vec![proxy], 1).content_root, None);
    }

    #[test]
    fn any_policy_but_shared_is_taken_for_isolated() {
        let policy = |policy| read(vec![plugin(METADATA, "bolt", &[("policy", policy)], None)], 1).isolated;
        assert!(!policy("shared"));
        assert!(policy("isolated"));
    }

    #[test]
    fn a_broken_snapshotter_is_listed_with_its_fault() {
        let layout = read(vec![plugin(SNAPSHOTTER, "zfs", &[], Some("no zfs here"))], 1);
        assert_eq!(layout.snapshotter("zfs").and_then(|found| found.fault.as_deref()), Some("no zfs here"));
        assert!(layout.snapshotter("overlaybd").is_none());
    }
}
