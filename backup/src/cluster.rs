//! The cluster as a backup sees it: its primaries with their slots under one epoch, and whether slots are on their way.

use larder_runtime::{ControlClient, ControlError, Secret, Topologies};
use larder_wire::control::Peer;
use larder_wire::{Epoch, NodeId, ShardId, SlotSet};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// What of `STATUS JSON` a backup needs.
#[derive(Clone, Debug, Deserialize)]
pub struct View {
    pub cluster: String,
    pub formed: bool,
    pub epoch: Epoch,
    pub shards: Vec<Shard>,
    /// Slots are on their way.
    operation: Option<IgnoredAny>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Shard {
    pub id: ShardId,
    pub slots: SlotSet,
    pub node: Member,
    /// Those that follow the primary.
    #[serde(default)]
    pub replicas: Vec<Member>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Member {
    pub id: NodeId,
    pub addr: String,
    pub reachable: bool,
    pub keys: u64,
    pub used_memory: u64,
}

impl View {
    /// Why nothing can be taken of it just now.
    pub fn unready(&self) -> Option<String> {
        if !self.formed {
            return Some("the cluster is not formed yet".into());
        }
        if self.operation.is_some() {
            return Some("slots are on their way".into());
        }
        let silent = self.shards.iter().find(|shard| !shard.node.reachable);
        silent.map(|shard| format!("node {} does not answer", shard.node.addr))
    }

    pub fn keys(&self) -> u64 {
        self.shards.iter().map(|shard| shard.node.keys).sum()
    }
}

/// Who is asked, and with what.
#[derive(Clone)]
pub struct Access {
    pub topologies: Topologies,
    pub secret: Secret,
}

impl Access {
    pub async fn view(&self) -> Result<View, String> {
        let asked = async {
            let mut client = self
                .topologies
                .connect(&self.secret, Peer::Operator)
                .await?;
            client
                .request_json::<View>(["LARDER", "STATUS", "JSON"])
                .await
        };
        asked.await.map_err(|error: ControlError| match error {
            ControlError::Unreachable { .. } | ControlError::PortClosed { .. } => format!(
                "no topology answers: {error} (is it running? name another with --topology)"
            ),
            other => other.to_string(),
        })
    }

    pub async fn node(&self, addr: &str) -> Result<ControlClient, ControlError> {
        ControlClient::connect(addr, &self.secret, Peer::Operator).await
    }
}
