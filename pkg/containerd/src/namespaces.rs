//! Other namespaces of the same containerd: all of them share one file per blob.

use containerd_client::services::v1 as api;
use oci::{Digest, Namespace};
use tonic::Code;

use crate::{Error, Session};

impl Session {
    /// Namespaces other than this session's that hold the blob, in containerd's order.
    pub(crate) async fn other_holders(&self, digest: Digest) -> Result<Vec<Namespace>, Error> {
        let mut client = self.namespaces_client();
        let listed = self.call(client.list(api::ListNamespacesRequest { filter: String::new() })).await;
        let listed = listed.map_err(|status| self.refused("to list its namespaces", status))?;
        let others = listed.namespaces.into_iter().filter_map(|namespace| namespace.name.parse::<Namespace>().ok());
        let mut holders = Vec::new();
        for namespace in others.filter(|namespace| namespace != self.namespace()) {
            let mut client = self.content_client_of(&namespace);
            match self.call(client.info(api::InfoRequest { digest: digest.to_string() })).await {
                Ok(_) => holders.push(namespace),
                Err(status) if status.code() == Code::NotFound => {}
                Err(status) => return Err(self.refused(format!("to tell about {digest} in namespace {namespace}"), status)),
            }
        }
        Ok(holders)
    }
}
