//! Connections of one client alone, and the pool that they come from: for WATCH and for commands that block.
//!
//! A connection goes back as it came, with nothing watched, queued or in flight; else it is closed. So many as
//! [`OWN_CONNECTIONS_MAX`] are held a node; who needs one more is told.

use larder_wire::Refusal;
use larder_wire::command::CommandId;
use larder_wire::resp::{Protocol, reply};

use super::forward::error_line;
use super::link::Kind;
use super::{ClientKey, LinkKey, Switch};
use crate::limits::{OWN_CONNECTIONS_MAX, POOL_CONNECTIONS_MAX};

const CLIENT_ID: &[u8] = b"*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n";

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NoLink {
    /// The node cannot be reached; to be tried again at this time, in milliseconds.
    NotBefore(u64),
    /// So many are in use already.
    Full,
}

impl Switch {
    /// A connection for one client alone: an idle one, or a new one.
    pub(super) fn own_link(
        &mut self,
        client: ClientKey,
        node: u16,
        protocol: Protocol,
    ) -> Result<LinkKey, NoLink> {
        let pool = &self.nodes[node as usize].pool;
        let fits = pool.iter().rposition(|&key| {
            self.links
                .get(key)
                .is_some_and(|link| link.protocol == protocol)
        });
        if let Some(index) = fits {
            return Ok(self.nodes[node as usize].pool.remove(index));
        }
        if self.nodes[node as usize].owned >= OWN_CONNECTIONS_MAX {
            // One that speaks the other protocol gives its place.
            let Some(&idle) = pool.first() else {
                return Err(NoLink::Full);
            };
            self.close_link(idle);
        }
        let opened = self.open_link(node, protocol, true);
        let key = opened.map_err(NoLink::NotBefore)?;
        let id = CommandId::ClientId;
        let tag = self.tag(client, 0, None, id, protocol, Kind::Identify);
        self.append(key, tag, CLIENT_ID, 0, false);
        Ok(key)
    }

    /// The node has said under which number it knows the connection.
    pub(super) fn identified(&mut self, key: LinkKey, answer: &[u8]) {
        if let Some(link) = self.links.get_mut(key) {
            link.number = reply::integer(answer);
            if let Some(front) = link.front() {
                let client = front.tag.client;
                self.unblock_parked(client);
            }
        }
    }

    /// Nobody uses the connection any more, and nothing is in flight on it.
    pub(super) fn give_back(&mut self, key: LinkKey) {
        let Some(link) = self.links.get(key) else {
            return;
        };
        let idle = link.is_idle();
        let serves = self.primaries.contains(&link.node);
        let node = &mut self.nodes[link.node as usize];
        if idle && serves && node.pool.len() < POOL_CONNECTIONS_MAX {
            node.pool.push(key);
        } else if idle {
            self.close_link(key);
        }
    }

    pub(super) fn no_more_links(&self, node: u16) -> Vec<u8> {
        let addr = self.nodes.get(node as usize).map_or("", |node| &node.addr);
        error_line(&Refusal::new(format!(
            "ERR {OWN_CONNECTIONS_MAX} connections to node {addr} are held by clients that wait or watch; this command needs one more"
        )))
    }
}
